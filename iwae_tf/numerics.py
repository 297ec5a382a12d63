"""Arithmetic on log importance weights, in log space. The sample axis comes first: `log_w` is [k, B]."""

import tensorflow as tf


def log_mean_exp(log_w: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """Returns log mean_i exp(log_w_i), shifted by the largest term so that nothing under- or overflows.

    Without the shift float32 gives log 0 = -inf where all weights are below e^-88, and MNIST images are about there.

    Args:
        log_w: log-weights in nats, [k, B] for the default axis.
        axis: the sample axis.

    Returns:
        [B]; -inf where every log-weight is -inf.

    Reference: Burda, Grosse, Salakhutdinov (2016), equation 8.
    """
    num_samples = tf.cast(tf.shape(log_w)[axis], log_w.dtype)
    return tf.reduce_logsumexp(log_w, axis=axis) - tf.math.log(num_samples)


def normalized_weights(log_w: tf.Tensor) -> tf.Tensor:
    """Returns w_i / sum_j w_j over the sample axis, the w~ of the paper: [k, B] -> [k, B], each column sums to 1.

    Reference: Burda, Grosse, Salakhutdinov (2016), section 3.
    """
    return tf.nn.softmax(log_w, axis=0)


def squared_norm(values: tf.Tensor) -> tf.Tensor:
    """Returns the sum of squares over the last axis: [..., H] -> [...]."""
    return tf.reduce_sum(tf.square(values), axis=-1)


def is_largest(log_w: tf.Tensor) -> tf.Tensor:
    """Returns True at the largest log-weight of each column, the first of several: [k, B] -> bool [k, B]."""
    return tf.one_hot(tf.argmax(log_w, axis=0), tf.shape(log_w)[0], True, False, axis=0, dtype=tf.bool)


def log_sum_of_others(log_w: tf.Tensor) -> tf.Tensor:
    """Returns log sum_{j != i} w_j for every i: [k, B] -> [k, B], k >= 2.

    Subtracting w_i from the total is exact enough for all but the largest weight of a column, where hardly anything
    may remain; there the others are summed.
    """
    total = tf.reduce_logsumexp(log_w, axis=0, keepdims=True)  # [1, B]
    largest = is_largest(log_w)
    without_largest = tf.reduce_logsumexp(tf.where(largest, float("-inf"), log_w), axis=0, keepdims=True)  # [1, B]
    share = tf.where(largest, tf.zeros_like(log_w), tf.exp(log_w - total))  # at most 1/2
    return tf.where(largest, without_largest, total + tf.math.log1p(-share))
