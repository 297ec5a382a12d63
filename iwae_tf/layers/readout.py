"""The linear layer between features and parameters; features may come position by position."""

import math

import keras
import tensorflow as tf

from iwae_tf.errors import InputError


class Readout(keras.layers.Layer):
    """Features to `units` values, linear.

        features [..., F]:              features W + b            W [F, units],      b [units]
        features [..., *positions, F]:  flatten(features W) + b   W [F, units / P],  b [units],  P positions

    The second is a convolution of size 1 with a bias for each position and channel: each position, say a pixel, makes
    its own values from its own features. Values are in the order of the positions, row by row, then of the channels.

    Args:
        units: values for each row.
        kernel_initializer: of W.
        bias_initializer: of b.
    """

    def __init__(self, units: int, kernel_initializer, bias_initializer, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer

    def build(self, input_shape):
        _, *positions, features = input_shape
        self.num_axes, number = len(positions), math.prod(positions)
        if self.units % number:
            raise InputError(
                f"features for {' x '.join(map(str, positions))} positions cannot make {self.units} values: the "
                "decoder's height x width must be that of the image, or flatten its output"
            )
        kernel = (features, self.units // number)
        self.kernel = self.add_weight(shape=kernel, initializer=self.kernel_initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer=self.bias_initializer, name="bias")
        self.built = True

    def call(self, features):
        """[..., F] or [..., *positions, F] -> [..., units]."""
        products = keras.ops.matmul(features, self.kernel)
        if self.num_axes:
            leading = len(features.shape) - self.num_axes - 1
            flat = tf.reshape(products, tf.concat([tf.shape(products)[:leading], [self.units]], axis=0))
            products = tf.ensure_shape(flat, [*features.shape[:leading], self.units])
        return keras.ops.add(products, self.bias)
