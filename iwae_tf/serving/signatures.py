"""The signatures of an exported model: functions of batches of rows.

A server concatenates requests along the first axis and splits the answers again, so all inputs and outputs have that
axis. Each row is computed separately, up to ten in parallel: it has the same shapes in every batch, and so the same
bits. The functions hold no state, call no Python, do not ask for XLA (servers switch it off) and never assert, because
one bad row would fail the others of its batch.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.data import Column
from iwae_tf.data.dataset import UNSEEN
from iwae_tf.models.networks import weights_read_once
from iwae_tf.serving import row
from iwae_tf.serving.row import RowSettings
from iwae_tf.serving.scores import DTYPES, SCORE_COLUMNS


class Signature(NamedTuple):
    """A function of batched tensors to a dictionary of batched tensors, and the specifications of its arguments.

    If each argument is a column of a table, `columns` has these; their names are those of the inputs on a server.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: list[tf.TensorSpec]
    columns: tuple[Column, ...] = ()


def signatures(model, settings: RowSettings) -> dict[str, Signature]:
    """Returns the signatures of a model by name.

    Args:
        model: an `IWAE`.
        settings: the settings of the export.

    Returns:
        `serving_default` and `log_prob_k` (scores), `encode`, `reconstruct` and `sample`; with held-out rows `explain`,
        unless the likelihood is not that of independent values; of a table `score_columns`.
    """
    x = tf.TensorSpec([None, model.data_dim], tf.float32, name="x")
    num_samples = tf.TensorSpec([None], tf.int32, name="num_samples")
    seed = tf.TensorSpec([None], tf.int64, name="seed")
    own_seed = tf.constant(settings.seed, tf.int64)
    stages = model.inference_network.stages
    encoded = [(layer, field) for layer, stage in enumerate(stages) for field in stage.head.display_fields]

    def log_prob(x):
        return row.log_prob(model, x, settings)

    def log_prob_k(x, num_samples, seed):
        return row.log_prob_k(model, x, num_samples, seed, settings)

    def explain(x):
        return row.explain(model, x, settings)

    def encode(x):
        pixels, status = row.observe(model, x, own_seed, settings.input_rule)
        parameters = model.inference_network.parameters_along_mean(pixels)
        outputs = {f"{field}_{layer + 1}": getattr(parameters[layer], field)[0] for layer, field in encoded}
        return row.with_status(outputs, status)

    def reconstruct(x):
        pixels, status = row.observe(model, x, own_seed, settings.input_rule)
        return row.with_status({"x_mean": model(pixels)[0] * model.scale}, status)

    def sample(seed):
        drawn, parameters, _ = model.generative_network.sample(
            1, lambda layer: seeds.stream_key(seed, seeds.Purpose.REQUEST_SAMPLE, layer)
        )
        x = drawn[0] * model.scale
        if model.levels is not None and model.scale != 1.0:  # integers, up to rounding: a graph multiplies by inverses
            x = tf.round(x)
        return {"x_mean": model.likelihood_head.mean(parameters)[0] * model.scale, "x": x}

    p_value = {"p_value": tf.float32}
    scores = {name: tf.as_dtype(dtype) for name, dtype in DTYPES.items() if name not in p_value}
    contributions = {"contribution": tf.float32, "status": tf.int32}
    encodings = {f"{field}_{layer + 1}": tf.float32 for layer, field in encoded}
    explained = settings.held_out is not None and settings.held_out.contributions is not None
    default = by_row(model, log_prob, [x], scores if settings.held_out is None else scores | p_value)
    if settings.columns:  # one function of both signatures, which is traced once: half the file
        default = default._replace(function=tf.function(default.function, autograph=False))
    return {
        "serving_default": default,
        "log_prob_k": by_row(model, log_prob_k, [x, num_samples, seed], scores),
        "encode": by_row(model, encode, [x], {**encodings, "status": tf.int32}),
        "reconstruct": by_row(model, reconstruct, [x], {"x_mean": tf.float32, "status": tf.int32}),
        "sample": by_row(model, sample, [seed], {"x_mean": tf.float32, "x": tf.float32}),
        **({"explain": by_row(model, explain, [x], contributions)} if explained else {}),
        **({SCORE_COLUMNS: by_column(default, settings.columns)} if settings.columns else {}),
    }


def by_row(model, function, inputs: list[tf.TensorSpec], outputs: tf.DType | dict[str, tf.DType]) -> Signature:
    """Returns the signature that applies a function of one row to each row of a batch."""

    def batched(*tensors):
        with weights_read_once(model):  # before the loop, whose rows would wait for each other's reads
            return tf.map_fn(lambda values: function(*values), tensors, fn_output_signature=outputs)

    return Signature(batched, inputs)


def by_column(scored: Signature, columns: tuple[Column, ...]) -> Signature:
    """Returns a signature of rows x that takes them by column: categories as text [B], numbers as float32 [B].

    TensorFlow takes few names of columns for those of arguments, so these are numbered.
    """
    dtypes = [tf.string if column.kind == "category" else tf.float32 for column in columns]

    def joined(*values):
        x = [
            category_index(value, column.categories) if column.kind == "category" else value
            for column, value in zip(columns, values, strict=True)
        ]
        return scored.function(tf.stack(x, axis=1))  # [B, D]

    return Signature(joined, [tf.TensorSpec([None], d, name=f"column_{i}") for i, d in enumerate(dtypes)], columns)


def category_index(text: tf.Tensor, categories: Sequence[str]) -> tf.Tensor:
    """Returns the values of a category column by the rule of `Column`: text [B] -> float32 [B].

    Comparisons need no table of words, a resource whose initialisation a model that is checked may not run.
    """
    found = text[:, None] == tf.constant(categories)  # [B, C]
    index = tf.reduce_max(tf.where(found, tf.range(len(categories), dtype=tf.float32), UNSEEN), axis=1)
    return tf.where(text == "", float("nan"), index)
