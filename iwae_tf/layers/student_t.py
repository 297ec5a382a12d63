"""Student's t: real values with outliers."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.layers.gaussian import LOG_SCALE_BOUND
from iwae_tf.layers.likelihood import Likelihood

START_DF = 10.0


class StudentTParameters(NamedTuple):
    """Location and log scale, [..., D], and degrees of freedom, [D]."""

    loc: tf.Tensor
    log_scale: tf.Tensor
    df: tf.Tensor


class StudentT(Likelihood):
    """Maps features to Student's t with learned location and scale; degrees of freedom learned for each dimension.

        p(x) = G((v + 1) / 2) / (G(v / 2) sqrt(v pi) s) (1 + ((x - m) / s)^2 / v)^(-(v + 1) / 2)

    Log scales are 7 tanh(raw / 7), and v = 1 + exp(7 tanh(raw / 7)), from 1.0009, so that the mean exists, to 1098,
    which is a Gaussian for all purposes. v starts at 10.

    Args:
        units: D.
        initializer_seeds: where the initialisers take their seeds from.
        mean: mean of the observations, [D], where the bias of `loc` starts; 0 if None.
    """

    bias_start = "training mean"

    def __init__(self, units: int, initializer_seeds: Iterator[int], mean=None, **kwargs):
        super().__init__(**kwargs)
        self.loc = self.dense(units, initializer_seeds, mean)
        self.log_scale = self.dense(units, initializer_seeds)
        start = LOG_SCALE_BOUND * math.atanh(math.log(START_DF - 1.0) / LOG_SCALE_BOUND)
        self.raw_df = self.add_weight(shape=(units,), initializer=keras.initializers.Constant(start), name="df")

    def call(self, features) -> StudentTParameters:
        """[..., F] -> `StudentTParameters` of [..., D]."""
        log_scale, log_df = (
            LOG_SCALE_BOUND * tf.tanh(raw / LOG_SCALE_BOUND)
            for raw in (self.log_scale(features), tf.convert_to_tensor(self.raw_df))
        )
        return StudentTParameters(self.loc(features), log_scale, 1.0 + tf.exp(log_df))

    @staticmethod
    def log_prob(parameters: StudentTParameters, value: tf.Tensor) -> tf.Tensor:
        """log p(value) in nats, a density, summed over dimensions: [..., D] -> [...]."""
        loc, log_scale, df = parameters
        squares = tf.square((value - loc) * tf.exp(-log_scale)) / df
        terms = -0.5 * (df + 1.0) * tf.math.log1p(squares) - log_scale
        return tf.reduce_sum(terms + _log_normalizer(df), axis=-1)

    @staticmethod
    def mean(parameters: StudentTParameters) -> tf.Tensor:
        """The location, [..., D]."""
        return parameters.loc

    @staticmethod
    def sample(parameters: StudentTParameters, key: tf.Tensor) -> tf.Tensor:
        """One draw for every row, [..., D]: loc + scale sqrt(v (u^(-2/v) - 1)) cos(2 pi w), u and w uniform.

        Reference: Bailey (1994), Polar generation of random variates with the t-distribution.
        """
        loc, log_scale, df = parameters
        u, w = tf.unstack(seeds.uniform(tf.concat([[2], tf.shape(loc)], axis=0), key))
        radius = tf.sqrt(df * tf.math.expm1(-2.0 / df * tf.math.log1p(-u)))  # 1 - u is in (0, 1]
        return loc + tf.exp(log_scale) * radius * tf.cos(2.0 * math.pi * w)

    @staticmethod
    def distribution(parameters: StudentTParameters):
        """The same distribution as a `tfp.distributions.Distribution` with event shape [D]."""
        from tensorflow_probability import distributions as tfd  # 1 to 2 s; training does not need it

        loc, log_scale, df = parameters
        return tfd.Independent(tfd.StudentT(df, loc, tf.exp(log_scale)), reinterpreted_batch_ndims=1)


def _log_normalizer(df: tf.Tensor) -> tf.Tensor:
    """log G((v + 1) / 2) - log G(v / 2) - 1/2 log(v pi): [D] -> [D], in float64, where the first two cancel."""
    v = tf.cast(df, tf.float64)
    value = tf.math.lgamma(0.5 * (v + 1.0)) - tf.math.lgamma(0.5 * v) - 0.5 * tf.math.log(math.pi * v)
    return tf.cast(value, tf.float32)
