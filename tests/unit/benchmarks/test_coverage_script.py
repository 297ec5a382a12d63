"""Coverage of intervals, and the rows of a table, without models of any size."""

import re

import numpy as np
from small_models import binary_images, small_model

from benchmarks import reliability
from iwae_tf.evaluation import estimate_log_likelihood


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
    rows, refined = reliability.measured(small_model(gain=1.0), binary_images(4), num_samples=60, seeds=3)
    assert [row[0] for row in rows] == ["refined", "q"]
    assert all(len(row) == len(reliability.COLUMNS) - 1 for row in rows)
    assert f"{np.mean([one.log_likelihood for one in refined]):.3f}" == rows[0][1]
    assert float(rows[0][4]) > float(rows[1][4]) > 1 / 60  # the share of samples that is effective


def test_refined_scores_agree_with_annealing_and_with_the_sandwich():
    model, x = small_model(gain=1.0), binary_images(12)
    found = [estimate_log_likelihood(model, x, 500, seed, sample_sizes=()) for seed in range(2)]
    lines = list(reliability.agreement(model, x, 500, found, annealing_seeds=2, num_temperatures=30))
    means, difference, simulated = ([float(n) for n in re.findall(r"-?\d+\.\d+", line)] for line in lines)
    refined, _, annealed, _, of_q = means
    exact = estimate_log_likelihood(model, x, 20000, refine="off").log_likelihood.mean()
    np.testing.assert_allclose([refined, annealed, of_q], exact, atol=0.08)
    assert abs(difference[0] - (refined - annealed)) < 0.002  # all are reliable; three decimals
    assert -0.08 < simulated[0] < simulated[2] + 0.08
    assert simulated[1] < 0.04  # of the same images: 0.032; of others 0.045
