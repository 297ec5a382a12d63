"""A likelihood as a user writes one: counts."""

import keras
import tensorflow as tf

import iwae_tf


@keras.saving.register_keras_serializable("tests")
class Poisson(iwae_tf.layers.Likelihood):
    """Counts with rates exp(features W + b)."""

    support = "counts 0, 1, 2 ..."
    advice = "round to whole numbers"

    def __init__(self, units, initializer_seeds, mean=None, **kwargs):
        super().__init__(**kwargs)
        self.log_rate = self.dense(units, initializer_seeds, None if mean is None else tf.math.log(mean))

    def call(self, features):
        return self.log_rate(features)

    def log_prob(self, log_rate, value):
        return tf.reduce_sum(value * log_rate - tf.exp(log_rate) - tf.math.lgamma(value + 1.0), axis=-1)

    def mean(self, log_rate):
        return tf.exp(log_rate)

    def sample(self, log_rate, key):
        return tf.random.stateless_poisson(tf.shape(log_rate), key, tf.exp(log_rate))

    def in_support(self, value):
        return tf.reduce_all((value >= 0.0) & (value == tf.round(value)))
