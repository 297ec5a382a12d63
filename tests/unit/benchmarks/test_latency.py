"""Time of a served row, with an export of a small model."""

import itertools
import sys
from types import SimpleNamespace

import pytest

from benchmarks import latency


def test_every_signature_and_size_has_a_time_for_each_call(small_folder, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: 6.0 * next(ticks)))
    found = latency.seconds_of_a_row([small_folder.parent], calls=3, sizes=(1, 10), num_samples=100)
    assert set(found) == {("small", signature, size) for signature in latency.SIGNATURES for size in (1, 10)}
    for (_, _, size), seconds in found.items():
        assert seconds == [6.0 / size] * 3  # of a row


def test_the_command_prints_a_row_for_each_and_refuses_a_model_without_scores(small_folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["latency", str(small_folder.parent), "--calls", "1"])
    latency.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| model | signature |")
    assert len(lines) == 2 + len(latency.SIGNATURES) * len(latency.SIZES)
    assert lines[2].startswith("| small | serving_default | 1 | ")
    with pytest.raises(RuntimeError, match="small does not score what it draws"):
        latency.seconds_of_a_row([small_folder.parent], calls=1, sizes=(1,), num_samples=-1)
