"""Coverage of intervals, and the rows of a table, without models of any size."""

import numpy as np
from small_models import binary_images, small_model

from benchmarks import reliability


def test_intervals_of_normal_estimates_cover_95_percent_and_narrow_ones_fewer():
    rng = np.random.default_rng(0)
    errors = np.full((30, 400), 0.01)  # small, so that log of the mean is the mean of the log
    log_p = -80.0 + errors * rng.standard_normal(errors.shape)
    covered = reliability.intervals_cover(log_p, errors)
    assert covered.shape == (30, 400)
    assert abs(covered.mean() - 0.95) < 0.01  # 12,000 intervals: 5 standard errors
    assert abs(reliability.intervals_cover(log_p, errors / 2).mean() - 0.67) < 0.02  # P(|z| < 0.98)
    shifted = log_p.copy()
    shifted[0] += 1.0
    assert not reliability.intervals_cover(shifted, errors)[0].any()


def test_a_model_has_a_row_for_each_proposal():
    rows = reliability.measured(small_model(gain=1.0), binary_images(4), num_samples=60, seeds=3)
    assert [row[0] for row in rows] == ["refined", "q"]
    assert all(len(row) == len(reliability.COLUMNS) - 1 for row in rows)
    assert float(rows[0][3]) > float(rows[1][3]) > 1.0  # effective samples
