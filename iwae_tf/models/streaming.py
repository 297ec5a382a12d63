"""The one stream of log importance weights: any number of samples of a row, in fixed memory.

`IWAE.log_likelihood`, `iwae_tf.evaluation`, validation and the served signatures read it. Sample i of a row is a
function of (seed, content of the row, i) alone: other rows, their order, the batch and the number of samples do not
change it, and identical rows share their samples.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.config import RELIABLE_PARETO_K
from iwae_tf.models.networks import weights_read_once
from iwae_tf.models.proposal import refine
from iwae_tf.seeds import Purpose
from iwae_tf.weight_statistics import (
    GroupedBound,
    WeightStatistics,
    WeightSummary,
    empty_grouped_bound,
    empty_statistics,
    grouped_bound,
    summarize,
    update_grouped_bound,
    update_statistics,
)

BLOCK = 50  # samples whose noise is drawn together: whole vectors of the processor, so that chunks do not change bits
# Samples that go through the networks at once. The first chunk is all that k = 1, 5 and 50 need; later ones take half
# the time a sample, and 500, 5000 and 50,000 are whole chunks.
FIRST_CHUNK, CHUNK = 50, 450
# Pilot runs decide whether an estimate is reliable, and are not part of it. One run often misses a heavy tail: with the
# largest error of three runs, intervals of 64 images of MNIST covered 94% in place of 89%.
PILOTS, PILOT_SAMPLES = 2, 2000
RELIABLE_ERROR = 0.1  # nats
# Times as many samples, at most, for a row whose refined proposal is not enough. On MNIST with k = 50 91% of the scores
# are then reliable, 85% without, in a tenth more time; ten times as many make 92%.
HARD_FACTOR = 4
EVEN_VARIANCE = 1e-3  # of the weights over their squared mean, below which their tail is that of float32's rounding
CONCURRENT_ROWS = 10  # on two cores, 5000 samples of 20 rows take 0.72 of the time of one row after the other


def row_noise(
    stream: tf.Tensor,
    first: tf.Tensor | int,
    num_samples: int,
    units: int,
    purpose: Purpose = Purpose.EVALUATION_NOISE,
) -> tf.Tensor:
    """Returns standard normal noise for the samples of one row, float32 [num_samples, 1, H].

    Args:
        stream: of the row, from `iwae_tf.seeds.row_streams`; int64 scalar.
        first: number of the first sample, a multiple of 50.
        num_samples: a multiple of 50.
        units: H, units of all stochastic layers together.
        purpose: use of the samples.
    """
    blocks = seeds.row_normals(first // BLOCK, num_samples // BLOCK, BLOCK * units, seeds.stream_key(stream, purpose))
    return tf.reshape(blocks, [num_samples, 1, units])


def stream_row(
    log_weights: Callable[[tf.Tensor], tf.Tensor],
    noise_of: Callable[[tf.Tensor, int], tf.Tensor],
    num_samples: tf.Tensor,
    max_samples: tf.Tensor | int,
    sample_sizes: tuple[int, ...] = (),
    first_chunk: int = FIRST_CHUNK,
) -> tuple[WeightStatistics, dict[int, GroupedBound]]:
    """Streams the samples of one row into statistics; the loop holds one chunk at a time.

    Args:
        log_weights: maps noise [n, 1, H] to log-weights [n, 1].
        noise_of: (first sample, number of samples), both multiples of 50, to their noise.
        num_samples: int32 scalar; with 0 the statistics are those of no sample.
        max_samples: the largest number of samples, >= `num_samples`; it sets the size of the kept tail.
        sample_sizes: k to estimate L_k for.
        first_chunk: samples in the first chunk; 0 for chunks of one size, whose graph is half as large.

    Returns:
        The statistics, [1], and a `GroupedBound` of [1] for each k.
    """

    def take(first, statistics, bounds, size):
        begin = first - first % BLOCK
        log_w = log_weights(noise_of(begin, size))[first - begin : num_samples - begin]
        bounds = {k: update_grouped_bound(bound, log_w, k) for k, bound in bounds.items()}
        return tf.minimum(begin + size, num_samples), update_statistics(statistics, log_w), bounds

    state = tf.constant(0), empty_statistics(1, max_samples), {k: empty_grouped_bound(1) for k in sample_sizes}
    _, statistics, bounds = tf.while_loop(
        lambda first, *_: first < num_samples,
        lambda first, *state: take(first, *state, CHUNK),
        take(*state, first_chunk) if first_chunk else state,
        parallel_iterations=1,
    )
    return statistics, bounds


def row_bound(
    model, x: tf.Tensor, stream: tf.Tensor, num_samples: tf.Tensor, max_samples: tf.Tensor | int
) -> WeightSummary:
    """Returns the statistics of `num_samples` samples of q(h | x) of one row, [1]; their log mean weight estimates L_k.

    Args are those of `row_estimate`.
    """
    log_weights = functools.partial(model.log_weights_from_noise, x)
    noise_of = functools.partial(row_noise, stream, units=sum(model.latent_units))
    return summarize(stream_row(log_weights, noise_of, num_samples, max_samples)[0])


class RowEstimate(NamedTuple):
    """Estimate of log p(x) of one row.

    Attributes:
        summary: of the weights of the estimate, [1]; its standard error is at least that of each pilot run.
        count: number of samples, int32 [1].
        reliable: whether the pilot runs call the estimate reliable, bool [1].
        bounds: L_k under q(h | x), float64 [1] for each k.
    """

    summary: WeightSummary
    count: tf.Tensor
    reliable: tf.Tensor
    bounds: dict[int, tf.Tensor]


def row_estimate(
    model,
    x: tf.Tensor,
    stream: tf.Tensor,
    num_samples: tf.Tensor,
    max_samples: tf.Tensor | int,
    sample_sizes: tuple[int, ...] = (),
    target_standard_error: float | None = None,
    refined: bool = False,
) -> RowEstimate:
    """Estimates log p(x) of one row.

    Two pilot runs of as many samples as the estimate has, 2000 each at most, decide with samples that the estimate does
    not use, since a rule that reads the weights of the estimate would prefer those that came out low. The estimate is
    reliable if the mean of their Pareto k is below 0.7 and the standard error that either predicts at most 0.1 nats, or
    the target. With a target the estimate has as many samples as the pilots ask for, from `num_samples` to
    `max_samples`, and all of those where the Pareto k is 0.7 or more. A refined estimate without a target goes on in
    the same way to 0.1 nats, up to 4 times `num_samples`.

    Args:
        model: an `IWAE`.
        x: observed pixels of the row, [1, D].
        stream: of the row, from `iwae_tf.seeds.row_streams`; int64 scalar.
        num_samples: int32 scalar; 0 gives NaN.
        max_samples: the largest number of samples, >= `num_samples`.
        sample_sizes: k to estimate L_k for, from `num_samples` samples of q(h | x), at least 1 if any is given.
        target_standard_error: in nats, or None.
        refined: whether the samples come from a proposal refined for the row (`proposal.py`), or from q(h | x).
    """
    units, bounds = sum(model.latent_units), {}
    samples = functools.partial(row_noise, stream, units=units)
    log_weights = functools.partial(model.log_weights_from_noise, x)
    if sample_sizes and (refined or target_standard_error is not None):
        _, bounds = stream_row(log_weights, samples, num_samples, num_samples, sample_sizes)
        sample_sizes = ()
    if refined:
        log_weights = functools.partial(refine(model, x, stream).log_weights, model, x)

    def pilot(number):
        """Returns the variance of a weight over its squared mean, and Pareto k."""
        size = tf.minimum(num_samples, PILOT_SAMPLES)
        found, _ = stream_row(
            log_weights,
            lambda first, count: row_noise(stream, number * PILOT_SAMPLES + first, count, units, Purpose.PILOT),
            size,
            PILOT_SAMPLES,
            first_chunk=0,
        )
        summary = summarize(found)
        return tf.square(summary.standard_error[0]) * tf.cast(size, tf.float64), summary.pareto_k[0]

    variances, shapes = tf.map_fn(pilot, tf.range(PILOTS), fn_output_signature=(tf.float64, tf.float64))
    variance, pareto_k = tf.reduce_max(variances), tf.reduce_mean(shapes)  # NaN without samples
    sound = (pareto_k < RELIABLE_PARETO_K) | (variance < EVEN_VARIANCE)
    limit = RELIABLE_ERROR if target_standard_error is None else target_standard_error
    if refined and target_standard_error is None:
        max_samples = HARD_FACTOR * max_samples
    wanted = tf.where(sound, tf.math.ceil(variance / limit**2), tf.constant(float("inf"), tf.float64))
    wanted = tf.cast(tf.minimum(wanted, tf.cast(max_samples, tf.float64)), tf.int32)
    going_on = (refined or target_standard_error is not None) & (num_samples > 0)
    count = tf.where(going_on, tf.maximum(num_samples, wanted), num_samples)
    first_chunk = 0 if refined else FIRST_CHUNK
    statistics, own_bounds = stream_row(log_weights, samples, count, max_samples, sample_sizes, first_chunk)
    predicted, summary = tf.sqrt(variance / tf.cast(count, tf.float64)), summarize(statistics)
    return RowEstimate(
        summary._replace(standard_error=tf.maximum(summary.standard_error, predicted)),
        statistics.count,
        (sound & (predicted <= limit))[None],
        {k: grouped_bound(bound) for k, bound in (bounds | own_bounds).items()},
    )


def estimate_rows(
    model, x, seed, num_samples, max_samples, sample_sizes=(), target_standard_error=None, refined=False
) -> dict:
    """Runs `row_estimate` on every row of x, [B, D]; ten rows are in progress at a time.

    Returns:
        Every field of `WeightSummary`, float64 [B]; "count", int32 [B]; "reliable", bool [B]; "bounds", L_k as float64
        [B] for each k.
    """

    def one(row):
        x, stream = row
        estimate = row_estimate(
            model, x[None], stream, num_samples, max_samples, sample_sizes, target_standard_error, refined
        )
        found = {**estimate.summary._asdict(), **estimate._asdict()}
        del found["summary"]
        return tf.nest.map_structure(lambda values: values[0], found)

    signature = dict.fromkeys(WeightSummary._fields, tf.float64)
    signature |= {"count": tf.int32, "reliable": tf.bool, "bounds": dict.fromkeys(sample_sizes, tf.float64)}
    return _map_rows(model, one, x, seed, signature)


def rows_log_likelihood(model, x, seed, num_samples) -> tf.Tensor:
    """Returns the log of the mean weight of `num_samples` samples of q(h | x), float64: x [B, D] -> [B]."""

    def one(row):
        return row_bound(model, row[0][None], row[1], num_samples, num_samples).log_likelihood[0]

    return _map_rows(model, one, x, seed, tf.float64)


def chunk_log_weights(model, x, seed, first, num_samples: int) -> tf.Tensor:
    """Returns log-weights of consecutive samples of every row: x [B, D] -> [B, num_samples]; both numbers times 50."""

    def one(row):
        noise = row_noise(row[1], first, num_samples, sum(model.latent_units))
        return model.log_weights_from_noise(row[0][None], noise)[:, 0]

    return _map_rows(model, one, x, seed, tf.float32)


def _map_rows(model, function, x, seed, signature):
    """Applies a function of a row and its stream to every row of x, [B, D]."""
    with weights_read_once(model):
        return tf.map_fn(
            function,
            (x, seeds.row_streams(seed, x)),
            fn_output_signature=signature,
            parallel_iterations=CONCURRENT_ROWS,
        )


def batch_noise(
    x: tf.Tensor,
    seed,
    first: tf.Tensor | int,
    num_samples: int,
    units: int,
    purpose: Purpose = Purpose.EVALUATION_NOISE,
) -> tf.Tensor:
    """Returns the noise of samples of every row together: x [B, D], `first` a multiple of 50 -> [num_samples, B, H]."""
    size = -(-num_samples // BLOCK) * BLOCK
    noise = tf.map_fn(
        lambda stream: row_noise(stream, first, size, units, purpose)[:num_samples, 0],
        seeds.row_streams(seed, x),
        fn_output_signature=tf.TensorSpec([num_samples, units], tf.float32),
    )
    return tf.transpose(noise, [1, 0, 2])
