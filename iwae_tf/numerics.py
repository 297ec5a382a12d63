"""Log-space arithmetic on log importance weights: means, normalised weights, and bounds from a stream of samples.

The sample axis comes first everywhere: `log_w` is [k, B].
"""

from typing import NamedTuple

import tensorflow as tf


def log_mean_exp(log_w: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """log mean_i exp(log_w_i), shifted by the largest term so that nothing under- or overflows.

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
    """w_i / sum_j w_j over the sample axis: the w~ of the paper. [k, B] -> [k, B], each column sums to 1.

    Reference: Burda, Grosse, Salakhutdinov (2016), section 3.
    """
    return tf.nn.softmax(log_w, axis=0)


def is_largest(log_w: tf.Tensor) -> tf.Tensor:
    """True at the largest log-weight of each column, the first of several: [k, B] -> bool [k, B]."""
    return tf.one_hot(tf.argmax(log_w, axis=0), tf.shape(log_w)[0], True, False, axis=0, dtype=tf.bool)


def log_sum_of_others(log_w: tf.Tensor) -> tf.Tensor:
    """log sum_{j != i} w_j for every i: [k, B] -> [k, B], k >= 2.

    Subtracting w_i from the sum of all is exact enough for all but the largest weight of a column, where hardly
    anything may be left; there the others are summed.
    """
    total = tf.reduce_logsumexp(log_w, axis=0, keepdims=True)  # [1, B]
    largest = is_largest(log_w)
    without_largest = tf.reduce_logsumexp(tf.where(largest, float("-inf"), log_w), axis=0, keepdims=True)  # [1, B]
    share = tf.where(largest, tf.zeros_like(log_w), tf.exp(log_w - total))  # at most 1/2
    return tf.where(largest, without_largest, total + tf.math.log1p(-share))


class GroupedBound(NamedTuple):
    """State of `update_grouped_bound`: what is known of L_k after some of the samples of a stream.

    Attributes:
        closed_sum: sum of log mean w over the complete groups, float64 [B].
        closed_count: number of complete groups, int32 scalar.
        open_log_sum: log of the sum of w in the group under way, float64 [B]; -inf where it is empty.
        open_count: number of samples in the group under way, int32 scalar.
    """

    closed_sum: tf.Tensor
    closed_count: tf.Tensor
    open_log_sum: tf.Tensor
    open_count: tf.Tensor


def empty_grouped_bound(batch_size: int) -> GroupedBound:
    """The state before the first sample, for `batch_size` examples."""
    empty = tf.fill([batch_size], tf.constant(float("-inf"), tf.float64))
    return GroupedBound(tf.zeros([batch_size], tf.float64), tf.constant(0), empty, tf.constant(0))


def update_grouped_bound(state: GroupedBound, log_w: tf.Tensor, k: int | tf.Tensor) -> GroupedBound:
    """Takes a chunk of samples into the estimate of L_k: the mean over consecutive groups of k of log mean w.

    Every group of k independent samples gives an unbiased estimate of L_k, so one stream of samples serves every k.
    The result does not depend on how the stream is cut into chunks, up to float64 rounding.

    Args:
        state: the state so far.
        log_w: the next log-weights, [c, B] for any c >= 1.
        k: group size, >= 1.

    Returns:
        The new state.
    """
    chunk = tf.shape(log_w)[0]
    log_w = tf.cast(log_w, tf.float64)
    groups = (state.open_count + tf.range(chunk)) // k  # [c], 0 is the group under way
    log_sums = _segment_log_sum_exp(log_w, groups)  # [groups touched, B]
    first = tf.reduce_logsumexp(tf.stack([state.open_log_sum, log_sums[0]]), axis=0)
    log_sums = tf.concat([first[None], log_sums[1:]], axis=0)
    taken = state.open_count + chunk
    closed, still_open = taken // k, taken % k
    log_k = tf.math.log(tf.cast(k, tf.float64))
    return GroupedBound(
        closed_sum=state.closed_sum + tf.reduce_sum(log_sums[:closed] - log_k, axis=0),
        closed_count=state.closed_count + closed,
        open_log_sum=tf.where(still_open > 0, log_sums[-1], tf.constant(float("-inf"), tf.float64)),
        open_count=still_open,
    )


def grouped_bound(state: GroupedBound) -> tf.Tensor:
    """L_k per example from the complete groups, float64 [B]; samples of a group left incomplete are not used."""
    return state.closed_sum / tf.cast(state.closed_count, tf.float64)


def _segment_log_sum_exp(log_w: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
    """log sum exp over rows of equal segment number; segments are sorted and start at 0. [c, B] -> [S, B]."""
    shift = tf.math.segment_max(log_w, segments)  # [S, B]
    shift = tf.where(tf.math.is_finite(shift), shift, tf.zeros_like(shift))  # a group of -inf sums to log 0 = -inf
    return tf.math.log(tf.math.segment_sum(tf.exp(log_w - tf.gather(shift, segments)), segments)) + shift
