"""A score that is called reliable is: its 95% interval covers log p(x), whatever the tail of the weights below 1/2."""

import numpy as np
import pytest
from linear_gaussian_models import DIM, linear_gaussian

from iwae_tf.evaluation import estimate_log_likelihood

SEEDS, ROWS, TARGET = 20, 60, 0.03


def scores(tail, *settings, **options):
    """Errors, intervals that cover and reliability, [SEEDS, ROWS], where q has the posterior's means.

    With scales sqrt(1 - tail) times the posterior's, P(w > t) falls as t^(-1 / tail) in each direction.
    """
    model, exact = linear_gaussian(1, scale_factor=np.sqrt(1.0 - tail))
    x = 2 * np.random.default_rng(2).standard_normal((ROWS, DIM)).astype(np.float32)
    options |= {"refine": "off", "sample_sizes": ()}
    found = [estimate_log_likelihood(model, x, *settings, seed=seed, **options) for seed in range(SEEDS)]
    error = np.array([estimate.log_likelihood for estimate in found]) - exact.log_prob(x)
    covered = np.abs(error) < 1.96 * np.array([estimate.standard_error for estimate in found])
    return error, covered, np.array([estimate.reliable for estimate in found])


@pytest.mark.slow
@pytest.mark.parametrize("tail", [0.3, 0.5])
def test_intervals_of_reliable_scores_cover_log_p_in_93_to_98_of_100_cases(tail):
    _, covered, reliable = scores(tail, 1000)
    assert reliable.mean() > 0.7
    # 0.96 for both tails; 1,200 intervals: 3 standard errors are 0.02, and ends of 93% and 98% leave as much.
    assert 0.93 < covered[reliable].mean() < 0.985


@pytest.mark.slow
def test_a_target_settled_by_pilot_runs_biases_the_estimate_by_less_than_a_tenth_of_it():
    error, covered, reliable = scores(0.5, 100, target_standard_error=TARGET, max_samples=20_000)
    for rows in (reliable, np.ones_like(reliable)):
        noise = error[rows].std() / np.sqrt(rows.sum())
        assert abs(error[rows].mean()) < 0.1 * TARGET + 3.0 * noise
    assert covered.mean() > 0.88  # 0.92; 0.82 without pilots; 0.96 for a tail of 0.3
