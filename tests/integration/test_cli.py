"""`train` from flags to files, as a user meets it."""

import csv
import errno
import json
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pyarrow.parquet
import pytest
import scipy.stats
from shared_runs import SIZES

import iwae_tf
from iwae_tf.commands.main import COMMANDS, main
from iwae_tf.data.binarization import binarize_once

ROOT = Path(__file__).parents[2]
FILES = {
    *("config.json", "history.csv", "metrics.json", "scores.parquet", "model.keras", "checkpoints"),
    *("report.html", "samples.png", "reconstructions.png", "bounds.png"),
}


def test_train_writes_everything_a_run_consists_of(trained):
    assert {file.name for file in trained.path.iterdir()} == FILES | {".lock"}
    assert all(str(trained.path / name) in trained.stdout for name in FILES)
    with (trained.path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "26"), ("2", "52")]
    assert float(rows[1]["val_bound"]) > float(rows[0]["val_bound"])


def test_metrics_are_the_scores_of_the_test_images_under_the_seed_of_the_run(trained):
    metrics = json.loads((trained.path / "metrics.json").read_text())
    assert (metrics["dataset"], metrics["objective"], metrics["k"], metrics["epochs"]) == ("digits", "iwae", 5, 2)
    assert (metrics["num_test"], metrics["num_samples"], metrics["protocol"]["seed"]) == (400, 60, 3)
    x = binarize_once(iwae_tf.data.load("digits").intensities("test"), "test")
    model = keras.saving.load_model(trained.path / "model.keras")
    scores = iwae_tf.evaluation.estimate_log_likelihood(model, x, 60, seed=3)
    assert list(metrics["bounds"]) == ["1", "5", "50", "60"]
    for k, bound in scores.mean_bounds.items():
        assert metrics["bounds"][str(k)] == pytest.approx(bound, rel=1e-6)
        assert metrics["bound_standard_errors"][str(k)] == pytest.approx(scores.bound_standard_errors[k], rel=1e-5)
    log_p = scores.log_likelihood
    assert metrics["log_likelihood"] == pytest.approx(log_p.mean(), rel=1e-6)
    others = iwae_tf.evaluation.estimate_log_likelihood(model, x[:100], 60, seed=0).log_likelihood  # a batch's graph
    assert log_p[:100].mean() != pytest.approx(others.mean(), rel=1e-6)
    assert metrics["standard_error"] == pytest.approx(scipy.stats.sem(log_p), rel=1e-5)
    assert metrics["protocol"]["proposal"] == "refined"
    assert metrics["active_units"] == iwae_tf.evaluation.active_units(model, x, seed=3)
    assert len(metrics["unit_activities"][0]) == 2
    assert min(metrics["train_seconds"], metrics["eval_seconds"]) > 0
    table = pyarrow.parquet.read_table(trained.path / "scores.parquet")
    np.testing.assert_array_equal(table["row"], np.arange(400))
    for name in ("log_likelihood", "elbo", "standard_error", "effective_sample_size", "pareto_k", "reliable"):
        np.testing.assert_allclose(table[name], getattr(scores, name), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(table["bound_5"], scores.bounds[5], rtol=1e-5)
    reliable = int(scores.reliable.sum())
    assert metrics["reliability"]["reliable"] == reliable
    assert f"{reliable} of 400 scores are reliable" in trained.stdout


def test_the_configuration_names_everything_that_shaped_the_result(trained):
    config = json.loads((trained.path / "config.json").read_text())
    assert (config["data"]["num_train"], config["data"]["num_valid"], config["data"]["num_test"]) == (1297, 100, 400)
    assert "each time" in config["data"]["binarization_train"]
    assert "once" in config["data"]["binarization_evaluation"]
    assert (config["model"]["latent_units"], config["model"]["prior"]) == ([2], "N(0, I)")
    assert "clipped" in config["model"]["output_bias"]
    assert "tanh" in config["model"]["log_scale"]
    assert (config["training"]["seed"], config["training"]["total_steps"]) == (3, 52)
    assert config["training"]["optimizer_config"]["epsilon"] == 1e-4
    assert {"python", "tensorflow", "keras", "numpy"} <= set(config["versions"])


def test_progress_is_all_there_is_on_stderr(trained):
    text = trained.stderr.replace("\r", "\n")
    assert "training: 100%" in text
    assert "evaluating: 100%" in text
    assert re.search(r"epoch 2/2 bound -\d\d\.\d\d", text)
    assert not [line for line in text.splitlines() if line and not line.startswith(("training:", "evaluating:"))]


def test_a_folder_that_holds_a_run_is_kept(trained, capsys):
    before = {file.name: file.stat().st_mtime_ns for file in trained.path.iterdir() if file.name != ".lock"}
    assert main(["train", *trained.flags]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", *trained.flags, "--k", "7", "--epochs", "1", "--resume"]) == 2
    message = capsys.readouterr().err
    assert "k is 5 there and 7 here" in message
    assert "epochs is 2 there and 1 here" in message
    assert {name: (trained.path / name).stat().st_mtime_ns for name in before} == before


def test_a_finished_run_that_is_resumed_scores_the_batches_that_an_interruption_left(
    trained, run, without_figures, without_refinement, third_batch, capsys
):
    before = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").unlink()
    flags = ["train", *trained.flags[:-1], str(run), "--verbose", "0", "--resume"]
    assert main(flags) == 130
    assert "stopped at step 52 of 52; resume with: " in capsys.readouterr().out
    assert len(list((run / "batches").glob("*.parquet"))) == 3  # the current batch is finished
    assert main(flags) == 0
    assert third_batch == [100] * 4 + [400]  # each batch is scored once, and all are read for the activities of units
    after = json.loads((run / "metrics.json").read_text())
    assert after["log_likelihood"] == pytest.approx(before["bounds"]["60"], abs=1e-4)  # scored with q: L_60
    trained_seconds = float((run / "history.csv").read_text().splitlines()[-1].split(",")[-1])
    assert after["train_seconds"] >= trained_seconds > 0.0  # nothing was trained again
    assert not (run / "batches").exists()
    found, expected = (pyarrow.parquet.read_table(path / "scores.parquet") for path in (run, trained.path))
    np.testing.assert_allclose(found["log_likelihood"], expected["bound_60"], rtol=1e-6)


@pytest.mark.parametrize("program", [("train.py", "--help"), ("-m", "iwae_tf", "--help")])
def test_help_answers_before_tensorflow_is_imported(program):
    command = [sys.executable, "-X", "importtime", *program]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not re.search(r"\| +(tensorflow|keras|sklearn|matplotlib|scipy)\b", process.stderr)
    assert "importance weighted autoencoder" in process.stdout.lower()
    if program[0] == "-m":
        assert all(f" {command}" in process.stdout for command in COMMANDS)
        assert "Scores every row of a split of a finished run and says how far to trust each score." in process.stdout
    else:
        assert "Without --dataset it trains" in process.stdout
        flags = set(re.findall(r"--[a-z-]+", process.stdout))
        assert {"--k", "--objective", "--dataset", "--hidden-units", "--eval-samples", "--plugin", "--jit"} <= flags
        assert all(words in process.stdout for words in ("dreg: ", "omniglot: ", "(default: digits)"))


def test_help_takes_less_than_a_second():
    seconds = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # CPU time: a loaded machine makes no difference
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1.0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--k 0", "k must be an integer >= 1, got 0"),
        ("--k 2.5", "invalid integer value: '2.5'"),
        ("--epoch 3", "did you mean --epochs?"),
        ("--objective iwea", "did you mean 'iwae'?"),
        ("--dataset minst", "did you mean 'mnist'?"),
        ("--dataset none.npz", "none.npz"),
        ("--dataset mnist --data-dir .", "train-images-idx3-ubyte"),
        ("--layers 3", "choose from 1, 2"),
        ("--layers 2 --hidden-units none", "--hidden-units needs 2 entries for --layers 2, got 1"),
        ("--hidden-units 20,x", "comma-separated"),
        ("--resume", "there is no run in"),
        ("--resume --overwrite", "give one of them"),
        ("--output-dir file/run", "cannot be written"),
        ("--output-dir file", "is a file"),
        ("--output-dir", "expected one argument"),
        ("--figure-format gif", "choose from png, pdf, svg"),
        ("--plugin no_such_module", "--plugin no_such_module cannot be imported"),
        ("--early-stopping 2 --strategy multiworker", "works on one host"),
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
    assert re.sub("[\"']", "", message) in re.sub("[\"']", "", output.err)  # Python 3.12 quotes choices otherwise
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_closed_output_ends_a_command_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "iwae_tf", "objectives"]
    found = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert (found.returncode, found.stderr) == (141, b"")
    absent = subprocess.run(f"{shlex.join(command)} >&-", shell=True, cwd=ROOT, stderr=subprocess.PIPE, timeout=120)
    assert (absent.returncode, absent.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "scores.parquet"), "scores.parquet: No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "runs/a"), "runs/a: No such file or directory"),
        (OSError("no space to write"), "no space to write"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line_wherever_it_shows(error, words, monkeypatch, capsys):
    def fail(arguments):
        raise error

    monkeypatch.setattr("iwae_tf.commands.objectives.run", fail)
    assert main(["objectives"]) == 2
    assert capsys.readouterr().err == f"error: a file cannot be read or written: {words}\n"


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        ({"x_test": np.zeros((1, 30))}, [], "at least 2 rows"),
        ({}, ["--early-stopping", "2"], "--early-stopping needs validation rows"),
        ({}, ["--network", "conv"], "--network conv needs images, and mine has rows of 30 values: use mlp"),
        ({}, ["--missing"], "--missing is for tables and real values; mine holds pixels"),
        ({}, ["--column-likelihoods", "a=gaussian"], "--column-likelihoods is for tables"),
        ({}, ["--scaling", "none"], "--scaling is for tables"),
        ({}, ["--likelihood", "categorical"], "needs levels (--levels), the number of values"),
    ],
)
def test_images_that_do_not_suit_are_refused_before_training(changes, flags, message, tmp_path, capsys):
    rows = np.random.default_rng(0).random((9, 30))
    np.savez(tmp_path / "mine.npz", **{"x_train": rows, "x_test": rows} | changes)
    run = tmp_path / "run"
    assert main(["train", "--dataset", str(tmp_path / "mine.npz"), "--output-dir", str(run), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (run / "config.json").exists()


def test_a_run_is_named_after_its_file_and_needs_no_validation_images(
    tmp_path, without_figures, without_refinement, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((20, 6, 5))
    np.savez("mine.npz", x_train=x, x_test=x[:9])
    flags = ["--likelihood", "gaussian", "--objective", "stl", "--epochs", "1", "--k", "3", *SIZES, "--verbose", "0"]
    assert main(["train", "--dataset", "mine.npz", "--jit", "on", *flags]) == 0
    assert "written:" in capsys.readouterr().out
    (run,) = Path("runs").iterdir()
    assert run.name == "mine-stl-k3-l1-seed0"
    assert np.isfinite(json.loads((run / "metrics.json").read_text())["log_likelihood"])


def test_a_run_that_diverges_stops_and_keeps_its_last_good_checkpoint(images, tmp_path, capsys):
    run = tmp_path / "run"
    flags = ["--likelihood", "gaussian", "--learning-rate", "1e25", "--k", "3", "--epochs", "3", *SIZES]
    assert main(["train", "--dataset", images, "--output-dir", str(run), *flags, "--batch-size", "25"]) == 2
    message = capsys.readouterr().err
    assert re.search(r"not finite at step \d+", message)
    assert "the last good checkpoint is" in message
    (checkpoint,) = (run / "checkpoints").iterdir()
    assert checkpoint.name.startswith("step-000000000-")
    assert not (run / "metrics.json").exists()
