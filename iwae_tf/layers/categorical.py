"""Categorical levels: a softmax over the grey levels of every dimension."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.layers.exponential_tilt import logit_of_mean
from iwae_tf.layers.levels import LevelLikelihood


class Categorical(LevelLikelihood):
    """Maps features to logits of the L levels of each dimension: P(x = i / (L - 1)) = softmax(logits)_i.

    Args:
        units: D.
        initializer_seeds: where the initialiser takes its seed from.
        levels: L.
        mean: mean of the training data, [D]; the bias starts at t_d i / (L - 1) with the t_d that gives this mean,
            within [0.01, 0.99]: of all distributions with the mean, the one of largest entropy. At 0 if None.
    """

    bias_start = "largest entropy with the training mean clipped to [0.01, 0.99]"

    def __init__(self, units: int, initializer_seeds: Iterator[int], levels: int, mean=None, **kwargs):
        super().__init__(levels, **kwargs)
        bias, values = None, np.arange(self.levels) / (self.levels - 1.0)
        if mean is not None:
            tilt = logit_of_mean(mean, lambda t: _softmax(t[:, None] * values) @ values)  # [D]
            bias = (tilt[:, None] * values).reshape(-1)  # [D L]
        self.logits = self.dense(units * self.levels, initializer_seeds, bias)

    def call(self, features) -> tf.Tensor:
        """[..., F] -> logits [..., D, L]."""
        logits = self.logits(features)
        dim = logits.shape[-1] // self.levels
        split = tf.reshape(logits, tf.concat([tf.shape(logits)[:-1], [dim, self.levels]], axis=0))
        return tf.ensure_shape(split, [*logits.shape[:-1], dim, self.levels])

    def log_prob(self, logits: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """log P(value) in nats, summed over dimensions: [..., D] -> [...]."""
        shape = tf.broadcast_dynamic_shape(tf.shape(logits)[:-1], tf.shape(value))
        level, logits = (
            tf.broadcast_to(self.level(value), shape),
            tf.broadcast_to(logits, tf.concat([shape, [self.levels]], 0)),
        )
        return -tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(level, logits), axis=-1)

    @staticmethod
    def level_log_probs(logits: tf.Tensor) -> tf.Tensor:
        """log P of every level in nats, [..., D, L]."""
        return tf.nn.log_softmax(logits, axis=-1)

    def mean(self, logits: tf.Tensor) -> tf.Tensor:
        """sum_i P(i) i / (L - 1), [..., D]."""
        return tf.linalg.matvec(tf.nn.softmax(logits, axis=-1), self.value(tf.range(self.levels)))

    def sample(self, logits: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """One draw of the levels for every row, [..., D], by the inverse CDF."""
        cumulative = tf.cumsum(tf.nn.softmax(logits, axis=-1), axis=-1)
        u = seeds.uniform(tf.shape(logits)[:-1], key)[..., None] * cumulative[..., -1:]  # the sum is 1 up to rounding
        return self.value(tf.minimum(tf.reduce_sum(tf.cast(u >= cumulative, tf.int32), axis=-1), self.levels - 1))


def _softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)
