"""The matrix products that a training step or a score cannot do without, alone."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import iwae_tf


class Product(NamedTuple):
    """A dense layer on so many rows: [rows, units_in] x [units_in, units_out].

    Attributes:
        rows: of the features.
        units_in, units_out: of the kernel.
        to_features: whether the backward pass needs the gradient by the features; x needs none.
    """

    rows: int
    units_in: int
    units_out: int
    to_features: bool

    @property
    def forward_flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.units_in * self.units_out


def products(model, batch_size: int, k: int) -> list[Product]:
    """All dense layers of a step: those of q(h[0] | x) on the images, all others on the samples of every image."""
    found = []
    for number, stage in enumerate(model.inference_network.stages):
        found += _of_stage(stage, batch_size if number == 0 else k * batch_size, to_features=number > 0)
    for stage in model.generative_network.stages:
        found += _of_stage(stage, k * batch_size, to_features=True)
    return found


def _of_stage(stage, rows: int, to_features: bool) -> list[Product]:
    heads = [getattr(stage.head, name) for name in ("loc", "log_scale", "logits") if hasattr(stage.head, name)]
    kernels = [dense.kernel for dense in (*stage.hidden.dense, *heads)]
    return [Product(rows, *kernel.shape, to_features or number > 0) for number, kernel in enumerate(kernels)]


def floor(needed: list[Product], backward: bool, parts: int = 1):
    """A function that does the products in one graph: forward, and with `backward` both of the backward pass.

    No product waits for another, so all threads have work to the end. With one thread for an operation a large product
    is computed in one thread; `parts` cuts the rows of each, and adds the gradients by a kernel up.
    """
    data = [[_operands(p, rows, backward) for rows in _even(p.rows, parts)] for p in needed]

    @tf.function(autograph=False)
    def multiply(data):
        results = []
        for product, operands in zip(needed, data, strict=True):
            to_kernel = []
            for features, kernel, *upstream in operands:
                results.append(tf.matmul(features, kernel))
                if backward:
                    to_kernel.append(tf.matmul(features, upstream[0], transpose_a=True))
                    if product.to_features:
                        results.append(tf.matmul(upstream[0], kernel, transpose_b=True))
            results += [tf.add_n(to_kernel)] if to_kernel else []
        return results

    return lambda: multiply(data)[0].numpy()  # reading one number's tensor waits for all


def step_floors(needed: list[Product]) -> dict[str, Callable[[], object]]:
    """The products of a step whole, and in as many parts as there are threads; which is faster, the clock has to say.

    With B = 20 and k = 50 two parts were faster than whole products in one thread each, with k = 1 the whole ones; four
    parts and more were never faster. TensorFlow's own threads, in a process apart, came close to the better of both.
    """
    parts = tf.config.threading.get_inter_op_parallelism_threads() or 2
    return {
        "floor": floor(needed, backward=True),
        f"floor, in {parts} parts": floor(needed, backward=True, parts=parts),
    }


class WholeProducts:
    """The products of a training step as a peer: of a process where all threads share each."""

    def __init__(self, latent_units, hidden_units, x: np.ndarray, k: int):
        model = iwae_tf.IWAE(x.shape[1], latent_units, hidden_units)
        self.step = floor(products(model, len(x), k), backward=True)


def _even(rows: int, parts: int) -> list[int]:
    ends = [rows * part // parts for part in range(parts + 1)]
    return [end - begin for begin, end in itertools.pairwise(ends) if end > begin]


def _operands(product: Product, rows: int, backward: bool) -> tuple[tf.Tensor, ...]:
    shapes = [(rows, product.units_in), (product.units_in, product.units_out), (rows, product.units_out)]
    return tuple(tf.random.normal(shape) for shape in shapes[: 3 if backward else 2])
