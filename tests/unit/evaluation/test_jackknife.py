"""The jackknife's corrections against all subsets, and their bias and spread where log p(x) is known."""

import numpy as np
import pytest
import reference
import reference_jackknife
import tensorflow as tf
from linear_gaussian_models import DIM, linear_gaussian
from small_models import binary_images, small_model

from iwae_tf import InputError
from iwae_tf.evaluation.jackknife import jackknife, jackknife_log_likelihood

INF, NAN = float("inf"), float("nan")
# The reference loses digits to its coefficients, up to n^2 / 2 = 84, on values up to 1e2.
CLOSE = {"rtol": 1e-12, "atol": 1e-11}


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


NAMES = list(difficult_log_weights(2))
SIZES = [(2, 1), (3, 1), (8, 1), (13, 1), (3, 2), (4, 2), (5, 2), (8, 2), (13, 2)]  # n, order
# With fewer weights above 0 than order + 1 there is no finite value: these have a test of their own.
CASES = [(name, n, order) for name in NAMES for n, order in SIZES if name != "some are 0" or n > order + 1]


# ---------------------------------------------------------------------------------------------- all subsets


@pytest.mark.parametrize(("name", "n", "order"), CASES)
def test_a_correction_is_the_weighted_mean_over_all_subsets(name, n, order):
    log_w = difficult_log_weights(n)[name]
    result = jackknife(log_w, order)
    assert result.dtype == np.float64
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result, reference_jackknife.jackknife(log_w, order), **CLOSE)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("scale", [0.01, 1.0, 2.0])
def test_five_thousand_weights_agree_with_all_pairs(order, scale):
    log_w = scale * np.random.default_rng(5).standard_normal((5000, 2))
    expected = reference_jackknife.jackknife_of_pairs(log_w, order)
    # The reference's coefficients of 1e7 leave its 64 bits (1e-19, more after 1e7 additions) about 1e-10.
    np.testing.assert_allclose(jackknife(log_w, order), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shift", [-1e4, 1e4])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_shift_of_all_log_weights_shifts_the_estimate(name, order, shift):
    log_w = np.round(difficult_log_weights(9)[name] * 2**20) / 2**20  # exact in float64 after the shift too
    # results of size 1e4 have 2e-12 between neighbours
    np.testing.assert_allclose(jackknife(log_w + shift, order) - shift, jackknife(log_w, order), rtol=0, atol=1e-11)


@pytest.mark.parametrize("order", [1, 2])
def test_a_column_does_not_depend_on_its_neighbours_nor_on_the_order_of_its_samples(order):
    log_w = np.concatenate([difficult_log_weights(9)[name] for name in NAMES], axis=1)
    whole = jackknife(log_w, order)
    alone = np.concatenate([jackknife(log_w[:, [column]], order) for column in range(log_w.shape[1])])
    np.testing.assert_allclose(alone, whole, rtol=1e-14, atol=1e-14)  # the series may end a term later
    np.testing.assert_array_equal(jackknife(np.random.default_rng(0).permutation(log_w), order), whole)


@pytest.mark.parametrize("order", [1, 2])
def test_equal_weights_leave_nothing_to_correct(order):
    # 5,000 logs of relative error 1e-16; without the cancellation on paper n^2 / 2 = 1e7 times that would be left
    np.testing.assert_allclose(jackknife(np.full((5000, 1), -90.0), order), -90.0, rtol=0, atol=2e-13)


def test_a_dominating_weight_lifts_the_first_order_by_its_distance_and_is_no_bound():
    log_w = np.zeros((100, 1))
    log_w[0] = 1000.0  # e^1000 / 99 times the sum of the others
    bound = 1000.0 - np.log(100)
    distance = 1000.0 - np.log(99)
    expected = bound + 0.99 * distance - 99 / 100 * 99 * (0.0 - np.log1p(-1 / 100)) + 0.99 * np.log1p(-1 / 100)
    np.testing.assert_allclose(jackknife(log_w, 1), expected, rtol=1e-14)


def test_too_few_weights_above_zero_give_what_the_subsets_without_them_give():
    log_w = np.full((6, 4), -INF)  # none, one, two and three finite
    log_w[0, 1:], log_w[2, 2:], log_w[5, 3:] = 1.0, 0.0, -3.0
    first, second = jackknife(log_w, 1), jackknife(log_w, 2)
    np.testing.assert_array_equal(first[:2], [-INF, INF])
    np.testing.assert_array_equal(second[:3], [-INF, NAN, -INF])
    np.testing.assert_allclose(first[2:], reference_jackknife.jackknife(log_w[:, 2:], 1), **CLOSE)
    np.testing.assert_allclose(second[3:], reference_jackknife.jackknife(log_w[:, 3:], 2), **CLOSE)


@pytest.mark.parametrize("order", [1, 2])
def test_a_log_weight_that_is_not_a_number_spoils_its_own_column_only(order):
    log_w = difficult_log_weights(9)["ordinary"]
    spoilt = log_w.copy()
    spoilt[4, 1] = NAN
    result = jackknife(spoilt, order)
    assert np.isnan(result).tolist() == [False, True, False, False, False]
    np.testing.assert_allclose(result[[0, 2, 3, 4]], jackknife(log_w, order)[[0, 2, 3, 4]], rtol=1e-14)


# ---------------------------------------------------------------------------------------------- bias and spread


@pytest.fixture(scope="module")
def many_log_weights():
    """log w - log p(x) with a q off in mean and scale, float64 [2500, 200]: 500,000 independent draws."""
    model, exact = linear_gaussian(1, mean_error=0.3, scale_factor=0.95)
    x = (2.0 * np.random.default_rng(2).standard_normal((200, DIM))).astype(np.float32)
    return model.log_weights(x, 2500, seed=3).numpy().astype(np.float64) - exact.log_prob(x)


def in_groups(log_w, k):
    """[N, B] -> [k, N / k B]: one column a group of k draws."""
    return log_w.reshape(-1, k, log_w.shape[1]).transpose(1, 0, 2).reshape(k, -1)


@pytest.mark.parametrize("k", [5, 10, 25])
def test_each_order_is_nearer_to_log_p_x_on_average_and_spreads_more(many_log_weights, k):
    log_w = in_groups(many_log_weights, k)
    values = [reference.log_mean_exp(log_w), jackknife(log_w, 1), jackknife(log_w, 2)]
    bias = [np.mean(value) for value in values]
    gains = [np.abs(bias[m]) - np.abs(bias[m + 1]) for m in (0, 1)]
    errors = [np.std(values[m] - values[m + 1]) / np.sqrt(log_w.shape[1]) for m in (0, 1)]  # of paired differences
    assert bias[0] < 0.0
    assert gains[0] > 5 * errors[0]
    assert gains[1] > 5 * errors[1]
    assert np.std(values[0]) < np.std(values[1]) < np.std(values[2])


def test_the_standard_errors_are_the_spread_over_draws(many_log_weights):
    class Stub:
        def log_weight_chunks(self, x, num_samples, seed, rows):
            yield tf.constant(in_groups(many_log_weights, num_samples)[:, rows])

    log_w = in_groups(many_log_weights, 50)
    estimate = jackknife_log_likelihood(Stub(), np.zeros((log_w.shape[1], 1)), 50)
    for order in (0, 1, 2):
        spread = estimate.estimates[order].std()
        error = np.sqrt(np.mean(estimate.standard_errors[order] ** 2))
        # 10,000 groups tell a standard deviation to 1 % to 2 %, heavier tails than normal counted; the rest of the
        # tolerance is the bias of the errors themselves, with effective sample sizes about 13.
        assert abs(error / spread - 1) < 0.06, order


# ---------------------------------------------------------------------------------------------- of a model


@pytest.fixture(scope="module")
def model():
    return small_model(2, gain=1.0)


def test_all_orders_come_from_the_draws_of_the_bound(model):
    x = binary_images(7)
    log_w = model.log_weights(x, 133, seed=4).numpy()
    estimate = jackknife_log_likelihood(model, x, 133, seed=4)
    assert estimate.num_samples == 133
    assert list(estimate.estimates) == list(estimate.standard_errors) == [0, 1, 2]
    exact = {"rtol": 1e-13}  # the same float32 numbers, reduced in float64
    np.testing.assert_allclose(estimate.estimates[0], reference.log_mean_exp(log_w), **exact)
    for order in (1, 2):
        np.testing.assert_allclose(estimate.estimates[order], jackknife(log_w, order), **exact)
    for value in (*estimate.estimates.values(), *estimate.standard_errors.values()):
        assert value.dtype == np.float64
        assert value.shape == (7,)


@pytest.mark.parametrize("num_samples", [3, 4, 9])
def test_standard_errors_are_those_of_leaving_one_sample_out(model, num_samples):
    x = binary_images(5)
    log_w = model.log_weights(x, num_samples, seed=1).numpy()
    errors = jackknife_log_likelihood(model, x, num_samples, seed=1).standard_errors
    for order, same in ((0, 0), (1, 1), (2, 1)):
        expected = reference_jackknife.jackknife_standard_error(log_w, same)
        np.testing.assert_allclose(errors[order], expected, rtol=1e-9)  # differences of sums of size 1e2 in float64


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_changes_nothing_but_rounding(model, batch_size):
    x, calls = binary_images(7), []
    whole = jackknife_log_likelihood(model, x, 70, seed=2, batch_size=7)
    parts = jackknife_log_likelihood(model, x, 70, seed=2, batch_size=batch_size, progress=calls.append)
    for order in (0, 1, 2):
        # float32 log-weights of size 1e1 from matrix products over another number of rows
        np.testing.assert_allclose(parts.estimates[order], whole.estimates[order], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(parts.standard_errors[order], whole.standard_errors[order], rtol=1e-3)
    assert sum(calls) == 7 * 70


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(("order", "n"), [(1, 1), (2, 2), (2, 1), (1, 0)])
def test_too_few_samples_are_refused(order, n):
    with pytest.raises(InputError, match=rf"more than {order} samples for order {order}, got \({n}, 4\)$"):
        jackknife(np.zeros((n, 4)), order)


@pytest.mark.parametrize("shape", [(5,), (5, 2, 2)])
def test_log_weights_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"^log_w must be \[samples, batch\]"):
        jackknife(np.zeros(shape), 1)


@pytest.mark.parametrize("order", [0, 3, -1, "1", None])
def test_an_order_that_is_neither_one_nor_two_is_refused(order):
    with pytest.raises(InputError, match=f"^order must be 1 or 2, got {order!r}$"):
        jackknife(np.zeros((5, 2)), order)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 2}, "^num_samples must be at least 3 .*, got 2$"),
        ({"num_samples": 0}, "^num_samples must be an integer >= 1, got 0$"),
        ({"batch_size": 0}, "^batch_size must be an integer >= 1, got 0$"),
        ({"seed": -1}, "^seed must be an integer"),
        ({"x": np.zeros((0, 12), np.float32)}, "no rows"),
        ({"x": np.zeros((2, 5), np.float32)}, r"shape \(2, 5\)"),
    ],
)
def test_what_cannot_be_estimated_is_refused(model, arguments, message):
    with pytest.raises(InputError, match=message):
        jackknife_log_likelihood(model, **{"x": binary_images(2), "num_samples": 5, **arguments})
