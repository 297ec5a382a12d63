"""`evaluate` from a finished run to its report, as a user meets it."""

import functools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pyarrow.parquet
import pytest

import iwae_tf
from iwae_tf.commands.main import main
from iwae_tf.data.binarization import binarize_once
from iwae_tf.evaluation import estimate_log_likelihood
from iwae_tf.training.scores_file import read_scores

ROOT = Path(__file__).parents[2]
FILES = {"report.json", "scores.parquet"}
FIGURES = {"bounds", "scores", "reliability", "extremes", "activities", "posteriors"}


def evaluate(run, *flags) -> int:
    return main(["evaluate", str(run), "--num-samples", "100", "--verbose", "0", *map(str, flags)])


def columns_of(run) -> dict[str, np.ndarray]:
    table = pyarrow.parquet.read_table(run / "evaluation" / "scores.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


def report_of(run) -> dict:
    return json.loads((run / "evaluation" / "report.json").read_text())


def error_of(capsys, run, *flags) -> str:
    capsys.readouterr()
    assert evaluate(run, *flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_an_evaluation_is_a_row_for_each_image_a_report_and_figures(run, capsys):
    assert evaluate(run, "--seed", 3, "--figure-format", "svg") == 0
    printed = capsys.readouterr().out
    written = {path.name for path in (run / "evaluation").iterdir()}
    assert written == FILES | {f"{name}.svg" for name in FIGURES}
    assert all(str(run / "evaluation" / name) in printed for name in written)
    columns, report = columns_of(run), report_of(run)
    x = binarize_once(iwae_tf.data.load("digits").intensities("test"), "test")
    estimate = estimate_log_likelihood(keras.saving.load_model(run / "model.keras"), x, 100, seed=3)
    np.testing.assert_array_equal(columns["row"], np.arange(400))
    for name in ("log_likelihood", "elbo", "standard_error", "effective_sample_size", "pareto_k", "num_samples"):
        np.testing.assert_allclose(columns[name], getattr(estimate, name), rtol=1e-6)
    for k, values in estimate.bounds.items():
        np.testing.assert_allclose(columns[f"bound_{k}"], values, rtol=1e-6)
    assert report["log_likelihood"] == pytest.approx(estimate.log_likelihood.mean(), rel=1e-6)
    assert report["bounds"].keys() == {"1", "5", "50", "100"}
    assert report["reliability"]["pareto_k_above_0.7"] == (estimate.pareto_k >= 0.7).sum()
    assert f"log p(x) {report['log_likelihood']:.3f}" in printed
    protocol = report["protocol"]
    assert protocol["images"].startswith("sha256:")
    assert (protocol["part"], protocol["seed"], protocol["num_images"]) == ("test", 3, 400)
    assert "deviation" not in report
    kept = read_scores(run)  # those of the evaluation, not of `train`
    np.testing.assert_array_equal(kept.log_likelihood, columns["log_likelihood"])
    np.testing.assert_array_equal(kept.unit_activities[0], report["unit_activities"][0])
    assert kept.protocol == protocol


@pytest.mark.slow
def test_every_option_has_its_section_in_the_report(run, without_figures, monkeypatch):
    for name in ("annealed_log_likelihood", "bidirectional_bounds"):  # fewer steps: what they find is tested elsewhere
        shorter = functools.partial(getattr(iwae_tf.evaluation, name), num_temperatures=20)
        monkeypatch.setattr(iwae_tf.evaluation, name, shorter)
    flags = ["--gap", "--jackknife", "--prune", "--annealed", "2", "--target-standard-error", "0.2"]
    assert evaluate(run, *flags, "--max-samples", 200, "--part", "valid") == 0
    report = report_of(run)
    assert report["protocol"]["num_images"] == 100
    assert report["train_test_gap"]["num_train"] == 100
    assert report["jackknife"]["log_likelihood"]["0"] == pytest.approx(report["bounds"]["100"], rel=1e-9)
    assert report["pruned"]["units"] == [2]
    assert report["annealed"]["num_images"] == 2
    simulated = report["annealed"]["simulated"]
    assert simulated["gap"] == pytest.approx(simulated["upper"] - simulated["lower"], rel=1e-9)
    assert set(columns_of(run)["num_samples"]) == {100, 200}
    assert report["reliability"]["largest_num_samples"] == 200
    assert read_scores(run).protocol["part"] == "test"  # those of `train`: the evaluation is of other images


def test_finished_batches_are_not_computed_again(run, without_figures, monkeypatch, capsys):
    checked, rows = iwae_tf.IWAE.checked, []

    def stops(self, x):  # called for each batch
        rows.append(len(x))
        if len(rows) == 3:
            raise KeyboardInterrupt
        return checked(self, x)

    monkeypatch.setattr(iwae_tf.IWAE, "checked", stops)
    assert evaluate(run) == 130
    printed = capsys.readouterr().out
    assert "stopped; resume with: " in printed
    assert len(list((run / "evaluation" / "batches").glob("*.parquet"))) == 2
    (run / "evaluation" / "batches" / ".writing-000002.parquet").write_bytes(b"PAR1")  # as a killed process leaves it
    assert "another protocol: seed is 0 there and 7 here; give the same flags" in error_of(capsys, run, "--seed", 7)
    assert evaluate(run) == 0
    assert rows[3:5] == [100, 100]  # the third and the fourth batch
    resumed = columns_of(run)
    assert not (run / "evaluation" / "batches").exists()
    assert "holds a finished evaluation; replace it with --overwrite" in error_of(capsys, run)
    assert evaluate(run, "--overwrite") == 0
    for name, values in columns_of(run).items():
        np.testing.assert_allclose(values, resumed[name], rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_ctrl_c_says_how_to_resume(run):
    flags = ["--num-samples", "3000", "--overwrite"]
    command = [sys.executable, "-m", "iwae_tf", "evaluate", str(run), *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not (run / "evaluation" / "batches" / "protocol.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed.startswith("\nstopped; resume with: ")
    assert "--overwrite" not in printed
    assert len(list((run / "evaluation" / "batches").glob("*.parquet"))) <= 1  # the current batch is kept


def test_another_data_set_than_the_runs_is_refused(run, capsys):
    config = json.loads((run / "config.json").read_text())
    config["data"]["num_train"] = 5
    (run / "config.json").write_text(json.dumps(config))
    assert "is not the one that the run was trained on: num_train is 5 there and 1297 here" in error_of(capsys, run)
    assert not (run / "evaluation").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num-samples", "0"], "num_samples must be an integer >= 1, got 0"),
        (["--max-samples", "100"], "max_samples = 100 without target_standard_error"),
        (["--target-standard-error", "-1"], "target_standard_error must be a number of nats > 0, got -1.0"),
        (["--target-standard-error", "0.1", "--max-samples", "7"], "must be at least num_samples = 100, got 7"),
        (["--annealed", "-1"], "annealed must be a number of images >= 0, got -1"),
        (["--seed", "-1"], "seed must be an integer in [0, 2147483647], got -1"),
        (["--part", "all"], "invalid choice: 'all'"),
    ],
)
def test_flags_that_cannot_be_used_get_one_line_and_leave_nothing(trained, capsys, flags, words):
    assert words in error_of(capsys, trained.path, *flags)
    assert not (trained.path / "evaluation").exists()


def test_a_missing_an_unfinished_and_a_damaged_run_are_told_apart(run, capsys):
    assert "there is no run folder" in error_of(capsys, run.parent / "none")
    (run / "model.keras").write_bytes(b"PK")
    assert "model.keras cannot be read" in error_of(capsys, run)
    (run / "model.keras").unlink()
    assert "is not finished: it has no model.keras; continue it with train.py" in error_of(capsys, run)
    shutil.rmtree(run)
    run.mkdir()
    assert "is not the folder of a run: it has no config.json" in error_of(capsys, run)
