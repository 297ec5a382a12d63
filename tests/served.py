"""Requests to exported models, answered through Python and through TensorFlow's C API."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from reference import iwae_log_weights
from small_models import reference_weights
from tensorflow.core.protobuf import saved_model_pb2

from iwae_tf import seeds

Request = tuple[str, dict[str, np.ndarray]]  # signature, inputs
Answer = dict[str, np.ndarray]


def scores_request(x, num_samples, seed=0) -> Request:
    """A request of `log_prob_k`; numbers are repeated for each row."""
    rows = len(x)
    return "log_prob_k", {
        "x": np.asarray(x, np.float32),
        "num_samples": np.broadcast_to(num_samples, rows).astype(np.int32),
        "seed": np.broadcast_to(seed, rows).astype(np.int64),
    }


def meta_graph(folder: Path):
    """The graph of a SavedModel, with its signatures and functions."""
    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]


loaded = functools.cache(tf.saved_model.load)  # a second each


def through_python(folder: Path, requests: list[Request]) -> list[Answer]:
    """Answers from the SavedModel loaded in Python."""
    return [_numpy(loaded(folder).signatures[signature](**_tensors(inputs))) for signature, inputs in requests]


def through_c_api(folder: Path, requests: list[Request], files: Path) -> tuple[list[Answer], int]:
    """Answers from a process without TensorFlow's Python, and its peak memory in KiB.

    Raises:
        RuntimeError: with TensorFlow's words, if the SavedModel cannot be loaded or a request fails.
    """
    definitions = meta_graph(folder).signature_def
    wire = []
    for signature, inputs in requests:
        names = definitions[signature]
        feeds = {names.inputs[n].name: [str(v.dtype), v.tolist()] for n, v in inputs.items()}
        wire.append({"inputs": feeds, "outputs": [info.name for info in names.outputs.values()]})
    (files / "requests.json").write_text(json.dumps(wire))
    program = [sys.executable, str(Path(__file__).with_name("c_api.py")), str(Path(tf.__file__).parent)]
    arguments = [str(folder), str(files / "requests.json"), str(files / "answers.npz")]
    process = subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=300)
    if process.returncode:
        raise RuntimeError(process.stderr)
    with np.load(files / "answers.npz") as arrays:
        answers = [
            {name: arrays[f"{number}/{info.name}"] for name, info in definitions[signature].outputs.items()}
            for number, (signature, _) in enumerate(requests)
        ]
        return answers, int(arrays["peak_kib"])


def through_function(signature, request: Request) -> Answer:
    """The answer of an `iwae_tf.serving.signatures.Signature` that is not exported."""
    traced = tf.function(signature.function, autograph=False)  # eagerly it takes four times as long
    return _numpy(traced(*(tf.constant(request[1][spec.name]) for spec in signature.inputs)))


def assert_same_bits(left: Answer, right: Answer) -> None:
    """Equal names, shapes, types and bits, NaN included."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype, name
        np.testing.assert_array_equal(value, right[name], err_msg=name)


def reference_log_weights(model, x: np.ndarray, num_samples: int, seed: int) -> np.ndarray:
    """Log-weights of one binary row by the NumPy reference, at the noise that a request has: [D] -> [k]."""
    stream = seeds.row_streams(tf.constant(seed, tf.int64), tf.constant(x)[None])[0]
    key, units = seeds.stream_key(stream, seeds.Purpose.EVALUATION_NOISE), sum(model.latent_units)
    blocks = seeds.row_normals(0, -(-num_samples // 50), 50 * units, key).numpy().astype(np.float64)
    noise = np.split(blocks.reshape(-1, 1, units)[:num_samples], np.cumsum(model.latent_units)[:-1], axis=-1)
    return iwae_log_weights(x[None].astype(np.float64), noise, **reference_weights(model))[:, 0]


def _tensors(inputs: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in inputs.items()}


def _numpy(outputs: dict[str, tf.Tensor]) -> Answer:
    return {name: value.numpy() for name, value in outputs.items()}
