"""The figure of growth: every line is there, from the rows that the benchmarks write."""

import numpy as np
import pytest

from benchmarks.cases import CASES
from benchmarks.growth_figure import PANELS, growth_figure, points
from benchmarks.memory import SIZES


def _rows() -> list[dict]:
    times = {"median_ms": 3.0, "floor_ms": 2.0}
    rows = [{"case": case, "candidate": name, **times} for case in CASES for name in ("iwae-tf", "batches")]
    return rows + [{"case": case, "candidate": "iwae-tf", "peak_mib": 800.0} for case in SIZES]


def test_the_figure_has_a_point_for_every_size():
    axes = growth_figure(_rows()).axes
    lengths = [[len(line.get_xdata()) for line in one.lines] for one in axes]
    assert lengths == [[4, 4], [3, 3], [4, 4], [4], [4, 4], [3, 3]]
    assert [len(one.lines) for one in axes] == [len(lines) for _, _, lines in PANELS]
    np.testing.assert_array_equal([line.get_ydata()[0] for line in axes[0].lines], [3.0, 2.0])


@pytest.mark.parametrize(("candidate", "expected"), [("iwae-tf", 3.0), ("floor", 2.0)])
def test_a_point_is_the_candidates_own_time_or_what_it_was_divided_by(candidate, expected):
    rows = [
        {"case": "train-l1-b20-k5", "candidate": "floor, in 2 parts", "median_ms": 9.0, "floor_ms": 2.0},
        {"case": "train-l1-b20-k5", "candidate": "iwae-tf", "median_ms": 3.0, "floor_ms": 2.0},
        {"case": "train-l1-b20-k5", "candidate": "floor", "median_ms": 9.0, "floor_ms": 2.0},
        {"case": "train-l2-b20-k50", "candidate": "iwae-tf", "median_ms": 7.0, "floor_ms": 2.0},
    ]
    assert points(rows, "train-l1-b20-k(.+)", candidate) == [(5.0, expected)]
