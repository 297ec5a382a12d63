"""Missing values: exact in a linear-Gaussian model, and within the observed ones untouched."""

import numpy as np
import pytest

from iwae_tf import IWAE
from iwae_tf.errors import InputError
from iwae_tf.evaluation import impute, impute_draws
from iwae_tf.layers import ColumnModel

LOC, SCALE = np.float64([10.0, -5.0, 3.0]), np.float64([2.0, 1.0, 0.5])
WEIGHTS, NOISE = np.float64([[0.9, 0.5, -0.7], [0.1, 0.8, 0.4]]), np.float64([0.3, 0.4, 0.5])


@pytest.fixture(scope="module")
def linear():
    """x = LOC + SCALE (h W + NOISE e), h of 2 units without hidden layers: x is Gaussian, and so is what is missing."""
    columns = [ColumnModel(f"c{i}", "gaussian", LOC[i], SCALE[i]) for i in range(3)]
    model = IWAE(3, (2,), ((),), likelihood="columns", columns=columns, missing=True)
    (group,) = model.likelihood_head.groups
    group.head.loc.kernel.assign(WEIGHTS)
    group.head.log_scale.kernel.assign(np.zeros((2, 3)))
    group.head.log_scale.bias.assign(7 * np.arctanh(np.log(NOISE) / 7))
    for weight in model.inference_network.weights:  # q is the prior, which covers every posterior
        weight.assign(np.zeros(weight.shape))
    return model


def conditional(x, observed, missing):
    """Mean and covariance of the missing values given the observed ones, exactly."""
    covariance = SCALE[:, None] * (WEIGHTS.T @ WEIGHTS + np.diag(NOISE**2)) * SCALE
    gain = covariance[np.ix_(missing, observed)] @ np.linalg.inv(covariance[np.ix_(observed, observed)])
    mean = LOC[missing] + gain @ (x[observed] - LOC[observed])
    return mean, covariance[np.ix_(missing, missing)] - gain @ covariance[np.ix_(observed, missing)]


def test_the_mean_and_the_draws_are_those_of_the_conditional_distribution(linear):
    x = np.float32([[12.0, np.nan, 2.6], [9.0, -4.0, np.nan], [np.nan, np.nan, 3.3], [11.0, -4.5, 3.2]])
    filled, draws = impute(linear, x, 100_000), impute_draws(linear, x, 4000, 20_000)
    for row in range(3):
        missing = np.flatnonzero(np.isnan(x[row]))
        mean, covariance = conditional(np.float64(x[row]), np.flatnonzero(~np.isnan(x[row])), missing)
        spread = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(filled[row, missing], mean, atol=0.03 * spread.max())
        np.testing.assert_allclose(draws[:, row, missing].mean(0), mean, atol=0.15 * spread.max())
        np.testing.assert_allclose(draws[:, row, missing].std(0), spread, rtol=0.12)
    observed = ~np.isnan(x)
    np.testing.assert_array_equal(filled[observed], x[observed])
    np.testing.assert_array_equal(draws[:, observed], np.broadcast_to(x[observed], (4000, observed.sum())))


def test_a_category_is_its_most_probable_value():
    columns = [
        ColumnModel("a", "categorical", levels=3),
        ColumnModel("b", "gaussian"),
        ColumnModel("c", "categorical", levels=3),
    ]
    model = IWAE(3, (1,), ((),), likelihood="columns", columns=columns, missing=True)
    group = next(group for group in model.likelihood_head.groups if group.head.needs_levels)
    group.head.logits.kernel.assign(np.zeros((1, 6)))
    group.head.logits.bias.assign(np.log([0.2, 0.35, 0.45, 0.6, 0.3, 0.1]))  # the mean code of a is 1.25
    x = np.float32([[np.nan, 0.5, np.nan], [0, 0.5, np.nan]])
    np.testing.assert_array_equal(impute(model, x, 100), [[2, 0.5, 0], [0, 0.5, 0]])


def test_rows_are_checked_before_their_mask_is_lost(linear):
    masked = np.ma.masked_array([[9.0, -999.0, 1.0]], mask=[[0, 1, 0]])
    for fill in (lambda x: impute(linear, x, 50), lambda x: impute_draws(linear, x, 1, 50)):
        for x, message in ((masked, "mask would be lost"), ([["9", "0.5", "1"]], "array of numbers")):
            with pytest.raises(InputError, match=message):
                fill(x)


def test_draws_have_other_noise_than_samples_of_the_model():
    columns = [ColumnModel(f"c{i}", "gaussian") for i in range(3)]
    model = IWAE(3, (2,), ((),), likelihood="columns", columns=columns, missing=True)
    (group,) = model.likelihood_head.groups
    group.head.loc.kernel.assign(np.zeros((2, 3)))  # x does not depend on h, so it is its noise
    group.head.log_scale.kernel.assign(np.zeros((2, 3)))
    drawn = impute_draws(model, np.full((1, 3), np.nan, np.float32), 4, 50)[:, 0]
    assert (np.abs(drawn - model.sample(4).numpy()) > 1e-3).all()


def test_a_model_without_missing_values_says_so():
    with pytest.raises(InputError, match="--missing"):
        impute(IWAE(4, (2,), ((3,),)), np.zeros((1, 4)))
