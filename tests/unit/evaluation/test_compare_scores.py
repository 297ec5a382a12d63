"""The comparison of two models: against SciPy and the bootstrap, its coverage, its symmetry, and what it says."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from iwae_tf.errors import InputError
from iwae_tf.evaluation.compare import Comparison, Scores, compare_scores

INF, NAN = float("inf"), float("nan")
EXACT = {"rtol": 1e-10}  # the same float64 formulas in another order


def scores(values, error=0.05, pareto_k=0.2):
    values = np.asarray(values, np.float64)
    return Scores(values, np.full(values.shape, error), np.full(values.shape, pareto_k))


def two_models(n=50, difference=0.4, seed=0):
    """Images that differ much from each other and little between the models."""
    rng = np.random.default_rng(seed)
    b = -22 + 4 * rng.standard_normal(n)
    return b + difference + rng.standard_normal(n), b


def interval_of(result):
    return tuple(result.confidence_interval(0.95))


@pytest.mark.parametrize("n", [2, 3, 10, 400])
def test_the_paired_interval_is_that_of_scipys_paired_t_test(n):
    a, b = two_models(n)
    found = compare_scores(scores(a), scores(b))
    np.testing.assert_allclose(found.interval, interval_of(scipy.stats.ttest_rel(a, b)), **EXACT)
    np.testing.assert_allclose(found.standard_error, scipy.stats.sem(a - b), **EXACT)
    np.testing.assert_allclose(found.difference, a.mean() - b.mean(), rtol=1e-9)  # cancellation of -22
    np.testing.assert_allclose(found.means, [a.mean(), b.mean()], **EXACT)
    np.testing.assert_allclose(found.mean_errors, [scipy.stats.sem(a), scipy.stats.sem(b)], **EXACT)
    assert found.num_images == (n, n)
    assert found.paired


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 40), (40, 5), (300, 400)])
def test_the_interval_without_pairs_is_that_of_scipys_welch_test(n, m):
    a, b = two_models(n)[0], 2 * two_models(m, seed=1)[1]
    found = compare_scores(scores(a), scores(b), paired=False)
    np.testing.assert_allclose(found.interval, interval_of(scipy.stats.ttest_ind(a, b, equal_var=False)), **EXACT)
    np.testing.assert_allclose(found.difference, a.mean() - b.mean(), **EXACT)
    assert found.num_images == (n, m)
    assert found.better is None


def test_the_paired_interval_agrees_with_the_bootstrap():
    a, b = two_models(400)
    low, high = compare_scores(scores(a), scores(b)).interval
    resampled = scipy.stats.bootstrap((a - b,), np.mean, n_resamples=4000, method="percentile", rng=0)
    # The ends of 4000 resamples scatter by 0.04 standard errors; t for z and skewness add 0.01. Six times that.
    tolerance = 6 * 0.05 * scipy.stats.sem(a - b)
    np.testing.assert_allclose((low, high), resampled.confidence_interval, atol=tolerance)


@pytest.mark.parametrize("n", [5, 50])
@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_the_interval_holds_the_difference_in_95_of_100_repetitions(n, common, noise):
    """Images and Monte Carlo noise drawn anew; little noise and much, of each model's own or in part common."""
    rng, covered = np.random.default_rng([n, common, int(noise)]), 0
    for _ in range(1000):
        b = -90 + 25 * rng.standard_normal(n)
        a = b + 0.3 + rng.standard_normal(n)
        noise_a, noise_b = noise * rng.standard_normal((2, n))
        noise_b = 0.7 * noise_a + 0.5 * noise_b if common else noise_b
        low, high = compare_scores(scores(a + noise_a, noise), scores(b + noise_b, noise)).interval
        covered += low <= 0.3 <= high
    # Binomial: the standard deviation of 1000 repetitions is 6.9; 3.3 of it. Counting the noise twice gives over 990.
    assert abs(covered - 950) <= 23


@pytest.mark.parametrize("paired", [True, False])
def test_swapped_scores_swap_or_negate_everything(paired):
    a, b = two_models(60)
    first, second = scores(a, 0.1, 0.9), scores(b, 0.3, 0.2)
    one, other = compare_scores(first, second, paired), compare_scores(second, first, paired)
    assert dataclasses.asdict(other) == {
        **dataclasses.asdict(one),
        "means": one.means[::-1],
        "mean_errors": one.mean_errors[::-1],
        "difference": -one.difference,
        "interval": (-one.interval[1], -one.interval[0]),
        "better": one.better and one.better[::-1],
    }


def test_the_same_scores_twice_do_not_differ():
    a, _ = two_models()
    found = compare_scores(scores(a), scores(a))
    assert (found.difference, found.standard_error, found.interval, found.better) == (0.0, 0.0, (0.0, 0.0), (0.0, 0.0))
    assert found.conclusion(("a", "b")).startswith("no difference can be seen: A - B is 0.00 nats, 95% interval 0.00")


def test_the_monte_carlo_error_is_that_of_two_means_of_independent_estimates():
    error_a, error_b = np.array([0.1, 0.2, 0.4]), np.array([0.3, 0.0, 0.5])
    zeros = np.zeros(3)
    found = compare_scores(Scores(zeros, error_a, zeros), Scores(zeros + 1, error_b, zeros))
    np.testing.assert_allclose(found.monte_carlo_error, math.sqrt((error_a**2 + error_b**2).sum()) / 3, **EXACT)
    unequal = compare_scores(scores([0, 1, 2], 0.3), scores([0, 1], 0.4), paired=False)
    np.testing.assert_allclose(unequal.monte_carlo_error, math.sqrt(0.3**2 / 3 + 0.4**2 / 2), **EXACT)
    assert math.isnan(compare_scores(scores([0, 1], NAN), scores([0, 2])).monte_carlo_error)


def test_where_only_the_noise_differs_the_standard_error_is_the_monte_carlo_error():
    rng = np.random.default_rng(0)
    truth = -22 + 4 * rng.standard_normal(4000)
    a, b = (truth + 0.2 * rng.standard_normal(4000) for _ in range(2))
    found = compare_scores(scores(a, 0.2), scores(b, 0.2))
    # A standard deviation of 4000 values is known to 1/sqrt(8000) = 1.1%; four times that.
    assert found.standard_error == pytest.approx(found.monte_carlo_error, rel=0.045)


def test_a_tie_is_better_for_neither():
    found = compare_scores(scores([1, 1, 1, 5, 5]), scores([0, 1, 2, 4, 4]))
    assert found.better == (0.6, 0.2)


def test_doubtful_rows_are_those_above_the_line_or_unknown_in_either():
    k_a, k_b = np.array([0.7, 0.71, INF, -INF, NAN, 0.1]), np.array([0.1, 0.9, 0.1, 0.1, 0.1, 0.8])
    first, second = (Scores(np.arange(6.0), np.ones(6), k) for k in (k_a, k_b))
    assert compare_scores(first, second).doubtful == 4  # rows 1, 2, 4, 5
    assert compare_scores(first, second, paired=False).doubtful == 5  # three of A, two of B


def test_one_image_says_nothing_of_others():
    found = compare_scores(scores([-20.0]), scores([-21.0]))
    assert (found.difference, found.better) == (1.0, (1.0, 0.0))
    assert all(map(math.isnan, (*found.interval, found.standard_error, *found.mean_errors)))
    assert found.conclusion(("a", "b")) == "nothing can be said: A - B is 1.00 nats on one image"
    alone = compare_scores(scores([-20.0]), scores([-21.0, -22.0]), paired=False)
    assert all(map(math.isnan, alone.interval))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (scores([]), scores([]), r"scores of A must be three arrays \[N\] with N >= 1"),
        (scores([1.0, 2.0]), scores([[1.0, 2.0]]), "scores of B must be three arrays"),
        (Scores(np.zeros(3), np.zeros(2), np.zeros(3)), scores([1.0]), "scores of A must be three arrays"),
        (scores([1.0, 2.0]), scores([1.0]), "2 and 1 images are no pairs"),
        (scores([1.0, -INF, NAN]), scores([1.0, 2.0, 3.0]), "A is not finite for 2 of 3 images, first in row 1"),
        (scores([1.0, 2.0]), scores([1.0, INF]), "B is not finite for 1 of 2"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(first, second, message):
    with pytest.raises(InputError, match=message):
        compare_scores(first, second)


def result(difference, error):
    """A comparison with this difference and an interval of two errors either way."""
    interval = (difference - 2 * error, difference + 2 * error)
    return Comparison(True, (9, 9), (0.0, 0.0), (0.1, 0.1), difference, error, interval, 0.01, (0.5, 0.5), 0)


@pytest.mark.parametrize(
    ("difference", "error", "sentence"),
    [
        (0.42, 0.055, "new is better by 0.42 nats, 95% interval 0.31 to 0.53"),
        (-0.42, 0.055, "old is better by 0.42 nats, 95% interval 0.31 to 0.53"),
        (0.0071, 0.0021, "new is better by 0.007 nats, 95% interval 0.003 to 0.011"),
        (7.3, 1.2, "new is better by 7.30 nats, 95% interval 4.90 to 9.70"),
        (0.1, 0.055, "no difference can be seen: A - B is 0.10 nats, 95% interval -0.01 to 0.21"),
        (-0.1, 0.05, "no difference can be seen: A - B is -0.10 nats, 95% interval -0.20 to 0.00"),
        (-0.001, 0.02, "no difference can be seen: A - B is 0.00 nats, 95% interval -0.04 to 0.04"),
        (1.0, 1e-15, "new is better by 1.000000 nats, 95% interval 1.000000 to 1.000000"),
        (2.0, 0.0, "new is better by 2.00 nats, 95% interval 2.00 to 2.00"),
    ],
)
def test_the_conclusion_is_one_sentence_with_as_many_digits_as_are_known(difference, error, sentence):
    assert result(difference, error).conclusion(("new", "old")) == sentence
    if "better" in sentence:
        assert result(-difference, error).conclusion(("old", "new")) == sentence
