"""Continuous Bernoulli: a density for intensities in [0, 1] as they are."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.layers.exponential_tilt import logit_of_mean
from iwae_tf.layers.likelihood import Likelihood

# Below, series: their next terms are 4e-10 (normaliser) and 3e-8 (mean), and 1/l - 1/(e^l - 1) would cancel.
SERIES_BELOW = 0.5


class ContinuousBernoulli(Likelihood):
    """Maps features to independent continuous Bernoulli intensities.

        p(x) = C(lambda) lambda^x (1 - lambda)^(1 - x) on [0, 1],  l = logit(lambda)
             = exp(l (x - 1/2)) / g(l),  g(l) = sinh(l/2) / (l/2), which is even in l and 1 at 0

    Args:
        units: D.
        initializer_seeds: where the initialiser takes its seed from.
        mean: mean of the training data, [D]; the bias starts at the logits whose mean is that, within [0.01, 0.99].

    Reference: Loaiza-Ganem and Cunningham (2019), The continuous Bernoulli: fixing a pervasive error in variational
    autoencoders, section 3: equation 6 for the density, 8 for the mean; appendix for the inverse CDF.
    """

    support = "values in [0, 1]"
    bias_start = "logit of the continuous Bernoulli whose mean is the training mean clipped to [0.01, 0.99]"

    def __init__(self, units: int, initializer_seeds: Iterator[int], mean=None, **kwargs):
        super().__init__(**kwargs)
        bias = None if mean is None else logit_of_mean(mean, _mean_in_float64)
        self.logits = self.dense(units, initializer_seeds, bias)

    def call(self, features) -> tf.Tensor:
        """[..., F] -> logits [..., D]."""
        return self.logits(features)

    @staticmethod
    def log_prob(logits: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """log p(value) in nats, a density, summed over dimensions: [..., D] -> [...]."""
        return tf.reduce_sum(logits * (value - 0.5) - _log_g(logits), axis=-1)

    @staticmethod
    def mean(logits: tf.Tensor) -> tf.Tensor:
        """1/2 + d log g / d l = 1 / (1 - e^-l) - 1 / l, [..., D]."""
        size = tf.abs(logits)
        near = size < SERIES_BELOW
        a = tf.where(near, 1.0, size)
        above_half = tf.where(near, _series_of_mean(size), -1.0 / tf.math.expm1(-a) - 1.0 / a - 0.5)
        return 0.5 + tf.sign(logits) * above_half

    @staticmethod
    def sample(logits: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """One draw for every dimension, [..., D], by the inverse CDF.

        For l = -a <= 0 it is x = -log(1 - u (1 - e^-a)) / a, a function of u that is u itself at a = 0; for l = a it is
        1 - x.
        """
        a, u = tf.abs(logits), seeds.uniform(tf.shape(logits), key)
        safe = tf.maximum(a, 1e-6)
        x = tf.clip_by_value(-tf.math.log1p(u * tf.math.expm1(-safe)) / safe, 0.0, 1.0)
        return tf.where(logits > 0.0, 1.0 - x, x)

    @staticmethod
    def distribution(logits: tf.Tensor):
        """The same distribution as a `tfp.distributions.Distribution` with event shape [D]."""
        from tensorflow_probability import distributions as tfd  # 1 to 2 s; training does not need it

        return tfd.Independent(tfd.ContinuousBernoulli(logits=logits), reinterpreted_batch_ndims=1)

    @staticmethod
    def in_support(value: tf.Tensor) -> tf.Tensor:
        """True if every value is in [0, 1] (NaN is not); a scalar."""
        return tf.reduce_all((value >= 0.0) & (value <= 1.0))


def _log_g(logits: tf.Tensor) -> tf.Tensor:
    """log (sinh(l/2) / (l/2)) = a/2 + log(1 - e^-a) - log a with a = |l|; near 0 a^2/24 - a^4/2880 + a^6/181440."""
    size = tf.abs(logits)
    near = size < SERIES_BELOW
    square = tf.square(tf.where(near, logits, 0.0))  # each branch with numbers of its own: no NaN in the gradient
    a = tf.where(near, 1.0, size)
    series = square * (1.0 / 24.0 - square * (1.0 / 2880.0 - square / 181440.0))
    return tf.where(near, series, 0.5 * a + tf.math.log(-tf.math.expm1(-a)) - tf.math.log(a))


def _series_of_mean(a: tf.Tensor) -> tf.Tensor:
    """The derivative of the series above: a/12 - a^3/720 + a^5/30240."""
    square = tf.square(a)
    return a * (1.0 / 12.0 - square * (1.0 / 720.0 - square / 30240.0))


def _mean_in_float64(logits: np.ndarray) -> np.ndarray:
    safe = np.where(np.abs(logits) < 1e-3, 1.0, logits)
    return np.where(np.abs(logits) < 1e-3, 0.5 + logits / 12.0, -1.0 / np.expm1(-safe) - 1.0 / safe)
