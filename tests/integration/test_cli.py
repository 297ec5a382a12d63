"""The command line from flags to files, as a user meets it."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from iwae_tf.commands.main import main

ROOT = Path(__file__).parents[2]
# Small networks and few samples: what is tested is the way from flags to files.
SMALL = ["--hidden-units", "20,20", "--latent-units", "5", "--eval-samples", "60", "--verbose", "0"]
FILES = {
    "config.json",
    "history.csv",
    "metrics.json",
    "scores.npz",
    "model.keras",
    "checkpoints",
    "samples.png",
    "reconstructions.png",
    "bounds.png",
    "report.html",
    ".lock",
}


def _process(*arguments, cwd=ROOT, program=("train.py",)):
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def _weights(path):
    return [variable.numpy() for variable in keras.saving.load_model(path / "model.keras").weights]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two epochs on the digits, by `python train.py`: its folder and what the process printed."""
    path = tmp_path_factory.mktemp("cli") / "run"
    process = _process("--k", 5, "--epochs", 2, "--eval-samples", 500, "--output-dir", path)
    assert process.returncode == 0, process.stderr
    return path, process


@pytest.mark.slow
def test_train_leaves_everything_a_run_is_made_of(finished):
    path, process = finished
    assert {file.name for file in path.iterdir()} == FILES
    assert all(str(path / name) in process.stdout for name in FILES - {".lock"})
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["dataset"] == "digits"
    assert (metrics["objective"], metrics["k"], metrics["num_test"], metrics["num_samples"]) == ("iwae", 5, 400, 500)
    assert list(metrics["bounds"]) == ["1", "5", "50", "500"]
    assert sorted(metrics["bounds"].values()) == list(metrics["bounds"].values())
    assert metrics["log_likelihood"] == metrics["bounds"]["500"]
    assert -40 < metrics["log_likelihood"] < -20  # 64 pixels; a uniform coin for each gives -44
    assert 0 < metrics["standard_error"] < 1
    assert len(metrics["active_units"]) == 1
    assert metrics["train_seconds"] > 0
    assert metrics["eval_seconds"] > 0
    assert f"{metrics['log_likelihood']:.3f}" in process.stdout
    with (path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "65"), ("2", "130")]
    assert float(rows[1]["val_bound"]) > float(rows[0]["val_bound"])


@pytest.mark.slow
def test_the_configuration_names_everything_that_shaped_the_result(finished):
    config = json.loads((finished[0] / "config.json").read_text())
    assert config["data"]["dataset"] == "digits"
    assert (config["data"]["num_train"], config["data"]["num_valid"], config["data"]["num_test"]) == (1297, 100, 400)
    assert "each time" in config["data"]["binarization_train"]
    assert "once" in config["data"]["binarization_evaluation"]
    assert config["model"]["latent_units"] == [50]
    assert "clipped" in config["model"]["output_bias"]
    assert config["training"]["seed"] == 0
    assert config["training"]["optimizer"]["epsilon"] == 1e-4
    assert config["training"]["total_steps"] == 130
    assert config["evaluation"]["eval_samples"] == 500
    assert {"python", "tensorflow", "keras", "numpy"} <= set(config["versions"])


@pytest.mark.slow
def test_progress_is_all_there_is_on_stderr(finished):
    text = finished[1].stderr.replace("\r", "\n")
    assert "training: 100%" in text
    assert "evaluating: 100%" in text
    assert re.search(r"epoch 2/2 bound -\d\d\.\d\d", text)
    assert not [line for line in text.splitlines() if line and not line.startswith(("training:", "evaluating:"))]


@pytest.mark.slow
def test_the_saved_model_scores_the_same_in_a_fresh_process(finished):
    code = (
        "import iwae_tf, keras, sys; from iwae_tf.data.binarization import binarize_once; "
        "model = keras.saving.load_model(sys.argv[1]); data = iwae_tf.data.load('digits'); "
        "x = binarize_once(data.intensities('test'), 'test'); "
        "estimate = iwae_tf.evaluation.estimate_log_likelihood(model, x, 500); print(estimate.mean_bounds[500])"
    )
    process = _process("-c", code, finished[0] / "model.keras", program=())
    assert process.returncode == 0, process.stderr
    expected = json.loads((finished[0] / "metrics.json").read_text())["log_likelihood"]
    assert float(process.stdout) == pytest.approx(expected, abs=1e-4)  # float32, another process


@pytest.mark.slow
def test_a_folder_that_holds_a_run_is_kept(finished, capsys):
    path, _ = finished
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir() if file.name != ".lock"}
    assert main(["train", "--k", "5", "--output-dir", str(path)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "--k", "7", "--output-dir", str(path), "--resume"]) == 2
    message = capsys.readouterr().err
    assert "k is 5 there and 7 here" in message
    assert "epochs is 2 there and 60 here" in message
    assert {name: (path / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.parametrize(
    "program", [("train.py", "--help"), ("-m", "iwae_tf", "train", "--help"), ("-m", "iwae_tf", "--help")]
)
def test_help_answers_before_tensorflow_is_imported(program):
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "-X", "importtime", *program], cwd=ROOT, capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0
    assert not re.search(r"\| +(tensorflow|keras|sklearn|matplotlib|scipy)\b", process.stderr)
    assert "importance weighted autoencoder" in process.stdout.lower()


def test_help_names_every_setting_with_its_default():
    text = _process("--help").stdout
    flags = set(re.findall(r"--[a-z-]+", text))
    assert {
        *("--k", "--objective", "--dataset", "--data-dir", "--layers", "--latent-units", "--hidden-units"),
        *("--likelihood", "--epochs", "--batch-size", "--learning-rate", "--schedule", "--seed", "--output-dir"),
        *("--resume", "--overwrite", "--eval-samples", "--jit", "--verbose"),
    } <= flags
    assert "dreg: " in text
    assert "omniglot: " in text
    assert "(default: digits)" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--k 0", "k must be an integer >= 1, got 0"),
        ("--k 2.5", "invalid integer value: '2.5'"),
        ("--k -3", "got -3"),
        ("--epoch 3", "did you mean --epochs?"),
        ("--out runs/a", "did you mean --output-dir?"),
        ("--objective iwea", "did you mean 'iwae'?"),
        ("--dataset minst", "did you mean 'mnist'?"),
        ("--likelihood bernouli", "did you mean 'bernoulli'?"),
        ("--dataset none.npz", "none.npz"),
        ("--dataset mnist --data-dir .", "train-images-idx3-ubyte"),
        ("--layers 3", "choose from 1, 2"),
        ("--layers 2 --latent-units 5", "needs 2 entries"),
        ("--hidden-units 20,x", "comma-separated"),
        ("--latent-units 0", "latent_units must be an integer >= 1"),
        ("--layers 2 --objective elbo-kl", "use 'elbo'"),
        ("--learning-rate 0", "learning_rate must be a positive number"),
        ("--learning-rate nan", "learning_rate must be a positive number"),
        ("--seed -1", "seed must be"),
        ("--eval-samples 0", "eval_samples must be an integer >= 1"),
        ("--batch-size 0", "batch_size must be an integer >= 1"),
        ("--epochs 0", "epochs must be an integer >= 1"),
        ("--resume", "there is no run in"),
        ("--resume --overwrite", "give one of them"),
        ("--output-dir file/run", "cannot be written"),
        ("--output-dir file", "is a file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(flags, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(["train", *flags.split()]) == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert message in output.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "did you mean 'train'?" in capsys.readouterr().err


def _own_data(path, **changes):
    rng = np.random.default_rng(0)
    parts = {"x_train": rng.random((50, 6, 5)), "x_test": rng.random((20, 6, 5))} | changes
    np.savez(path, **parts)
    return str(path)


@pytest.mark.parametrize(
    "flags",
    [
        ["--objective", "elbo-kl", "--k", "1"],
        ["--objective", "dreg", "--schedule", "paper", "--jit", "on"],
        ["--likelihood", "gaussian", "--objective", "stl"],
        ["--layers", "2", "--latent-units", "4", "3", "--hidden-units", "8,8", "6"],
    ],
)
def test_a_users_own_images_are_trained_on(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = _own_data(tmp_path / "mine.npz")
    assert main(["train", "--dataset", data, "--epochs", "2", "--k", "3", *SMALL, *flags]) == 0
    (run,) = Path("runs").iterdir()
    assert re.fullmatch(r"mine-(elbo-kl|dreg|iwae|stl)-k[13]-l[12]-seed0", run.name)
    assert {file.name for file in run.iterdir()} == FILES
    metrics = json.loads((run / "metrics.json").read_text())
    assert np.isfinite(metrics["log_likelihood"])
    assert "written:" in capsys.readouterr().out


def test_a_single_test_image_is_refused_before_training(tmp_path, capsys):
    data = _own_data(tmp_path / "mine.npz", x_test=np.zeros((1, 6, 5)))
    assert main(["train", "--dataset", data, "--output-dir", str(tmp_path / "run"), *SMALL]) == 2
    assert "at least 2 images" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_stops_and_keeps_its_last_good_checkpoint(tmp_path, capsys):
    data = _own_data(tmp_path / "mine.npz")
    run = tmp_path / "run"
    flags = ["--likelihood", "gaussian", "--learning-rate", "1e25", "--k", "3", "--epochs", "3", *SMALL]
    assert main(["train", "--dataset", data, "--output-dir", str(run), *flags]) == 2
    message = capsys.readouterr().err
    assert re.search(r"not finite at step \d+", message)
    assert "checkpoint" in message
    (checkpoint,) = (run / "checkpoints").iterdir()
    assert checkpoint.name.startswith("step-000000000-")
    assert not (run / "metrics.json").exists()


@pytest.mark.slow
def test_a_run_stopped_by_ctrl_c_and_resumed_is_the_run_never_stopped(tmp_path):
    flags = ["--k", "5", "--epochs", "40", "--hidden-units", "20,20", "--latent-units", "5", "--eval-samples", "60"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped run"
    assert main(["train", *flags, "--verbose", "0", "--output-dir", str(whole)]) == 0

    command = [sys.executable, "train.py", *flags, "--output-dir", str(stopped)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (stopped / "history.csv").exists() or len((stopped / "history.csv").read_text().splitlines()) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    step, total = map(int, re.search(r"stopped at step (\d+) of (\d+)", output).groups())
    assert 3 * 65 <= step < total == 40 * 65
    resume = output.split("go on with: ")[1].strip()
    assert resume.endswith("--resume")

    again = subprocess.run(resume, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    for one, other in zip(_weights(whole), _weights(stopped), strict=True):
        np.testing.assert_array_equal(one, other)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (whole, stopped)]
    assert metrics[0]["bounds"] == metrics[1]["bounds"]
    epochs = [row.split(",")[0] for row in (stopped / "history.csv").read_text().splitlines()[1:]]
    assert epochs == [str(epoch) for epoch in range(1, 41)]


@pytest.mark.slow
def test_a_finished_run_that_is_resumed_is_evaluated_again(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    before = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").unlink()
    flags = ["--k", "5", "--epochs", "2", "--eval-samples", "500", "--output-dir", str(run), "--resume"]
    assert main(["train", *flags]) == 0
    after = json.loads((run / "metrics.json").read_text())
    assert after["log_likelihood"] == pytest.approx(before["log_likelihood"], abs=1e-4)
    trained = float((run / "history.csv").read_text().splitlines()[-1].split(",")[-1])
    assert after["train_seconds"] >= trained > 0.0  # nothing was trained again, and what was is not forgotten
    assert main(["train", *flags[:-1], "--overwrite", "--epochs", "1"]) == 0
    assert len((run / "history.csv").read_text().splitlines()) == 2
    capsys.readouterr()
