"""`runs`: the list of run folders, whole, unfinished and damaged."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from run_files import BOUNDS, ERRORS, config_of, history_of, metrics_of, scores_of, write_model, write_run

from iwae_tf.commands.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    """One finished run, one in a subfolder that is not finished, and two damaged ones."""
    config = config_of(training={"k": 5, "epochs": 4, "seed": 7})
    metrics = metrics_of(reliability={"reliable": 15, "num_rows": 20, "median_effective_sample_size": 9.0})
    write_run(tmp_path / "a", config, metrics, history_of(4), scores_of(np.zeros(20)))
    (tmp_path / "a" / "model.keras").touch()
    write_run(tmp_path / "paper" / "b", config_of(data={"dataset": "table.csv"}), history=history_of(2))
    write_run(tmp_path / "c", config, {"bounds": 1}, history_of(4))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "config.json").write_text("{")
    (tmp_path / "no-run").mkdir()
    return tmp_path


def test_every_run_is_a_line_of_the_table(folder, capsys):
    assert main(["runs", str(folder)]) == 0
    header, finished, *damaged, begun = capsys.readouterr().out.splitlines()
    columns = [match.start() for match in re.finditer(r"\S+( p\(x\))?", header)]
    assert [re.split(r"  +", line[start:])[0] for line, start in zip([header] * 2, columns, strict=False)] == [
        "run",
        "dataset",
    ]
    words = [finished[start:end].strip() for start, end in zip(columns, [*columns[1:], None], strict=True)]
    assert words == [
        *(str(folder / "a"), "digits", "iwae", "5", "1", "7", "4/4"),
        *(f">= {BOUNDS[50]:.2f} +- {ERRORS[50]:.2f}", f"{BOUNDS[50]:.2f} (k=50)", "75.0%", "finished"),
    ]
    assert [line[columns[-1] :] for line in damaged if str(folder / "c") in line or str(folder / "d") in line]
    assert all("damaged: " in line for line in damaged)
    assert len(damaged) == 2
    assert begun[columns[1] :].split() == [
        "table.csv",
        "iwae",
        "50",
        "1",
        "0",
        "2/60",
        "-",
        "-",
        "-",
        "not",
        "finished",
    ]


def test_a_run_that_is_trained_further_is_not_finished_and_one_without_a_history_has_no_epochs(tmp_path, capsys):
    metrics = metrics_of(epochs=4)
    for name, epochs in (("further", 9), ("bare", 4)):
        write_run(
            tmp_path / name, config_of(training={"epochs": epochs}), metrics, history_of(5) if epochs > 4 else None
        )
        (tmp_path / name / "model.keras").touch()
    assert main(["runs", str(tmp_path)]) == 0
    _, bare, further = capsys.readouterr().out.splitlines()
    assert "  5/9  " in further
    assert further.endswith("  not finished, scores of 4 epochs")
    write_model(tmp_path / "further")  # of more epochs than metrics.json, which is of another model
    (tmp_path / "further" / "metrics.json").write_text(json.dumps(metrics | {"model": "sha256:0"}))
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[2].endswith("  not finished")
    assert "  -/4  " in bare
    assert bare.endswith("  finished")


def test_csv_has_every_digit_and_a_row_for_a_damaged_run(folder, capsys):
    assert main(["runs", str(folder), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [Path(row["run"]).name for row in rows] == ["a", "c", "d", "b"]
    whole, metrics, config, begun = rows
    assert (whole["log_likelihood"], whole["bound"], whole["bound_k"], whole["reliable"]) == (
        "-27.125",
        "-27.125",
        "50",
        "0.75",
    )
    assert (whole["state"], begun["state"], begun["log_likelihood"]) == ("finished", "not finished", "")
    assert (begun["epochs_done"], begun["epochs"]) == ("2", "60")
    assert metrics["state"].startswith("damaged: ")
    assert "metrics.json" in metrics["state"]
    assert "config.json cannot be read" in config["state"]


def test_a_folder_without_runs_is_one_line_and_exit_code_2(tmp_path, capsys):
    for folder, message in ((tmp_path, "holds no run"), (tmp_path / "none", "there is no folder")):
        assert main(["runs", str(folder)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_the_list_needs_no_tensorflow(folder):
    command = [sys.executable, "-X", "importtime", "-m", "iwae_tf", "runs", str(folder)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0
    assert not re.search(r"\| +(tensorflow|keras|sklearn|matplotlib|scipy|pyarrow)\b", process.stderr)
    assert re.search(r"\| +numpy\b", process.stderr)  # the list of imports is complete
