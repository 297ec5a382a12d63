"""Likelihoods over L equally spaced levels i / (L - 1), such as grey values: categorical and discretised logistic."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import special

from iwae_tf import seeds
from iwae_tf.declarations import declare
from iwae_tf.distributions.gaussian import bounded_log_scale
from iwae_tf.distributions.head import Likelihood, checked_share
from iwae_tf.errors import InputError, positive_integer

NEAR = 1e-2  # of the step between two levels: a value so near to a level is that level
COMPONENTS = 5  # as in PixelCNN++
START_SCALE = 0.2  # of [-1, 1]: a tenth of all levels
START_LOCATIONS = np.linspace(-0.3, 0.3, COMPONENTS)  # around the training mean, so that the components differ


class LevelLikelihood(Likelihood):
    """Base class for observations of L levels; the log-likelihood is the log of a probability.

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
        if self.levels > 2**16:
            raise InputError(f"levels must be at most 65536, those of a pixel of 16 bits, got {levels}")
        self.support = f"the {self.levels} levels i / {self.levels - 1}, i = 0 ... {self.levels - 1}"

    def level(self, value: tf.Tensor) -> tf.Tensor:
        """Returns the number i of the level i / (L - 1), int32: [..., D] -> [..., D]."""
        return tf.cast(tf.round(value * (self.levels - 1.0)), tf.int32)

    def value(self, level: tf.Tensor) -> tf.Tensor:
        """Returns the value i / (L - 1) of a level, float32: [..., D] -> [..., D]."""
        return tf.cast(level, tf.float32) / (self.levels - 1.0)

    def level_log_probs(self, parameters) -> tf.Tensor:
        """Returns log P of every level in nats, [..., D, L]."""
        raise NotImplementedError(f"{type(self).__name__} must define level_log_probs(parameters)")

    def distribution(self, parameters):
        from tensorflow_probability import distributions as tfd

        outcomes, log_p = self.value(tf.range(self.levels)), self.level_log_probs(parameters)
        near = {"atol": NEAR / (self.levels - 1.0), "rtol": 0.0}
        return tfd.Independent(tfd.FiniteDiscrete(outcomes, logits=log_p, **near), reinterpreted_batch_ndims=1)

    def log_prob_of_each(self, parameters, value: tf.Tensor) -> tf.Tensor:
        from tensorflow_probability import distributions as tfd

        return tfd.Categorical(logits=self.level_log_probs(parameters)).log_prob(self.level(value))

    def in_support(self, value: tf.Tensor) -> tf.Tensor:
        """Returns True if every value is one of the levels, up to the rounding of float32; a scalar."""
        scaled = value * (self.levels - 1.0)
        near = tf.abs(scaled - tf.round(scaled)) < NEAR
        return tf.reduce_all(near & (value >= 0.0) & (value <= 1.0))


@declare("likelihood", "categorical", "few grey levels, a softmax over them", needs_levels=True)
class Categorical(LevelLikelihood):
    """Maps features to logits of the L levels of each dimension: P(x = i / (L - 1)) = softmax(logits)_i.

    Args:
        units: D.
        initializer_seeds: source of the seed of the initialiser.
        levels: L.
        mean: mean of the training data, [D], clipped to [0.01, 0.99]; the bias starts at t_d i / (L - 1) with the t_d
            that gives this mean, the distribution of largest entropy with that mean. At 0 if None.
    """

    bias_start = "largest entropy with the training mean clipped to [0.01, 0.99]"

    def __init__(self, units: int, initializer_seeds: Iterator[int], levels: int, mean=None, **kwargs):
        super().__init__(levels, **kwargs)
        bias, values = None, np.arange(self.levels) / (self.levels - 1.0)
        if mean is not None:
            tilt = logit_of_mean(mean, lambda t: special.softmax(t[:, None] * values, axis=-1) @ values)  # [D]
            bias = (tilt[:, None] * values).reshape(-1)  # [D L]
        self.logits = self.dense(units * self.levels, initializer_seeds, bias)

    def call(self, features) -> tf.Tensor:
        """[..., F] -> logits [..., D, L]."""
        return _split_last(self.logits(features), self.levels)

    def log_prob(self, logits: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """Returns log P(value) in nats, summed over dimensions: [..., D] -> [...].

        TFP's Categorical over the level's number; its FiniteDiscrete compares a value with every level, [..., D, L].
        """
        from tensorflow_probability import distributions as tfd

        return tf.reduce_sum(tfd.Categorical(logits=logits).log_prob(self.level(value)), axis=-1)

    def level_log_probs(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.nn.log_softmax(logits, axis=-1)


class LogisticMixture(NamedTuple):
    """Parameters of the mixture for each dimension, all [..., D, K], in units where the levels go from -1 to 1."""

    logits: tf.Tensor
    loc: tf.Tensor
    log_scale: tf.Tensor


@declare("likelihood", "discretized-logistic", "grey levels, a mixture that knows their order", needs_levels=True)
class DiscretizedLogistic(LevelLikelihood):
    """Maps features to a mixture of K = 5 discretised logistics for each dimension.

        z = 2 x - 1,  P(x) = sum_j pi_j (sigmoid((z + d - m_j) / s_j) - sigmoid((z - d - m_j) / s_j)),  d = 1 / (L - 1)

    The first sigmoid is 1 in the top bin, the second 0 in the bottom one: the edge bins take the tails. Log scales are
    7 tanh(raw / 7).

    Its arithmetic is not TFP's QuantizedDistribution, which subtracts two nearly equal CDFs where a bin is narrow: at
    log scale 7 that is 0.016 nats off for one of 256 levels. Mean and sample avoid the [..., D, L, K] of
    `distribution`, 4 MB for one MNIST image.

    Args:
        units: D.
        initializer_seeds: source of the seeds of the initialisers.
        levels: L.
        mean: mean of the training data, [D], around which the locations start; the middle if None.

    Reference: Salimans, Karpathy, Chen, Kingma (2017), PixelCNN++, section 2.1, equation 2; without the coupling of
    colour channels.
    """

    bias_start = "components at the training mean +- 0, 0.075, 0.15; scales 0.1"

    def __init__(self, units: int, initializer_seeds: Iterator[int], levels: int, mean=None, **kwargs):
        super().__init__(levels, **kwargs)
        middle = 0.5 if mean is None else checked_share(mean)
        loc = (np.broadcast_to(2.0 * middle - 1.0, [units])[:, None] + START_LOCATIONS).reshape(-1)  # [D K]
        self.logits = self.dense(units * COMPONENTS, initializer_seeds)
        self.loc = self.dense(units * COMPONENTS, initializer_seeds, loc)
        self.log_scale = self.dense(units * COMPONENTS, initializer_seeds, np.log(START_SCALE))

    def call(self, features) -> LogisticMixture:
        """[..., F] -> `LogisticMixture` of [..., D, K]."""
        layers = (self.logits, self.loc, self.log_scale)
        logits, loc, raw = (_split_last(dense(features), COMPONENTS) for dense in layers)
        return LogisticMixture(logits, loc, bounded_log_scale(raw))

    def log_prob(self, parameters: LogisticMixture, value: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self._mixed(parameters, value[..., None]), axis=-1)

    def level_log_probs(self, parameters: LogisticMixture) -> tf.Tensor:
        expanded = LogisticMixture(*(values[..., None, :] for values in parameters))  # [..., D, 1, K]
        return self._mixed(expanded, self.value(tf.range(self.levels))[:, None])  # [..., D, L]

    def _mixed(self, parameters: LogisticMixture, value: tf.Tensor) -> tf.Tensor:
        """Returns log P(value): value [..., 1] -> the same without the last axis."""
        weights = tf.nn.log_softmax(parameters.logits, axis=-1)
        return tf.reduce_logsumexp(weights + self._bin_log_prob(parameters, value), axis=-1)

    def _bin_log_prob(self, parameters: LogisticMixture, value: tf.Tensor) -> tf.Tensor:
        """Returns the log of the probability of a bin [l, u] under each component, in units of its scale.

        sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - e^-(u - l)); the top bin has sigmoid(-l) alone and the
        bottom bin sigmoid(u): logs of numbers that do not cancel, finite wherever the bin lies.
        """
        half, inverse_scale = 1.0 / (self.levels - 1.0), tf.exp(-parameters.log_scale)
        distance = 2.0 * value - 1.0 - parameters.loc
        below_upper = tf.math.log_sigmoid((distance + half) * inverse_scale)
        above_lower = tf.math.log_sigmoid((half - distance) * inverse_scale)
        width = tf.math.log(-tf.math.expm1(-2.0 * half * inverse_scale))
        level = self.level(value)
        top, bottom = level == self.levels - 1, level == 0
        return tf.where(top, 0.0, below_upper) + tf.where(bottom, 0.0, above_lower) + tf.where(top | bottom, 0.0, width)

    def mean(self, parameters: LogisticMixture) -> tf.Tensor:
        """Returns E[x] = 1 / (L - 1) sum_{i=1}^{L-1} P(level >= i), exact, one level at a time: [..., D]."""
        inverse_scale, step = tf.exp(-parameters.log_scale), 2.0 / (self.levels - 1.0)

        def add(total, i):
            edge = step * (i - 0.5) - 1.0  # between the levels i - 1 and i
            return total + tf.sigmoid((parameters.loc - edge) * inverse_scale)

        above = tf.foldl(add, tf.range(1.0, self.levels), tf.zeros_like(parameters.loc))
        weights = tf.nn.softmax(parameters.logits, axis=-1)
        return tf.reduce_sum(weights * above, axis=-1) / (self.levels - 1.0)

    def sample(self, parameters: LogisticMixture, key: tf.Tensor) -> tf.Tensor:
        """Draws a component and a logistic number, and returns the level of the bin it falls in, [..., D]."""
        first, second = tf.unstack(seeds.uniform(tf.concat([[2], tf.shape(parameters.loc)[:-1]], axis=0), key))
        cumulative = tf.cumsum(tf.nn.softmax(parameters.logits, axis=-1), axis=-1)
        passed = tf.cast(first[..., None] * cumulative[..., -1:] >= cumulative, tf.int32)
        component = tf.minimum(tf.reduce_sum(passed, axis=-1), COMPONENTS - 1)  # [..., D]
        loc, log_scale = (tf.gather(v, component, batch_dims=len(v.shape) - 1) for v in parameters[1:])
        u = tf.maximum(second, 1e-9)  # float32 draws end at 2^-23, or are 0
        z = loc + tf.exp(log_scale) * (tf.math.log(u) - tf.math.log1p(-u))
        last = self.levels - 1.0
        return tf.clip_by_value(tf.round(0.5 * (z + 1.0) * last), 0.0, last) / last


def _split_last(values: tf.Tensor, number: int) -> tf.Tensor:
    """[..., D * number] -> [..., D, number]."""
    dim = values.shape[-1] // number
    split = tf.reshape(values, tf.concat([tf.shape(values)[:-1], [dim, number]], axis=0))
    return tf.ensure_shape(split, [*values.shape[:-1], dim, number])


def logit_of_mean(mean, mean_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Returns the logit l with mean_of(l) = clip(mean, 0.01, 0.99), by bisection in float64.

    Args:
        mean: in [0, 1], [D].
        mean_of: increasing function of l, elementwise, that reaches 0.01 and 0.99 within [-200, 200].

    Returns:
        float64 [D].
    """
    mean = np.clip(checked_share(mean), 0.01, 0.99)
    low, high = np.full_like(mean, -200.0), np.full_like(mean, 200.0)
    for _ in range(60):  # 400 / 2^60 is below float64's rounding of the logit
        middle = 0.5 * (low + high)
        below = mean_of(middle) < mean
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def bits_per_dimension(log_p: float, data_dim: int) -> float:
    """Returns -log p / (D log 2), bits for each dimension, where `log_p` is the log of a probability in nats."""
    return -log_p / (data_dim * math.log(2.0))
