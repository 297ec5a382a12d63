"""What a stream of log importance weights says about log p(x) and about itself, in fixed memory."""

from typing import NamedTuple

import tensorflow as tf

from iwae_tf.pareto import pareto_shape, tail_length


class WeightStatistics(NamedTuple):
    """State of `update_statistics`.

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
    """What is known of log p(x) after a stream of samples, each float64 [B].

    Attributes:
        log_likelihood: log of the mean weight, in nats.
        elbo: mean log-weight, in nats.
        standard_error: of `log_likelihood`, by the delta method, in nats; NaN for one sample. It is too small where
            the effective sample size is.
        effective_sample_size: (sum w)^2 / sum w^2, between 1 and the number of samples (Kong 1992).
        pareto_k: shape of the tail of the weights, see `iwae_tf.pareto.pareto_shape`; NaN where `log_likelihood` is.
    """

    log_likelihood: tf.Tensor
    elbo: tf.Tensor
    standard_error: tf.Tensor
    effective_sample_size: tf.Tensor
    pareto_k: tf.Tensor


def empty_statistics(batch_size, max_samples: int) -> WeightStatistics:
    """The state before the first sample.

    Args:
        batch_size: B, an int or a scalar tensor.
        max_samples: the most samples that will come; it sets the size of the tail that is kept.
    """
    zeros = tf.zeros([batch_size], tf.float64)
    tail = tf.fill([batch_size, tail_length(max_samples) + 1], tf.constant(float("-inf"), tf.float32))
    return WeightStatistics(tf.zeros([batch_size], tf.int32), zeros, zeros - float("inf"), zeros, zeros, tail)


def update_statistics(state: WeightStatistics, log_w: tf.Tensor, used: tf.Tensor) -> WeightStatistics:
    """Takes a chunk of samples.

    Args:
        state: the state so far.
        log_w: the next log-weights, float32 [c, B].
        used: which of them count, bool [c, B].

    Returns:
        The new state.
    """
    weighed = tf.where(used, log_w, -float("inf"))  # [c, B]
    in_double = tf.cast(weighed, tf.float64)
    largest = tf.maximum(state.largest, tf.reduce_max(in_double, axis=0))
    shift = tf.where(tf.math.is_finite(largest), largest, tf.zeros_like(largest))
    rescale = tf.exp(state.largest - shift)  # 0 before the first sample
    weights = tf.exp(in_double - shift)  # [c, B], at most 1
    return WeightStatistics(
        count=state.count + tf.reduce_sum(tf.cast(used, tf.int32), axis=0),
        log_w_sum=state.log_w_sum + tf.reduce_sum(tf.cast(tf.where(used, log_w, 0.0), tf.float64), axis=0),
        largest=largest,
        weight_sum=state.weight_sum * rescale + tf.reduce_sum(weights, axis=0),
        square_sum=state.square_sum * tf.square(rescale) + tf.reduce_sum(tf.square(weights), axis=0),
        tail=tf.math.top_k(tf.concat([state.tail, tf.transpose(weighed)], axis=1), tf.shape(state.tail)[1]).values,
    )


def gather_statistics(state: WeightStatistics, rows: tf.Tensor) -> WeightStatistics:
    """The state of some rows: rows int [b] -> a state of b rows."""
    return WeightStatistics(*(tf.gather(values, rows) for values in state))


def scatter_statistics(state: WeightStatistics, rows: tf.Tensor, part: WeightStatistics) -> WeightStatistics:
    """The state with those of some rows replaced; undoes `gather_statistics`."""
    updated = (tf.tensor_scatter_nd_update(old, rows[:, None], new) for old, new in zip(state, part, strict=True))
    return WeightStatistics(*updated)


def summarize(state: WeightStatistics) -> WeightSummary:
    """The statistics of all samples taken so far.

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
        # NaN has no place in the order of the tail, which may look sound without it.
        pareto_k=tf.where(tf.math.is_nan(log_likelihood), log_likelihood, pareto_k),
    )
