"""`evaluate` from a finished run to its report, as a user meets it."""

import errno
import functools
import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest
from shared_runs import change_model

import iwae_tf
from iwae_tf.commands.main import main
from iwae_tf.training import evaluation, run_folder
from iwae_tf.training.run_folder import model_checksum
from iwae_tf.training.scores_file import model_of, read_scores

FILES = {"report.json", "scores.parquet"}
FIGURES = {"bounds", "scores", "reliability", "extremes", "activities", "posteriors"}


def evaluate(run, *flags) -> int:
    return main(["evaluate", str(run), "--num-samples", "60", "--verbose", "0", *map(str, flags)])


def columns_of(folder) -> dict[str, np.ndarray]:
    table = pyarrow.parquet.read_table(folder / "scores.parquet")
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
    columns, report = columns_of(run / "evaluation"), report_of(run)
    expected, metrics = columns_of(run), json.loads((run / "metrics.json").read_text())  # as test_cli.py checks them
    assert columns.keys() == expected.keys() > {"row", "log_likelihood", "standard_error", "pareto_k", "bound_50"}
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name], values, rtol=1e-6, err_msg=name)
    assert report["log_likelihood"] == pytest.approx(metrics["log_likelihood"], rel=1e-6)
    assert report["bounds"].keys() == {"1", "5", "50", "60"}
    assert report["reliability"] == pytest.approx(metrics["reliability"], rel=1e-6)
    assert f"log p(x) {report['log_likelihood']:.3f}" in printed
    assert report["model"] == metrics["model"] == model_checksum(run)
    assert model_of(run / "evaluation" / "scores.parquet") == model_of(run / "scores.parquet") == report["model"]
    protocol = report["protocol"]
    assert protocol == metrics["protocol"]
    assert protocol["content"].startswith("sha256:")
    assert (protocol["part"], protocol["seed"], protocol["num_rows"]) == ("test", 3, 400)
    assert "deviation" not in report
    (run / "metrics.json").unlink()
    shutil.move(
        run / "evaluation" / "report.json", run / "kept.json"
    )  # as an evaluation that was stopped, of any split
    assert read_scores(run).protocol == {}  # those of `train`
    shutil.move(run / "kept.json", run / "evaluation" / "report.json")
    kept = read_scores(run)  # those of the evaluation, not of `train`
    np.testing.assert_array_equal(kept.log_likelihood, columns["log_likelihood"])
    np.testing.assert_array_equal(kept.unit_activities[0], report["unit_activities"][0])
    assert kept.protocol == protocol


@pytest.mark.slow
def test_every_option_has_its_section_in_the_report(run, without_figures, monkeypatch):
    for name in ("annealed_log_likelihood", "bidirectional_bounds"):  # fewer steps: what they find is tested elsewhere
        shorter = functools.partial(getattr(iwae_tf.evaluation, name), num_temperatures=3)
        monkeypatch.setattr(iwae_tf.evaluation, name, shorter)
    shorter = functools.partial(iwae_tf.evaluation.inference_gap, num_steps=20)
    monkeypatch.setattr(iwae_tf.evaluation, "inference_gap", shorter)
    flags = [
        "--gap",
        "--jackknife",
        "--prune",
        "--annealed",
        "2",
        "--inference-gap",
        "3",
        "--target-standard-error",
        "0.1",
        "--refine",
        "off",
    ]
    assert evaluate(run, *flags, "--max-samples", 100, "--part", "valid") == 0
    report = report_of(run)
    assert report["protocol"]["num_rows"] == 100
    assert report["train_test_gap"]["num_train"] == 100
    assert report["jackknife"]["log_likelihood"]["0"] == pytest.approx(report["bounds"]["60"], rel=1e-9)
    assert report["pruned"]["units"] == [2]
    assert report["annealed"]["num_rows"] == 2
    gap = report["inference_gap"]
    assert gap["num_rows"] == len(gap["rows"]["amortisation"]) == 3
    first = {name: values[:3].mean() for name, values in columns_of(run / "evaluation").items()}
    found = gap["amortisation"] + gap["approximation"]
    assert found == pytest.approx(first["log_likelihood"] - first["bound_1"], abs=1.0)  # two estimates of L_1
    simulated = report["annealed"]["simulated"]
    assert simulated["gap"] == pytest.approx(simulated["upper"] - simulated["lower"], rel=1e-9)
    numbers = columns_of(run / "evaluation")["num_samples"]
    assert (numbers.min(), numbers.max()) == (60, 100)
    assert report["reliability"]["largest_num_samples"] == 100
    assert read_scores(run).protocol["part"] == "test"  # those of `train`: the evaluation is of other images


def test_after_ctrl_c_finished_batches_are_not_computed_again(run, without_figures, third_batch, monkeypatch, capsys):
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "iwae_tf", "evaluate", str(run), "--overwrite"])
    plain = ("--refine", "off")  # its graph is built in half the time
    assert evaluate(run, *plain, "--overwrite") == 130
    assert capsys.readouterr().out == f"\nstopped; resume with: python -m iwae_tf evaluate {run}\n"
    batches = run / "evaluation" / "batches"
    assert len(list(batches.glob("*.parquet"))) == 3  # the current batch is finished
    (batches / ".writing-000003.parquet").write_bytes(b"PAR1")  # as a killed process leaves it
    message = error_of(capsys, run, *plain, "--seed", 7)
    assert "another protocol or of another model: seed is 0 there and 7 here; give the same flags" in message
    shutil.copy(run / "model.keras", run / "kept.keras")
    change_model(run)
    assert "of another model: model is 'sha256:" in error_of(capsys, run, *plain)
    shutil.move(run / "kept.keras", run / "model.keras")
    assert evaluate(run, *plain) == 0
    assert third_batch == [100] * 4 + [400]  # each batch is scored once, and all are read for the activities of units
    resumed = columns_of(run / "evaluation")
    assert not np.array_equal(resumed["log_likelihood"], columns_of(run)["bound_60"])  # other noise: seed 3
    assert not batches.exists()
    assert "holds a finished evaluation; replace it with --overwrite" in error_of(capsys, run)
    assert evaluate(run, *plain, "--overwrite") == 0
    for name, values in columns_of(run / "evaluation").items():
        np.testing.assert_allclose(values, resumed[name], rtol=1e-6, err_msg=name)


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
        (["--target-standard-error", "0.1", "--max-samples", "7"], "must be at least num_samples = 60, got 7"),
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
    assert "is not finished: it has no model.keras; continue it with python -m iwae_tf train, the same" in error_of(
        capsys, run
    )
    shutil.rmtree(run)
    run.mkdir()
    assert "is not the folder of a run: it has no config.json" in error_of(capsys, run)


def without_space(run):
    raise OSError(errno.ENOSPC, "No space left on device")


EVENTS = {
    "run deleted": (shutil.rmtree, 2, "No such file or directory"),
    "evaluation deleted": (lambda run: shutil.rmtree(run / "evaluation"), 2, "No such file or directory"),
    "disk full": (without_space, 2, "No space left on device"),
    "another evaluation": (lambda run: main(["evaluate", str(run)]), 0, "another process is at work on the run"),
    "training goes on": (lambda run: run_folder.prepare(run, True, False), 2, "another process is at work on the run"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_what_happens_to_the_folder_during_the_work_is_told_in_one_line(
    name, run, monkeypatch, capsys, without_figures
):
    happens, code, words = EVENTS[name]
    write = evaluation.write_columns

    def write_columns(path, *arguments):
        if path.name == "000002.parquet":
            happens(run)
        write(path, *arguments)

    monkeypatch.setattr(evaluation, "write_columns", write_columns)
    assert evaluate(run, "--refine", "off") == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_batches_that_are_deleted_at_the_end_are_not_missed(run, monkeypatch, without_figures):
    monkeypatch.setattr(evaluation, "_draw_evaluation", lambda folder, *_: shutil.rmtree(folder / "batches"))
    assert evaluate(run, "--refine", "off") == 0
    assert report_of(run)["protocol"]["num_rows"] == 400
