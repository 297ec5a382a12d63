"""The deterministic part of every conditional distribution: dense tanh layers."""

from collections.abc import Iterator

import keras
import tensorflow as tf

from iwae_tf.layers.float16 import tanh_layers
from iwae_tf.layers.folded import on_rows


class MLP(keras.layers.Layer):
    """Dense tanh layers one after the other, Glorot uniform, as in the paper (section 5).

    Args:
        units: width of each layer, e.g. (200, 200).
        initializer_seeds: where the initialisers take their seeds from.
    """

    def __init__(self, units: tuple[int, ...], initializer_seeds: Iterator[int], **kwargs):
        super().__init__(autocast=False, **kwargs)  # each dense layer casts; with none the input passes as it is
        self.dense = [
            keras.layers.Dense(
                n,
                kernel_initializer=keras.initializers.GlorotUniform(next(initializer_seeds)),
                dtype=self.dtype_policy,
            )
            for n in units
        ]

    def build(self, input_shape):
        for dense in self.dense:
            dense.build(input_shape)
            input_shape = dense.compute_output_shape(input_shape)
        self.built = True

    def call(self, inputs):
        """[..., D] -> [..., units[-1]]."""
        if self.dense and self.compute_dtype == "float16":  # bfloat16 has the range that gradients need
            kernels, biases = ([tf.convert_to_tensor(getattr(d, w)) for d in self.dense] for w in ("kernel", "bias"))
            return tanh_layers(tf.cast(inputs, tf.float32), kernels, biases)
        for dense in self.dense:
            # Of a matrix TensorFlow makes product and bias one kernel. The tanh stays out of it, where it takes longer,
            # and is of float32, for which there are vector instructions everywhere.
            before_tanh = on_rows(dense, inputs, (dense.units,))
            inputs = tf.cast(tf.tanh(tf.cast(before_tanh, tf.float32)), self.compute_dtype)
        return inputs

    def compute_output_shape(self, input_shape):
        for dense in self.dense:
            input_shape = dense.compute_output_shape(input_shape)
        return input_shape
