"""One row of a request: its pixels, its score, its status, all independent of the other rows of the batch."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.models.streaming import row_bound, row_estimate
from iwae_tf.seeds import Purpose
from iwae_tf.serving.scores import BAD_NUM_SAMPLES, BAD_X, NOT_FINITE, OK

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
        refine: whether `serving_default` scores with a proposal refined for each row.
        seed: seed of all signatures without a seed among their inputs.
    """

    num_samples: int
    max_samples: int
    input_rule: str
    refine: bool = False
    seed: int = 0


def observe(model, x: tf.Tensor, seed: tf.Tensor, rule: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Divides a row by the model's scale and applies the input rule to it.

    Args:
        model: an `IWAE`.
        x: float32 [D], any values; integers from 0 to `model.scale`, unless that is 1, are good.
        seed: int64 scalar.
        rule: a key of `INPUT_RULES`.

    Returns:
        Pixels, float32 [1, D], zeros if the likelihood cannot observe x; and the status, `OK` or `BAD_X`.
    """
    whole = tf.constant(True)
    if model.scale != 1.0:
        whole = tf.reduce_all((x == tf.round(x)) & (x >= 0.0) & (x <= model.scale))
        # A graph may multiply by the inverse: its last bits differ from NumPy's, and so would the row's noise.
        divided = np.arange(model.scale + 1.0, dtype=np.float32) / np.float32(model.scale)
        x = tf.gather(divided, tf.cast(tf.where(whole, x, 0.0), tf.int32))
    good = whole & model.likelihood_head.in_support(x)
    pixels = tf.where(good, x, tf.zeros_like(x))
    if rule == "binary":
        key = seeds.stream_key(seeds.row_streams(seed, x[None])[0], Purpose.REQUEST_PIXELS)
        pixels = tf.cast(seeds.uniform(tf.shape(x), key) < pixels, tf.float32)
    return pixels[None], tf.where(good, OK, BAD_X)


def log_prob(model, x: tf.Tensor, settings: RowSettings) -> dict[str, tf.Tensor]:
    """Estimates log p(x) of a row, as `estimate_log_likelihood` does for the same pixels and seed.

    Args:
        model: an `IWAE`.
        x: float32 [D].
        settings: the settings of the export.

    Returns:
        Scalars by the names of `Scores`; NaN where the status is not 0.
    """
    seed = tf.constant(settings.seed, tf.int64)
    pixels, status = observe(model, x, seed, settings.input_rule)
    stream, wanted = seeds.row_streams(seed, pixels)[0], tf.where(status == OK, settings.num_samples, 0)
    estimate = row_estimate(model, pixels, stream, wanted, settings.num_samples, refined=settings.refine)
    return _outputs(estimate.summary, estimate.reliable, status)


def log_prob_k(
    model, x: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor, settings: RowSettings
) -> dict[str, tf.Tensor]:
    """Estimates L_k of a row under q(h | x), as `IWAE.log_likelihood` does for the same pixels and seed.

    Fewer samples are the first of more.

    Args:
        model: an `IWAE`.
        x: float32 [D].
        num_samples: k, int32 scalar.
        seed: int64 scalar.
        settings: the settings of the export.

    Returns:
        Scalars by the names of `Scores`; NaN where the status is not 0.
    """
    pixels, status = observe(model, x, seed, settings.input_rule)
    in_range = (num_samples >= 1) & (num_samples <= settings.max_samples)
    status = tf.where((status == OK) & ~in_range, BAD_NUM_SAMPLES, status)
    stream, wanted = seeds.row_streams(seed, pixels)[0], tf.where(status == OK, num_samples, 0)
    summary = row_bound(model, pixels, stream, wanted, settings.max_samples)
    return _outputs(summary, tf.constant([False]), status)


def _outputs(summary, reliable, status) -> dict[str, tf.Tensor]:
    values = summary._asdict()
    outputs = {"log_prob": values.pop("log_likelihood"), **values}
    outputs = {name: tf.cast(value[0], tf.float32) for name, value in outputs.items()}
    finite = tf.math.is_finite(outputs["log_prob"]) & tf.math.is_finite(outputs["elbo"])
    status = tf.where((status == OK) & ~finite, NOT_FINITE, status)
    return {**with_status(outputs, status), "reliable": tf.cast(reliable[0] & (status == OK), tf.int32)}


def with_status(outputs: dict[str, tf.Tensor], status: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the outputs of a row and its status; the outputs are NaN if the status is not 0."""
    outputs = {name: tf.where(status == OK, value, float("nan")) for name, value in outputs.items()}
    return {**outputs, "status": status}
