"""`score --out`: a job that was stopped goes on, and never sends a row again."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scripted_server import scores_of

from iwae_tf.commands.main import main

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).random((60, 4), dtype=np.float32)


@pytest.fixture
def images(tmp_path):
    np.save(tmp_path / "images.npy", X)
    return tmp_path / "images.npy"


def _score(*arguments):
    return main(["score", *map(str, arguments)])


def _sent(server):
    return np.concatenate([np.array(body["inputs"]["x"], np.float32) for _, body in server.predictions()])


def _columns(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([row[name] for row in rows]).astype(np.float32) for name in rows[0]}


def _check_scores(path):
    found = _columns(path)
    np.testing.assert_array_equal(found["row"], np.arange(len(X)))
    for name, values in scores_of(X).items():
        np.testing.assert_array_equal(found[name], values)


def test_a_job_whose_server_fails_goes_on_without_sending_rows_again(server, images, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    usual = server.answer
    server.answer = lambda *request: usual(*request) if len(server.rows()) < 3 else (500, '{"error": "out of memory"}')
    assert _score(images, "--url", server.url, "--out", out) == 2
    *_, message = capsys.readouterr().err.strip().splitlines()
    assert message.startswith("error: ")
    assert "out of memory" in message
    assert f"24 of 60 rows are in {out}.part, the same command goes on after them" in message
    assert not out.exists()

    server.answer = usual
    server.requests.clear()
    assert _score(images, "--url", server.url, "--out", out) == 0
    np.testing.assert_array_equal(_sent(server), X[24:])
    _check_scores(out)
    assert not Path(f"{out}.part").exists()
    assert "60 rows; " in capsys.readouterr().err


def test_an_error_before_the_first_rows_leaves_nothing(server, images, tmp_path, capsys):
    server.script = [(500, "")]
    assert _score(images, "--url", server.url, "--out", tmp_path / "scores.csv") == 2
    assert "goes on" not in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]


def test_a_job_stopped_by_ctrl_c_says_how_to_go_on_and_does(server, images, tmp_path):
    out = tmp_path / "scores.npz"
    server.seconds = 0.3
    command = [sys.executable, "export/score.py", str(images), "--url", server.url, "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = Path(f"{out}.part")
    while not part.exists() or part.read_text().count("\n") < 9:  # the job's identity and the first eight rows
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == ""
    assert "Traceback" not in errors
    done, resume = re.search(r"stopped after (\d+) of 60 rows; go on with: (.*)\n", errors).groups()
    assert 8 <= int(done) < 60

    server.requests.clear()
    again = subprocess.run(resume, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    np.testing.assert_array_equal(_sent(server), X[int(done) :])
    with np.load(out) as found:
        for name, values in scores_of(X).items():
            np.testing.assert_array_equal(found[name], values)


def test_a_part_of_another_job_is_refused_with_what_differs(server, images, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    server.script = [(200, json.dumps({"outputs": {n: v.tolist() for n, v in scores_of(X[:8]).items()}})), (500, "")]
    assert _score(images, "--url", server.url, "--out", out) == 2
    server.versions.append(("2", "AVAILABLE"))
    capsys.readouterr()
    server.requests.clear()
    assert _score(images, "--url", server.url, "--out", out) == 2
    assert "version is '1' there and '2' here" in capsys.readouterr().err
    assert not server.predictions()
    assert _score(images, "--url", server.url + "/versions/1", "--out", out) == 0
    _check_scores(out)
