"""The networks and images that are timed. Nothing here imports TensorFlow, for the sake of those that go without."""

import numpy as np

DIM = 784


def images(n: int) -> np.ndarray:
    """Random pixels, as many of them on as in MNIST: float32 [n, 784]."""
    return (np.random.default_rng(0).random((n, DIM)) < 0.13).astype(np.float32)


def units(layers: int) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Latent and hidden units of the paper's networks with 1 and 2 stochastic layers, and of deeper ones like them."""
    return (*(100,) * (layers - 1), 50), ((200, 200), *((100, 100),) * (layers - 1))
