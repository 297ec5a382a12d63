"""The signatures of an exported model: functions of batches of rows.

A server concatenates requests along the first axis and splits the answers again, so all inputs and outputs have that
axis. Each row is computed separately, up to ten in parallel: it has the same shapes in every batch, and so the same
bits. The functions hold no state, call no Python, do not ask for XLA (servers switch it off) and never assert, because
one bad row would fail the others of its batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.models.networks import weights_read_once
from iwae_tf.serving import row
from iwae_tf.serving.row import RowSettings
from iwae_tf.serving.scores import DTYPES


class Signature(NamedTuple):
    """A function of batched tensors to a dictionary of batched tensors, and the specifications of its arguments."""

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: list[tf.TensorSpec]


def signatures(model, settings: RowSettings) -> dict[str, Signature]:
    """Returns the signatures of a model by name.

    Args:
        model: an `IWAE`.
        settings: the settings of the export.

    Returns:
        `serving_default` and `log_prob_k` (scores), `encode`, `reconstruct` and `sample`; with held-out rows `explain`,
        unless the likelihood is not that of independent values.
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
        drawn, mean, _ = model.generative_network.sample(
            1, lambda layer: seeds.stream_key(seed, seeds.Purpose.REQUEST_SAMPLE, layer)
        )
        return {"x_mean": mean[0] * model.scale, "x": drawn[0] * model.scale}

    p_value = {"p_value": tf.float32}
    scores = {name: tf.as_dtype(dtype) for name, dtype in DTYPES.items() if name not in p_value}
    contributions = {"contribution": tf.float32, "status": tf.int32}
    encodings = {f"{field}_{layer + 1}": tf.float32 for layer, field in encoded}
    explained = settings.held_out is not None and settings.held_out.contributions is not None
    return {
        "serving_default": by_row(model, log_prob, [x], scores if settings.held_out is None else scores | p_value),
        "log_prob_k": by_row(model, log_prob_k, [x, num_samples, seed], scores),
        "encode": by_row(model, encode, [x], {**encodings, "status": tf.int32}),
        "reconstruct": by_row(model, reconstruct, [x], {"x_mean": tf.float32, "status": tf.int32}),
        "sample": by_row(model, sample, [seed], {"x_mean": tf.float32, "x": tf.float32}),
        **({"explain": by_row(model, explain, [x], contributions)} if explained else {}),
    }


def by_row(model, function, inputs: list[tf.TensorSpec], outputs: tf.DType | dict[str, tf.DType]) -> Signature:
    """Returns the signature that applies a function of one row to each row of a batch."""

    def batched(*tensors):
        with weights_read_once(model):  # before the loop, whose rows would wait for each other's reads
            return tf.map_fn(lambda values: function(*values), tensors, fn_output_signature=outputs)

    return Signature(batched, inputs)
