"""One row of a request: its pixels, its score, its status. What is computed here sees no other row of the batch."""

from typing import NamedTuple

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.seeds import Purpose
from iwae_tf.serving.scores import BAD_NUM_SAMPLES, BAD_X, NOT_FINITE, OK
from iwae_tf.weight_statistics import empty_statistics, summarize, update_statistics

# Samples go through the networks in pieces: first one that is all that the paper's k = 1, 5 and 50 need, then larger
# ones, which take half the time a sample. 500, 5000 and 50,000 come out without a remainder.
FIRST_CHUNK, CHUNK = 50, 450

INPUT_RULES = {
    "binary": "pixel = 1 with probability x, drawn from a key made of (x, seed); 0 and 1 stay as they are",
    "intensity": "x as it is: the expected Bernoulli log-likelihood of pixels drawn from x",
    "real": "x as it is",
}


class RowSettings(NamedTuple):
    """What is fixed when a model is exported.

    Attributes:
        num_samples: k of `serving_default`.
        max_samples: the largest `num_samples` that a request may ask for.
        input_rule: a key of `INPUT_RULES`.
        seed: seed of all signatures that take none.
    """

    num_samples: int
    max_samples: int
    input_rule: str
    seed: int = 0


def observe(model, x: tf.Tensor, seed: tf.Tensor, rule: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The pixels of a row under the input rule.

    Args:
        model: an `IWAE`.
        x: float32 [D], anything.
        seed: int64 scalar.
        rule: a key of `INPUT_RULES`.

    Returns:
        Pixels, float32 [1, D], zeros if x is no observation; whether it is none, bool scalar; and the stream of the
        row's random numbers, int64 scalar.
    """
    x = tf.where(x == 0.0, tf.zeros_like(x), x)  # -0 is 0, also for the fingerprint
    bad = ~model.generative_network.likelihood_stage.head.in_support(x)
    pixels = tf.where(bad, tf.zeros_like(x), x)
    stream = seeds.request_stream(seed, x)
    if rule == "binary":
        draws = seeds.uniform(tf.shape(x), seeds.request_key(stream, Purpose.REQUEST_PIXELS))
        pixels = tf.cast(draws < pixels, tf.float32)
    return pixels[None], bad, stream


def score(model, x: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor, settings: RowSettings) -> dict[str, tf.Tensor]:
    """Log p(x) of a row, with what says how far to trust it.

    Sample i is a function of (x, seed, i) alone, so that fewer samples are the first of more.

    Args:
        model: an `IWAE`.
        x: float32 [D].
        num_samples: int32 scalar.
        seed: int64 scalar.
        settings: what the export fixed.

    Returns:
        Scalars: float32 `log_prob`, `elbo`, `standard_error`, `effective_sample_size`, `pareto_k` as in
        `WeightSummary`, and int32 `status`, a key of `STATUSES`; NaN where the status is not 0.
    """
    pixels, bad_x, stream = observe(model, x, seed, settings.input_rule)
    bad_number = (num_samples < 1) | (num_samples > settings.max_samples)
    status = tf.where(bad_x, BAD_X, tf.where(bad_number, BAD_NUM_SAMPLES, OK))
    shared = model.shared_terms(pixels)
    wanted = tf.where(status == OK, num_samples, 0)

    def take(state, number, first, size):
        noise = seeds.normal(
            [size, 1, sum(model.latent_units)], seeds.request_key(stream, Purpose.REQUEST_NOISE, number)
        )
        used = (first + tf.range(size) < wanted)[:, None]
        return update_statistics(state, model.log_weights_from_noise(pixels, noise, shared), used)

    def body(number, state):
        return number + 1, take(state, number, FIRST_CHUNK + (number - 1) * CHUNK, CHUNK)

    state = take(empty_statistics(1, settings.max_samples), 0, 0, FIRST_CHUNK)
    _, state = tf.while_loop(
        lambda number, _: FIRST_CHUNK + (number - 1) * CHUNK < wanted, body, (1, state), parallel_iterations=1
    )
    summary = summarize(state)
    outputs = {"log_prob": summary.log_likelihood, **summary._asdict()}
    del outputs["log_likelihood"]
    outputs = {name: tf.cast(value[0], tf.float32) for name, value in outputs.items()}
    finite = tf.math.is_finite(outputs["log_prob"]) & tf.math.is_finite(outputs["elbo"])
    status = tf.where((status == OK) & ~finite, NOT_FINITE, status)
    return {**only_if_ok(outputs, status), "status": status}


def only_if_ok(outputs: dict[str, tf.Tensor], status: tf.Tensor) -> dict[str, tf.Tensor]:
    """The outputs of a row, NaN if its status is not 0."""
    return {name: tf.where(status == OK, value, float("nan")) for name, value in outputs.items()}
