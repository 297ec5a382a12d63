"""Statistics of a stream of log-weights in fixed memory: log p(x), its error, Pareto k, and the bounds L_k."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

MIN_TAIL = 5  # fewer points above the cutoff determine no shape
# Weights this far below the largest, in nats, are not part of the tail: float64 loses their differences.
RANGE = 650.0


class WeightStatistics(NamedTuple):
    """Running sums over a stream of log-weights, the state of `update_statistics`.

    Attributes:
        count: number of samples so far, int32 [B].
        log_w_sum: sum of the log-weights, float64 [B].
        largest: largest log-weight, float64 [B]; -inf before the first sample.
        weight_sum: sum of w / exp(largest), float64 [B].
        square_sum: sum of (w / exp(largest))^2, float64 [B].
        tail: the largest log-weights in falling order, float32 [B, T]; -inf where there are fewer.
    """

    count: tf.Tensor
    log_w_sum: tf.Tensor
    largest: tf.Tensor
    weight_sum: tf.Tensor
    square_sum: tf.Tensor
    tail: tf.Tensor


class WeightSummary(NamedTuple):
    """Estimate of log p(x) from a stream of samples and how far to trust it, each float64 [B].

    Attributes:
        log_likelihood: log of the mean weight, in nats.
        elbo: mean log-weight, in nats.
        standard_error: of `log_likelihood`, by the delta method, in nats; NaN for one sample. Biased low where
            the effective sample size is small.
        effective_sample_size: (sum w)^2 / sum w^2, between 1 and the number of samples (Kong 1992).
        pareto_k: shape of the tail of the weights, see `pareto_shape`; NaN where `log_likelihood` is.
    """

    log_likelihood: tf.Tensor
    elbo: tf.Tensor
    standard_error: tf.Tensor
    effective_sample_size: tf.Tensor
    pareto_k: tf.Tensor


def empty_statistics(batch_size, max_samples: int) -> WeightStatistics:
    """Returns the state before the first sample.

    Args:
        batch_size: B, an int or a scalar tensor.
        max_samples: the largest number of samples to come, an int or a scalar tensor; sets the size of the kept tail.
    """
    zeros = tf.zeros([batch_size], tf.float64)
    tail = tf.fill([batch_size, tail_length(max_samples) + 1], tf.constant(float("-inf"), tf.float32))
    return WeightStatistics(tf.zeros([batch_size], tf.int32), zeros, zeros - float("inf"), zeros, zeros, tail)


def update_statistics(state: WeightStatistics, log_w: tf.Tensor) -> WeightStatistics:
    """Returns the state after a further chunk of samples, float32 [c, B] for any c >= 0."""
    in_double = tf.cast(log_w, tf.float64)
    largest = tf.maximum(state.largest, tf.reduce_max(in_double, axis=0))
    shift = tf.where(tf.math.is_finite(largest), largest, tf.zeros_like(largest))
    rescale = tf.exp(state.largest - shift)  # 0 before the first sample
    weights = tf.exp(in_double - shift)  # [c, B], at most 1
    return WeightStatistics(
        count=state.count + tf.shape(log_w)[0],
        log_w_sum=state.log_w_sum + tf.reduce_sum(in_double, axis=0),
        largest=largest,
        weight_sum=state.weight_sum * rescale + tf.reduce_sum(weights, axis=0),
        square_sum=state.square_sum * tf.square(rescale) + tf.reduce_sum(tf.square(weights), axis=0),
        tail=tf.math.top_k(tf.concat([state.tail, tf.transpose(log_w)], axis=1), tf.shape(state.tail)[1]).values,
    )


def summarize(state: WeightStatistics) -> WeightSummary:
    """Returns the statistics of all samples so far.

    Reference: Burda, Grosse, Salakhutdinov (2016), equation 8, for `log_likelihood`; Owen (2013), Monte Carlo theory,
    methods and examples, section 9.3, for the effective sample size.
    """
    count = tf.cast(state.count, tf.float64)
    ess = tf.square(state.weight_sum) / state.square_sum
    log_likelihood = tf.math.log(state.weight_sum / count) + state.largest
    relative_variance = tf.maximum(1.0 / ess - 1.0 / count, 0.0) * (count / (count - 1.0))  # of the mean weight
    pareto_k = pareto_shape(state.tail, state.count)
    return WeightSummary(
        log_likelihood=log_likelihood,
        elbo=state.log_w_sum / count,
        standard_error=tf.sqrt(relative_variance),
        effective_sample_size=ess,
        # NaN has no rank, so the tail may look sound without it.
        pareto_k=tf.where(tf.math.is_nan(log_likelihood), log_likelihood, pareto_k),
    )


def tail_length(num_samples):
    """Returns the number of largest weights in the tail, ceil(min(S / 5, 3 sqrt(S))): an int, or an int32 tensor.

    Reference: Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, section 3.
    """
    if not tf.is_tensor(num_samples):
        return math.ceil(min(num_samples / 5, 3 * math.sqrt(num_samples)))
    samples = tf.cast(num_samples, tf.float64)
    return tf.cast(tf.math.ceil(tf.minimum(samples / 5.0, 3.0 * tf.sqrt(samples))), tf.int32)


def pareto_shape(largest_log_w: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
    """Returns the shape k-hat of a generalised Pareto distribution fitted to the largest importance weights.

    The weights have moments up to order 1 / k-hat. Below 0.5 their variance is finite and standard errors are valid;
    above 0.7 the mean of this many weights is unreliable, and above 1 there is no mean.

    Args:
        largest_log_w: the largest log-weights in falling order, [B, T], T > `tail_length(num_samples)`.
        num_samples: S, the number of weights, int32 [B].

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
    """Returns the shape of a generalised Pareto distribution.

    Args:
        excesses: in falling order, then zeros, [B, T].
        number: of excesses that are not zero, [B].

    The likelihood is profiled over theta, whose posterior mean is taken over a grid; a weak prior pulls the shape
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
    zero = theta == 0.0  # as a point of the grid is for equal excesses: -theta / shape goes to 1 / mean excess
    mean = tf.reduce_sum(excesses, axis=1, keepdims=True) / n
    ratio = tf.where(zero, 1.0 / mean, -theta / tf.where(zero, tf.ones_like(shape), shape))
    log_profile = n * (tf.math.log(ratio) - shape - 1.0)
    log_profile = tf.where(position <= grid_size, log_profile, -float("inf"))
    theta = tf.reduce_sum(tf.where(position <= grid_size, tf.nn.softmax(log_profile, axis=1) * theta, 0.0), axis=1)
    shape = tf.reduce_sum(tf.math.log1p(-theta[:, None] * excesses), axis=1) / n[:, 0]
    return (n[:, 0] * shape + 10 * 0.5) / (n[:, 0] + 10.0)


class GroupedBounds(NamedTuple):
    """Running estimates of L_k for several k over one stream, the state of `update_grouped_bounds`.

    Attributes:
        closed_sum: sum of log mean w over the complete groups, float64 [K, B].
        closed_count: number of complete groups, int32 [K].
        open_log_sum: log of the sum of w in the group in progress, float64 [K, B]; -inf where it is empty.
        open_count: number of samples in the group in progress, int32 [K].
    """

    closed_sum: tf.Tensor
    closed_count: tf.Tensor
    open_log_sum: tf.Tensor
    open_count: tf.Tensor


def empty_grouped_bounds(number: int, batch_size: int) -> GroupedBounds:
    """Returns the state before the first sample, for `number` values of k and `batch_size` examples."""
    sums, counts = tf.zeros([number, batch_size], tf.float64), tf.zeros([number], tf.int32)
    return GroupedBounds(sums, counts, sums - float("inf"), counts)


def update_grouped_bounds(state: GroupedBounds, log_w: tf.Tensor, sizes: Sequence[int]) -> GroupedBounds:
    """Adds a chunk of samples to the estimates of L_k: the mean over consecutive groups of k of log mean w.

    Every group of k independent samples gives an unbiased estimate of L_k, so one stream of samples serves every k.
    The result does not depend on the chunk sizes, up to float64 rounding.

    Args:
        state: the state so far.
        log_w: the next log-weights, [c, B] for any c >= 1.
        sizes: k, each >= 1.

    Returns:
        The new state.
    """
    chunk, k = tf.shape(log_w)[0], tf.constant(sizes, tf.int32)  # k: [K]
    # The group in progress, number 0, begins with one more weight: the sum of its samples so far.
    group = (state.open_count[:, None] + tf.range(chunk)) // k[:, None]  # [K, c]
    group = tf.concat([tf.zeros([len(sizes), 1], tf.int32), group], axis=1)
    samples = tf.broadcast_to(tf.cast(log_w, tf.float64), tf.concat([[len(sizes)], tf.shape(log_w)], axis=0))
    samples = tf.concat([state.open_log_sum[:, None], samples], axis=1)  # [K, c + 1, B]
    log_sums = _segment_log_sum_exp(samples, group)
    taken = state.open_count + chunk
    complete = tf.sequence_mask(taken // k, chunk + 1)[:, :, None]
    log_k = tf.math.log(tf.cast(k, tf.float64))[:, None, None]
    return GroupedBounds(
        closed_sum=state.closed_sum + tf.reduce_sum(tf.where(complete, log_sums - log_k, 0.0), axis=1),
        closed_count=state.closed_count + taken // k,
        open_log_sum=tf.gather(log_sums, taken // k, batch_dims=1),
        open_count=taken % k,
    )


def grouped_bounds(state: GroupedBounds) -> tf.Tensor:
    """Returns each L_k from the complete groups, float64 [K, B]; an incomplete group is not used."""
    return state.closed_sum / tf.cast(state.closed_count, tf.float64)[:, None]


def _segment_log_sum_exp(log_w: tf.Tensor, segment: tf.Tensor) -> tf.Tensor:
    """Returns log sum exp over samples of equal segment: [K, c, B] and int32 [K, c] below c -> [K, c, B].

    A segment without samples gives log 0 = -inf, and so does one of weights 0.
    """
    rows, samples = segment.shape[0], tf.shape(segment)[1]
    places = segment + samples * tf.range(rows)[:, None]
    largest = tf.math.unsorted_segment_max(log_w, places, rows * samples)
    shift = tf.where(tf.math.is_finite(largest), largest, tf.zeros_like(largest))
    sums = tf.math.unsorted_segment_sum(tf.exp(log_w - tf.gather(shift, places)), places, rows * samples)
    return tf.reshape(tf.math.log(sums) + shift, tf.shape(log_w))
