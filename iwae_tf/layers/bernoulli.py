"""Bernoulli pixels and binary latent units from logits."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.layers.bernoulli_density import LANES, bernoulli_log_prob, shared_terms
from iwae_tf.layers.likelihood import Likelihood
from iwae_tf.layers.shared_terms import NO_TERMS, SharedTerms


class BernoulliParameters(NamedTuple):
    """Parameters of independent Bernoulli units: `logits`, [..., H]."""

    logits: tf.Tensor

    @property
    def probability(self) -> tf.Tensor:
        """Probability of each unit being 1, [..., H]."""
        return tf.sigmoid(self.logits)


class Bernoulli(Likelihood):
    """Maps features to independent Bernoulli pixels, or to the units of a stochastic layer.

    Args:
        units: D, the number of pixels, or H of units.
        initializer_seeds: where the initialiser takes its seed from.
        mean: mean of the training images, [D], in [0, 1]; the bias starts at logit(clip(mean, 0.001, 0.999)) as in
            the paper's code, and at 0 if None.
    """

    support = "values in [0, 1]"
    bias_start = "logit of the training mean clipped to [0.001, 0.999]"
    described_by = ("probability",)  # what `described` has for people

    def __init__(self, units: int, initializer_seeds: Iterator[int], mean=None, **kwargs):
        super().__init__(**kwargs)
        bias = None
        if mean is not None:
            mean = np.clip(mean, 0.001, 0.999)
            bias = np.log(mean / (1.0 - mean))
        self.logits = self.dense(units, initializer_seeds, bias)

    def call(self, features) -> tf.Tensor:
        """[..., F] -> logits [..., D]."""
        return self.logits(features)

    def shared_terms(self, value: tf.Tensor, precision: str) -> SharedTerms:
        """Of `bernoulli_log_prob`, where `log_prob_of_features` calls it."""
        if not self._in_groups:
            return NO_TERMS
        return shared_terms(*self._weights(), value, tf.bfloat16 if precision == "bfloat16" else tf.float32)

    def log_prob_of_features(self, features: tf.Tensor, value: tf.Tensor, shared=NO_TERMS) -> tf.Tensor:
        """log p(value | features), as `log_prob` of `self(features)`: features [k, B, F], value [B, D] -> [k, B]."""
        same_images = features.shape.rank == 3 and features.shape[1:2].is_compatible_with(value.shape[:-1])
        if not self._in_groups or not same_images:  # one image for many points
            return self.log_prob(self(features), value)
        if features.dtype != tf.bfloat16:  # float16 has not the range for the gradient
            features = tf.cast(features, tf.float32)
        return bernoulli_log_prob(features, *self._weights(), value, shared)

    @property
    def _in_groups(self) -> bool:
        """Whether pixels make whole groups, and not each has its own features."""
        return not self.logits.num_axes and self.logits.units % LANES == 0

    def _weights(self):
        return tf.convert_to_tensor(self.logits.kernel), tf.convert_to_tensor(self.logits.bias)

    @staticmethod
    def log_prob(logits: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """log p(value), summed over pixels, finite for every finite logit: [..., D] -> [...].

        Values between 0 and 1 give value * log p(1) + (1 - value) * log p(0), the expectation over a binarised pixel.
        """
        return tf.reduce_sum(value * logits - tf.nn.softplus(logits), axis=-1)

    @classmethod
    def sample_and_log_prob(cls, logits: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Units made of standard normal noise, and their log q in nats, summed over units.

            h = 1 where noise < Phi^-1(sigmoid(logits)),  so that P(h = 1) = sigmoid(logits)

        For logits above 0 the bound is -Phi^-1(sigmoid(-logits)), the same in exact arithmetic: in float32 sigmoid(17)
        is 1, sigmoid(-17) is not, and Phi^-1 is exact to 1e-6 where its argument is small. What is left is the noise:
        in float32 it ends at 5.6, so that probabilities below 1e-8 are drawn as 0. No gradient passes to the units.
        They jump where the noise passes the bound, so that logits which differ by rounding give another unit about
        once in a million draws.

        Args:
            logits: [..., H].
            noise: standard normal, [..., H]; it may have more leading axes.

        Returns:
            h, 0 and 1, float32 with the shape of the noise, and log q(h), the same without the last axis.
        """
        bound = tf.math.ndtri(tf.sigmoid(-tf.abs(logits)))  # of the rarer value, <= 0
        value = tf.cast(noise < tf.where(logits > 0.0, -bound, bound), tf.float32)
        return value, cls.log_prob(logits, value)

    @staticmethod
    def sample(logits: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """One 0/1 draw for every pixel, float32 [..., D]."""
        return tf.cast(seeds.uniform(tf.shape(logits), key) < tf.sigmoid(logits), tf.float32)

    @staticmethod
    def mean(logits: tf.Tensor) -> tf.Tensor:
        """Probability of a pixel being 1, [..., D]."""
        return tf.sigmoid(logits)

    @staticmethod
    def described(logits: tf.Tensor) -> BernoulliParameters:
        """The parameters as `IWAE.encode` returns them."""
        return BernoulliParameters(logits)

    @staticmethod
    def distribution(logits: tf.Tensor):
        """The same distribution as a `tfp.distributions.Distribution` with event shape [D]."""
        from tensorflow_probability import distributions as tfd  # 1 to 2 s; training does not need it

        return tfd.Independent(tfd.Bernoulli(logits=logits, dtype=tf.float32), reinterpreted_batch_ndims=1)

    @staticmethod
    def in_support(value: tf.Tensor) -> tf.Tensor:
        """True if every value is in [0, 1] (NaN is not); a scalar."""
        return tf.reduce_all((value >= 0.0) & (value <= 1.0))
