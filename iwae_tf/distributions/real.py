"""Densities of real observations that are TFP distributions as they are: continuous Bernoulli and Student's t."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from iwae_tf.declarations import declare
from iwae_tf.distributions.bernoulli import Bernoulli
from iwae_tf.distributions.gaussian import LOG_SCALE_BOUND, bounded_log_scale
from iwae_tf.distributions.head import Likelihood
from iwae_tf.distributions.levels import logit_of_mean

START_DF = 10.0


@declare("likelihood", "continuous-bernoulli", "intensities in [0, 1] as they are, a density", density=True)
class ContinuousBernoulli(Likelihood):
    """Maps features to independent continuous Bernoulli intensities.

        p(x) = C(lambda) lambda^x (1 - lambda)^(1 - x) on [0, 1],  l = logit(lambda)

    Args:
        units: D.
        initializer_seeds: source of the seed of the initialiser.
        mean: mean of the training data, [D]; the bias starts at the logits with that mean, clipped to [0.01, 0.99].

    Reference: Loaiza-Ganem and Cunningham (2019), The continuous Bernoulli: fixing a pervasive error in variational
    autoencoders, section 3: equation 6 for the density, 8 for the mean.
    """

    support, in_support = Bernoulli.support, staticmethod(Bernoulli.in_support)
    bias_start = "logit of the continuous Bernoulli whose mean is the training mean clipped to [0.01, 0.99]"

    def __init__(self, units: int, initializer_seeds: Iterator[int], mean=None, **kwargs):
        super().__init__(**kwargs)
        bias = None if mean is None else logit_of_mean(mean, _mean_in_float64)
        self.logits = self.dense(units, initializer_seeds, bias)

    def call(self, features) -> tf.Tensor:
        """[..., F] -> logits [..., D]."""
        return self.logits(features)

    def distribution(self, logits: tf.Tensor):
        from tensorflow_probability import distributions as tfd

        return tfd.Independent(tfd.ContinuousBernoulli(logits=logits), reinterpreted_batch_ndims=1)


def _mean_in_float64(logits: np.ndarray) -> np.ndarray:
    safe = np.where(np.abs(logits) < 1e-3, 1.0, logits)
    return np.where(np.abs(logits) < 1e-3, 0.5 + logits / 12.0, -1.0 / np.expm1(-safe) - 1.0 / safe)


class StudentTParameters(NamedTuple):
    """Location and log scale, [..., D], and degrees of freedom, [D]."""

    loc: tf.Tensor
    log_scale: tf.Tensor
    df: tf.Tensor


@declare("likelihood", "student-t", "real values with outliers", real=True)
class StudentT(Likelihood):
    """Maps features to Student's t with learned location and scale; degrees of freedom learned for each dimension.

        p(x) = G((v + 1) / 2) / (G(v / 2) sqrt(v pi) s) (1 + ((x - m) / s)^2 / v)^(-(v + 1) / 2)

    Log scales are 7 tanh(raw / 7), and v = 1 + exp(7 tanh(raw / 7)), from 1.0009, so that the mean exists, to 1098,
    practically a Gaussian. v starts at 10.

    Args:
        units: D.
        initializer_seeds: source of the seeds of the initialisers.
        mean: mean of the observations, [D], the initial bias of `loc`; 0 if None.
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
        log_df = bounded_log_scale(tf.convert_to_tensor(self.raw_df))
        return StudentTParameters(self.loc(features), bounded_log_scale(self.log_scale(features)), 1.0 + tf.exp(log_df))

    def distribution(self, parameters: StudentTParameters):
        from tensorflow_probability import distributions as tfd

        loc, log_scale, df = parameters
        return tfd.Independent(tfd.StudentT(df, loc, tf.exp(log_scale)), reinterpreted_batch_ndims=1)
