"""Observations of L equal levels i / (L - 1), such as grey values: what the likelihoods over them share."""

import math

import tensorflow as tf

from iwae_tf.errors import InputError, positive_integer
from iwae_tf.layers.likelihood import Likelihood


class LevelLikelihood(Likelihood):
    """A probability over L levels for every dimension; scores are log-probabilities.

    Args:
        levels: L, at least 2.
    """

    needs_levels = True
    advice = (
        "give as levels (--levels) the number of values that a pixel can have, and divide its integers by one less "
        "(8-bit grey values: levels 256, divide by 255)"
    )

    def __init__(self, levels: int, **kwargs):
        super().__init__(**kwargs)
        self.levels = positive_integer("levels", levels)
        if self.levels < 2:
            raise InputError("levels must be at least 2, got 1: a pixel with one value has nothing to learn")
        self.support = f"the {self.levels} levels i / {self.levels - 1}, i = 0 ... {self.levels - 1}"

    def level(self, value: tf.Tensor) -> tf.Tensor:
        """The number i of the level i / (L - 1), int32: [..., D] -> [..., D]."""
        return tf.cast(tf.round(value * (self.levels - 1.0)), tf.int32)

    def value(self, level: tf.Tensor) -> tf.Tensor:
        """The value i / (L - 1) of a level, float32: [..., D] -> [..., D]."""
        return tf.cast(level, tf.float32) / (self.levels - 1.0)

    def level_log_probs(self, parameters) -> tf.Tensor:
        """log P of every level in nats, [..., D, L]."""
        raise NotImplementedError

    def distribution(self, parameters):
        """The same distribution as a `tfp.distributions.Distribution` with event shape [D]."""
        from tensorflow_probability import distributions as tfd  # 1 to 2 s; training does not need it

        outcomes, log_p = self.value(tf.range(self.levels)), self.level_log_probs(parameters)
        return tfd.Independent(tfd.FiniteDiscrete(outcomes, logits=log_p), reinterpreted_batch_ndims=1)

    def in_support(self, value: tf.Tensor) -> tf.Tensor:
        """True if every value is one of the levels, up to the rounding of float32; a scalar."""
        scaled = value * (self.levels - 1.0)
        near = tf.abs(scaled - tf.round(scaled)) < 1e-2
        return tf.reduce_all(near & (value >= 0.0) & (value <= 1.0))


def bits_per_dimension(log_p: float, data_dim: int) -> float:
    """-log p / (D log 2): what a dimension costs in bits where `log_p`, in nats, is the log of a probability."""
    return -log_p / (data_dim * math.log(2.0))
