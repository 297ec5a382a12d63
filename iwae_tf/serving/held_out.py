"""Scores and contributions of held-out rows, which an export stores to judge the rows of requests by."""

import numpy as np
import tensorflow as tf

from iwae_tf.errors import InputError
from iwae_tf.serving.row import HeldOut, RowSettings, expected_log_prob_of_each, log_prob, observe, values_taken
from iwae_tf.serving.scores import OK
from iwae_tf.serving.signatures import by_row

MAX_SCORED, MAX_EXPLAINED = 1000, 300  # rows, drawn by the seed: two minutes and half a minute for MNIST on two cores
ROWS_TOGETHER = 50


def scored_held_out(model, x: np.ndarray, settings: RowSettings, scores: np.ndarray | None = None) -> HeldOut:
    """Returns what an export stores of held-out rows.

    Args:
        model: an `IWAE`.
        x: rows as a client sends them, [N, D].
        settings: the settings of the export.
        scores: of the rows, as `log_prob` of `serving_default` is distributed, [N]; None scores 1000 of them.

    Raises:
        InputError: x has another shape, or no row can be scored.
    """
    x = np.asarray(x)
    if x.ndim < 2 or x[:1].size != model.data_dim:
        raise InputError(f"held_out must be rows [N, {model.data_dim}] as a client sends them, got shape {x.shape}")
    drawn = np.random.default_rng(settings.seed).permutation(len(x))[: max(MAX_SCORED, MAX_EXPLAINED)]
    x = x[drawn].reshape(len(drawn), -1)  # drawn, as a file may be sorted
    if scores is None:
        scores = _of_rows(model, x[:MAX_SCORED], lambda row: log_prob(model, row, settings)["log_prob"])
    scores = np.sort(np.asarray(scores, np.float32)[np.isfinite(scores)])

    def expected(row):
        pixels, status = observe(model, row, tf.constant(settings.seed, tf.int64), settings.input_rule)
        found = tf.where(tf.math.is_nan(pixels[0]), float("nan"), expected_log_prob_of_each(model, pixels, settings))
        return tf.where(status == OK, found, float("nan"))

    if not len(scores):
        wanted = model.likelihood_head.support if model.scale == 1.0 else values_taken(model)
        raise InputError(f"no row of held_out can be scored: expected rows as a client sends them, {wanted}")
    try:
        each = _of_rows(model, x[:MAX_EXPLAINED], expected)
    except InputError:  # of the likelihood, whose values are not independent
        return HeldOut(scores, None)
    observed = np.isfinite(each)
    total, number = np.where(observed, each, 0.0).sum(axis=0, dtype=np.float64), observed.sum(axis=0)
    return HeldOut(scores, np.divide(total, number, np.full_like(total, np.nan), where=number > 0).astype(np.float32))


def _of_rows(model, x: np.ndarray, function) -> np.ndarray:
    """Applies a function of one row to every row, in batches of up to 50 rows, as signatures do."""
    mapped = by_row(model, function, [tf.TensorSpec([None, model.data_dim], tf.float32)], tf.float32)
    graph = tf.function(mapped.function, autograph=False).get_concrete_function(*mapped.inputs)
    batches = [x[first : first + ROWS_TOGETHER] for first in range(0, len(x), ROWS_TOGETHER)]
    return np.concatenate([graph(tf.constant(batch.astype(np.float32))).numpy() for batch in batches])
