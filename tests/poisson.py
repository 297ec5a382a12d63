"""A likelihood as a user writes one, `call` and `distribution` alone: counts. `--plugin poisson` imports it."""

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from iwae_tf.declarations import declare
from iwae_tf.layers import Likelihood


@keras.saving.register_keras_serializable("tests")
class Poisson(Likelihood):
    """Counts with rates exp(features W + b); known to Keras, and not declared."""

    support = "counts 0, 1, 2 ..."
    advice = "round to whole numbers"

    def __init__(self, units, initializer_seeds, mean=None, **kwargs):
        super().__init__(**kwargs)
        self.log_rate = self.dense(units, initializer_seeds, None if mean is None else tf.math.log(mean))

    def call(self, features):
        return self.log_rate(features)

    def distribution(self, log_rate):
        return tfd.Independent(tfd.Poisson(log_rate=log_rate), 1)

    @staticmethod
    def in_support(value):
        return tf.reduce_all((value >= 0.0) & (value == tf.round(value)))


@declare("likelihood", "poisson", "counts")
class DeclaredPoisson(Poisson):
    """The same, declared."""
