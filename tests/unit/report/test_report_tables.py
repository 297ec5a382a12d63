"""The tables of the page: results, bounds, settings, times and commands, in words."""

import dataclasses
import json
import shlex

import pytest
from run_files import config_of, history_of, metrics_of, record_of, write_run

from iwae_tf.commands import flags
from iwae_tf.commands.train import add_flags, sections
from iwae_tf.config import RunConfig
from iwae_tf.plots.style import number
from iwae_tf.report import tables
from iwae_tf.report.record import read_record
from iwae_tf.report.tables import run_commands, setting_tables, state, timing_table, train_flags

# ---------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("write", "values"),
    [
        (number, {-22.8604: "−22.86", 0.0: "0.00", -12345.678: "−12,345.68", float("nan"): "not finite"}),
        (lambda error: tables.with_error(-1.0, error), {0.25: "−1.00 ± 0.25", float("nan"): "−1.00 ± not known"}),
        (
            tables.duration,
            {0.00826: "8.26 ms", 5.72: "5.7 s", 119.9: "119.9 s", 125.2: "2 min 5 s", 7261: "2 h 1 min"},
        ),
        (tables.setting, {None: "none", True: "yes", 1e-7: "1e-07", "a": "a"}),
    ],
)
def test_values_are_written_as_one_would_say_them(write, values):
    assert [write(value) for value in values] == list(values.values())


def test_settings_that_are_lists_are_written_in_a_line():
    assert [tables.setting(value) for value in ([], [100, 50], [[20, 10], []])] == ["none", "100, 50", "20, 10 | none"]


# ---------------------------------------------------------------------------------------------- commands


def config_from(line: list[str]) -> dict:
    parser = flags.Parser()
    add_flags(parser)
    arguments = parser.parse_args(line)
    return RunConfig(*(flags.settings_from(arguments, settings) for settings in sections())).to_json()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--k 5 --seed 3 --learning-rate 0.0003 --eval-samples 100",
        "--layers 2",
        "--layers 2 --latent-units 5 3 --hidden-units 20,10 none",
        "--hidden-units none --latent bernoulli --objective vimco",
        "--schedule paper",
        "--schedule paper --epochs 7",
        "--objective ciwae --learn-beta --beta 0.25 --backward-samples 2",
        "--init-from 'runs/a run' --precision bfloat16",
        """--columns '"size, cm",age' --column-likelihoods '"size, cm=gaussian",age=gaussian' --split 0.5,0.1,0.4""",
        "--drop a,b --id-column=-id --label-column 'a b' --missing --scaling robust",
    ],
)
def test_the_flags_of_a_run_give_its_settings_again(line):
    config = config_from(shlex.split(line))
    assert config_from(train_flags(config)) == config


def test_only_what_is_not_a_default_becomes_a_flag():
    assert train_flags(RunConfig().to_json()) == []
    assert train_flags(config_from(["--layers", "2", "--k", "7"])) == ["--layers", "2", "--k", "7"]


def test_commands_are_quoted_for_a_shell(tmp_path):
    record = record_of(tmp_path / "a run; rm -r x", config=config_of(data={"data_dir": "a folder; rm -r x"}))
    path = str(tmp_path / "a run; rm -r x")
    (_, train), (_, evaluate) = run_commands(record)
    words = shlex.split(train)
    assert words[words.index("--data-dir") + 1] == "a folder; rm -r x"
    assert words[-2:] == ["--output-dir", path]
    (_, train), _ = run_commands(dataclasses.replace(record, plugins=("a_module",), callbacks=("a:b",)))
    assert " train --plugin a_module --callback a:b " in train
    assert shlex.split(evaluate) == ["python", "-m", "iwae_tf", "evaluate", path]
    assert shlex.split(tables.report_command([record, record])[1])[-2:] == [path, path]


# ---------------------------------------------------------------------------------------------- settings


def test_runs_are_told_apart_by_what_differs(tmp_path):
    one = record_of(tmp_path / "one")
    two = record_of(tmp_path / "two", config=config_of(training={"k": 5, "noise": "philox"}))
    differing, common = setting_tables([one, two])
    assert differing == {"training": [("k", ["50", "5"]), ("noise", ["–", "philox"])]}
    assert ("seed", ["0", "0"]) in common["training"]
    assert ("optimizer config name", ["adam", "adam"]) in common["training"]
    assert not any("clipnorm" in name for name, _ in common["training"])  # not set
    differing, common = setting_tables([one])
    assert differing == {}
    assert ("k", ["50"]) in common["training"]


def test_test_rows_are_told_apart_by_their_checksums_and_not_by_their_names(tmp_path):
    data = {"sha256": {"test": "a"}}
    one = record_of(tmp_path / "one", config=config_of(data=data))
    moved = record_of(
        tmp_path / "two", config=config_of(data=data | {"dataset": "./a.csv", "source": "/b", "split": "c"})
    )
    other = record_of(tmp_path / "three", config=config_of(data={"sha256": {"test": "b"}}))
    assert tables.other_protocols([one, moved]) == []
    assert tables.other_protocols([one, other]) == ["test rows"]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"training": {"k": 1, "seed": 2}}, []),
        ({"evaluation": {"eval_samples": 100}}, ["eval samples"]),
        ({"data": {"dataset": "mnist"}, "model": {"likelihood": "gaussian"}}, ["dataset", "likelihood"]),
        ({"data": {"binarization_evaluation": "none"}}, ["binarization evaluation"]),
    ],
)
def test_scores_under_other_protocols_are_said_not_to_compare(tmp_path, change, names):
    records = [record_of(tmp_path / "one"), record_of(tmp_path / "two", config=config_of(**change))]
    assert tables.other_protocols(records) == names


# ---------------------------------------------------------------------------------------------- results and times


def test_results_have_their_standard_errors(tmp_path):
    assert dict(tables.result_table([record_of(tmp_path / "run", metrics=metrics_of(best_epoch=3))])) == {
        "lower bound on log p(x)": ["−27.12 ± 0.25 nats"],  # -27.125; 14 of 20 scores are reliable
        "largest k of L_k": ["50"],
        "test rows": ["20"],
        "L_1, the VAE's bound": ["−30.50 ± 0.50 nats"],
        "active units": ["3 of 4"],
        "reliable scores": ["14 of 20"],
        "effective samples": ["10"],  # the median of 1 to 20 is 10.5, and Python rounds it to the even number
        "training": ["90.5 s"],
        "best epoch": ["3 of 4"],
    }


@pytest.mark.parametrize(("number", "name"), [(20, "log p(x)"), (18, "log p(x)"), (17, "lower bound on log p(x)")])
def test_the_mean_is_called_log_p_from_nine_reliable_scores_in_ten_on(tmp_path, number, name):
    # Of the scores of `train`, as the mean; those of a later evaluation may be others.
    counts = {"reliable": number, "num_rows": 20, "median_effective_sample_size": 321.0}
    record = record_of(tmp_path / "run", metrics=metrics_of(reliability=counts))
    assert record.scores.reliable.sum() == 14
    rows = tables.result_table([record])
    assert rows[0][0] == name
    assert ("reliable scores", [f"{number} of 20"]) in rows
    assert ("effective samples", ["321"]) in rows


def test_a_mean_whose_reliability_was_not_recorded_is_a_lower_bound(tmp_path):
    metrics = metrics_of()
    del metrics["reliability"]
    rows = dict(tables.result_table([record_of(tmp_path / "run", metrics=metrics)]))
    assert "lower bound on log p(x)" in rows
    assert "reliable scores" not in rows


def test_what_only_one_run_has_is_a_dash_in_the_others(tmp_path):
    done, stopped = record_of(tmp_path / "done"), read_record(write_run(tmp_path / "stopped", history=history_of(1)))
    assert all(values[1] == "–" for _, values in tables.result_table([done, stopped]))
    assert tables.result_table([stopped]) == []
    fewer = record_of(tmp_path / "fewer", metrics=metrics_of(bounds={"1": -31.0}, bound_standard_errors={"1": 0.5}))
    rows = tables.bounds_table([done, stopped, fewer])
    assert rows[0] == ("1", ["−30.500 ± 0.500", "–", "−31.000 ± 0.500"])
    assert rows[1:] == [("5", ["−28.250 ± 0.375", "–", "–"]), ("50", ["−27.125 ± 0.250", "–", "–"])]


def test_a_run_that_is_trained_further_says_of_which_epochs_its_results_are(tmp_path):
    run = write_run(tmp_path / "run", config_of(training={"epochs": 9}), metrics_of(epochs=4), history_of(5))
    (run / "model.keras").touch()
    assert "its results are those of 4 epochs" in state(read_record(run))
    (run / "metrics.json").write_text(json.dumps(metrics_of(epochs=9)))
    assert state(read_record(run)) == ""


def test_what_a_run_lacks_is_said(tmp_path):
    run = write_run(tmp_path / "run", history=history_of(1))
    assert "3 of 12 steps (25%)" in state(read_record(run))
    (run / "model.keras").touch()
    assert "not evaluated" in state(read_record(run))
    whole = record_of(tmp_path / "whole")
    assert "model.keras is missing" in state(whole)
    (whole.path / "model.keras").touch()
    assert state(whole) == ""


def test_times_are_those_of_the_history_and_the_evaluation_and_dashes_where_unknown(tmp_path):
    assert dict(timing_table([record_of(tmp_path / "run")])) == {
        "training": ["90.5 s"],
        "first epoch, with compilation": ["2.0 s"],
        "a later epoch (median)": ["500 ms"],
        "a step (median)": ["167 ms"],  # three steps
        "evaluation": ["4.0 s"],
        "evaluation, a row": ["200 ms"],  # 20 rows
    }
    for epochs, training in ((0, "–"), (1, "2.0 s")):
        record = read_record(write_run(tmp_path / f"{epochs} epochs", history=history_of(epochs)))
        times = dict(timing_table([record]))
        assert (times["training"], times["a step (median)"], times["evaluation"]) == ([training], ["–"], ["–"])
