"""The matrix products that a training step or a score cannot do without, alone."""

from typing import NamedTuple

import tensorflow as tf


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


def floor(needed: list[Product], backward: bool):
    """A function that does the products in one graph: forward, and with `backward` both of the backward pass."""
    data = [
        (tf.random.normal([p.rows, p.units_in]), tf.random.normal([p.units_in, p.units_out]))
        + ((tf.random.normal([p.rows, p.units_out]),) if backward else ())
        for p in needed
    ]

    @tf.function(autograph=False)
    def multiply(data):
        results = []
        for product, (features, kernel, *upstream) in zip(needed, data, strict=True):
            results.append(tf.matmul(features, kernel))
            if backward:
                results.append(tf.matmul(features, upstream[0], transpose_a=True))
                if product.to_features:
                    results.append(tf.matmul(upstream[0], kernel, transpose_b=True))
        return results

    return lambda: multiply(data)[0].numpy()  # reading one number's tensor waits for all
