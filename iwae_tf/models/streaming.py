"""The one stream of log importance weights: any number of samples of a row, in fixed memory.

`IWAE.log_likelihood`, `iwae_tf.evaluation`, validation and the served signatures read it. Sample i of a row is a
function of (seed, content of the row, i) alone: other rows, their order, the batch and the number of samples do not
change it, and identical rows share their samples.
"""

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.config import RELIABLE_PARETO_K
from iwae_tf.models.networks import weights_read_once
from iwae_tf.seeds import Purpose
from iwae_tf.weight_statistics import (
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
CONCURRENT_ROWS = 10  # on two cores, 5000 samples of 20 rows take 0.72 of the time of one row after the other


def row_noise(stream: tf.Tensor, first: tf.Tensor | int, num_samples: int, units: int) -> tf.Tensor:
    """Returns standard normal noise for the samples of one row, float32 [num_samples, 1, H].

    Args:
        stream: of the row, from `iwae_tf.seeds.row_streams`; int64 scalar.
        first: number of the first sample, a multiple of 50.
        num_samples: a multiple of 50.
        units: H, units of all stochastic layers together.
    """
    key = seeds.stream_key(stream, Purpose.EVALUATION_NOISE)
    blocks = seeds.row_normals(first // BLOCK, num_samples // BLOCK, BLOCK * units, key)
    return tf.reshape(blocks, [num_samples, 1, units])


def row_log_weights(model, x: tf.Tensor, stream: tf.Tensor, first: tf.Tensor | int, num_samples: int) -> tf.Tensor:
    """Returns log w = log p(x, h) - log q(h | x) of consecutive samples of one row, float32 [num_samples, 1].

    Args:
        model: an `IWAE`.
        x: [1, D].
        stream: of the row.
        first: number of the first sample, a multiple of 50.
        num_samples: a multiple of 50.
    """
    return model.log_weights_from_noise(x, row_noise(stream, first, num_samples, sum(model.latent_units)))


def row_estimate(
    model,
    x: tf.Tensor,
    stream: tf.Tensor,
    num_samples: tf.Tensor,
    max_samples: tf.Tensor | int,
    sample_sizes: tuple[int, ...] = (),
    target_standard_error: float | None = None,
) -> tuple[WeightStatistics, dict]:
    """Streams the samples of one row into statistics; the loop holds one chunk at a time.

    With a target the row doubles its samples after `num_samples` until its standard error is at most the target and its
    Pareto k below 0.7, or `max_samples` is reached.

    Args:
        model: an `IWAE`.
        x: observed pixels of the row, [1, D].
        stream: of the row, from `iwae_tf.seeds.row_streams`; int64 scalar.
        num_samples: int32 scalar; 0 gives NaN.
        max_samples: the largest number of samples, >= `num_samples`.
        sample_sizes: k to estimate L_k for, from the first `num_samples`, which must be at least 1 if any is given.
        target_standard_error: in nats, or None.

    Returns:
        The statistics, [1], and a `GroupedBound` of [1] for each k.
    """

    def take(first, end, statistics, bounds, size):
        """Adds the samples from `first` to below `end`, `size` at most."""
        begin = first - first % BLOCK
        log_w = row_log_weights(model, x, stream, begin, size)[first - begin : end - begin]
        bounds = {k: update_grouped_bound(bound, log_w, k) for k, bound in bounds.items()}
        return tf.minimum(begin + size, end), update_statistics(statistics, log_w), bounds

    def take_until(end, first, statistics, bounds):
        return tf.while_loop(
            lambda first, *_: first < end,
            lambda first, *state: take(first, end, *state, CHUNK),
            (first, statistics, bounds),
            parallel_iterations=1,
        )

    def is_open(done, statistics):
        summary = summarize(statistics)
        reached = converged(summary.pareto_k, summary.standard_error, target_standard_error)[0]
        return (done < max_samples) & ~reached

    def double(done, statistics):
        end = tf.minimum(2 * done, max_samples)
        done, statistics, _ = take_until(end, done, statistics, {})
        return done, statistics

    statistics, bounds = empty_statistics(1, max_samples), {k: empty_grouped_bound(1) for k in sample_sizes}
    done, statistics, bounds = take(tf.constant(0), num_samples, statistics, bounds, FIRST_CHUNK)
    done, statistics, bounds = take_until(num_samples, done, statistics, bounds)
    if target_standard_error is not None:
        _, statistics = tf.while_loop(is_open, double, (done, statistics), parallel_iterations=1)
    return statistics, bounds


def estimate_rows(model, x, seed, num_samples, max_samples, sample_sizes=(), target_standard_error=None) -> dict:
    """Runs `row_estimate` on every row of x, [B, D]; ten rows are in progress at a time.

    Returns:
        Every field of `WeightSummary`, float64 [B]; "count", int32 [B]; "bounds", L_k as float64 [B] for each k.
    """

    def one(row):
        x, stream = row
        statistics, bounds = row_estimate(
            model, x[None], stream, num_samples, max_samples, sample_sizes, target_standard_error
        )
        found = {**summarize(statistics)._asdict(), "count": statistics.count}
        found["bounds"] = {k: grouped_bound(bound) for k, bound in bounds.items()}
        return tf.nest.map_structure(lambda values: values[0], found)

    signature = dict.fromkeys(WeightSummary._fields, tf.float64)
    signature |= {"count": tf.int32, "bounds": dict.fromkeys(sample_sizes, tf.float64)}
    with weights_read_once(model):
        return tf.map_fn(
            one,
            (x, seeds.row_streams(seed, x)),
            fn_output_signature=signature,
            parallel_iterations=CONCURRENT_ROWS,
        )


def chunk_log_weights(model, x, seed, first, num_samples: int) -> tf.Tensor:
    """Returns log-weights of consecutive samples of every row: x [B, D] -> [B, num_samples]; both numbers times 50."""
    with weights_read_once(model):
        return tf.map_fn(
            lambda row: row_log_weights(model, row[0][None], row[1], first, num_samples)[:, 0],
            (x, seeds.row_streams(seed, x)),
            fn_output_signature=tf.float32,
            parallel_iterations=CONCURRENT_ROWS,
        )


def batch_noise(x: tf.Tensor, seed, first: tf.Tensor | int, num_samples: int, units: int) -> tf.Tensor:
    """Returns the noise of samples of every row together: x [B, D], `first` a multiple of 50 -> [num_samples, B, H]."""
    size = -(-num_samples // BLOCK) * BLOCK
    noise = tf.map_fn(
        lambda stream: row_noise(stream, first, size, units)[:num_samples, 0],
        seeds.row_streams(seed, x),
        fn_output_signature=tf.TensorSpec([num_samples, units], tf.float32),
    )
    return tf.transpose(noise, [1, 0, 2])


def converged(pareto_k, standard_error, target_standard_error: float | None):
    """Returns whether Pareto k is below 0.7 and the standard error at most the target, if there is one: bool [B]."""
    reliable = pareto_k < RELIABLE_PARETO_K
    return reliable if target_standard_error is None else reliable & (standard_error <= target_standard_error)
