"""The JSON of the local server's predict call, in process; the server itself is in tests/integration."""

import json
import socket

import numpy as np
import pytest
import tensorflow as tf

from iwae_tf.errors import InputError
from iwae_tf.serving import local_server
from iwae_tf.serving.model_folder import load

DIM = 12
X = np.random.default_rng(0).random((3, DIM)).astype(np.float32)
SPECS = {
    "x": tf.TensorSpec([None, DIM], tf.float32, name="x"),
    "num_samples": tf.TensorSpec([None], tf.int32, name="num_samples"),
    "seed": tf.TensorSpec([None], tf.int64, name="seed"),
}


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """The folder of a model with the signatures of an export, and values that the test knows."""
    path, model = tmp_path_factory.mktemp("model"), tf.Module()
    functions = {
        # A third and its like are no short decimals; NaN comes through.
        "serving_default": lambda x: {"log_prob": tf.reduce_sum(x, 1) / 3.0, "status": tf.cast(x[:, 0] != x[:, 0], 3)},
        "log_prob_k": lambda x, num_samples, seed: {"log_prob": x[:, 0], "num_samples": num_samples, "seed": seed},
        "sample": lambda seed: {"x": tf.cast(seed, tf.float32)[:, None] / [1.0, 0.0]},
    }
    inputs = {"serving_default": ["x"], "log_prob_k": ["x", "num_samples", "seed"], "sample": ["seed"]}
    signatures = {n: tf.function(f, input_signature=[SPECS[i] for i in inputs[n]]) for n, f in functions.items()}
    tf.saved_model.save(model, str(path), signatures)
    return path


@pytest.fixture(scope="module")
def ask(version):
    """A predict call: a request as an object or as bytes, the parsed answer."""
    model = load(version)

    def ask(request):
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        return json.loads(local_server.predict(body, model.signatures))

    return ask


def test_rows_are_answered_by_row_and_columns_by_column(ask):
    by_row = ask({"instances": X.tolist()})
    assert by_row == ask({"instances": [{"x": row} for row in X.tolist()]})
    assert [set(row) for row in by_row["predictions"]] == [{"log_prob", "status"}] * 3
    by_column = ask({"inputs": {"x": X.tolist()}})
    assert by_column == ask({"inputs": X.tolist(), "signature_name": "serving_default"})
    assert by_column["outputs"]["log_prob"] == [row["log_prob"] for row in by_row["predictions"]]


def test_numbers_pass_bit_for_bit_and_nan_bare(ask, version):
    x = X.astype(float)
    x[1, 0], x[2, 0] = np.nan, 1e300  # too large for float32
    signatures = load(version).signatures
    answer = local_server.predict(json.dumps({"inputs": x.tolist()}).encode(), signatures)
    assert "NaN" in answer
    outputs = json.loads(answer)["outputs"]
    direct = signatures["serving_default"](x=tf.constant(np.where(x > 1, np.inf, x), tf.float32))["log_prob"]
    np.testing.assert_array_equal(np.array(outputs["log_prob"], np.float32), direct.numpy())
    assert (np.isnan(outputs["log_prob"]).tolist(), outputs["status"]) == ([False, True, False], [0, 1, 0])
    assert np.isinf(outputs["log_prob"][2])


def test_a_single_output_has_no_name(ask):
    rows = ask({"instances": [2, 4], "signature_name": "sample"})
    assert rows == {"predictions": [[2.0, np.inf], [4.0, np.inf]]}
    assert ask({"inputs": [2, 4], "signature_name": "sample"}) == {"outputs": rows["predictions"]}


def test_several_inputs_go_by_name_in_their_own_types(ask):
    for seed in (2**62 + 1, -(2**62) - 1):
        row = {"x": X[0].tolist(), "num_samples": 7, "seed": seed}
        (answer,) = ask({"instances": [row], "signature_name": "log_prob_k"})["predictions"]
        assert (answer["num_samples"], answer["seed"]) == (7, seed)
    columns = {"x": X.tolist(), "num_samples": [1, 2, 3], "seed": [4, 5, 6]}
    assert ask({"inputs": columns, "signature_name": "log_prob_k"})["outputs"]["seed"] == [4, 5, 6]


ROW = [0.0] * DIM
K = {"signature_name": "log_prob_k"}


def test_requests_that_cannot_be_answered_are_refused_in_one_line(ask):
    for request, message in [
        (b"hello", "no JSON"),
        (b'{"\xff', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        ([1], "JSON object"),
        ({}, '"instances"'),
        ({"instances": [ROW], "inputs": [ROW]}, "either"),
        ({"instances": []}, "at least one row"),
        ({"instances": ROW[0]}, "at least one row"),
        ({"instances": [ROW], "signature_name": "log_prob"}, "did you mean 'log_prob_k'?"),
        ({"instances": [ROW], "signature_name": None}, "unknown signature None"),
        ({"instances": [ROW[1:]]}, r"x must have shape \[rows, 12\], got \[1, 11\]"),
        ({"instances": [ROW, ROW[1:]]}, "rows of different lengths"),
        ({"inputs": []}, r"shape \[rows, 12\], got \[0\]"),
        ({"inputs": [], "signature_name": "sample"}, r"seed must have shape \[rows\], got \[0\]"),
        ({"inputs": {"x": ROW}}, r"got \[12\]"),
        ({"instances": [["1"] * DIM]}, "x must hold numbers"),
        ({"instances": [[None, *ROW[1:]]]}, "x must hold numbers, and NaN where one is missing"),
        ({"instances": [{"y": ROW}]}, r"instances\[0\] must have the inputs x, got y"),
        ({"instances": [ROW], **K}, r"inputs num_samples, seed, x, got no names"),
        ({"instances": [{"x": ROW, "seed": 1}], **K}, "got seed, x"),
        ({"instances": [{"x": ROW, "num_samples": 1.5, "seed": 1}], **K}, "num_samples must hold integers"),
        ({"instances": [{"x": ROW, "num_samples": 1, "seed": 2**63}], **K}, "seed must hold integers from"),
        ({"inputs": {"x": [ROW], "num_samples": [1, 1], "seed": [1]}, **K}, "same number of rows"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            ask(request)
        assert "\n" not in str(caught.value)


def test_a_port_that_is_taken_before_or_while_the_model_is_loaded_is_an_error(version, monkeypatch):
    monkeypatch.setattr(local_server, "_server", lambda *_: None)  # not reached by a request
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}: Address already in use; give another --port"):
            local_server.bind("127.0.0.1", port)
    with local_server.bind("127.0.0.1", 0) as mine:
        port = mine.getsockname()[1]
        with local_server.bind("127.0.0.1", port) as other:
            other.listen()
            with pytest.raises(InputError, match=f"port {port}: Address already in use"):
                local_server.serve("small", version, mine)
    for host, port in (("127.0.0.1", 70000), ("no.such.host.invalid", 0)):
        with pytest.raises(InputError, match="cannot listen on"):
            local_server.bind(host, port)
