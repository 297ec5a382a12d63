"""Training steps of the package."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

import iwae_tf
from benchmarks.sizes import DIM, units
from iwae_tf.objectives import IWAEBound


def network(layers: int, **kwargs) -> iwae_tf.IWAE:
    """A network of the paper's kind with so many stochastic layers."""
    return iwae_tf.IWAE(DIM, *units(layers), **kwargs)


def step_of(model, x: tf.Tensor) -> Callable[[], float]:
    """A compiled training step of a compiled model on x."""
    step = tf.function(model.train_step, autograph=False)
    return lambda: float(step(x)["bound"])  # reading the number waits for it


class Step:
    """A step as a peer: of a process that leaves TensorFlow's threads as they are."""

    jit_compile = False

    def __init__(self, latent_units, hidden_units, x: np.ndarray, k: int):
        self.model = iwae_tf.IWAE(x.shape[1], latent_units, hidden_units)
        self.model.compile(objective=IWAEBound(k), jit_compile=self.jit_compile)
        self.step = step_of(self.model, tf.constant(x))

    def arrays(self) -> list[np.ndarray]:
        """All weights."""
        return self.model.get_weights()

    def zero(self) -> None:
        """Sets all weights to 0."""
        self.model.set_weights([np.zeros_like(weights) for weights in self.model.get_weights()])


class CompiledStep(Step):
    """The same, with the pass through the networks compiled by XLA."""

    jit_compile = True
