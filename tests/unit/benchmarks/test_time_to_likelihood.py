"""Time to a likelihood: where a line reaches it, the table and the figure, and turns that go on where they stopped."""

import importlib.util

import numpy as np
import pytest

from benchmarks.time_to_likelihood import TEST, EagerTorch, Package, draw, go_on, reached, table, ways
from benchmarks.timing import Worker

LINES = {"one": [(36.0, -93.0), (72.0, -91.0), (180.0, -87.0)], "other": [(360.0, -95.0), (720.0, -91.5)]}


def test_a_likelihood_is_reached_on_the_line_between_two_scores_or_not_at_all():
    assert reached(LINES["one"], -92.0) == pytest.approx(54.0)
    assert reached(LINES["one"], -91.0) == pytest.approx(72.0)
    assert reached(LINES["other"], -91.0) is None
    hours = {name: [(60 * seconds, test) for seconds, test in line] for name, line in LINES.items()}
    assert "| -92 | 0.90 | 11.14 |\n| -90 | 1.65 | > 12.00 |" in table(hours)


def test_the_lines_are_drawn(tmp_path):
    draw(LINES, tmp_path / "times.png")
    assert (tmp_path / "times.png").stat().st_size > 10_000


def test_the_ways_differ_in_what_their_names_say():
    found = {
        name: (kind, [(run.optimizer, run.k, run.epochs, run.learning_rate) for run in runs])
        for name, (kind, runs) in ways([20, 100]).items()
    }
    assert found == {
        "fast, 20 passes": (Package, [("muon", 5, 20, 0.008), ("muon", 50, 2, 0.004)]),
        "fast, 100 passes": (Package, [("muon", 5, 100, 0.008), ("muon", 50, 12, 0.004)]),
        "the paper's settings": (Package, [("adam", 50, 3280, 0.001)]),
        "the same, eager PyTorch": (EagerTorch, [("adam", 50, 3280, 0.001)]),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fast, 40 passes", "the same, eager PyTorch"])
def test_turns_go_on_where_they_stopped(tmp_path, name):
    if "PyTorch" in name and not importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is not installed")
    images = np.zeros((460, 28, 28), np.uint8)
    images[::2, :14] = images[1::2, 14:] = 255  # the upper or the lower half is white
    labels = np.zeros(460, np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    (tmp_path / name).mkdir()
    np.save(tmp_path / TEST, images[:5].reshape(5, 784).astype(np.float32) / 255)
    flags = ["--data-dir", str(tmp_path), "--folder", str(tmp_path), "--fast-epochs", "40"]

    def worker(step):
        return Worker("benchmarks.time_to_likelihood", "--answer", name, str(step), *flags)

    first = worker(0)
    seconds, before = first.ask(20)
    after = worker(20).ask(20)[1]
    assert seconds > 0
    assert after > before + 20
    # PyTorch draws other noise for the steps and the score
    assert after == pytest.approx(first.ask(20)[1], abs=10.0 if "PyTorch" in name else 1e-2)
    if "fast" in name:  # steps 40 to 44 are the run with k = 50
        first.ask(2)
        assert worker(42).ask(1)[1] == pytest.approx(first.ask(1)[1], abs=1e-3)


def test_turns_double_the_time_so_far_up_to_the_longest_and_end_with_the_run(tmp_path):
    path, rows, asked = tmp_path / "times.csv", [], []

    def ask(steps):  # half a second each
        asked.append(steps)
        return 0.5 * steps, -90.0 + len(asked)

    used = list(go_on("way", rows, [1000], 100, 200.0, ask, path))
    assert asked == [100, 100, 200, 400, 200]
    assert used == [50.0, 100.0, 200.0, 400.0, 500.0]
    assert rows[-1] == {"way": "way", "core_seconds": "500.0", "steps": 1000, "passes": "10.00", "test": "-85.000"}
    assert list(go_on("way", rows, [1000], 100, 200.0, ask, path)) == []
    assert next(go_on("way", rows[:2], [1000], 100, 200.0, ask, path)) == 200.0
    assert len(path.read_text().splitlines()) == 5 + 1


def test_a_turn_ends_where_a_run_does_and_the_next_run_begins_with_short_turns(tmp_path):
    rows, asked = [], []

    def ask(steps):
        asked.append(steps)
        return 0.5 * steps, -90.0

    list(go_on("way", rows, [500, 450], 100, 100.0, ask, tmp_path / "times.csv"))
    assert asked == [100, 100, 200, 100, 100, 100, 200, 50]
    del rows[6:], asked[:]
    list(go_on("way", rows, [500, 450], 100, 100.0, ask, tmp_path / "times.csv"))
    assert asked == [200, 50]
