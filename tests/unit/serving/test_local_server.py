"""The JSON of the local server's predict call, in process; the server itself is in tests/integration."""

import json
import socket

import numpy as np
import pytest
import tensorflow as tf
from small_models import SMALL_DIM

from iwae_tf.errors import InputError
from iwae_tf.serving import local_server


class _Model(tf.Module):
    """Signatures of the shapes of an exported model, of which the test knows the values."""

    @tf.function(input_signature=[tf.TensorSpec([None, SMALL_DIM], tf.float32, name="x")])
    def default(self, x):
        # A third and its like are no short decimals; NaN comes through.
        return {"log_prob": tf.reduce_sum(x, 1) / 3.0, "status": tf.cast(tf.math.is_nan(x[:, 0]), tf.int32)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, SMALL_DIM], tf.float32, name="x"),
            tf.TensorSpec([None], tf.int32, name="num_samples"),
            tf.TensorSpec([None], tf.int64, name="seed"),
        ]
    )
    def k(self, x, num_samples, seed):
        return {"log_prob": x[:, 0], "num_samples": num_samples, "seed": seed}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="seed")])
    def single(self, seed):
        return {"x": tf.cast(seed, tf.float32)[:, None] / [1.0, 0.0]}


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """The folder of the model."""
    path, model = tmp_path_factory.mktemp("model"), _Model()
    signatures = {"serving_default": model.default, "log_prob_k": model.k, "sample": model.single}
    tf.saved_model.save(model, str(path), signatures)
    return path


@pytest.fixture(scope="module")
def ask(version):
    """A predict call: a request as an object or as bytes, the parsed answer."""
    loaded = tf.saved_model.load(str(version))

    def ask(request):
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        return json.loads(local_server.predict(body, loaded.signatures))

    return ask


X = np.random.default_rng(0).random((3, SMALL_DIM)).astype(np.float32)


def test_rows_are_answered_by_row(ask):
    answer = ask({"instances": X.tolist()})
    assert answer == ask({"instances": [{"x": row} for row in X.tolist()]})
    assert [set(row) for row in answer["predictions"]] == [{"log_prob", "status"}] * 3


def test_columns_are_answered_by_column(ask):
    answer = ask({"inputs": {"x": X.tolist()}})
    assert answer == ask({"inputs": X.tolist(), "signature_name": "serving_default"})
    assert len(answer["outputs"]["log_prob"]) == 3
    rows = ask({"instances": X.tolist()})["predictions"]
    assert answer["outputs"]["log_prob"] == [row["log_prob"] for row in rows]


def test_the_digits_give_back_the_float32(ask, version):
    answer = ask({"inputs": X.tolist()})["outputs"]["log_prob"]
    direct = tf.saved_model.load(str(version)).signatures["serving_default"](x=tf.constant(X))
    np.testing.assert_array_equal(np.array(answer, np.float32), direct["log_prob"].numpy())


def test_nan_goes_in_and_comes_out_bare(ask, version):
    x = X.copy()
    x[1, 0] = np.nan
    answer = ask({"inputs": x.tolist()})["outputs"]
    assert answer["status"] == [0, 1, 0]
    assert np.isnan(answer["log_prob"]).tolist() == [False, True, False]
    loaded = tf.saved_model.load(str(version))
    text = local_server.predict(json.dumps({"inputs": x.tolist()}).encode(), loaded.signatures)
    assert "NaN" in text


def test_a_number_too_large_for_float32_is_the_rows_own_trouble(ask):
    x = X.astype(float)
    x[1, 0] = 1e300
    log_prob = ask({"inputs": x.tolist()})["outputs"]["log_prob"]
    assert np.isfinite(log_prob).tolist() == [True, False, True]


def test_a_single_output_has_no_name(ask):
    rows = ask({"instances": [2, 4], "signature_name": "sample"})
    assert rows == {"predictions": [[2.0, np.inf], [4.0, np.inf]]}
    assert ask({"inputs": [2, 4], "signature_name": "sample"}) == {"outputs": rows["predictions"]}


def test_several_inputs_go_by_name_in_their_own_types(ask):
    seed = 2**62 + 1
    row = {"x": X[0].tolist(), "num_samples": 7, "seed": seed}
    (answer,) = ask({"instances": [row], "signature_name": "log_prob_k"})["predictions"]
    assert (answer["num_samples"], answer["seed"]) == (7, seed)
    columns = {"x": X.tolist(), "num_samples": [1, 2, 3], "seed": [4, 5, 6]}
    assert ask({"inputs": columns, "signature_name": "log_prob_k"})["outputs"]["seed"] == [4, 5, 6]


ROW = [0.0] * SMALL_DIM
K = {"signature_name": "log_prob_k"}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
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
        ({"instances": [["1"] * SMALL_DIM]}, "x must hold numbers"),
        ({"instances": [[None] * SMALL_DIM]}, "x must hold numbers"),
        ({"instances": [{"y": ROW}]}, r"instances\[0\] must have the inputs x, got y"),
        ({"instances": [ROW], **K}, r"inputs num_samples, seed, x, got no names"),
        ({"instances": [{"x": ROW, "seed": 1}], **K}, "got seed, x"),
        ({"instances": [{"x": ROW, "num_samples": 1.5, "seed": 1}], **K}, "num_samples must hold integers"),
        ({"instances": [{"x": ROW, "num_samples": 2**31, "seed": 1}], **K}, "outside the range of int32"),
        ({"instances": [{"x": ROW, "num_samples": 1, "seed": 2**63}], **K}, "outside the range of int64"),
        ({"inputs": {"x": [ROW], "num_samples": [1, 1], "seed": [1]}, **K}, "same number of rows"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(ask, request_, message):
    with pytest.raises(InputError, match=message) as caught:
        ask(request_)
    assert "\n" not in str(caught.value)


def test_a_port_that_is_taken_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}: Address already in use; give another --port"):
            local_server.bind("127.0.0.1", port)


def test_a_port_that_another_server_took_while_the_model_was_loaded_is_an_error(version, monkeypatch):
    monkeypatch.setattr(local_server, "_server", lambda *_: None)  # not reached by a request
    with local_server.bind("127.0.0.1", 0) as mine:
        port = mine.getsockname()[1]
        with local_server.bind("127.0.0.1", port) as other:
            other.listen()
            with pytest.raises(InputError, match=f"port {port}: Address already in use"):
                local_server.serve("small", version, mine)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("no.such.host.invalid", 0)])
def test_an_address_that_does_not_exist_is_an_error(host, port):
    with pytest.raises(InputError, match="cannot listen on"):
        local_server.bind(host, port)
