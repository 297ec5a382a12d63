"""The shape of the tail of importance weights: whether their mean and its error can be trusted."""

import math

import tensorflow as tf

MIN_TAIL = 5  # fewer points above the cutoff say nothing about a shape
# Weights this far below the largest, in nats, are no tail: their differences get lost in float64.
RANGE = 650.0


def tail_length(num_samples):
    """How many of the largest weights are the tail, ceil(min(S / 5, 3 sqrt(S))): an int, or an int32 tensor.

    Reference: Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, section 3.
    """
    if not tf.is_tensor(num_samples):
        return math.ceil(min(num_samples / 5, 3 * math.sqrt(num_samples)))
    samples = tf.cast(num_samples, tf.float64)
    return tf.cast(tf.math.ceil(tf.minimum(samples / 5.0, 3.0 * tf.sqrt(samples))), tf.int32)


def pareto_shape(largest_log_w: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
    """Shape k-hat of a generalised Pareto distribution fitted to the largest importance weights.

    The weights have moments up to order 1 / k-hat. Below 0.5 their variance is finite and standard errors mean what
    they say; above 0.7 the mean of so many weights is not to be relied on, and above 1 there is no mean.

    Args:
        largest_log_w: the largest log-weights in falling order, [B, T], T > `tail_length(num_samples)`.
        num_samples: S, how many weights there were, int32 [B].

    Returns:
        float64 [B]; inf where fewer than 5 weights stand out (fewer than 21 samples, or all weight on a few), -inf
        where the largest weights are all equal.

    Reference: Vehtari et al. (2024), section 3 and appendix C; Zhang & Stephens (2009), equations 6 to 9.
    """
    log_w = tf.cast(largest_log_w, tf.float64)
    log_w = log_w - log_w[:, :1]  # [B, T], the largest is 0
    length = tail_length(num_samples)  # [B]
    cutoff = tf.maximum(tf.gather(log_w, length, batch_dims=1), -RANGE)[:, None]  # [B, 1]
    in_tail = log_w > cutoff  # [B, T]; in falling order, so that nothing after the tail exceeds it
    excesses = tf.where(in_tail, tf.exp(log_w) - tf.exp(cutoff), 0.0)
    number = tf.reduce_sum(tf.cast(in_tail, tf.int32), axis=1)  # [B]
    shape = _zhang_stephens(excesses, number)
    infinity = tf.constant(float("inf"), tf.float64)
    equal = (length >= MIN_TAIL) & (cutoff[:, 0] == 0.0)
    return tf.where(number >= MIN_TAIL, shape, tf.where(equal, -infinity, infinity))


def _zhang_stephens(excesses: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Shape of a generalised Pareto distribution from `number` excesses in falling order, then zeros: [B, T] -> [B].

    The likelihood is profiled over theta, whose posterior mean is taken over a grid; the weak prior pulls the shape
    towards 0.5 with the weight of ten points.
    """
    n = tf.cast(number, tf.float64)[:, None]  # [B, 1]
    first_quartile = number - tf.cast(tf.floor(tf.cast(number, tf.float64) / 4.0 + 0.5), tf.int32)
    quartile = tf.gather(excesses, tf.maximum(first_quartile, 0), batch_dims=1)[:, None]  # [B, 1]
    grid_size = 30.0 + tf.floor(tf.sqrt(n))  # [B, 1]
    most = 30 + tf.cast(tf.floor(tf.sqrt(tf.cast(tf.shape(excesses)[1], tf.float64))), tf.int32)
    position = tf.range(1, most + 1, dtype=tf.int32)
    position = tf.cast(position, tf.float64)[None]  # [1, G]
    theta = 1.0 / excesses[:, :1] + (1.0 - tf.sqrt(grid_size / (position - 0.5))) / (3.0 * quartile)  # [B, G]
    shape = tf.reduce_sum(tf.math.log1p(-theta[:, :, None] * excesses[:, None, :]), axis=2) / n  # [B, G]
    log_profile = n * (tf.math.log(-theta / shape) - shape - 1.0)
    log_profile = tf.where(position <= grid_size, log_profile, -float("inf"))
    theta = tf.reduce_sum(tf.where(position <= grid_size, tf.nn.softmax(log_profile, axis=1) * theta, 0.0), axis=1)
    shape = tf.reduce_sum(tf.math.log1p(-theta[:, None] * excesses), axis=1) / n[:, 0]
    return (n[:, 0] * shape + 10 * 0.5) / (n[:, 0] + 10.0)
