"""The one stream of log importance weights: any number of samples of a row, in fixed memory.

`IWAE.log_likelihood`, `iwae_tf.evaluation`, validation and the served signatures read it. Sample i of a row is a
function of (seed, content of the row, i) alone: other rows, their order, the batch and the number of samples do not
change it, and identical rows share their samples.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.config import RELIABLE_PARETO_K
from iwae_tf.models.networks import weights_read_once
from iwae_tf.models.proposal import inference_proposal, refine, select
from iwae_tf.seeds import Purpose
from iwae_tf.weight_statistics import (
    GroupedBounds,
    WeightStatistics,
    WeightSummary,
    empty_grouped_bounds,
    empty_statistics,
    grouped_bounds,
    summarize,
    update_grouped_bounds,
    update_statistics,
)

BLOCK = 50  # samples whose noise is drawn together: whole vectors of the processor, so that chunks do not change bits
CHUNK = 500  # samples that go through the networks at once, at most; 50 at a time take twice the time
# Pilot runs decide whether an estimate is reliable, and are not part of it. One run often misses a heavy tail: with the
# largest error of three runs, intervals of 64 images of MNIST covered 94% in place of 89%.
PILOTS, PILOT_SAMPLES, LONG_PILOT_SAMPLES = 2, 1000, 8000
RELIABLE_ERROR = 0.1  # nats
# A refined estimate stops here, if it has a chunk of samples: rows differ by tens of nats, and on the digits model with
# k = 50 two fifths of 5000 samples do.
REFINED_ERROR = 0.05  # nats
# Times as many samples, at most, for a row whose refined proposal is not enough, and in its long pilots. On MNIST with
# k = 50 85% of the scores are reliable without, 91% with as many in the estimate alone, and 96% with both.
HARD_FACTOR = 4
EVEN_VARIANCE = 1e-3  # of the weights over their squared mean, below which their tail is that of float32's rounding
CONCURRENT_ROWS = 10  # on two cores, 5000 samples of 20 rows take 0.72 of the time of one row after the other


def row_noise(first: tf.Tensor | int, num_samples: tf.Tensor | int, units: int, key: tf.Tensor) -> tf.Tensor:
    """Returns standard normal noise for the samples of one row, float32 [num_samples, 1, H].

    Args:
        first: number of the first sample, a multiple of 50.
        num_samples: a multiple of 50.
        units: H, units of all stochastic layers together.
        key: of the row, from `iwae_tf.seeds.stream_key`; int64 [2].
    """
    blocks = seeds.row_normals(first // BLOCK, num_samples // BLOCK, BLOCK * units, key)
    return tf.reshape(blocks, [num_samples, 1, units])


def stream_row(
    log_weights: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    num_samples: tf.Tensor,
    max_samples: tf.Tensor | int,
    sample_sizes: Sequence[int] = (),
    with_bounds: tf.Tensor | bool = True,
) -> tuple[WeightStatistics, GroupedBounds]:
    """Streams the samples of one row into statistics; the loop holds one chunk at a time.

    Args:
        log_weights: (first sample, number of samples), both multiples of 50, to their log-weights, [n, 1].
        num_samples: int32 scalar; with 0 the statistics are those of no sample.
        max_samples: the largest number of samples, >= `num_samples`; it sets the size of the kept tail.
        sample_sizes: k to estimate L_k for.
        with_bounds: bool scalar; without, the bounds are those of no sample.

    Returns:
        The statistics, [1], and the bounds, [K, 1].
    """

    def take(first, statistics, bounds):
        left = num_samples - first
        size = tf.minimum(CHUNK, -(-left // BLOCK) * BLOCK)
        log_w = tf.ensure_shape(log_weights(first, size), [None, 1])[:left]  # a likelihood of yours may not know it
        if sample_sizes:
            add = functools.partial(update_grouped_bounds, bounds, log_w, sample_sizes)
            bounds = tf.cond(tf.convert_to_tensor(with_bounds), add, lambda: bounds)
        return first + size, update_statistics(statistics, log_w), bounds

    state = tf.constant(0), empty_statistics(1, max_samples), empty_grouped_bounds(len(sample_sizes), 1)
    _, statistics, bounds = tf.while_loop(lambda first, *_: first < num_samples, take, state, parallel_iterations=1)
    return statistics, bounds


def row_bound(
    model, x: tf.Tensor, stream: tf.Tensor, num_samples: tf.Tensor, max_samples: tf.Tensor | int
) -> WeightSummary:
    """Returns the statistics of `num_samples` samples of q(h | x) of one row, [1]; their log mean weight estimates L_k.

    Args are those of `row_estimate`.
    """
    key, units = seeds.stream_key(stream, Purpose.EVALUATION_NOISE), sum(model.latent_units)

    def log_weights(first, size):
        return model.log_weights_from_noise(x, row_noise(first, size, units, key))

    return summarize(stream_row(log_weights, num_samples, max_samples)[0])


class RowEstimate(NamedTuple):
    """Estimate of log p(x) of one row.

    Attributes:
        summary: of the weights of the estimate, [1]; its standard error is at least that of each pilot run.
        count: number of samples, int32 [1].
        reliable: whether the pilot runs call the estimate reliable, bool [1].
        bounds: L_k under q(h | x), float64 [K, 1].
    """

    summary: WeightSummary
    count: tf.Tensor
    reliable: tf.Tensor
    bounds: tf.Tensor


def row_estimate(
    model,
    x: tf.Tensor,
    stream: tf.Tensor,
    num_samples: tf.Tensor,
    max_samples: tf.Tensor | int,
    sample_sizes: Sequence[int] = (),
    target_standard_error: float | None = None,
    refined: bool = False,
) -> RowEstimate:
    """Estimates log p(x) of one row.

    Two pilot runs of `num_samples`, 1000 each at most, decide with samples that the estimate does not use, since a rule
    that reads the weights of the estimate would prefer those that came out low. The estimate is reliable if the mean of
    their Pareto k is below 0.7 and the standard error that either predicts at most 0.1 nats, or the target. The pilots
    also settle the number of samples:

    - with a target as many as it takes, from `num_samples` to `max_samples`;
    - refined, without a target, as many as 0.05 nats take, from 500 to `num_samples`, and where these do not reach 0.1
      nats as many as those take, up to 4 times `num_samples`;
    - in both cases the most where the Pareto k is 0.7 or more. That of 1000 samples is off by more than a tenth, so two
      long pilots decide first: 4 times `num_samples`, at most 8000 or `max_samples`;
    - otherwise `num_samples`.

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
    adapted = refined or target_standard_error is not None  # the number of samples, to the row
    limit = RELIABLE_ERROR if target_standard_error is None else target_standard_error
    if refined and target_standard_error is None:
        max_samples = HARD_FACTOR * max_samples
    units = sum(model.latent_units)
    inference, proposal = inference_proposal(units), refine(model, x, stream) if refined else None
    estimate_key = seeds.stream_key(stream, Purpose.EVALUATION_NOISE)

    def judged(variance, shapes):
        """Returns whether the pilots find no heavy tail, and the number of samples of the estimate."""
        sound = (shapes / PILOTS < RELIABLE_PARETO_K) | (variance < EVEN_VARIANCE)  # NaN without samples
        if not adapted:
            return sound, num_samples

        def needed(error, most):
            number = tf.where(sound, tf.math.ceil(variance / error**2), tf.constant(float("inf"), tf.float64))
            return tf.cast(tf.minimum(number, tf.cast(most, tf.float64)), tf.int32)

        fewest = num_samples
        if target_standard_error is None:
            fewest = tf.minimum(num_samples, tf.maximum(CHUNK, needed(REFINED_ERROR, num_samples)))
        return sound, tf.where(num_samples > 0, tf.maximum(fewest, needed(limit, max_samples)), num_samples)

    # The runs are turns of one loop, so that the graph holds the networks once. Run 0 is for L_k under q(h | x), where
    # the estimate has other samples; then come the pilots, the long pilots of a row with a heavy tail, the estimate.
    estimate_run = 2 * PILOTS + 1
    bounds_run = 0 if adapted else estimate_run

    def run(number, variance, shapes, bounds, summary):
        is_estimate, is_pilot = number == estimate_run, (number > 0) & (number < estimate_run)
        key = tf.where(is_pilot, seeds.stream_key(stream, Purpose.PILOT, number), estimate_key)
        short_size = tf.minimum(num_samples, PILOT_SAMPLES)
        long_size = tf.minimum(tf.minimum(HARD_FACTOR * num_samples, LONG_PILOT_SAMPLES), max_samples)
        size = tf.where(is_pilot, tf.where(number > PILOTS, long_size, short_size), num_samples)
        size = tf.where(is_estimate, judged(variance, shapes)[1], size)
        of_run = select(number == 0, inference, proposal) if refined else None

        def log_weights(first, count):
            noise = row_noise(first, count, units, key)
            return of_run.log_weights(model, x, noise) if refined else model.log_weights_from_noise(x, noise)

        with_bounds = number == bounds_run
        statistics, found = stream_row(log_weights, size, max_samples, sample_sizes, with_bounds)
        summary, bounds = summarize(statistics), tf.where(with_bounds, grouped_bounds(found), bounds)
        spread = tf.square(summary.standard_error[0]) * tf.cast(size, tf.float64)  # of a weight over its squared mean
        is_first = (number == 1) | (number == PILOTS + 1)  # long pilots replace the others
        variance = tf.where(is_pilot, tf.maximum(tf.where(is_first, zero, variance), spread), variance)
        shapes = tf.where(is_pilot, tf.where(is_first, zero, shapes) + summary.pareto_k[0], shapes)
        enough = (number == PILOTS) & (judged(variance, shapes)[0] if adapted else True)
        return tf.where(enough, estimate_run, number + 1), variance, shapes, bounds, summary

    zero = tf.zeros([], tf.float64)
    bounds, summary = tf.zeros([len(sample_sizes), 1], tf.float64), WeightSummary(*[zero[None]] * 5)
    first_run = 0 if adapted and sample_sizes else 1
    _, variance, shapes, bounds, summary = tf.while_loop(
        lambda number, *_: number <= estimate_run,
        run,
        (tf.constant(first_run), zero, zero, bounds, summary),
        parallel_iterations=1,
    )
    sound, count = judged(variance, shapes)
    predicted = tf.sqrt(variance / tf.cast(count, tf.float64))
    return RowEstimate(
        summary._replace(standard_error=tf.maximum(summary.standard_error, predicted)),
        count[None],
        (sound & (predicted <= limit))[None],
        bounds,
    )


def estimate_rows(
    model, x, seed, num_samples, max_samples, sample_sizes=(), target_standard_error=None, refined=False
) -> dict:
    """Runs `row_estimate` on every row of x, [B, D]; ten rows are in progress at a time.

    Returns:
        Every field of `WeightSummary`, float64 [B]; "count", int32 [B]; "reliable", bool [B]; "bounds", float64 [B, K].
    """

    def one(row):
        x, stream = row
        estimate = row_estimate(
            model, x[None], stream, num_samples, max_samples, sample_sizes, target_standard_error, refined
        )
        found = {**estimate.summary._asdict(), **estimate._asdict()}
        del found["summary"]
        return tf.nest.map_structure(lambda values: values[..., 0], found)

    signature = dict.fromkeys(WeightSummary._fields, tf.float64)
    signature |= {"count": tf.int32, "reliable": tf.bool, "bounds": tf.float64}
    return _map_rows(model, one, x, seed, signature)


def rows_log_likelihood(model, x, seed, num_samples) -> tf.Tensor:
    """Returns the log of the mean weight of `num_samples` samples of q(h | x), float64: x [B, D] -> [B]."""

    def one(row):
        return row_bound(model, row[0][None], row[1], num_samples, num_samples).log_likelihood[0]

    return _map_rows(model, one, x, seed, tf.float64)


def chunk_log_weights(model, x, seed, first, num_samples: int) -> tf.Tensor:
    """Returns log-weights of consecutive samples of every row: x [B, D] -> [B, num_samples]; both numbers times 50."""

    def one(row):
        key = seeds.stream_key(row[1], Purpose.EVALUATION_NOISE)
        noise = row_noise(first, num_samples, sum(model.latent_units), key)
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
        lambda stream: row_noise(first, size, units, seeds.stream_key(stream, purpose))[:num_samples, 0],
        seeds.row_streams(seed, x),
        fn_output_signature=tf.TensorSpec([num_samples, units], tf.float32),
    )
    return tf.transpose(noise, [1, 0, 2])
