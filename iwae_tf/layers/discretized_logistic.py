"""Mixtures of discretised logistics: probabilities of grey levels that know the order of the levels."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.layers.gaussian import LOG_SCALE_BOUND
from iwae_tf.layers.levels import LevelLikelihood

COMPONENTS = 5  # as in PixelCNN++
START_SCALE = 0.2  # of [-1, 1]: a tenth of all levels
START_LOCATIONS = np.linspace(-0.3, 0.3, COMPONENTS)  # about the training mean, so that the components differ


class LogisticMixture(NamedTuple):
    """Parameters of the mixture for each dimension, all [..., D, K], in units where the levels go from -1 to 1."""

    logits: tf.Tensor
    loc: tf.Tensor
    log_scale: tf.Tensor


class DiscretizedLogistic(LevelLikelihood):
    """Maps features to a mixture of K = 5 discretised logistics for each dimension.

        z = 2 x - 1,  P(x) = sum_j pi_j (sigmoid((z + d - m_j) / s_j) - sigmoid((z - d - m_j) / s_j)),  d = 1 / (L - 1)

    The first sigmoid is 1 in the top bin, the second 0 in the bottom one: the edge bins take the tails. Log scales are
    7 tanh(raw / 7).

    Args:
        units: D.
        initializer_seeds: where the initialisers take their seeds from.
        levels: L.
        mean: mean of the training data, [D], about which the locations start; the middle if None.

    Reference: Salimans, Karpathy, Chen, Kingma (2017), PixelCNN++, section 2.1, equation 2; without the coupling of
    colour channels.
    """

    bias_start = "components at the training mean +- 0, 0.075, 0.15; scales 0.1"

    def __init__(self, units: int, initializer_seeds: Iterator[int], levels: int, mean=None, **kwargs):
        super().__init__(levels, **kwargs)
        middle = 0.5 if mean is None else np.asarray(mean, np.float64)
        loc = (np.broadcast_to(2.0 * middle - 1.0, [units])[:, None] + START_LOCATIONS).reshape(-1)  # [D K]
        self.logits = self.dense(units * COMPONENTS, initializer_seeds)
        self.loc = self.dense(units * COMPONENTS, initializer_seeds, loc)
        self.log_scale = self.dense(units * COMPONENTS, initializer_seeds, np.log(START_SCALE))

    def call(self, features) -> LogisticMixture:
        """[..., F] -> `LogisticMixture` of [..., D, K]."""
        logits, loc, raw = (_by_component(dense(features)) for dense in (self.logits, self.loc, self.log_scale))
        return LogisticMixture(logits, loc, LOG_SCALE_BOUND * tf.tanh(raw / LOG_SCALE_BOUND))

    def log_prob(self, parameters: LogisticMixture, value: tf.Tensor) -> tf.Tensor:
        """log P(value) in nats, summed over dimensions: [..., D] -> [...]."""
        return tf.reduce_sum(self._mixed(parameters, value[..., None]), axis=-1)

    def level_log_probs(self, parameters: LogisticMixture) -> tf.Tensor:
        """log P of every level in nats, [..., D, L]."""
        expanded = LogisticMixture(*(values[..., None, :] for values in parameters))  # [..., D, 1, K]
        return self._mixed(expanded, self.value(tf.range(self.levels))[:, None])  # [..., D, L]

    def _mixed(self, parameters: LogisticMixture, value: tf.Tensor) -> tf.Tensor:
        """log P(value): value [..., 1] -> the same without the last axis."""
        weights = tf.nn.log_softmax(parameters.logits, axis=-1)
        return tf.reduce_logsumexp(weights + self._bin_log_prob(parameters, value), axis=-1)

    def _bin_log_prob(self, parameters: LogisticMixture, value: tf.Tensor) -> tf.Tensor:
        """log of the probability of a bin [l, u] under each component, in units of its scale.

        sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - e^-(u - l)), of which the top bin has sigmoid(-l) alone
        and the bottom bin sigmoid(u): logs of numbers that do not cancel, finite wherever the bin lies.
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
        """E[x] = 1 / (L - 1) sum_{i=1}^{L-1} P(level >= i), exact, one level at a time: [..., D]."""
        inverse_scale, step = tf.exp(-parameters.log_scale), 2.0 / (self.levels - 1.0)

        def add(total, i):
            edge = step * (i - 0.5) - 1.0  # between the levels i - 1 and i
            return total + tf.sigmoid((parameters.loc - edge) * inverse_scale)

        above = tf.foldl(add, tf.range(1.0, self.levels), tf.zeros_like(parameters.loc))
        weights = tf.nn.softmax(parameters.logits, axis=-1)
        return tf.reduce_sum(weights * above, axis=-1) / (self.levels - 1.0)

    def sample(self, parameters: LogisticMixture, key: tf.Tensor) -> tf.Tensor:
        """One draw of the levels for every row, [..., D]: a component, a logistic number, and the level it falls in."""
        first, second = tf.unstack(seeds.uniform(tf.concat([[2], tf.shape(parameters.loc)[:-1]], axis=0), key))
        cumulative = tf.cumsum(tf.nn.softmax(parameters.logits, axis=-1), axis=-1)
        passed = tf.cast(first[..., None] * cumulative[..., -1:] >= cumulative, tf.int32)
        component = tf.minimum(tf.reduce_sum(passed, axis=-1), COMPONENTS - 1)  # [..., D]
        loc, log_scale = (tf.gather(v, component, batch_dims=len(v.shape) - 1) for v in parameters[1:])
        u = tf.maximum(second, 1e-9)  # float32 draws end at 2^-23, or are 0
        z = loc + tf.exp(log_scale) * (tf.math.log(u) - tf.math.log1p(-u))
        last = self.levels - 1.0
        return tf.clip_by_value(tf.round(0.5 * (z + 1.0) * last), 0.0, last) / last


def _by_component(values: tf.Tensor) -> tf.Tensor:
    """[..., D K] -> [..., D, K]."""
    shape = tf.concat([tf.shape(values)[:-1], [values.shape[-1] // COMPONENTS, COMPONENTS]], axis=0)
    return tf.ensure_shape(tf.reshape(values, shape), [*values.shape[:-1], values.shape[-1] // COMPONENTS, COMPONENTS])
