"""Time to a likelihood: where a line reaches it, the table and the figure, and turns that go on where they stopped."""

import functools

import numpy as np
import pytest

from benchmarks import package, time_to_likelihood
from benchmarks.time_to_likelihood import EagerTorch, Package, draw, go_on, reached, read, table, ways
from iwae_tf.config import TrainingConfig
from iwae_tf.data import load

LINES = {"one": [(36.0, -93.0), (72.0, -91.0), (180.0, -87.0)], "other": [(360.0, -95.0), (720.0, -91.5)]}


def test_a_likelihood_is_reached_on_the_line_between_two_scores_or_not_at_all():
    assert reached(LINES["one"], -92.0) == pytest.approx(54.0)
    assert reached(LINES["one"], -91.0) == pytest.approx(72.0)
    assert reached(LINES["other"], -91.0) is None
    hours = {name: [(60 * seconds, test) for seconds, test in line] for name, line in LINES.items()}
    assert "| -92 | 0.90 | 11.14 |\n| -90 | 1.65 |  |" in table(hours)


def test_the_lines_are_drawn(tmp_path):
    draw(LINES, tmp_path / "times.png")
    assert (tmp_path / "times.png").stat().st_size > 10_000


def test_the_ways_differ_in_what_their_names_say():
    found = {name: (kind, training.optimizer, training.epochs) for name, (kind, training) in ways([20, 100]).items()}
    assert found == {
        "fast, 20 passes": (Package, "muon", 20),
        "fast, 100 passes": (Package, "muon", 100),
        "the paper's settings": (Package, "adam", 3280),
        "the same, eager PyTorch": (EagerTorch, "adam", 3280),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Package, EagerTorch])
def test_turns_go_on_where_they_stopped(tmp_path, monkeypatch, kind):
    if kind is EagerTorch:
        pytest.importorskip("torch")
    monkeypatch.setattr(time_to_likelihood, "NUM_SAMPLES", 50)
    digits = load("digits")
    x_test = package.binarized(digits, "test")[:20]
    training = TrainingConfig(k=50, objective="dreg", batch_size=10, epochs=1)  # 130 steps
    folder, path = tmp_path / "state", tmp_path / "times.csv"
    folder.mkdir()
    path.write_text(",".join(time_to_likelihood.FIELDS) + "\n")
    make = functools.partial(kind, digits, training, folder)
    next(go_on("way", make, read(path).get("way", []), 1.0, x_test, path))  # 100 steps, then the process ends
    scores = make(100).score(x_test)
    assert float(read(path)["way"][0]["test"]) == pytest.approx(np.mean(scores), abs=0.2)
    list(go_on("way", make, read(path)["way"], 1000.0, x_test, path))
    rows = read(path)["way"]
    assert [int(row["steps"]) for row in rows] == [100, 130]
    assert [float(row["passes"]) for row in rows] == [0.77, 1.0]
    assert float(rows[1]["core_seconds"]) > float(rows[0]["core_seconds"]) > 0
    assert float(rows[1]["test"]) > float(rows[0]["test"]) > -60
