"""The benchmarks of a step: what the figure of the race says, and how ratios are taken."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import backward_samples, bounds, timing
from benchmarks.timing import ratios_to


def _rows():
    return [(m, 10.0 * turn, 100 * turn, -100.0 - m / turn) for turn in (1, 2, 3) for m in (50, 5, 1)]


def test_the_figure_of_the_race_shows_every_line(tmp_path):
    backward_samples.draw(tmp_path / "race.png", _rows(), "a race")
    pixels = np.asarray(Image.open(tmp_path / "race.png").convert("RGB")).reshape(-1, 3)
    for color in backward_samples.COLORS.values():
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).sum() > 100


def test_the_ratio_is_taken_within_a_round():
    slow_machine = np.array([1.0, 10.0, 1.0, 5.0])
    median, low, high = ratios_to(list(slow_machine), list(2.0 * slow_machine))
    assert (median, low, high) == pytest.approx((2.0, 2.0, 2.0))


@pytest.mark.slow
def test_every_model_of_the_race_gets_the_same_time(monkeypatch):
    from iwae_tf.data import load

    ticks = itertools.count()
    monkeypatch.setattr(backward_samples, "time", SimpleNamespace(perf_counter=lambda: 0.25 * next(ticks)))
    digits = load("digits")
    racers = [backward_samples.Racer(digits, m, 20) for m in (50, 1)]
    for racer in racers:
        racer.train(1.0)
    assert [racer.steps for racer in racers] == [2, 2]  # the clock is read twice around them and once before each
    assert racers[0].seconds == racers[1].seconds == pytest.approx(1.0)
    assert racers[0].model.objective.backward_samples is None
    assert racers[1].model.objective.backward_samples == 1


def test_a_turn_is_the_mean_of_its_calls_or_the_ways_own_clock(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: 6.0 * next(ticks)))
    assert timing.turn(lambda: None, 3) == 2.0
    assert timing.turn(lambda: timing.Seconds(0.5), 1) == 0.5
    assert timing.repeats_of(lambda: None) == 1  # six seconds are more than a turn needs
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: 1e-3 * next(ticks)))
    assert timing.repeats_of(lambda: None) == 20


def test_a_short_run_has_the_floors_of_this_process_and_one_candidate():
    ways = dict.fromkeys(("floor", "floor, in 2 parts", "floor, TensorFlow's threads", "iwae-tf", "iwae-tf, XLA"))
    assert list(bounds.short_ways("train-l1-b20-k1", ways)) == ["floor", "floor, in 2 parts", "iwae-tf"]


def test_the_recorded_ratio_stands_beside_its_own_row_alone(monkeypatch):
    monkeypatch.setattr(bounds, "read", lambda: {"ratios": {"train-l1-b20-k1": 1.5}})
    row = {"case": "train-l1-b20-k1", "candidate": "iwae-tf"}
    assert bounds.beside(row) == "  (recorded: 1.50)"
    assert bounds.beside({**row, "candidate": "floor"}) == bounds.beside({**row, "case": "evaluate-l1"}) == ""
