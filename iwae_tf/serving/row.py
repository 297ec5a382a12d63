"""One row of a request: its pixels, its score, its status, all independent of the other rows of the batch."""

from typing import NamedTuple

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.seeds import Purpose
from iwae_tf.serving.scores import BAD_NUM_SAMPLES, BAD_X, NOT_FINITE, OK
from iwae_tf.weight_statistics import WeightStatistics, empty_statistics, summarize, update_statistics

# Samples in the first chunk, which covers the paper's k = 1, 5 and 50, and in the others, which take half the time per
# sample. 500, 5000 and 50,000 come out without a remainder.
FIRST_CHUNK, CHUNK = 50, 450

INPUT_RULES = {
    "binary": "pixel = 1 with probability x, drawn from a key made of (x, seed); 0 and 1 stay as they are",
    "intensity": "x as it is: the expected Bernoulli log-likelihood of pixels drawn from x",
    "real": "x as it is",
}


class RowSettings(NamedTuple):
    """Settings that are fixed when a model is exported.

    Attributes:
        num_samples: k of `serving_default`.
        max_samples: the largest `num_samples` that a request may ask for.
        input_rule: a key of `INPUT_RULES`.
        seed: seed of all signatures without a seed among their inputs.
    """

    num_samples: int
    max_samples: int
    input_rule: str
    seed: int = 0


def row_estimate(model, pixels, stream, num_samples, max_samples: int) -> WeightStatistics:
    """Returns the statistics of the log-weights of a row, in memory that does not grow with `num_samples`.

    Args:
        model: an `IWAE`.
        pixels: float32 [1, D].
        stream: int64 scalar, key of the row's random numbers.
        num_samples: int32 scalar; 0 takes none.
        max_samples: upper limit of `num_samples`.
    """

    def take(state, chunk, first, size):
        key = seeds.request_key(stream, Purpose.REQUEST_NOISE, chunk)
        log_w = model.log_weights_from_noise(pixels, seeds.normal([size, 1, sum(model.latent_units)], key))  # [size, 1]
        used = (first + tf.range(size) < num_samples)[:, None]
        return update_statistics(state, log_w, used)

    state = take(empty_statistics(1, max_samples), 0, 0, FIRST_CHUNK)
    _, state = tf.while_loop(
        lambda chunk, _: FIRST_CHUNK + (chunk - 1) * CHUNK < num_samples,
        lambda chunk, state: (chunk + 1, take(state, chunk, FIRST_CHUNK + (chunk - 1) * CHUNK, CHUNK)),
        (1, state),
        parallel_iterations=1,
    )
    return state


def observe(model, x: tf.Tensor, seed: tf.Tensor, rule: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Applies the input rule to a row.

    Args:
        model: an `IWAE`.
        x: float32 [D], any values.
        seed: int64 scalar.
        rule: a key of `INPUT_RULES`.

    Returns:
        Pixels, float32 [1, D], zeros if the likelihood cannot observe x; the status, `OK` or `BAD_X`; and the key of
        the row's random numbers, int64 scalar.
    """
    x = tf.where(x == 0.0, tf.zeros_like(x), x)  # -0 is 0, also for the fingerprint
    good = model.generative_network.likelihood_stage.head.in_support(x)
    pixels = tf.where(good, x, tf.zeros_like(x))
    stream = seeds.request_stream(seed, x)
    if rule == "binary":
        draws = seeds.uniform(tf.shape(x), seeds.request_key(stream, Purpose.REQUEST_PIXELS))
        pixels = tf.cast(draws < pixels, tf.float32)
    return pixels[None], tf.where(good, OK, BAD_X), stream


def score(model, x: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor, settings: RowSettings) -> dict[str, tf.Tensor]:
    """Estimates log p(x) of a row and the reliability of the estimate.

    Sample i is a function of (x, seed, i) alone, so that fewer samples are the first of more.

    Args:
        model: an `IWAE`.
        x: float32 [D].
        num_samples: int32 scalar.
        seed: int64 scalar.
        settings: the settings of the export.

    Returns:
        Scalars by the names of `Scores`; NaN where the status is not 0.
    """
    pixels, status, stream = observe(model, x, seed, settings.input_rule)
    in_range = (num_samples >= 1) & (num_samples <= settings.max_samples)
    status = tf.where((status == OK) & ~in_range, BAD_NUM_SAMPLES, status)
    wanted = tf.where(status == OK, num_samples, 0)
    summary = summarize(row_estimate(model, pixels, stream, wanted, settings.max_samples))._asdict()
    outputs = {"log_prob": summary.pop("log_likelihood"), **summary}
    outputs = {name: tf.cast(value[0], tf.float32) for name, value in outputs.items()}
    finite = tf.math.is_finite(outputs["log_prob"]) & tf.math.is_finite(outputs["elbo"])
    return with_status(outputs, tf.where((status == OK) & ~finite, NOT_FINITE, status))


def with_status(outputs: dict[str, tf.Tensor], status: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the outputs of a row and its status; the outputs are NaN if the status is not 0."""
    outputs = {name: tf.where(status == OK, value, float("nan")) for name, value in outputs.items()}
    return {**outputs, "status": status}
