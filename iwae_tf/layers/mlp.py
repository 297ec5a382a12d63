"""The deterministic part of every conditional distribution: dense tanh layers."""

from collections.abc import Iterator

import keras
import tensorflow as tf

from iwae_tf.layers.float16 import tanh_layers


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
                activation="tanh",
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
        # Of a matrix TensorFlow computes product, bias and tanh in one kernel; the last two are slow alone in bfloat16.
        # A score takes 0.93 of the time. In float32 it is all the same.
        as_matrix = self.compute_dtype == "bfloat16"
        features = tf.reshape(inputs, [-1, inputs.shape[-1]]) if as_matrix else inputs
        for dense in self.dense:
            features = dense(features)
        if not as_matrix:
            return features
        units = features.shape[-1]
        features = tf.reshape(features, tf.concat([tf.shape(inputs)[:-1], [units]], axis=0))
        return tf.ensure_shape(features, [*inputs.shape[:-1], units])

    def compute_output_shape(self, input_shape):
        for dense in self.dense:
            input_shape = dense.compute_output_shape(input_shape)
        return input_shape
