"""The local server as a user meets it: a process that is started, asked over HTTP, and stopped."""

import concurrent.futures
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow as tf

import iwae_tf
from iwae_tf.commands.main import main
from iwae_tf.serving import export_saved_model

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def _start(*arguments) -> subprocess.Popen:
    command = [sys.executable, "export/serve_local.py", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _url(process: subprocess.Popen) -> str:
    """The URL in the line that the server writes once it answers."""
    line = process.stdout.readline()
    assert line.startswith("serving "), process.stderr.read()
    return line.split(" at ")[1].strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of 64 pixels, exported."""
    model = iwae_tf.IWAE(64, latent_units=(5,), hidden_units=((7, 6),))
    model.log_likelihood(np.zeros((1, 64), np.float32), num_samples=1)
    folder = tmp_path_factory.mktemp("models") / "digits"
    export_saved_model(model, folder, num_samples=500)
    return folder


@pytest.fixture(scope="module")
def saved_model(folder):
    """The export, loaded without a server."""
    return tf.saved_model.load(str(folder / "1"))


@pytest.fixture(scope="module")
def url(folder):
    """The URL of the model on a server that runs."""
    process = _start(folder, "--port", 0)
    yield _url(process)
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert errors.split() == ["stopped"]  # nothing else, whatever the tests asked for


@pytest.fixture(scope="module")
def images():
    """Test digits, float32 [20, 64] in [0, 1]."""
    return iwae_tf.data.load("digits").intensities("test")[:20]


def _predict(url, **request):
    answer = requests.post(f"{url}:predict", json=request, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def _assert_same(answer: dict, outputs: dict):
    assert answer.keys() == outputs.keys()
    for name, values in outputs.items():
        np.testing.assert_array_equal(np.array(answer[name], values.dtype.as_numpy_dtype), values.numpy(), name)


@pytest.mark.parametrize("signature", ["serving_default", "encode", "reconstruct"])
def test_images_are_answered_with_the_bits_of_the_saved_model(url, saved_model, images, signature):
    answer = _predict(url, signature_name=signature, inputs={"x": images.tolist()})
    _assert_same(answer["outputs"], saved_model.signatures[signature](x=tf.constant(images)))


def test_samples_and_seeds_of_a_request_count(url, saved_model, images):
    inputs = {"x": images[:3], "num_samples": np.array([10, 60, 0], np.int32), "seed": np.arange(3)}
    answer = _predict(
        url, signature_name="log_prob_k", inputs={name: values.tolist() for name, values in inputs.items()}
    )
    _assert_same(
        answer["outputs"], saved_model.signatures["log_prob_k"](**{k: tf.constant(v) for k, v in inputs.items()})
    )
    assert answer["outputs"]["status"] == [0, 0, 2]
    sampled = _predict(url, signature_name="sample", instances=[1, 2])["predictions"]
    direct = saved_model.signatures["sample"](seed=tf.constant([1, 2], tf.int64))
    _assert_same({name: [row[name] for row in sampled] for name in direct}, direct)


def test_a_bad_row_is_nan_and_its_neighbours_are_untouched(url, images):
    good = _predict(url, instances=images[:3].tolist())["predictions"]
    bad = images[:3].astype(float)
    bad[1, 5] = np.nan
    body = '{"instances": ' + str(bad.tolist()).replace("nan", "NaN") + "}"
    text = requests.post(f"{url}:predict", data=body, timeout=60)
    assert '"log_prob": NaN' in text.text
    first, second, third = text.json()["predictions"]
    assert (first, third) == (good[0], good[2])
    assert second.pop("status") == 1
    assert np.isnan(list(second.values())).all()


def test_the_server_answers_others_while_it_scores(url, images):
    long = {
        "signature_name": "log_prob_k",
        "inputs": {"x": images.tolist(), "num_samples": [50_000] * 20, "seed": list(range(20))},
    }
    with concurrent.futures.ThreadPoolExecutor() as pool:
        start = time.perf_counter()
        running = [pool.submit(_predict, url, **long) for _ in range(2)]
        waits = []
        while not all(request.done() for request in running):
            asked = time.perf_counter()
            assert requests.get(url, timeout=60).json() == {"name": "digits", "ready": True}
            waits.append(time.perf_counter() - asked)
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        assert running[0].result() == running[1].result()
    assert len(waits) > 3
    assert sorted(waits)[len(waits) // 2] < seconds / 4  # else they waited for the scores


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (":predict", '{"instances": [[0, 1]]}', 400, "x must have shape [rows, 64], got [1, 2]"),
        (":predict", '{"inputs": {"y": []}}', 400, "inputs must have the inputs x, got y"),
        (":predict", '{"instances": [1], "signature_name": "sampel"}', 400, "did you mean 'sample'?"),
        (":predict", "x=1", 400, "the request is no JSON"),
        ("2:predict", '{"instances": [[0, 1]]}', 404, "Model with name digits2 does not exist."),
    ],
)
def test_what_cannot_be_answered_is_an_error_in_one_line(url, path, body, status, message):
    answer = requests.post(url + path, data=body, timeout=60)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_server_stops_when_it_is_told_to(folder, stop):
    process = _start(folder / "1", "--port", 0)
    assert requests.get(_url(process), timeout=60).json()["name"] == "digits"
    process.send_signal(stop)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output == ""
    assert errors.split() == ["stopped"]


def test_bad_input_is_one_line_and_exit_code_2(folder, tmp_path, capfd, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        for arguments, message in [
            ([tmp_path / "none"], "is no folder"),
            ([tmp_path], "holds no version"),
            ([folder, "--port", taken], f"cannot listen on 127.0.0.1 port {taken}: Address already in use"),
            ([folder, "--port", "x"], "invalid int value"),
            ([folder, "--prot", "1"], "did you mean --port?"),
            ([], "required: MODEL"),
        ]:
            assert main(["serve", *map(str, arguments)]) == 2
            output = capfd.readouterr()
            assert output.out == ""
            assert output.err.startswith("error: ")
            assert output.err.count("\n") == 1
            assert message in output.err
    monkeypatch.setitem(sys.modules, "kserve", None)
    assert main(["serve", str(folder)]) == 2
    assert "pip install -r requirements-serving.txt" in capfd.readouterr().err


def test_a_broken_saved_model_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(os.urandom(50))
    process = _start(tmp_path, "--port", 0)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert output == ""
    assert errors.startswith("error: ")
    assert "cannot be loaded as a SavedModel" in errors
    assert errors.count("\n") == 1
