"""The local server in a process: requests whose headers, routes and integers do not matter, and how it ends."""

import contextlib
import importlib.util
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import requests
import tensorflow as tf

from iwae_tf.serving import local_server
from iwae_tf.serving.local_server import GRACE_SECONDS
from iwae_tf.serving.model_folder import load

ROOT = Path(__file__).parents[3]
ROW = [0.0] * 4
SPECS = {
    "x": tf.TensorSpec([None, 4], tf.float32, name="x"),
    "num_samples": tf.TensorSpec([None], tf.int32, name="num_samples"),
    "seed": tf.TensorSpec([None], tf.int64, name="seed"),
}


def log_prob_k(x, num_samples, seed):
    """The value of the first pixel, as many times doubled as there are samples: slow for large numbers."""
    doubled = tf.while_loop(lambda i, _: i < num_samples[0], lambda i, v: (i + 1, v), [0, x[:, 0]])[1]
    return {"log_prob": doubled, "num_samples": num_samples, "seed": seed}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A SavedModel with two signatures of an export."""
    path = tmp_path_factory.mktemp("model") / "small"
    signatures = {
        "serving_default": tf.function(lambda x: {"log_prob": x[:, 0]}, input_signature=[SPECS["x"]]),
        "log_prob_k": tf.function(log_prob_k, input_signature=list(SPECS.values()), autograph=False),
    }
    tf.saved_model.save(tf.Module(), str(path / "1"), signatures)
    return path


@contextlib.contextmanager
def running(folder):
    """A server's process and the URL of its model."""
    command = [sys.executable, "export/serve_local.py", str(folder), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("serving "), process.stderr.read()
        yield process, line.split(" at ")[1].strip()
    finally:
        process.kill()
        process.communicate()


def stopped(process) -> tuple[float, str]:
    """Sends SIGTERM; returns the seconds to the end and stderr."""
    start = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    return time.perf_counter() - start, errors


kserve = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="the KServe SDK is not installed"),
]


class TestProcess:
    pytestmark = kserve

    def test_headers_and_routes_that_it_does_not_know_do_no_harm(self, folder):
        with running(folder) as (process, url):
            body = json.dumps({"instances": [ROW]})
            event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "test", "ce-type": "test"}
            for headers in (event, {"ce-specversion": "x"}, {"content-type": "application/cloudevents+json"}, {}):
                answer = requests.post(f"{url}:predict", data=body, headers=headers, timeout=60)
                assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
                assert answer.json() == {"predictions": [0.0]}
            home = url.removesuffix("/v1/models/small")
            tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}
            for method, route, data, status in [
                ("GET", "/v2/models/small", None, 404),
                ("GET", "/v2/models/small/versions/1", None, 404),
                ("POST", "/v2/models/small/infer", json.dumps({"inputs": [tensor]}), 404),
                ("POST", "/v2/repository/models/small/unload", None, 404),
                ("POST", "/v1/models/small:explain", body, 501),
                ("GET", "/v1/models/small:predict", None, 404),
            ]:
                answer = requests.request(method, home + route, data=data, timeout=60)
                assert (route, answer.status_code, list(answer.json())) == (route, status, ["error"])
                assert "\n" not in answer.json()["error"]
            assert requests.post(f"{url}:predict", data=body, timeout=60).ok  # it is still loaded
            assert stopped(process)[1].split() == ["stopped"]  # no traceback, for any of them

    def test_half_a_request_does_not_keep_it_and_new_connections_are_refused_at_once(self, folder):
        with running(folder) as (process, url):
            address = (urlparse(url).hostname, urlparse(url).port)
            with socket.create_connection(address) as half:
                half.sendall(b"POST /v1/models/small:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{")
                time.sleep(0.5)
                process.send_signal(signal.SIGTERM)
                time.sleep(1.0)
                with pytest.raises(ConnectionError):
                    socket.create_connection(address, timeout=5).close()
                seconds, errors = stopped(process)
            assert seconds < GRACE_SECONDS + 2.0  # on a busy machine
            assert errors.split() == ["stopped"]

    def test_a_score_that_is_computed_for_long_does_not_keep_it(self, folder):
        with running(folder) as (process, url):
            inputs = {"x": [ROW], "num_samples": [2**31 - 1], "seed": [1]}
            request = json.dumps({"signature_name": "log_prob_k", "inputs": inputs})
            with pytest.raises(requests.ReadTimeout):
                requests.post(f"{url}:predict", data=request, timeout=1)
            seconds, errors = stopped(process)
        assert seconds < GRACE_SECONDS + 2.0
        assert "Traceback" not in errors


# ------------------------------------------------------------------------------------------- integers of any size


@pytest.fixture(scope="module")
def ask(folder):
    model = load(folder / "1")
    return lambda text: json.loads(local_server.predict(text.encode(), model.signatures))


@pytest.mark.parametrize("integer", [2**63, 2**64, -(2**64), 10**400, "1" + "0" * 6000])
def test_an_integer_of_any_size_is_a_matter_of_its_row(ask, integer):
    with np.errstate(over="ignore"):
        expected = np.float32(float(integer) if len(str(integer)) < 300 else np.inf)
    rows = f"[[0, 0, 0, 0], [{integer}, 0, 0, 0], [1, 0, 0, 0]]"
    assert ask(f'{{"instances": {rows}}}')["predictions"] == [0.0, expected, 1.0]
    column = f'{{"x": [{ROW}, {ROW}], "num_samples": [3, {integer}], "seed": [1, {2**63 - 1}]}}'
    answer = ask(f'{{"signature_name": "log_prob_k", "inputs": {column}}}')["outputs"]
    limit = -(2**31) if str(integer)[0] == "-" else 2**31 - 1  # which no export allows: the row gets status 2
    assert answer["num_samples"] == [3, limit]
    assert answer["seed"] == [1, 2**63 - 1]
