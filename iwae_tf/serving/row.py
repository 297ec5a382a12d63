"""One row of a request: its pixels, its score, its status, all independent of the other rows of the batch."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.data import Column
from iwae_tf.models.proposal import inference_proposal, refine
from iwae_tf.models.streaming import BLOCK, row_bound, row_estimate, row_noise
from iwae_tf.seeds import Purpose
from iwae_tf.serving.scores import BAD_NUM_SAMPLES, BAD_X, NOT_FINITE, OK

EXPLAIN_SAMPLES = 1000
INPUT_RULES = {
    "binary": "pixel = 1 with probability x, drawn from a key made of (x, seed); 0 and 1 stay as they are",
    "intensity": "x as it is: the expected Bernoulli log-likelihood of pixels drawn from x",
    "real": "x as it is",
}


class HeldOut(NamedTuple):
    """Facts of held-out rows that an exported model holds.

    Attributes:
        scores: their `log_prob`, ascending, float32 [N].
        contributions: for each value the mean over rows of its expected log-likelihood, see `explain`, float32 [D];
            None for a likelihood whose values are not independent.
    """

    scores: np.ndarray
    contributions: np.ndarray | None


class RowSettings(NamedTuple):
    """Settings that are fixed when a model is exported.

    Attributes:
        num_samples: k of `serving_default`.
        max_samples: the largest `num_samples` that a request may ask for.
        input_rule: a key of `INPUT_RULES`.
        refine: whether `serving_default` scores with a proposal refined for each row.
        seed: seed of all signatures without a seed among their inputs.
        held_out: of held-out rows, or None.
        columns: of a table, whose rows `score_columns` takes by column; empty for other data.
    """

    num_samples: int
    max_samples: int
    input_rule: str
    refine: bool = False
    seed: int = 0
    held_out: HeldOut | None = None
    columns: tuple[Column, ...] = ()


def p_values(rows: int) -> np.ndarray:
    """Returns the p-value of a row that scores as high as 0, 1, ... `rows` held-out rows, float32 [rows + 1]."""
    return np.arange(1, rows + 2, dtype=np.float32) / np.float32(rows + 1)


def values_taken(model) -> str:
    """Returns in words the values that a client sends, for the provenance and for errors."""
    return "as they are" if model.scale == 1.0 else f"integers from 0 to {model.scale:g}, which the model divides"


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
        Scalars by the names of `Scores`; NaN where the status is not 0. `p_value` is the share of held-out rows that
        score at most as high, with the row itself among them; it is left out without held-out rows.

    Reference: Bates, Candes, Lei, Romano, Sesia (2023), Testing for outliers with conformal p-values, equation 3.
    """
    seed = tf.constant(settings.seed, tf.int64)
    pixels, status = observe(model, x, seed, settings.input_rule)
    stream, wanted = seeds.row_streams(seed, pixels)[0], tf.where(status == OK, settings.num_samples, 0)
    estimate = row_estimate(model, pixels, stream, wanted, settings.num_samples, refined=settings.refine)
    outputs = _outputs(estimate.summary, estimate.reliable, status)
    if settings.held_out is not None:
        scores = settings.held_out.scores
        not_above = tf.searchsorted(tf.constant(scores), outputs["log_prob"][None], side="right")[0]
        p_value = tf.gather(p_values(len(scores)), not_above)
        outputs["p_value"] = tf.where(outputs["status"] == OK, p_value, float("nan"))
    return outputs


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


def explain(model, x: tf.Tensor, settings: RowSettings) -> dict[str, tf.Tensor]:
    """Returns how much less likely each value of a row is than held-out rows have it there.

        contribution_d = E[log p(x_d | h) | x] - the mean of the same over held-out rows

    by self-normalised importance sampling with 1000 samples of the proposal of `log_prob`. The most negative values are
    the ones that the model finds strangest.

    Args:
        model: an `IWAE` whose likelihood is of independent values.
        x: float32 [D].
        settings: the settings of the export, with `held_out`.

    Returns:
        `contribution`, float32 [D], in nats, 0 for a value that is missing here or in all held-out rows, and `status`;
        NaN where that is not 0.
    """
    pixels, status = observe(model, x, tf.constant(settings.seed, tf.int64), settings.input_rule)
    expected = expected_log_prob_of_each(model, pixels, settings)
    observed = tf.logical_not(tf.math.is_nan(pixels[0]) | np.isnan(settings.held_out.contributions))
    contribution = tf.where(observed, expected - settings.held_out.contributions, 0.0)
    status = tf.where((status == OK) & ~tf.reduce_all(tf.math.is_finite(contribution)), NOT_FINITE, status)
    return with_status({"contribution": contribution}, status)


def expected_log_prob_of_each(model, x: tf.Tensor, settings: RowSettings) -> tf.Tensor:
    """Returns E[log p(x_d | h) | x] of each value of a row, in nats: observed pixels x [1, D] -> [D]."""
    units, seed = sum(model.latent_units), tf.constant(settings.seed, tf.int64)
    stream = seeds.row_streams(seed, x)[0]
    proposal = refine(model, x, stream) if settings.refine else inference_proposal(units)
    key, likelihood = seeds.stream_key(stream, Purpose.EXPLANATION), model.generative_network.likelihood_stage

    def add(first, largest, total, mean):
        noise, prior_over_proposal = proposal.noise(row_noise(first, BLOCK, units, key))
        h, log_q = model.inference_network.transform(x, noise)
        log_w = (model.generative_network.log_prob(x, h) - log_q + prior_over_proposal)[:, 0]  # [50]
        each = likelihood.head.log_prob_of_each(likelihood(h[0]), x)[:, 0]  # [50, D]
        shift = tf.maximum(largest, tf.reduce_max(log_w))
        weights, before = tf.exp(log_w - shift), total * tf.exp(largest - shift)
        total = before + tf.reduce_sum(weights)
        return first + BLOCK, shift, total, (before * mean + tf.linalg.matvec(each, weights, transpose_a=True)) / total

    start = tf.constant(0), tf.constant(-float("inf")), tf.constant(0.0), tf.zeros([model.data_dim])
    *_, mean = tf.while_loop(lambda first, *_: first < EXPLAIN_SAMPLES, add, start, parallel_iterations=1)
    return mean


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
