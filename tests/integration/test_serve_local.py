"""The local server as a user meets it: a process that is started, asked over HTTP, and stopped."""

import concurrent.futures
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from served import through_python
from small_models import SMALL_DIM, binary_images

from iwae_tf.commands.main import main

ROOT = Path(__file__).parents[2]
X = binary_images(20)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="the KServe SDK is not installed"),
]


@pytest.fixture(scope="module")
def url(small_folder):
    """The URL of the model on a server that runs."""
    command = [sys.executable, "export/serve_local.py", str(small_folder.parent), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line.startswith("serving "), process.stderr.read()
    yield line.split(" at ")[1].strip()
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (128 + signal.SIGTERM, "")
    assert errors.split() == ["stopped"]  # nothing else, whatever the tests asked for


def _predict(url, **request):
    answer = requests.post(f"{url}:predict", data=json.dumps(request), timeout=60)  # json=... would refuse NaN
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_every_signature_answers_with_the_bits_of_the_saved_model(url, small_folder):
    x = np.where(np.arange(20)[:, None] == 5, np.nan, X)  # a bad row leaves its neighbours alone
    k = {"x": X[:3], "num_samples": np.array([10, 60, 0], np.int32), "seed": np.arange(3)}
    calls = [(name, {"x": x}) for name in ("serving_default", "encode", "reconstruct")]
    calls += [("log_prob_k", k), ("sample", {"seed": np.array([1, 2])})]
    for (name, inputs), expected in zip(calls, through_python(small_folder, calls), strict=True):
        columns = {key: value.tolist() for key, value in inputs.items()}
        answer = _predict(url, signature_name=name, inputs=columns)["outputs"]
        assert answer.keys() == expected.keys()
        for key, values in expected.items():
            np.testing.assert_array_equal(np.array(answer[key], values.dtype), values, key)
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        for row, own in enumerate(_predict(url, signature_name=name, instances=rows)["predictions"]):
            np.testing.assert_equal(own, {key: values[row] for key, values in answer.items()})  # NaN is NaN


def test_the_server_answers_others_while_it_scores(url):
    inputs = {"x": X.tolist(), "num_samples": [10_000] * 20, "seed": list(range(20))}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        start = time.perf_counter()
        running = [pool.submit(_predict, url, signature_name="log_prob_k", inputs=inputs) for _ in range(2)]
        waits = []
        while not all(request.done() for request in running):
            asked = time.perf_counter()
            assert requests.get(url, timeout=60).json() == {"name": "small", "ready": True}
            waits.append(time.perf_counter() - asked)
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        assert running[0].result() == running[1].result()
    assert len(waits) > 3
    assert sorted(waits)[len(waits) // 2] < seconds / 4  # else they waited for the scores


def test_requests_that_cannot_be_answered_are_an_error_in_one_line(url):
    for path, body, status, message in [
        (":predict", '{"instances": [[0, 1]]}', 400, f"x must have shape [rows, {SMALL_DIM}], got [1, 2]"),
        (":predict", "x=1", 400, "the request is no JSON"),
        ("2:predict", '{"instances": [[0, 1]]}', 404, "Model with name small2 does not exist."),
    ]:
        answer = requests.post(url + path, data=body, timeout=60)
        assert answer.status_code == status
        assert list(answer.json()) == ["error"]
        assert message in answer.json()["error"]
        assert "\n" not in answer.json()["error"]


def test_score_writes_the_same_file_from_the_server_and_from_the_folder(url, small_folder, tmp_path, capfd):
    x = X.copy()
    x[5, 7], x[6, 0] = np.nan, 1.5
    np.savez(tmp_path / "x.npz", x=x, labels=np.zeros(20))
    for number, flags in enumerate(([], ["--num-samples", "20", "--seed", "3"])):
        for name, model in (("rest", url), ("folder", small_folder)):
            arguments = [tmp_path / "x.npz", "--url", model, *flags, "--out", tmp_path / f"{name}{number}.csv"]
            assert main(["score", *map(str, arguments)]) == 0
            output = capfd.readouterr()
            assert output.out == ""
            *bar, summary = output.err.replace("\r", "\n").strip().splitlines()
            assert all(line.startswith("scoring:") for line in bar if line)
            assert "20 rows; mean log_prob" in summary
            assert "2 with status 1" in summary
        assert (tmp_path / f"rest{number}.csv").read_text() == (tmp_path / f"folder{number}.csv").read_text()
    default, seeded = (np.genfromtxt(tmp_path / f"rest{n}.csv", delimiter=",", names=True) for n in (0, 1))
    assert list(np.flatnonzero(default["status"])) == [5, 6]
    np.testing.assert_array_equal(np.isfinite(default["log_prob"]), default["status"] == 0)
    assert (default["log_prob"] != seeded["log_prob"]).all()


def test_a_new_environment_with_the_requirements_of_a_client_scores(url, small_folder, tmp_path):
    environment = tmp_path / "environment"
    try:
        subprocess.run([sys.executable, "-m", "venv", environment], check=True, capture_output=True, timeout=300)
        install = [environment / "bin" / "pip", "install", "-q", "-r", ROOT / "requirements-client.txt"]
        if (installed := subprocess.run(install, capture_output=True, text=True, timeout=600)).returncode:
            pytest.skip(f"the requirements cannot be installed here: {installed.stderr.strip()[-200:]}")
        assert not list(environment.glob("lib/*/site-packages/tensorflow*"))
        np.save(tmp_path / "x.npy", X)
        score = [environment / "bin" / "python", ROOT / "export" / "score.py", "x.npy", "--url", url, "--out", "s.csv"]
        done = subprocess.run(score, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    finally:
        shutil.rmtree(environment, ignore_errors=True)  # 270 MB, which pytest would keep
    found = np.genfromtxt(tmp_path / "s.csv", delimiter=",", names=True, dtype=np.float32)
    (expected,) = through_python(small_folder, [("serving_default", {"x": X})])
    assert set(found.dtype.names) == {"row", *expected}
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, name)


def test_bad_input_is_one_line_and_exit_code_2(small_folder, tmp_path, capfd, monkeypatch):
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(os.urandom(50))
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        for arguments, message in [
            ([tmp_path / "none"], "there is no folder"),
            ([tmp_path], "holds no version"),
            ([tmp_path / "broken", "--port", 0], "cannot be loaded as a SavedModel"),
            ([small_folder, "--port", taken], f"cannot listen on 127.0.0.1 port {taken}: Address already in use"),
            ([small_folder, "--port", "x"], "invalid int value"),
            ([small_folder, "--prot", "1"], "did you mean --port?"),
            ([], "required: MODEL"),
        ]:
            assert main(["serve", *map(str, arguments)]) == 2
            output = capfd.readouterr()
            assert output.out == ""
            assert output.err.startswith("error: ")
            assert output.err.count("\n") == 1
            assert message in output.err
    monkeypatch.setitem(sys.modules, "kserve", None)
    assert main(["serve", str(small_folder)]) == 2
    assert 'pip install "kserve>=0.21,<0.22"' in capfd.readouterr().err
