"""`score` as a user meets it: servers that stop, jobs that resume, every error in one line."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
from scripted_server import scores_of

from iwae_tf.commands import score
from iwae_tf.commands.main import main
from iwae_tf.serving.backends import RestBackend

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


def _check_scores(path):
    found = np.genfromtxt(path, delimiter=",", names=True, dtype=np.float32)
    np.testing.assert_array_equal(found["row"], np.arange(60))
    for name, values in scores_of(X).items():
        np.testing.assert_array_equal(found[name], values)


def test_without_a_file_the_scores_are_on_stdout_and_the_rest_on_stderr_without_tensorflow(server, images, tmp_path):
    command = [sys.executable, "-X", "importtime", "export/score.py", images, "--url", server.url]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    columns = "row,log_prob,elbo,standard_error,effective_sample_size,pareto_k,p_value,reliable,status"
    assert process.stdout.startswith(f"{columns}\n0,")
    (tmp_path / "scores.csv").write_text(process.stdout)
    _check_scores(tmp_path / "scores.csv")
    assert re.search(r"\| +requests\b", process.stderr)  # the list of imports is complete
    assert not re.search(r"\| +(tensorflow|keras)\b", process.stderr)
    lines = [line for line in re.split("[\r\n]", process.stderr) if line and not line.startswith("import time:")]
    assert all(line.startswith("scoring:") for line in lines[:-1])
    assert re.match(r"60 rows; mean log_prob -\d\.\d{3} over 60 good rows; \d+ of them reliable$", lines[-1])


def test_a_reader_that_closes_the_pipe_is_no_error(server, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((20_000, 4)))  # more than a pipe holds
    command = f"{sys.executable} export/score.py {tmp_path / 'many.npy'} --url {server.url} | head -1"
    process = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert process.stdout.startswith("row,")
    assert "Traceback" not in process.stderr
    assert "Exception" not in process.stderr


def test_bad_input_is_one_line_and_exit_code_2(server, images, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    np.savez("two.npz", a=X, b=X)
    np.save("wide.npy", np.zeros((3, 3, 3)))
    for flags, message in [
        ("none.npy --url {url}", "there is no file or folder none.npy"),
        ("two.npz --url {url} --array c", "has no array 'c'; it has a, b"),
        ("images.npy", "arguments are required: --url"),
        ("images.npy --url {url}x", "answered 404: no such route"),
        ("images.npy --url http://127.0.0.1:1", "expected http://127.0.0.1:1/v1/models/NAME"),
        ("images.npy --url {url} --seed 1", "--seed without --num-samples"),
        ("images.npy --url {url} --num-samples 0", "num_samples must be an integer >= 1"),
        ("images.npy --url {url} --num-samples 5 --seed -1", "seed must be"),
        ("images.npy --url {url} --timeout 0", "--timeout must be above 0"),
        ("images.npy --url {url} --out scores.txt", "expected .csv, .npz, .parquet"),
        ("images.npy --url {url} --out two.npz", "exists and is never overwritten"),
        ("wide.npy --url {url}", "the rows have 9 values each, the model at"),
        ("images.npy --url {url} --ouput scores.csv", "did you mean --out?"),
    ]:
        assert _score(*flags.format(url=server.url).split()) == 2
        output = capfd.readouterr()
        assert output.out == ""
        *_, line = output.err.strip().splitlines()
        assert line.startswith("error: ")
        assert message in line
        assert output.err.count("error") == 1
    assert not server.predictions()
    assert {path.name for path in tmp_path.iterdir()} == {"images.npy", "two.npz", "wide.npy"}


# ------------------------------------------------------------------------------------------- jobs that stop


def test_a_job_whose_server_fails_resumes_without_sending_rows_again(server, images, tmp_path, capsys):
    out, usual = tmp_path / "scores.csv", server.answer
    server.script = [(500, "")]
    assert _score(images, "--url", server.url, "--out", out) == 2  # before the first rows
    assert "resumes" not in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]

    server.requests.clear()
    server.answer = lambda *request: usual(*request) if len(server.rows()) < 3 else (500, '{"error": "out of memory"}')
    assert _score(images, "--url", server.url, "--out", out) == 2
    *_, message = capsys.readouterr().err.strip().splitlines()
    assert message.startswith("error: ")
    assert "out of memory" in message
    assert f"24 of 60 rows are in {out}.part, the same command resumes after them" in message
    assert not out.exists()

    server.answer = usual
    server.versions.append(("2", "AVAILABLE"))
    server.requests.clear()
    assert _score(images, "--url", server.url, "--out", out) == 2
    assert "version is '1' in the file and '2' in this job" in capsys.readouterr().err
    assert not server.predictions()
    assert _score(images, "--url", server.url + "/versions/1", "--out", out) == 0
    np.testing.assert_array_equal(_sent(server), X[24:])
    _check_scores(out)
    assert {path.name for path in tmp_path.iterdir()} == {"images.npy", "scores.csv"}
    assert "60 rows; " in capsys.readouterr().err


def test_a_job_stopped_by_ctrl_c_says_how_to_resume_and_does(server, images, tmp_path, capsys, monkeypatch):
    arguments = [images, "--url", server.url, "--num-samples", "9", "--out", tmp_path / "scores.parquet"]
    monkeypatch.setattr(sys, "orig_argv", ["python", "export/score.py", *map(str, arguments)])

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        predict = RestBackend.predict
        patch.setattr(RestBackend, "predict", lambda *a: predict(*a) if len(server.rows()) < 2 else interrupted())
        assert _score(*arguments) == 130
    output = capsys.readouterr()
    assert output.out == ""
    done, command = re.search(r"stopped after (\d+) of 60 rows; resume with: (.*)\n", output.err).groups()
    assert (done, shlex.split(command)[2:]) == ("24", list(map(str, arguments)))
    server.requests.clear()
    assert _score(*shlex.split(command)[2:]) == 0
    np.testing.assert_array_equal(_sent(server), X[24:])
    table = pyarrow.parquet.read_table(tmp_path / "scores.parquet")
    for name, values in scores_of(X).items():
        np.testing.assert_array_equal(table[name].to_numpy(), values)
    job = json.loads(table.schema.metadata[b"job"])
    assert (job["version"], job["signature"], job["num_samples"], job["seed"]) == ("1", "log_prob_k", 9, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"images.npy", "scores.parquet"}


@pytest.mark.parametrize(
    ("colours", "last"), [(False, "pixel 1 5"), (True, "pixel 1 1 2")], ids=["grey values", "colours"]
)
def test_values_of_an_image_are_named_by_row_column_and_colour(colours, last):
    names = score.value_names({"image_shape": [2, 6], "colours": colours}, 12)
    assert (len(names), names[-1]) == (12, last)


def test_a_missing_value_is_not_strange():
    client = SimpleNamespace(explain=lambda x: np.float32([[0.0, 2.0, 1.0]]))
    asked = SimpleNamespace(false_alarm_rate=None, explain=3)
    found = score.added_columns(client, np.float32([[np.nan, 1, 1]]), None, np.array(["a", "b", "c"]), asked)
    assert [found[f"strange_{place}"][0] for place in (1, 2, 3)] == ["c", "b", ""]


def test_alarms_and_strange_values_of_a_folder(small_folder, tmp_path, capsys):
    x = (np.random.default_rng(0).random((40, 12)) < 0.4).astype(np.float32)
    x[7, 0] = np.nan
    np.save(tmp_path / "x.npy", x)
    flags = ["--url", small_folder, "--false-alarm-rate", "0.2", "--explain", "2"]
    for out in ("s.parquet", "s.csv"):
        assert _score(tmp_path / "x.npy", *flags, "--out", tmp_path / out) == 0
        line = capsys.readouterr().err.strip().splitlines()[-1]
    assert _score(tmp_path / "x.npy", *flags) == 0
    assert capsys.readouterr().out == (tmp_path / "s.csv").read_text()
    table = pyarrow.parquet.read_table(tmp_path / "s.parquet")
    found = {name: table[name].to_numpy() for name in table.column_names}
    alarm = found["p_value"] <= 0.2
    np.testing.assert_array_equal(found["alarm"], np.where(np.arange(40) == 7, -1, alarm))
    assert 0 < alarm.sum() < 20
    assert line == (
        f"{alarm.sum()} of 39 rows alarm: p_value at most 0.2, log_prob up to {found['log_prob'][alarm].max():.3f}; "
        "1 of 40 cannot alarm, since they have no score (alarm -1)"
    )
    assert json.loads(table.schema.metadata[b"job"])["false_alarm_rate"] == 0.2
    good = found["status"] == 0
    assert (found["strange_1_nats"] <= found["strange_2_nats"])[good].all()
    assert (found["strange_1"] != found["strange_2"])[good].all()
    assert set(found["strange_1"][good]) <= set(map(str, range(12)))
    assert (found["strange_1"][7], found["alarm"][7]) == ("", -1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--false-alarm-rate", "1"], "--false-alarm-rate must be above 0 and below 1, got 1"),
        (["--false-alarm-rate", "0.1", "--num-samples", "5"], "needs the model's own number of samples"),
        (["--explain", "0"], "--explain must be an integer >= 1, got 0"),
        (["--false-alarm-rate", "0.1"], "the model gives no p_value"),
        (["--explain", "3"], "has no signature 'explain'; it has"),
    ],
)
def test_alarms_and_explanations_that_cannot_be_given_are_one_line(exports, tmp_path, capsys, flags, words):
    np.save(tmp_path / "x.npy", np.zeros((3, 12)))
    folder = exports("gaussian")[1]  # without held-out rows
    assert _score(tmp_path / "x.npy", "--url", folder, "--out", tmp_path / "s.csv", *flags) == 2
    error = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert words in error
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
