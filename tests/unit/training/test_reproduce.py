"""The paper's experiments on a handful of images: what is trained, what is not trained again, and the table."""

import csv

import numpy as np
import pytest

from iwae_tf.config import DataConfig, EvaluationConfig
from iwae_tf.training import reproduce as module
from iwae_tf.training.paper import cells_of
from iwae_tf.training.reproduce import Reproduction, markdown, reproduce

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "mine.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x_train=rng.random((30, 12)), x_valid=rng.random((5, 12)), x_test=rng.random((9, 12)))
    return str(path)


def _wanted(images, folder, only=None):
    cells = cells_of("table2", "mnist", only)
    return Reproduction("table2", cells, DataConfig(images), 0.001, EvaluationConfig(50), 0, folder)


def test_a_table_goes_on_where_it_stopped_and_what_is_finished_is_not_done_again(images, tmp_path, monkeypatch):
    wanted, lines = _wanted(images, tmp_path), []

    def interrupted(cell, *arguments):
        if cell.name == "iwae-k50-l1":
            raise KeyboardInterrupt
        return finished(cell, *arguments)

    finished = module._finished
    with monkeypatch.context() as patch:
        patch.setattr(module, "_finished", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reproduce(wanted, 0, lines.append)
    assert [row["cell"] for row in _rows(tmp_path)] == ["vae-k1-l1", "vae-k1-l1-then-iwae-k50-l1"]
    rows = reproduce(wanted, 0, lines.append)
    monkeypatch.setattr(module.training, "start", None)  # nothing is left to be started
    assert reproduce(wanted, 0, lines.append) == rows
    assert [row["cell"] for row in rows] == [cell.name for cell in wanted.cells]
    assert sum(": starts, " in line for line in lines) == 4
    _assert_the_table_says_what_it_is(wanted, rows)


def _rows(folder):
    with (folder / "table2.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _assert_the_table_says_what_it_is(wanted, rows):
    text = (wanted.folder / "table2.md").read_text()
    assert text == markdown(wanted, rows)
    assert "scale 0.001: 3 passes over the data where the paper has 3,280; not the paper's protocol" in text
    for row, line in zip(rows, text.splitlines()[5:], strict=True):
        assert f"| {row['paper_nll']:.2f} | {row['difference']:+.2f} |" in line
        assert row["difference"] == pytest.approx(row["ours_nll"] - row["paper_nll"], abs=2e-3)
    assert {row["scale"] for row in _rows(wanted.folder)} == {"0.001"}
    assert (wanted.folder / "table2.png").read_bytes().startswith(b"\x89PNG")


def test_a_single_swapped_cell_brings_the_one_it_starts_from(images, tmp_path):
    rows = reproduce(_wanted(images, tmp_path, ["vae-k1-l1-then-iwae-k50-l1"]), 0, lambda line: None)
    assert [row["cell"] for row in rows] == ["vae-k1-l1-then-iwae-k50-l1"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["k1-l1", rows[0]["cell"]]
