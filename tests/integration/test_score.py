"""`score` as a user meets it: servers that stop in the middle, files that are there, every error in one line."""

import contextlib
import csv
import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from scripted_server import scores_of
from small_models import SMALL_DIM, binary_images, small_model

import iwae_tf
from iwae_tf.commands.main import main

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).random((60, 4), dtype=np.float32)


@pytest.fixture
def images(tmp_path):
    np.save(tmp_path / "images.npy", X)
    return tmp_path / "images.npy"


@pytest.fixture(scope="module")
def digits_model(tmp_path_factory):
    """The folder of a small untrained model of the digits' 64 pixels, and a file of some digits."""
    folder = tmp_path_factory.mktemp("export")
    model = iwae_tf.IWAE(64, latent_units=(3,), hidden_units=((8,),))
    iwae_tf.serving.export_saved_model(model, folder / "digits", num_samples=50, max_samples=200)
    x = iwae_tf.data.load("digits").intensities("test")[:60].copy()
    x[5, 7], x[6, 0] = np.nan, 1.5
    np.savez(folder / "digits.npz", x=x, labels=np.zeros(60))
    return folder / "digits", folder / "digits.npz"


def _score(*arguments):
    return main(["score", *map(str, arguments)])


def _process(*arguments, program=("export/score.py",)):
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def _columns(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([row[name] for row in rows]).astype(np.float32) for name in rows[0]}


def _check_scores(path, x=X):
    found = _columns(path)
    np.testing.assert_array_equal(found["row"], np.arange(len(x)))
    for name, values in scores_of(x).items():
        np.testing.assert_array_equal(found[name], values)


@contextlib.contextmanager
def _local_server(folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "iwae_tf", "serve", str(folder), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert "serving" in process.stdout.readline()
            yield f"http://127.0.0.1:{port}/v1/models/{folder.name}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="the KServe SDK is not installed")
def test_the_local_server_and_the_folder_give_the_same_file(digits_model, tmp_path):
    folder, digits = digits_model
    flags = [[], ["--num-samples", "20", "--seed", "3"]]
    with _local_server(folder) as url:
        for number, samples in enumerate(flags):
            process = _process(digits, "--url", url, *samples, "--out", tmp_path / f"rest{number}.csv")
            assert process.returncode == 0, process.stderr
            assert process.stdout == ""
            assert "2 with status 1" in process.stderr
    # The one in a process of its own, the other in this one, where TensorFlow is imported already.
    process = _process(digits, "--url", folder, "--out", tmp_path / "folder0.csv")
    assert process.returncode == 0, process.stderr
    *bar, summary = process.stderr.replace("\r", "\n").strip().splitlines()
    assert all(line.startswith("scoring:") for line in bar if line)
    assert summary.startswith("60 rows; mean log_prob")
    assert _score(digits, "--url", folder / "1", *flags[1], "--out", tmp_path / "folder1.csv") == 0
    for number in range(2):
        rest, other = (tmp_path / f"{name}{number}.csv" for name in ("rest", "folder"))
        assert rest.read_text() == other.read_text()
    scores = _columns(tmp_path / "folder0.csv")
    assert list(np.flatnonzero(scores["status"])) == [5, 6]
    assert np.isfinite(scores["log_prob"]).sum() == 58
    assert (scores["log_prob"] != _columns(tmp_path / "folder1.csv")["log_prob"]).all()


def test_without_a_file_the_scores_are_on_stdout_and_the_rest_on_stderr(server, images):
    process = _process(images, "--url", server.url)
    assert process.returncode == 0, process.stderr
    header, *rows = process.stdout.splitlines()
    assert header == "row,log_prob,elbo,standard_error,effective_sample_size,pareto_k,status"
    assert len(rows) == 60
    *bar, summary = process.stderr.replace("\r", "\n").strip().splitlines()
    assert bar
    assert all(line.startswith("scoring:") for line in bar if line)
    assert re.match(r"60 rows; mean log_prob -\d\.\d{3} over 60 good rows; \d+ of them with pareto_k > 0.7$", summary)


def test_scoring_by_rest_imports_no_tensorflow(server, images, tmp_path):
    for program in (("-m", "iwae_tf", "score"), ("export/score.py",)):
        program = ("-X", "importtime", *program)
        process = _process(images, "--url", server.url, "--out", tmp_path / f"{len(program)}.npz", program=program)
        assert process.returncode == 0, process.stderr
        assert re.search(r"\| +requests\b", process.stderr)  # the list of imports is there
        assert not re.search(r"\| +(tensorflow|keras)\b", process.stderr)


def test_a_reader_that_has_seen_enough_is_no_error(server, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((20_000, 4)))  # more than a pipe holds
    command = f"{sys.executable} export/score.py {tmp_path / 'many.npy'} --url {server.url} | head -1"
    process = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert process.stdout.startswith("row,")
    assert "Traceback" not in process.stderr
    assert "Exception" not in process.stderr


def test_the_three_formats_hold_the_same_scores(server, images, tmp_path):
    x = X.copy()
    x[3, 1] = np.nan
    np.save(images, x)
    for ending in ("csv", "npz", "parquet"):
        assert _score(images, "--url", server.url, "--num-samples", 9, "--out", tmp_path / f"s.{ending}") == 0
    _check_scores(tmp_path / "s.csv", x)
    npz, table = np.load(tmp_path / "s.npz"), pyarrow.parquet.read_table(tmp_path / "s.parquet")
    for name, values in scores_of(x).items():
        np.testing.assert_array_equal(npz[name], values)
        np.testing.assert_array_equal(table[name].to_numpy(), values)
        assert npz[name].dtype == values.dtype == table[name].to_numpy().dtype
    job = json.loads(table.schema.metadata[b"job"])
    assert (job["version"], job["signature"], job["num_samples"], job["seed"]) == ("1", "log_prob_k", 9, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"images.npy", "s.csv", "s.npz", "s.parquet"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("none.npy --url {url}", "there is no file none.npy"),
        ("two.npz --url {url}", "has the arrays a, b"),
        ("two.npz --url {url} --array c", "has no array 'c'; it has a, b"),
        ("images.npy", "arguments are required: --url"),
        ("images.npy --url {url}x", "answered 404: no such route"),
        ("images.npy --url http://127.0.0.1:1", "expected http://127.0.0.1:1/v1/models/NAME"),
        ("images.npy --url grpc://127.0.0.1:1", "expected grpc://127.0.0.1:1/NAME"),
        ("images.npy --url {url} --seed 1", "--seed without --num-samples"),
        ("images.npy --url {url} --num-samples 0", "num_samples must be an integer >= 1"),
        ("images.npy --url {url} --num-samples 5 --seed -1", "seed must be"),
        ("images.npy --url {url} --timeout 0", "--timeout must be above 0"),
        ("images.npy --url {url} --out scores.txt", "expected .csv, .npz, .parquet"),
        ("images.npy --url {url} --out two.npz", "is there already"),
        ("images.npy --url {url} --out none/scores.csv", "cannot be written"),
        ("wide.npy --url {url}", "the images have 9 values each, the model at"),
        ("images.npy --url {url} --ouput scores.csv", "did you mean --out?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(server, images, tmp_path, monkeypatch, capfd, flags, message):
    monkeypatch.chdir(tmp_path)
    np.savez("two.npz", a=X, b=X)
    np.save("wide.npy", np.zeros((3, 3, 3)))
    before = {path.name for path in tmp_path.iterdir()}
    assert _score(*flags.format(url=server.url).split()) == 2
    output = capfd.readouterr()
    assert output.out == ""
    *_, line = output.err.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert output.err.count("error") == 1
    assert not server.predictions()
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_folder_is_scored_without_a_server(tmp_path, capsys):
    x = binary_images(20)
    iwae_tf.serving.export_saved_model(small_model(), tmp_path / "m", num_samples=30, max_samples=100)
    np.save(tmp_path / "x.npy", x.astype(np.uint8).reshape(20, 3, SMALL_DIM // 3))
    assert _score(tmp_path / "x.npy", "--url", tmp_path / "m", "--out", tmp_path / "s.csv") == 0
    with iwae_tf.serving.client.ScoringClient(tmp_path / "m") as client:
        expected = client.score(x)
    found = _columns(tmp_path / "s.csv")
    for name, values in expected._asdict().items():
        np.testing.assert_array_equal(found[name], values)
    assert (found["status"] == 0).all()
    assert "20 rows; mean log_prob" in capsys.readouterr().err
