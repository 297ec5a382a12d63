"""The functions of an exported model: batches of rows in, batches of rows out.

A server joins requests along the first axis and cuts the answers apart again, so every input and output has it. Each
row is computed by itself, up to ten at once: it has the same shapes whatever its batch, and so the same bits. Nothing
here may hold state, call Python, ask for XLA (servers switch it off) or assert, since one bad row would fail its
neighbours.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.models.weights import weights_read_once
from iwae_tf.serving import row
from iwae_tf.serving.row import RowSettings
from iwae_tf.serving.scores import BAD_X, DTYPES, OK

SCORES = {name: tf.as_dtype(dtype) for name, dtype in DTYPES.items()}


class Signature(NamedTuple):
    """A function of batched tensors to a dictionary of batched tensors, and the specifications of its arguments."""

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: list[tf.TensorSpec]


def signatures(model, settings: RowSettings) -> dict[str, Signature]:
    """The signatures of a model, by name.

    Args:
        model: an `IWAE`.
        settings: what the export fixes.

    Returns:
        `serving_default` and `log_prob_k` (scores), `encode`, `reconstruct` and `sample`.
    """
    x = tf.TensorSpec([None, model.data_dim], tf.float32, name="x")
    num_samples = tf.TensorSpec([None], tf.int32, name="num_samples")
    seed = tf.TensorSpec([None], tf.int64, name="seed")
    fixed_seed = tf.constant(settings.seed, tf.int64)

    def score(x, num_samples, seed):
        return tf.map_fn(lambda r: row.score(model, *r, settings), (x, num_samples, seed), fn_output_signature=SCORES)

    def score_default(x):
        rows = tf.shape(x)[:1]
        return score(x, tf.fill(rows, settings.num_samples), tf.fill(rows, fixed_seed))

    def encode(x):
        stages = model.inference_network.stages
        arrays = [(layer, name) for layer, stage in enumerate(stages) for name in stage.head.described_by]
        names = [f"{name}_{layer + 1}" for layer, name in arrays]

        def one(x):
            pixels, bad, _ = row.observe(model, x, fixed_seed, settings.input_rule)
            layers = model.inference_network.parameters_along_mean(pixels)
            values = [getattr(layers[layer], name)[0] for layer, name in arrays]
            return _with_status(dict(zip(names, values, strict=True)), bad)

        return tf.map_fn(one, x, fn_output_signature={**dict.fromkeys(names, tf.float32), "status": tf.int32})

    def reconstruct(x):
        def one(x):
            pixels, bad, _ = row.observe(model, x, fixed_seed, settings.input_rule)
            return _with_status({"x_mean": model(pixels)[0]}, bad)

        return tf.map_fn(one, x, fn_output_signature={"x_mean": tf.float32, "status": tf.int32})

    def sample(seed):
        def one(seed):
            drawn, mean, _ = model.generative_network.sample(
                1, lambda layer: seeds.request_key(seed, seeds.Purpose.REQUEST_SAMPLE, layer)
            )
            return {"x_mean": mean[0], "x": drawn[0]}

        return tf.map_fn(one, seed, fn_output_signature={"x_mean": tf.float32, "x": tf.float32})

    def reading_weights_first(function):
        @functools.wraps(function)
        def with_weights_read(*tensors):
            with weights_read_once(model):
                return function(*tensors)

        return with_weights_read

    functions = {
        "serving_default": Signature(score_default, [x]),
        "log_prob_k": Signature(score, [x, num_samples, seed]),
        "encode": Signature(encode, [x]),
        "reconstruct": Signature(reconstruct, [x]),
        "sample": Signature(sample, [seed]),
    }
    return {name: Signature(reading_weights_first(function), inputs) for name, (function, inputs) in functions.items()}


def _with_status(outputs: dict[str, tf.Tensor], bad: tf.Tensor) -> dict[str, tf.Tensor]:
    status = tf.where(bad, BAD_X, OK)
    return {**row.only_if_ok(outputs, status), "status": status}
