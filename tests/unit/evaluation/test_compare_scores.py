"""Comparisons of models: against SciPy's tests, their symmetry, and their words."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from iwae_tf.errors import InputError
from iwae_tf.evaluation.compare import (
    Comparison,
    Scores,
    compare_refits,
    compare_scores,
    compare_with_first,
    mean_scores,
    monte_carlo_error,
)

INF, NAN = float("inf"), float("nan")
EXACT = {"rtol": 1e-10}  # the same float64 formulas in another order


def scores(values, error=0.05, reliable=True):
    values = np.asarray(values, np.float64)
    return Scores(values, np.full(values.shape, error), np.broadcast_to(reliable, values.shape))


def two_models(n=50, difference=0.4, seed=0):
    """Images that differ much from each other and little between the models."""
    rng = np.random.default_rng(seed)
    b = -22 + 4 * rng.standard_normal(n)
    return b + difference + rng.standard_normal(n), b


@pytest.mark.parametrize(("n", "m"), [(2, 2), (10, 10), (400, 400), (5, 40), (40, 5)])
def test_intervals_are_those_of_scipys_tests(n, m):
    a, b = two_models(n)[0], 2 * two_models(m, seed=1)[1]
    for paired in [True, False] if n == m else [False]:
        found = compare_scores(scores(a), scores(b), paired)
        test = scipy.stats.ttest_rel(a, b) if paired else scipy.stats.ttest_ind(a, b, equal_var=False)
        np.testing.assert_allclose(found.interval, tuple(test.confidence_interval(0.95)), **EXACT)
        np.testing.assert_allclose(found.difference, a.mean() - b.mean(), rtol=1e-9)  # cancellation of -22
        np.testing.assert_allclose(found.means, [a.mean(), b.mean()], **EXACT)
        np.testing.assert_allclose(found.mean_errors, [scipy.stats.sem(a), scipy.stats.sem(b)], **EXACT)
        error = scipy.stats.sem(a - b) if paired else math.hypot(scipy.stats.sem(a), scipy.stats.sem(b))
        np.testing.assert_allclose(found.standard_error, error, **EXACT)
        assert (found.paired, found.num_rows) == (paired, (n, m))


@pytest.mark.parametrize("paired", [True, False])
def test_swapped_scores_swap_or_negate_everything(paired):
    a, b = two_models(60)
    first, second = scores(a, 0.1, False), scores(b, 0.3)
    one, other = compare_scores(first, second, paired), compare_scores(second, first, paired)
    assert dataclasses.asdict(other) == {
        **dataclasses.asdict(one),
        "means": one.means[::-1],
        "mean_errors": one.mean_errors[::-1],
        "difference": -one.difference,
        "interval": (-one.interval[1], -one.interval[0]),
        "better": one.better and one.better[::-1],
    }


@pytest.mark.parametrize("paired", [True, False])
def test_several_models_are_each_compared_with_the_first(paired):
    a, b = two_models(30)
    models = [scores(a), scores(b), scores(b - 1), scores(a + 1)]
    assert compare_with_first(models, paired) == [compare_scores(models[0], model, paired) for model in models[1:]]
    assert [comparison.difference > 0 for comparison in compare_with_first(models)] == [True, True, False]


def test_groups_of_refits_have_welchs_interval_of_the_means_of_their_runs_and_the_difference_over_rows():
    rng = np.random.default_rng(4)
    rows = -22 + 4 * rng.standard_normal(30)
    first = [scores(rows + 0.3 + shift + 0.1 * rng.standard_normal(30)) for shift in (0.0, 0.4, -0.1)]
    second = [scores(rows + shift + 0.1 * rng.standard_normal(30)) for shift in (0.2, -0.2, 0.1, 0.05)]
    found = compare_refits(first, second)
    means = [[run.log_likelihood.mean() for run in group] for group in (first, second)]
    test = scipy.stats.ttest_ind(*means, equal_var=False)
    np.testing.assert_allclose(found.interval, tuple(test.confidence_interval(0.95)), rtol=1e-8)
    assert (found.num_rows, found.paired) == ((3, 4), False)
    over_rows = compare_scores(mean_scores(first), mean_scores(second))
    assert over_rows.difference == pytest.approx(found.difference)
    expected = np.mean([run.log_likelihood for run in first], axis=0)
    np.testing.assert_allclose(mean_scores(first).log_likelihood, expected, **EXACT)
    assert math.isnan(compare_refits(first, second[:1]).standard_error)


def test_mean_scores_have_the_error_of_a_mean_and_are_reliable_if_all_are():
    found = mean_scores([scores([1.0, 2.0], 0.3, [True, True]), scores([3.0, 2.0], 0.4, [True, False])])
    np.testing.assert_allclose(found.log_likelihood, [2.0, 2.0])
    np.testing.assert_allclose(found.standard_error, 0.25)  # sqrt(0.09 + 0.16) / 2
    assert found.reliable.tolist() == [True, False]


def test_the_monte_carlo_error_is_that_of_two_means_of_independent_estimates():
    error_a, error_b = np.array([0.1, 0.2, 0.4]), np.array([0.3, 0.0, 0.5])
    zeros = np.zeros(3)
    found = compare_scores(Scores(zeros, error_a, zeros), Scores(zeros + 1, error_b, zeros))
    np.testing.assert_allclose(found.monte_carlo_error, math.sqrt((error_a**2 + error_b**2).sum()) / 3, **EXACT)
    unequal = compare_scores(scores([0, 1, 2], 0.3), scores([0, 1], 0.4), paired=False)
    np.testing.assert_allclose(unequal.monte_carlo_error, math.sqrt(0.3**2 / 3 + 0.4**2 / 2), **EXACT)
    assert math.isnan(compare_scores(scores([0, 1], NAN), scores([0, 2])).monte_carlo_error)
    rng = np.random.default_rng(0)
    truth = -22 + 4 * rng.standard_normal(4000)
    found = compare_scores(*(scores(truth + 0.2 * rng.standard_normal(4000), 0.2) for _ in range(2)))
    # Only the noise differs. A standard deviation of 4000 values is known to 1/sqrt(8000) = 1.1%; four times that.
    assert found.standard_error == pytest.approx(found.monte_carlo_error, rel=0.045)


def test_equal_rows_share_their_noise_which_does_not_average_out():
    assert monte_carlo_error(np.array([-1.0, -2.0]), np.array([3.0, 4.0])) == 2.5  # of two independent estimates
    assert monte_carlo_error(np.array([-1.0, -1.0 + 1e-6]), np.array([3.0, 3.0])) == 3.0
    many, errors = np.random.default_rng(1).normal(-5.0, 2.0, 5000), np.full(5000, 0.004)
    alone = monte_carlo_error(many, errors)
    assert alone == pytest.approx(0.004 / 5000**0.5, rel=0.05)  # different rows, whatever the score of another one
    assert monte_carlo_error(np.append(many, -1e6), np.append(errors, 0.004)) == pytest.approx(alone, rel=1e-3)
    assert math.isfinite(monte_carlo_error(np.append(many, -np.inf), np.append(errors, 0.004)))
    rng, row = np.random.default_rng(0), np.repeat(np.arange(8), 250)
    truth, error = -5 + rng.standard_normal((2, 8)), np.full(2000, 0.2)
    found = []
    for _ in range(400):
        estimates = truth + 0.2 * rng.standard_normal((2, 8))
        models = [Scores(values[row], error, error > 0) for values in estimates]
        found.append([compare_scores(*models), compare_scores(*models, paired=False)])
    spread = np.std([pair[0].difference for pair in found])  # 0.1; of 400 values it is known to 4%
    for pair in found:
        assert pair[0].monte_carlo_error == pytest.approx(0.1)
        assert pair[0].monte_carlo_error == pytest.approx(spread, rel=0.15)
        assert pair[0].standard_error > spread / 1.15
        assert pair[1].standard_error > math.hypot(*pair[1].mean_errors) * 0.999 > spread / 1.15


def test_a_tie_is_better_for_neither_and_the_same_scores_do_not_differ():
    assert compare_scores(scores([1, 1, 1, 5, 5]), scores([0, 1, 2, 4, 4])).better == (0.6, 0.2)
    a, _ = two_models()
    found = compare_scores(scores(a), scores(a))
    assert (found.difference, found.standard_error, found.interval, found.better) == (0.0, 0.0, (0.0, 0.0), (0.0, 0.0))
    constants = compare_scores(scores([1.0, 1.0], 0.0), scores([0.5, 0.5, 0.5], 0.0), paired=False)
    assert (constants.interval, constants.better) == ((0.5, 0.5), None)


def test_doubtful_rows_are_those_that_are_not_reliable_in_either():
    of_a, of_b = [True, False, False, True, False, True], [True, False, True, True, True, False]
    first, second = (Scores(np.arange(6.0), np.ones(6), np.array(reliable)) for reliable in (of_a, of_b))
    assert compare_scores(first, second).doubtful == 4  # rows 1, 2, 4, 5
    assert compare_scores(first, second, paired=False).doubtful == 5  # three of A, two of B


def test_one_image_says_nothing_of_others():
    found = compare_scores(scores([-20.0]), scores([-21.0]))
    assert (found.difference, found.better) == (1.0, (1.0, 0.0))
    assert all(map(math.isnan, (*found.interval, found.standard_error, *found.mean_errors)))
    assert found.conclusion(("a", "b")) == "nothing can be said: A - B is 1.00 nats on one row"
    assert all(map(math.isnan, compare_scores(scores([-20.0]), scores([-21.0, -22.0]), paired=False).interval))


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([scores([]), scores([])], r"scores of A must be three arrays \[N\] with N >= 1"),
        ([scores([1.0, 2.0]), scores([[1.0, 2.0]])], "scores of B must be three arrays"),
        ([Scores(np.zeros(3), np.zeros(2), np.zeros(3)), scores([1.0])], "scores of A must be three arrays"),
        ([scores([1.0, 2.0]), scores([1.0])], "2 and 1 rows cannot be paired"),
        ([scores([1.0, -INF, NAN]), scores([1.0, 2.0, 3.0])], "A is not finite for 2 of 3 rows, first in row 1"),
        ([scores([1.0, 2.0]), scores([1.0, 2.0]), scores([1.0, INF])], "C is not finite for 1 of 2"),
        ([scores([1.0, 2.0])], "scores must be of at least 2 models, got 1"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(models, message):
    with pytest.raises(InputError, match=message):
        compare_with_first(models)


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
    def result(difference):
        interval = (difference - 2 * error, difference + 2 * error)
        return Comparison(True, (9, 9), (0.0, 0.0), (0.1, 0.1), difference, error, interval, 0.01, (0.5, 0.5), 0)

    assert result(difference).conclusion(("new", "old")) == sentence
    if "better" in sentence:
        assert result(-difference).conclusion(("old", "new")) == sentence


def test_a_command_compares_scores_without_tensorflow():
    # sys.orig_argv as of `python -m iwae_tf`, whose package imports nothing else
    program = """import sys; sys.orig_argv = ["python", "-m", "iwae_tf"]
from iwae_tf import evaluation
from iwae_tf.evaluation.compare import Scores, compare_scores
assert evaluation.compare_scores is compare_scores and "jackknife" in dir(evaluation)
print(compare_scores(Scores([1, 2], [0, 0], [1, 1]), Scores([0, 1.5], [0, 0], [1, 1])).difference)
assert not {"tensorflow", "keras"} & set(sys.modules)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("0.75\n", 0), done.stderr


def test_every_name_of_the_package_is_found_and_no_other():
    from iwae_tf import evaluation

    assert all(
        getattr(evaluation, name).__name__ == name for name in evaluation.__all__ if name != "PAPER_SAMPLE_SIZES"
    )
    with pytest.raises(AttributeError, match="has no attribute 'unit_activity'"):
        evaluation.unit_activity  # noqa: B018
