"""Diagonal Gaussians: q(h | .) and p(h | .) of every stochastic layer, and real-valued observations."""

from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.layers.likelihood import Likelihood
from iwae_tf.layers.standard_normal import standard_normal_log_prob

# Scales stay in [exp(-7), exp(7)] = [0.0009, 1097]: squares and quotients of them are far from float32's limits.
LOG_SCALE_BOUND = 7.0


class GaussianParameters(NamedTuple):
    """Parameters of a diagonal Gaussian: `loc` and `log_scale`, both [..., H]."""

    loc: tf.Tensor
    log_scale: tf.Tensor

    @property
    def scale(self) -> tf.Tensor:
        """The standard deviation, [..., H]."""
        return tf.exp(self.log_scale)


class DiagonalGaussian(Likelihood):
    """Maps features to a diagonal Gaussian with learned mean and scale.

    The log scale is `7 tanh(raw / 7)`: it equals the raw output where that is small and cannot overflow.

    Args:
        units: H, the number of units.
        initializer_seeds: where the initialisers take their seeds from.
        mean: mean of the observations, [H], where the bias of `loc` starts; 0 if None.
    """

    bias_start = "training mean"
    described_by = ("loc", "scale")  # what `described` has for people

    def __init__(self, units: int, initializer_seeds: Iterator[int], mean=None, **kwargs):
        super().__init__(**kwargs)
        self.loc = self.dense(units, initializer_seeds, mean)
        self.log_scale = self.dense(units, initializer_seeds)

    def call(self, features) -> GaussianParameters:
        """[..., F] -> `GaussianParameters` of [..., H]."""
        raw = self.log_scale(features)
        return GaussianParameters(self.loc(features), LOG_SCALE_BOUND * tf.tanh(raw / LOG_SCALE_BOUND))

    @staticmethod
    def log_prob(parameters: GaussianParameters, value: tf.Tensor) -> tf.Tensor:
        """log N(value; loc, scale^2), summed over units: [..., H] -> [...]."""
        standardized = (value - parameters.loc) * tf.exp(-parameters.log_scale)
        return standard_normal_log_prob(standardized) - tf.reduce_sum(parameters.log_scale, axis=-1)

    @staticmethod
    def transform(parameters: GaussianParameters, noise: tf.Tensor) -> tf.Tensor:
        """loc + scale * noise, the reparameterised sample (Kingma & Welling 2014, section 2.4)."""
        return parameters.loc + parameters.scale * noise

    @classmethod
    def sample_and_log_prob(cls, parameters: GaussianParameters, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The reparameterised sample and its log q, in nats, summed over units.

        log q is written with the noise, log q = log N(noise; 0, I) - sum log scale, which has the same value and the
        same total derivative as the density at the sample and costs less.

        Args:
            parameters: of [..., H].
            noise: standard normal, [..., H]; it may have more leading axes.

        Returns:
            h with the shape of the noise, and log q(h), the same without the last axis.
        """
        log_q = standard_normal_log_prob(noise) - tf.reduce_sum(parameters.log_scale, axis=-1)
        return cls.transform(parameters, noise), log_q

    @classmethod
    def sample(cls, parameters: GaussianParameters, key: tf.Tensor) -> tf.Tensor:
        """One draw for every row of the parameters, [..., H]."""
        return cls.transform(parameters, seeds.normal(tf.shape(parameters.loc), key))

    @staticmethod
    def mean(parameters: GaussianParameters) -> tf.Tensor:
        """The mean, [..., H]."""
        return parameters.loc

    @staticmethod
    def described(parameters: GaussianParameters) -> GaussianParameters:
        """The parameters as `IWAE.encode` returns them."""
        return parameters

    @staticmethod
    def kl_to_standard_normal(parameters: GaussianParameters) -> tf.Tensor:
        """KL(N(loc, scale^2) || N(0, I)), summed over units: [..., H] -> [...].

        Reference: Kingma & Welling (2014), appendix B.
        """
        loc, log_scale = parameters
        return 0.5 * tf.reduce_sum(tf.square(loc) + tf.exp(2.0 * log_scale) - 1.0 - 2.0 * log_scale, axis=-1)

    @staticmethod
    def distribution(parameters: GaussianParameters):
        """The same distribution as a `tfp.distributions.Distribution` with event shape [H]."""
        from tensorflow_probability import distributions as tfd  # 1 to 2 s; training does not need it

        return tfd.Independent(tfd.Normal(parameters.loc, parameters.scale), reinterpreted_batch_ndims=1)
