"""Corrections by the jackknife against all subsets, and the spread of L_k with its bound, against their formulas."""

import numpy as np
import pytest
import reference
import reference_jackknife
import tensorflow as tf
from linear_gaussian_models import DIM, linear_gaussian
from small_models import binary_images, small_model

from iwae_tf import InputError
from iwae_tf.evaluation import deviation, estimate_log_likelihood, jackknife, jackknife_log_likelihood

INF, NAN = float("inf"), float("nan")
# The reference loses digits to its coefficients, up to n^2 / 2 = 84, on values up to 1e2.
CLOSE = {"rtol": 1e-12, "atol": 1e-11}


def images(n):
    return (2.0 * np.random.default_rng(2).standard_normal((n, DIM))).astype(np.float32)


def difficult_log_weights(n, columns=5):
    """Log-weights by name, each float64 [n, columns]."""
    rng = np.random.default_rng(n)
    noise = rng.standard_normal((n, columns))
    dominating, two = 0.1 * noise, 0.1 * noise
    dominating[n // 2] += np.linspace(5.0, 60.0, columns)  # 1 - a_i down to e^-60, far below float64's 1 - a_i
    two[n // 2] += 60.0
    two[0] += 60.0
    zeros = noise.copy()
    zeros[-1] = -INF
    return {
        "close": 0.01 * noise,
        "ordinary": noise,
        "heavy": rng.standard_t(1.5, (n, columns)),
        "tied": np.round(noise),
        "equal": np.zeros((n, columns)) - 3.0,
        "one dominating": dominating,
        "two dominating": two,
        "falling fast": -40.0 * np.arange(n)[:, None] + noise,
        "some are 0": zeros,
    }


def joined(n, leave_out=()):
    return np.concatenate([log_w for name, log_w in difficult_log_weights(n).items() if name not in leave_out], axis=1)


# ---------------------------------------------------------------------------------------------------- all subsets


@pytest.mark.parametrize(("n", "order"), [(2, 1), (3, 1), (8, 1), (13, 1), (3, 2), (4, 2), (5, 2), (8, 2), (13, 2)])
def test_a_correction_is_the_weighted_mean_over_all_subsets(n, order):
    log_w = joined(n, leave_out=["some are 0"] if n <= order + 1 else [])  # too few weights above 0: tested below
    result = jackknife(log_w, order)
    assert result.dtype == np.float64
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result, reference_jackknife.jackknife(log_w, order), **CLOSE)


@pytest.mark.parametrize("order", [1, 2])
def test_a_shift_shifts_the_estimate_and_neither_order_nor_neighbours_nor_nan_matter(order):
    log_w = np.round(joined(9) * 2**20) / 2**20  # exact in float64 after a shift too
    whole = jackknife(log_w, order)
    for shift in (-1e4, 1e4):  # results of size 1e4 have 2e-12 between neighbours
        np.testing.assert_allclose(jackknife(log_w + shift, order) - shift, whole, rtol=0, atol=1e-11)
    alone = np.concatenate([jackknife(log_w[:, [column]], order) for column in range(log_w.shape[1])])
    np.testing.assert_allclose(alone, whole, rtol=1e-14, atol=1e-14)  # the series may end a term later
    np.testing.assert_array_equal(jackknife(np.random.default_rng(0).permutation(log_w), order), whole)
    spoilt = log_w.copy()
    spoilt[4, 1] = NAN
    result = jackknife(spoilt, order)
    assert np.isnan(result).tolist() == [column == 1 for column in range(log_w.shape[1])]
    np.testing.assert_allclose(np.delete(result, 1), np.delete(whole, 1), rtol=1e-14)


@pytest.mark.parametrize("order", [1, 2])
def test_two_thousand_weights_agree_with_all_pairs(order):
    log_w = np.array([0.01, 2.0]) * np.random.default_rng(5).standard_normal((2000, 2))
    expected = reference_jackknife.jackknife_of_pairs(log_w, order)
    # The reference's coefficients of 2e6 leave its 64 bits (1e-19, more after 2e6 additions) about 1e-10.
    np.testing.assert_allclose(jackknife(log_w, order), expected, rtol=0, atol=1e-9)
    # Equal ones: 5,000 logs of relative error 1e-16; without the cancellation on paper 1e7 times that would be left.
    np.testing.assert_allclose(jackknife(np.full((5000, 1), -90.0), order), -90.0, rtol=0, atol=2e-13)


def test_a_dominating_weight_lifts_the_first_order_by_its_distance_and_is_no_bound():
    log_w = np.zeros((100, 1))
    log_w[0] = 1000.0  # e^1000 / 99 times the sum of the others
    distance = 1000.0 - np.log(99)
    expected = 1000.0 - np.log(100) + 0.99 * distance + 0.99 * 100 * np.log1p(-1 / 100)
    np.testing.assert_allclose(jackknife(log_w, 1), expected, rtol=1e-14)


def test_too_few_weights_above_zero_give_the_values_of_the_subsets_without_them():
    log_w = np.full((6, 4), -INF)  # none, one, two and three finite
    log_w[0, 1:], log_w[2, 2:], log_w[5, 3:] = 1.0, 0.0, -3.0
    first, second = jackknife(log_w, 1), jackknife(log_w, 2)
    np.testing.assert_array_equal(first[:2], [-INF, INF])
    np.testing.assert_array_equal(second[:3], [-INF, NAN, -INF])
    np.testing.assert_allclose(first[2:], reference_jackknife.jackknife(log_w[:, 2:], 1), **CLOSE)
    np.testing.assert_allclose(second[3:], reference_jackknife.jackknife(log_w[:, 3:], 2), **CLOSE)


@pytest.mark.parametrize(
    ("shape", "order", "message"),
    [
        *(((n, 4), m, rf"more than {m} samples for order {m}, got \({n}, 4\)$") for m, n in ((1, 1), (2, 2), (1, 0))),
        *((shape, 1, r"^log_w must be \[samples, batch\]") for shape in ((5,), (5, 2, 2))),
        *(((5, 2), order, f"^order must be 1 or 2, got {order!r}$") for order in (0, 3, "1", None)),
    ],
)
def test_log_weights_without_a_correction_are_refused(shape, order, message):
    with pytest.raises(InputError, match=message):
        jackknife(np.zeros(shape), order)


# ------------------------------------------------------------------------------------ estimates of a model


class Stub:
    """A model with given log-weights [k, N] for x = 0, 1, ..., N - 1, in chunks that end at `cuts`."""

    def __init__(self, log_w, cuts=()):
        self.log_w, self.cuts = np.asarray(log_w), list(cuts)

    def checked(self, x):
        return x

    def log_weight_chunks(self, x, num_samples, seed):
        taken = self.log_w[:num_samples][:, np.asarray(x, int)[:, 0]]
        return iter([tf.constant(chunk) for chunk in np.split(taken, self.cuts)])


def numbers(n):
    return np.arange(n)[:, None]


def test_estimates_and_errors_are_those_of_the_formulas_whatever_the_batches_and_chunks():
    log_w = np.random.default_rng(0).standard_normal((9, 7)).astype(np.float32)
    for num_samples, batch_size, cuts in ((9, 100, ()), (9, 3, (2, 5)), (4, 7, (1,)), (3, 1, (1, 2))):
        calls, used = [], log_w[:num_samples]
        estimate = jackknife_log_likelihood(
            Stub(log_w, cuts), numbers(7), num_samples, 1, batch_size, progress=calls.append
        )
        assert sum(calls) == 7 * num_samples
        assert estimate.num_samples == num_samples
        np.testing.assert_allclose(estimate.estimates[0], reference.log_mean_exp(used), rtol=1e-12)
        for order in (1, 2):
            np.testing.assert_allclose(estimate.estimates[order], jackknife(used, order), rtol=1e-12)
        for order, same in ((0, 0), (1, 1), (2, 1)):
            expected = reference_jackknife.jackknife_standard_error(used, same)
            np.testing.assert_allclose(estimate.standard_errors[order], expected, rtol=1e-9)
        assert {value.dtype for value in (*estimate.estimates.values(), *estimate.standard_errors.values())} == {
            np.dtype(np.float64)
        }


def test_datasets_are_their_rows():
    model, x = small_model(), binary_images(5)
    batches = tf.data.Dataset.from_tensor_slices(x).batch(2)
    found, expected = (jackknife_log_likelihood(model, rows, 5).estimates[1] for rows in (batches, x))
    np.testing.assert_array_equal(found, expected)
    found, expected = (deviation(model, rows, 2, 3, np.zeros(5)).gap for rows in (batches, x))
    np.testing.assert_array_equal(found, expected)


def test_both_read_the_samples_of_the_model():
    model, x = small_model(2, gain=1.0), binary_images(5)
    log_w = np.concatenate([model.log_weights(x[rows], 130, seed=4) for rows in (slice(3), slice(3, 5))], axis=1)
    estimate = jackknife_log_likelihood(model, x, 130, seed=4, batch_size=3)
    np.testing.assert_allclose(estimate.estimates[2], jackknife(log_w, 2), rtol=1e-12)
    found = deviation(model, x, 65, 2, np.zeros(5), seed=4, batch_size=3)
    halves = [reference.log_mean_exp(half) for half in np.split(log_w, 2)]
    np.testing.assert_allclose(found.gap, -np.mean(halves, axis=0), rtol=1e-12)


@pytest.mark.parametrize(("k", "cuts"), [(1, ()), (7, (3, 10)), (77, (31, 60, 61, 300))])
def test_the_deviation_is_that_of_consecutive_groups_however_the_chunks_cut_them(k, cuts):
    log_w, number = np.random.default_rng(3).standard_normal((308, 5)).astype(np.float32), 4
    groups = np.stack([reference.log_mean_exp(log_w[i * k : (i + 1) * k]) for i in range(number)])
    log_likelihood = np.linspace(-10.0, 10.0, 5)
    found = deviation(Stub(log_w, [c for c in cuts if c < k * number]), numbers(5), k, number, log_likelihood, 0, 2)
    spread = np.abs(groups - groups.mean(axis=0)).mean(axis=0)
    np.testing.assert_allclose(found.mean_absolute_deviation, spread, rtol=1e-9, atol=1e-9)  # float64 of the same
    np.testing.assert_allclose(found.gap, log_likelihood - groups.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.bound, 2.0 + 2.0 * found.gap, rtol=1e-12)
    assert (found.k, found.num_estimates) == (k, number)


def test_the_bound_holds_for_the_numbers_if_log_p_x_comes_from_the_same_samples():
    # A q so bad that 5 estimates say next to nothing about log p(x): the bound holds without chance.
    model, _ = linear_gaussian(1, 2.0)
    x = images(100)
    estimate = estimate_log_likelihood(model, x, 100, sample_sizes=()).log_likelihood
    found = deviation(model, x, 20, 5, estimate)
    assert (found.gap > 0.0).all()
    assert (found.mean_absolute_deviation <= found.bound).all()


@pytest.mark.parametrize(
    ("function", "change", "message"),
    [
        (jackknife_log_likelihood, {"num_samples": 2}, "^num_samples must be at least 3 .*, got 2$"),
        (jackknife_log_likelihood, {"num_samples": 0}, "^num_samples must be an integer >= 1, got 0$"),
        (deviation, {"k": 0}, "k must be an integer >= 1, got 0"),
        (deviation, {"num_estimates": 1}, "num_estimates must be at least 2: one estimate has no spread, got 1"),
        (deviation, {"num_estimates": 2.5}, "num_estimates must be an integer >= 1, got 2.5"),
        (deviation, {"log_likelihood": np.zeros(3)}, r"each of the 2 rows of x, got an array of shape \(3,\)"),
        (deviation, {"log_likelihood": [0.0, NAN]}, "must be one finite number for each of the 2 rows"),
        *(
            (function, change, message)
            for function in (jackknife_log_likelihood, deviation)
            for change, message in (
                ({"batch_size": 0}, "^batch_size must be an integer >= 1, got 0$"),
                ({"seed": -1}, "^seed must be an integer"),
                ({"x": np.zeros((2, 5), np.float32)}, r"x must be \[batch, 12\].* shape \(2, 5\)"),
            )
        ),
        (jackknife_log_likelihood, {"x": np.zeros((0, 12), np.float32)}, "no rows"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(function, change, message):
    defaults = {jackknife_log_likelihood: {"num_samples": 5}}
    own = defaults.get(function, {"k": 2, "num_estimates": 3, "log_likelihood": np.zeros(2)})
    with pytest.raises(InputError, match=message):
        function(small_model(), **{"x": binary_images(2), **own, **change})
