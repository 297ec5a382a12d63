"""The spread of estimates of L_k, against NumPy, and its bound where log p(x) is known."""

import numpy as np
import pytest
import reference
from linear_gaussian_models import DIM, linear_gaussian
from small_models import binary_images, small_model

from iwae_tf import InputError
from iwae_tf.evaluation import estimate_log_likelihood
from iwae_tf.evaluation.deviation import deviation


def images(n):
    return np.random.default_rng(2).standard_normal((n, DIM)).astype(np.float32) * 2


# ------------------------------------------------------------------------------------------------------ the statistic


@pytest.mark.parametrize("k", [1, 7, 50, 333])  # below, across and above the blocks of 50 samples
def test_it_is_the_mean_absolute_deviation_of_groups_of_one_stream(k):
    model, x, number = small_model(2), binary_images(5), 4
    log_w = model.log_weights(x, k * number, seed=3).numpy().astype(np.float64)
    estimates = np.stack([reference.log_mean_exp(log_w[i * k : (i + 1) * k]) for i in range(number)])
    log_likelihood = np.linspace(-10.0, 10.0, 5)
    result = deviation(model, x, k, number, log_likelihood, seed=3)
    spread = np.abs(estimates - estimates.mean(axis=0)).mean(axis=0)
    assert result.mean_absolute_deviation.dtype == np.float64
    np.testing.assert_allclose(result.mean_absolute_deviation, spread, rtol=1e-9, atol=1e-9)  # float64 of the same
    np.testing.assert_allclose(result.gap, log_likelihood - estimates.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.bound, 2.0 + 2.0 * result.gap, rtol=1e-12)
    assert (result.k, result.num_estimates) == (k, number)


def test_chunks_that_cut_groups_anywhere_give_the_same(monkeypatch):
    model, x = small_model(1), binary_images(2)
    whole = deviation(model, x, 30, 10, np.zeros(2))
    log_w = model.log_weights(x, 300).numpy()
    for cuts in ([10, 20, 29], [31, 60, 61, 299], list(range(1, 300))):
        monkeypatch.setattr(model, "log_weight_chunks", lambda *_, cuts=cuts, **__: iter(np.split(log_w, cuts)))
        again = deviation(model, x, 30, 10, np.zeros(2))
        np.testing.assert_allclose(again.mean_absolute_deviation, whole.mean_absolute_deviation, rtol=1e-9)


def test_a_row_does_not_depend_on_its_batch():
    model, x = small_model(2), binary_images(7)
    whole = deviation(model, x, 20, 5, np.zeros(7))
    parts = deviation(model, x, 20, 5, np.zeros(7), batch_size=3)
    # float32 log-weights of some hundred nats in other batches
    np.testing.assert_allclose(parts.mean_absolute_deviation, whole.mean_absolute_deviation, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(parts.gap, whole.gap, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------- the bound


# From the posterior itself to a q that hardly ever hits where p is.
@pytest.mark.parametrize(("error", "scale"), [(0.0, 1.0), (0.3, 1.0), (0.5, 1.5), (1.5, 1.0), (0.5, 0.3)])
@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_deviation_stays_below_its_bound_where_log_p_x_is_known(layers, error, scale, k):
    model, exact = linear_gaussian(layers, error, scale)
    x = images(40)
    result = deviation(model, x, k, 100, exact.log_prob(x))
    assert (result.mean_absolute_deviation <= result.bound).all()
    if error == 0.0:  # every weight is p(x), up to float32 sums of squares of size 100
        assert result.mean_absolute_deviation.max() < 1e-3
        np.testing.assert_allclose(result.bound, 2.0, atol=2e-3)


def test_deviation_and_gap_of_a_shifted_posterior_are_those_of_a_normal_variable():
    # log w = log p(x) - e.z - |e|^2 / 2 for q off by the vector e, in standard deviations, and z ~ N(0, I): with k = 1,
    # X is normal with variance |e|^2, so that E |X - L_1| = sqrt(2 / pi) |e| and delta = |e|^2 / 2.
    error, number = 1.0, 4000
    model, exact = linear_gaussian(1, error)
    x = images(3)
    variance = np.sum(error**2 / np.diag(exact.posterior(x)[1]))
    result = deviation(model, x, 1, number, exact.log_prob(x))
    standard_error = np.sqrt(variance / number)  # of the mean; that of the mean deviation is 0.6 of it
    expected = np.sqrt(2.0 / np.pi * variance)
    np.testing.assert_allclose(result.mean_absolute_deviation, expected, atol=4 * 0.6 * standard_error)
    np.testing.assert_allclose(result.gap, variance / 2.0, atol=4 * standard_error)


def test_the_bound_holds_for_the_numbers_if_log_p_x_comes_from_the_same_stream():
    # A q so bad that 5 estimates say next to nothing about log p(x): what holds here holds without chance.
    model, _ = linear_gaussian(1, 2.0)
    x = images(200)
    estimate = estimate_log_likelihood(model, x, 100, sample_sizes=()).log_likelihood
    result = deviation(model, x, 20, 5, estimate)
    assert (result.gap > 0.0).all()
    assert (result.mean_absolute_deviation <= result.bound).all()


# ---------------------------------------------------------------------------------------------------------- the doors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be an integer >= 1, got 0"),
        ({"num_estimates": 1}, "num_estimates must be at least 2: one estimate has no spread, got 1"),
        ({"num_estimates": 2.5}, "num_estimates must be an integer >= 1, got 2.5"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"log_likelihood": np.zeros(3)}, r"each of the 2 rows of x, got an array of shape \(3,\)"),
        ({"log_likelihood": [0.0, np.nan]}, "must be one finite number for each of the 2 rows"),
        ({"x": np.zeros((2, 5))}, r"x must be \[batch, 12\]"),
        ({"seed": -1}, "seed must be an integer in"),
    ],
)
def test_what_cannot_be_used_is_refused(change, message):
    arguments = {"x": binary_images(2), "k": 2, "num_estimates": 3, "log_likelihood": np.zeros(2), **change}
    with pytest.raises(InputError, match=message):
        deviation(small_model(), **arguments)
