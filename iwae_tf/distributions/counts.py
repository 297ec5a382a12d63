"""Counts without a largest value: the negative binomial distribution."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from iwae_tf.declarations import declare
from iwae_tf.distributions.gaussian import LOG_SCALE_BOUND, bounded_log_scale
from iwae_tf.distributions.head import Likelihood

START_SIZE = 10.0


class NegativeBinomialParameters(NamedTuple):
    """Log of the mean, [..., D], and log of r, [D]."""

    log_mean: tf.Tensor
    log_size: tf.Tensor


@declare("likelihood", "negative-binomial", "counts 0, 1, 2, ..., with a spread of their own")
class NegativeBinomial(Likelihood):
    """Maps features to negative binomial counts with learned mean m; r is learned for each dimension.

        P(x) = G(x + r) / (G(r) x!) (r / (r + m))^r (m / (r + m))^x,   variance m + m^2 / r

    r = exp(7 tanh(raw / 7)), from 0.0009 to 1097, where it is practically a Poisson distribution. It starts at 10.

    Args:
        units: D.
        initializer_seeds: source of the seeds of the initialisers.
        mean: mean of the counts, [D]; the bias starts at its log, at least log 0.01; 0 if None.
    """

    support = "the integers 0, 1, 2, ..."
    advice = "leave counts as they are"
    bias_start = "log of the training mean, at least log 0.01"

    def __init__(self, units: int, initializer_seeds: Iterator[int], mean=None, **kwargs):
        super().__init__(**kwargs)
        bias = None if mean is None else np.log(np.maximum(np.asarray(mean, np.float64), 0.01))
        self.log_mean = self.dense(units, initializer_seeds, bias)
        start = LOG_SCALE_BOUND * math.atanh(math.log(START_SIZE) / LOG_SCALE_BOUND)
        self.raw_size = self.add_weight(shape=(units,), initializer=keras.initializers.Constant(start), name="size")

    def call(self, features) -> NegativeBinomialParameters:
        """[..., F] -> `NegativeBinomialParameters`."""
        log_size = bounded_log_scale(tf.convert_to_tensor(self.raw_size))
        return NegativeBinomialParameters(self.log_mean(features), log_size)

    def distribution(self, parameters: NegativeBinomialParameters):
        from tensorflow_probability import distributions as tfd

        log_mean, log_size = parameters
        counts = tfd.NegativeBinomial(tf.exp(log_size), logits=log_mean - log_size)
        return tfd.Independent(counts, reinterpreted_batch_ndims=1)

    @staticmethod
    def in_support(value: tf.Tensor) -> tf.Tensor:
        """Returns True if every value is an integer >= 0 (NaN is not); a scalar."""
        return tf.reduce_all((value >= 0.0) & (value == tf.round(value)) & tf.math.is_finite(value))
