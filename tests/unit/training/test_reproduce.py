"""The paper's tables: as data, and reproduced on a handful of images."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from run_files import metrics_of, write_model

from iwae_tf import InputError
from iwae_tf.commands.main import main
from iwae_tf.config import DataConfig, EvaluationConfig, OutputConfig
from iwae_tf.training import evaluation
from iwae_tf.training.building import checksums, load_data
from iwae_tf.training.reproduce import TABLES, Reproduction, cells_of, markdown, reproduce
from iwae_tf.training.run_folder import model_checksum
from iwae_tf.training.sweep import Options

QUIET = Options(OutputConfig(verbose=0), report=lambda line: None)


def _config(cell, scale=1.0):
    return cell.config(DataConfig("mnist", "/data"), scale, EvaluationConfig(100), 3, Path("runs/all"))


def _cells(table="table1", dataset="mnist"):
    return {cell.name: cell for cell in cells_of(table, dataset)}


@pytest.mark.parametrize(
    ("table", "dataset", "name", "nll", "units"),
    [
        ("table1", "mnist", "iwae-k50-l2", 82.90, (26, 7)),
        ("table1", "mnist", "vae-k5-l1", 86.47, (20,)),
        ("table1", "omniglot", "vae-k1-l2", 107.58, (28, 4)),
        ("table1", "omniglot", "iwae-k5-l1", 106.12, (34,)),
        ("table3", "binarized_mnist", "iwae-k50-l2", 85.32, None),
        ("table3", "binarized_mnist", "vae-k50-l1", 89.05, None),
        ("table2", "mnist", "vae-k1-l1-then-iwae-k50-l1", 84.88, (22,)),
        ("table2", "mnist", "iwae-k50-l1-then-vae-k1-l1", 86.02, (23,)),
    ],
)
def test_a_cell_has_the_papers_figures(table, dataset, name, nll, units):
    cells = _cells(table, dataset)
    assert len(cells) == (4 if table == "table2" else 12)
    assert (cells[name].nll, cells[name].active_units) == (nll, units)


@pytest.mark.parametrize(("table", "dataset"), [(t, d) for t in ("table1", "table3") for d in TABLES[t]])
def test_in_the_paper_more_samples_make_a_better_iwae(table, dataset):
    cells = _cells(table, dataset)
    for layers in (1, 2):
        nll = [cells[f"iwae-k{k}-l{layers}"].nll for k in (1, 5, 50)]
        assert nll == sorted(nll, reverse=True)
        assert nll[-1] < cells[f"vae-k50-l{layers}"].nll


def test_a_cell_is_trained_as_in_the_paper_and_with_one_sample_vae_and_iwae_are_one_run():
    cells = _cells()
    training = _config(cells["iwae-k50-l2"]).training
    assert (training.epochs, training.batch_size, training.schedule) == (3280, 20, "paper")
    assert (training.objective, training.k, training.learning_rate, training.seed) == ("iwae", 50, 1e-3, 3)
    assert _config(cells["iwae-k50-l2"]).model.latent_units == (100, 50)
    assert _config(cells["vae-k50-l2"]).training.objective == "elbo"
    assert cells["vae-k1-l2"].run_name(0) == cells["iwae-k1-l2"].run_name(0) == "k1-l2"
    assert cells["vae-k1-l2"].run_name(3) == "k1-l2-seed3"
    assert _config(cells["vae-k1-l2"]) == _config(cells["iwae-k1-l2"])
    assert cells["vae-k5-l2"].run_name(0) != cells["iwae-k5-l2"].run_name(0)
    assert len({cell.run_name(0) for cell in cells_of("table2", "mnist")}) == 4


@pytest.mark.parametrize(("scale", "epochs", "further"), [(1.0, 3280, 2187), (0.01, 33, 22), (1e-6, 1, 1)])
def test_a_scale_shortens_all_in_proportion(scale, epochs, further):
    first, swapped, *_ = cells_of("table2", "mnist")
    assert _config(first, scale).training.epochs == epochs
    training = _config(swapped, scale).training
    assert (training.epochs, training.schedule, training.learning_rate) == (further, "constant", 1e-4)
    assert training.init_from == "runs/all/k1-l1-seed3"  # of the same seed


def test_only_the_cells_asked_for_are_taken_in_the_order_of_the_table():
    cells = cells_of("table1", "mnist", ["iwae-k50-l2", "vae-k5-l1"])
    assert [cell.name for cell in cells] == ["vae-k5-l1", "iwae-k50-l2"]


def test_a_scale_outside_its_range_is_refused():
    for scale in (0.0, -1.0, 1.5, float("nan"), "1", True):
        with pytest.raises(InputError, match="scale must be"):
            Reproduction("table1", [], DataConfig(), scale, EvaluationConfig(), [0], Path("runs"))


def test_finished_cells_count_only_with_the_weights_data_and_model_that_they_were_made_with(
    images, tmp_path, monkeypatch
):
    monkeypatch.setattr("iwae_tf.plots.save_reproduction", lambda *arguments: None)
    monkeypatch.setattr("iwae_tf.training.run.start", None)  # nothing may be trained
    data = DataConfig(images)
    found = checksums(load_data(vars(data)))
    cells = cells_of("table2", "mnist", ["vae-k1-l1-then-iwae-k50-l1"])
    wanted = Reproduction("table2", cells, data, 0.001, EvaluationConfig(50), [0], tmp_path)
    first, second = (tmp_path / name for name in ("k1-l1", cells[0].run_name(0)))

    def write(path, cell, weight, taken=None, **sha256):
        write_model(path, weight)
        content = cell.config(data, 0.001, EvaluationConfig(50), 0, tmp_path).to_json()
        content["data"] |= {"num_train": 50, "num_valid": 7, "num_test": 20, "sha256": found | sha256}
        content["training"]["init_from_model"] = taken
        (path / "config.json").write_text(json.dumps(content))
        (path / "metrics.json").write_text(json.dumps(metrics_of(model=model_checksum(path))))

    write(first, cells[0].start, 1.0)
    for taken in (model_checksum(first), None):  # an earlier version recorded none
        write(second, cells[0], 2.0, taken)
        assert [row["cell"] for row in reproduce(wanted, QUIET)[0]] == [cells[0].name]
    write(second, cells[0], 2.0, model_checksum(first))
    write_model(second, 3.0)
    with pytest.raises(InputError, match=r"iwae-k50-l1 was changed: metrics.json is of model .*, model.keras is of"):
        reproduce(wanted, QUIET)
    write(second, cells[0], 2.0, model_checksum(first), test="0")
    with pytest.raises(InputError, match="the content of test has changed"):
        reproduce(wanted, QUIET)
    write(second, cells[0], 2.0, model_checksum(first))
    write(first, cells[0].start, 4.0)  # trained anew, to other weights
    message = rf"k1-l1 has changed since .*{second.name} started from it: init_from in .* is of model .*; delete .*"
    for name in ("metrics.json", "model.keras"):  # finished, and stopped
        with pytest.raises(InputError, match=message + second.name):
            reproduce(wanted, QUIET)
        (second / name).unlink()
    shutil.rmtree(second)
    with pytest.raises(TypeError, match="not callable"):  # it would be trained
        reproduce(wanted, QUIET)


@pytest.mark.slow
def test_a_table_resumes_and_finished_cells_are_not_trained_again(
    images, tmp_path, without_figures, without_refinement, monkeypatch
):
    names = ["vae-k1-l1", "vae-k1-l1-then-iwae-k50-l1"]
    cells = cells_of("table2", "mnist", names)
    wanted = Reproduction("table2", cells, DataConfig(images), 0.001, EvaluationConfig(20), [0], tmp_path)
    lines, evaluate = [], evaluation.evaluate_training
    options = QUIET._replace(report=lines.append)

    def interrupted(run, *arguments):
        if run.config.training.init_from:
            raise KeyboardInterrupt
        return evaluate(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate_training", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reproduce(wanted, options)
    assert [row["cell"] for row in _rows(tmp_path)] == names[:1]
    rows, failed = reproduce(wanted, options)
    assert failed == []
    monkeypatch.setattr("iwae_tf.training.run.start", None)  # nothing is left to be started
    assert reproduce(wanted, options) == (rows, [])
    assert [row["cell"] for row in rows] == names
    found = [line.split(": ")[-1].split(",")[0] for line in lines if line.startswith("vae")]
    assert found == ["starts", "starts", "finished before", "resumes", "finished before", "finished before"]
    text = (tmp_path / "table2.md").read_text()
    assert text == markdown(wanted, rows)
    assert "scale 0.001: 3 passes over the data where the paper has 3,280, and -L_" in text
    assert " where it has -L_5000; not the paper's protocol" in text
    for row, line in zip(rows, text.splitlines()[6:], strict=True):
        assert f"| {row['paper_nll']:.2f} | {row['difference']:+.2f} |" in line
        assert row["difference"] == pytest.approx(row["ours_nll"] - row["paper_nll"], abs=2e-3)
        assert row["ours_nll"] > 0
    assert {row["scale"] for row in _rows(tmp_path)} == {"0.001"}
    assert (tmp_path / "table2.png").exists()


def test_each_cell_has_the_mean_and_the_spread_of_its_own_seeds_and_one_error_over_images(tmp_path, monkeypatch):
    nll = {"vae-k5-l1": {0: 100.0, 2: 102.0}, "k1-l1": {0: 110.0, 2: 115.0}}
    order = []

    def finished(plan, options):
        for run in plan:
            order.append(run.path.name)
            seed = run.config.training.seed
            found = metrics_of(bounds={"50": -nll[run.path.name.removesuffix(f"-seed{seed}")][seed]})
            yield run.path, found | {"bound_standard_errors": {"50": 0.25 + seed}, "active_units": [20 + seed]}

    figures = []
    monkeypatch.setattr("iwae_tf.training.reproduce.finish", finished)
    monkeypatch.setattr("iwae_tf.plots.save_reproduction", lambda *given: figures.append(given[1:]))
    cells = cells_of("table1", "mnist", ["vae-k1-l1", "iwae-k1-l1", "vae-k5-l1"])
    wanted = Reproduction("table1", cells, DataConfig("mnist"), 0.001, EvaluationConfig(50), [2, 0], tmp_path)
    rows, _ = reproduce(wanted, QUIET)
    assert order == ["k1-l1-seed2", "vae-k5-l1-seed2", "k1-l1", "vae-k5-l1"]
    assert [(row["cell"], row["ours_nll"], row["refits"]) for row in rows] == [
        *((name, 112.5, 2) for name in ("vae-k1-l1", "iwae-k1-l1")),
        ("vae-k5-l1", 101.0, 2),
    ]
    assert [row["ours_sd"] for row in rows] == pytest.approx([5 / 2**0.5, 5 / 2**0.5, 2**0.5], abs=1e-3)
    assert {row["ours_standard_error"] for row in rows} == {2.25}  # of the first seed
    assert rows[2]["difference"] == pytest.approx(101 - 86.47)
    text = (tmp_path / "table1.md").read_text()
    assert "; seed 2, 0, batch 20." in text
    assert "| vae-k5-l1 | 101.00 +- 1.41 | 2.25 | 86.47 | +14.53 | 20-22 | 20 | 1.5 |" in text
    assert figures[-1][0]["vae-k5-l1"] == (101.0, 1.414, 86.47)
    assert figures[-1][-1] is True
    assert "| 110.00 (1 of 2 refits) | 2.25 |" in markdown(
        wanted, [rows[0] | {"ours_nll": 110, "ours_sd": None, "refits": 1}]
    )


def _rows(folder):
    with (folder / "table2.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_command_trains_each_model_once_and_names_the_scale(tmp_path, without_figures, without_refinement, capfd):
    x = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x, x_test=x[:2], y_train=np.zeros(40, np.uint8))
    words = ["reproduce", "table1", "--data-dir", str(tmp_path), "--scale", "0.0001", "--eval-samples", "5"]
    words += ["--output-dir", str(tmp_path / "out"), "--verbose", "0", "--only", "vae-k1-l1", "iwae-k1-l1"]
    assert main([*words, "--figure-format", "svg"]) == 0
    printed = capfd.readouterr().out
    assert printed.startswith("table1 on mnist, scale 0.0001: 1 passes over the data where the paper")
    assert "vae-k1-l1: starts, 1 passes" in printed
    assert "iwae-k1-l1: " not in printed  # the same run
    assert (tmp_path / "out" / "table1.md").read_text() in printed
    assert {path.name for path in (tmp_path / "out").glob("table1.*")} == {"table1.csv", "table1.md", "table1.svg"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table4"], "unknown table 'table4': did you mean 'table3'"),
        (["table1", "--only", "iwae-k50-l3"], "unknown cell 'iwae-k50-l3': did you mean 'iwae-k50-l"),
        (["table1", "--dataset", "cifar"], "table1 exists for mnist and omniglot, got 'cifar'"),
        (["table1", "--seeds", "2", "--seed", "-1"], "seed must be an integer in [0, 2147483647], got -1"),
        (["table1", "--scale", "0"], "scale must be above 0 and at most 1"),
        (["table3", "--data-dir", "EMPTY"], "binarized_mnist"),
        (["table1", "--data-dir", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    assert main(["reproduce", *words]) == 2
    printed = capfd.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert {path.name for path in tmp_path.iterdir()} <= {"EMPTY"}
