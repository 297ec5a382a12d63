"""`python -m iwae_tf evaluate` from a finished run to its report, as a user meets it."""

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

ROOT = Path(__file__).parents[2]
SMALL = ["--hidden-units", "20,20", "--latent-units", "2", "--epochs", "2", "--eval-samples", "60", "--verbose", "0"]
FIGURES = {"bounds.png", "scores.png", "reliability.png", "extremes.png", "activities.png", "posteriors.png"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", *SMALL, "--output-dir", str(path)]) == 0
    return path


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "small")
    return tmp_path / "small"


def evaluate(run, *flags) -> int:
    return main(["evaluate", str(run), "--num-samples", "200", "--verbose", "0", *map(str, flags)])


def columns_of(run) -> dict[str, np.ndarray]:
    table = pyarrow.parquet.read_table(run / "evaluation" / "per_example.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


def report_of(run) -> dict:
    return json.loads((run / "evaluation" / "report.json").read_text())


def error_of(capsys, run, *flags) -> str:
    assert evaluate(run, *flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_an_evaluation_is_a_row_for_each_image_a_report_and_figures(run, capsys):
    assert evaluate(run, "--seed", 3) == 0
    printed = capsys.readouterr().out
    assert {path.name for path in (run / "evaluation").iterdir()} == {"report.json", "per_example.parquet", *FIGURES}
    assert all(str(path) in printed for path in (run / "evaluation").iterdir())
    columns, report = columns_of(run), report_of(run)
    x = binarize_once(iwae_tf.data.load("digits").intensities("test"), "test")
    estimate = estimate_log_likelihood(keras.saving.load_model(run / "model.keras"), x, 200, seed=3)
    np.testing.assert_array_equal(columns["row"], np.arange(400))
    for name in ("log_likelihood", "elbo", "standard_error", "effective_sample_size", "pareto_k", "num_samples"):
        np.testing.assert_allclose(columns[name], getattr(estimate, name), rtol=1e-6)
    for k, values in estimate.bounds.items():
        np.testing.assert_allclose(columns[f"bound_{k}"], values, rtol=1e-6)
    assert report["log_likelihood"] == pytest.approx(estimate.log_likelihood.mean(), rel=1e-6)
    assert report["bounds"].keys() == {"1", "5", "50", "200"}
    assert report["reliability"]["pareto_k_above_0.7"] == (estimate.pareto_k >= 0.7).sum()
    assert f"log p(x) {report['log_likelihood']:.3f}" in printed
    assert report["protocol"]["images"].startswith("sha256:")
    assert (report["protocol"]["part"], report["protocol"]["seed"], report["protocol"]["num_images"]) == (
        "test",
        3,
        400,
    )
    assert report["deviation"]["images_above_their_bound"] == 0


@pytest.mark.slow
def test_all_that_can_be_asked_for_is_in_the_report(run):
    flags = ["--gap", "--jackknife", "--prune", "--annealed", "2", "--target-standard-error", "0.2"]
    assert evaluate(run, *flags, "--max-samples", 400) == 0
    report = report_of(run)
    assert report["train_test_gap"]["num_train"] == 400
    assert report["jackknife"]["log_likelihood"]["0"] == pytest.approx(report["bounds"]["200"], rel=1e-9)
    assert report["pruned"]["units"] == [2]
    assert report["annealed"]["num_images"] == 2
    simulated = report["annealed"]["simulated"]
    assert simulated["gap"] == pytest.approx(simulated["upper"] - simulated["lower"], rel=1e-9)
    assert set(columns_of(run)["num_samples"]) == {200, 400}
    assert report["reliability"]["largest_num_samples"] == 400


def test_other_parts_of_the_data_can_be_scored(run):
    assert evaluate(run, "--part", "valid") == 0
    assert report_of(run)["protocol"]["num_images"] == 100


def test_finished_batches_are_not_computed_again(run, monkeypatch):
    assert evaluate(run) == 0
    whole = columns_of(run)
    shutil.rmtree(run / "evaluation")
    stopped = iwae_tf.IWAE.log_weight_chunks
    rows = []

    def stops(self, x, *arguments, **options):
        rows.append(len(x))
        if len(rows) == 3:
            raise KeyboardInterrupt
        return stopped(self, x, *arguments, **options)

    monkeypatch.setattr(iwae_tf.IWAE, "log_weight_chunks", stops)
    assert evaluate(run) == 130
    assert len(list((run / "evaluation" / "parts").glob("*.npz"))) == 2
    rows.clear()
    rows += [0] * 3  # not to be stopped again
    assert evaluate(run) == 0
    assert rows[3:5] == [100, 100]  # batches three and four; what comes after them is not the estimate
    for name, values in columns_of(run).items():
        np.testing.assert_array_equal(values, whole[name])
    assert not (run / "evaluation" / "parts").exists()


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(run):
    flags = ["--num-samples", "20000", "--overwrite"]
    command = [sys.executable, "-m", "iwae_tf", "evaluate", str(run), *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not (run / "evaluation" / "protocol.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed.startswith("\nstopped; go on with: ")
    assert "--overwrite" not in printed
    assert len(list((run / "evaluation" / "parts").glob("*.npz"))) <= 1  # the batch under way is kept


# ------------------------------------------------------------------------------------------- bad input


def test_a_finished_evaluation_is_replaced_only_when_asked(run, capsys):
    assert evaluate(run) == 0
    before = columns_of(run)["log_likelihood"]
    capsys.readouterr()
    assert "holds a finished evaluation; replace it by --overwrite" in error_of(capsys, run)
    assert {path.name for path in (run / "evaluation").iterdir()} == {"report.json", "per_example.parquet", *FIGURES}
    assert evaluate(run, "--overwrite", "--seed", 1) == 0
    assert (columns_of(run)["log_likelihood"] != before).all()


def test_a_stopped_evaluation_goes_on_only_under_the_same_protocol(run, capsys):
    (run / "evaluation").mkdir()
    assert evaluate(run, "--overwrite") == 0
    protocol = report_of(run)["protocol"]
    shutil.rmtree(run / "evaluation")
    (run / "evaluation").mkdir()
    (run / "evaluation" / "protocol.json").write_text(json.dumps({**protocol, "seed": 7}))
    capsys.readouterr()
    assert "another protocol: seed is 7 there and 0 here; give the same flags" in error_of(capsys, run)


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
        (["--target-standard-error", "0.1", "--max-samples", "7"], "must be at least num_samples = 200, got 7"),
        (["--annealed", "-1"], "annealed must be a number of images >= 0, got -1"),
        (["--seed", "-1"], "seed must be an integer in [0, 2147483647], got -1"),
        (["--part", "all"], "invalid choice: 'all'"),
    ],
)
def test_flags_that_cannot_be_used_get_one_line_and_leave_nothing(run, capsys, flags, words):
    assert words in error_of(capsys, run, *flags)
    assert not (run / "evaluation").exists()


def test_a_run_that_is_not_there_is_an_error(tmp_path, capsys):
    assert "there is no run folder" in error_of(capsys, tmp_path / "none")
