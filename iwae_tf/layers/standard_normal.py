"""The prior of Gaussian units: N(0, I), which nothing is learned of."""

import math

import tensorflow as tf

from iwae_tf import seeds

LOG_TWO_PI = math.log(2.0 * math.pi)


def standard_normal_log_prob(value: tf.Tensor) -> tf.Tensor:
    """log N(value; 0, I), summed over units: [..., H] -> [...]."""
    units = value.shape[-1]
    return -0.5 * (tf.reduce_sum(tf.square(value), axis=-1) + units * LOG_TWO_PI)


class StandardNormal:
    """p(h) = N(h; 0, I) of H = `units` units; no layer, since it has no weights."""

    description = "N(0, I)"

    def __init__(self, units: int):
        self.units = units

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """log p(value) in nats, summed over units: [..., H] -> [...]."""
        return standard_normal_log_prob(value)

    def sample(self, n: int, key: tf.Tensor) -> tf.Tensor:
        """n draws, float32 [n, H]."""
        return seeds.normal([n, self.units], key)

    def mean(self) -> tf.Tensor:
        """The mean, float32 [H]."""
        return tf.zeros([self.units])
