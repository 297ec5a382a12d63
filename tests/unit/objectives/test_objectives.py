"""Every objective: value and weights against NumPy float64, identities between objectives, and its door.

A new objective adds a row to `REFERENCE` here and to `UNBIASED` in test_gradients.py if its gradient is.
"""

import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import binary_images, small_model

from iwae_tf import objectives
from iwae_tf.objectives import OBJECTIVES, objective_class

# name -> bound of the reference; "elbo-kl" has the ELBO's rows and its own log-weights, tested below
REFERENCE = {
    "elbo": reference.elbo,
    "elbo-kl": reference.elbo,
    "iwae": reference.iwae,
    "dreg": reference.iwae,
    "stl": reference.iwae,
}


def _log_w(seed=0, k=7, batch=4, spread=3.0, mean=-90.0):
    return (mean + spread * np.random.default_rng(seed).standard_normal((k, batch))).astype(np.float32)


def test_every_objective_has_a_row_in_the_table():
    assert set(REFERENCE) == set(OBJECTIVES)


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("spread", [0.0, 3.0, 1e3])
def test_the_bound_equals_the_reference(name, spread):
    log_w = _log_w(spread=spread)
    bound = objective_class(name)(7).bound(tf.constant(log_w))
    assert bound.shape == (4,)
    np.testing.assert_allclose(bound, REFERENCE[name](log_w.astype(np.float64)), rtol=1e-6)  # float32


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("spread", [0.0, 3.0, 1e3])
def test_the_gradient_weights_equal_the_reference(name, spread):
    log_w = _log_w(spread=spread)
    rows = objective_class(name)(7).gradient_weights(tf.constant(log_w))
    expected = reference.gradient_weights("elbo" if name == "elbo-kl" else name, log_w.astype(np.float64))
    for row, value in zip(rows, expected, strict=True):
        row = np.zeros((7, 4)) if row is None else row
        np.testing.assert_allclose(row, value, rtol=5e-5, atol=1e-7)  # exp of float32 numbers near 90


@pytest.mark.parametrize("name", REFERENCE)
def test_one_backward_pass_is_claimed_only_where_the_three_rows_are_the_same(name):
    objective = objective_class(name)(7)
    rows = objective.gradient_weights(tf.constant(_log_w()))
    same = (
        rows.score is not None and np.array_equal(rows.generative, rows.path) and np.array_equal(rows.path, -rows.score)
    )
    assert same == objective.single_backward


@pytest.mark.parametrize("name", REFERENCE)
def test_with_one_sample_every_bound_is_the_vaes(name):
    log_w = _log_w(k=1)
    np.testing.assert_allclose(objective_class(name)(1).bound(tf.constant(log_w)), log_w[0], rtol=1e-6)


def test_the_importance_weighted_bound_lies_between_the_mean_and_the_largest_weight():
    log_w = _log_w()
    iwae = objectives.IWAEBound(7).bound(tf.constant(log_w)).numpy()
    assert (objectives.ELBO(7).bound(tf.constant(log_w)).numpy() < iwae).all()
    assert (iwae < log_w.max(axis=0)).all()


def test_bounds_survive_log_weights_at_the_ends_of_the_range():
    log_w = tf.constant([[-1e4, 1e4, -np.inf], [-1e4 - 1, -1e4, -1000.0]], tf.float32)
    rows = objectives.IWAEBound(2).gradient_weights(log_w)
    bound = objectives.IWAEBound(2).bound(log_w)
    np.testing.assert_allclose(
        bound, [-1e4 + np.log((1 + np.exp(-1)) / 2), 1e4 - np.log(2), -1000 - np.log(2)], rtol=1e-6
    )
    np.testing.assert_allclose(tf.reduce_sum(rows.generative, axis=0), 1.0, rtol=1e-6)


def test_the_analytic_kl_takes_the_place_of_its_estimate():
    model, x = small_model(1), tf.constant(binary_images(4))
    noise = tf.random.stateless_normal([6, 4, 5], (0, 1))
    objective = objectives.AnalyticKLELBO(6)
    log_w = objective.log_weights(model, x, noise)
    loc, log_scale = model.encode(x)[0]
    kl = reference.gaussian_kl_to_standard(loc.numpy().astype(np.float64), log_scale.numpy().astype(np.float64))
    h, _ = model.inference_network.transform(x, noise)
    expected = model.generative_network.log_likelihood(x, h).numpy() - kl
    np.testing.assert_allclose(log_w, expected, rtol=1e-5, atol=1e-5)  # float32


def test_the_analytic_kl_changes_the_spread_of_the_bound_and_not_its_mean():
    model = small_model(1, gain=1.0)
    x = tf.constant(np.repeat(binary_images(1), 20_000, axis=0))
    noise = tf.random.stateless_normal([1, 20_000, 5], (0, 1))
    plain = objectives.ELBO(1).log_weights(model, x, noise).numpy()[0]
    analytic = objectives.AnalyticKLELBO(1).log_weights(model, x, noise).numpy()[0]
    difference = plain - analytic
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(difference))
    assert difference.std() > 0.1


@pytest.mark.parametrize("layers", [2, 3])
def test_the_analytic_kl_is_refused_for_more_than_one_layer(layers):
    with pytest.raises(ValueError, match="one stochastic layer, got"):
        small_model(layers).compile(objective=objectives.AnalyticKLELBO(1))


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("num_samples", [0, -3, 1.5, "50", True, None])
def test_a_number_of_samples_that_is_none_is_refused(name, num_samples):
    with pytest.raises(ValueError, match="num_samples must be an integer >= 1"):
        objective_class(name)(num_samples)


def test_an_unknown_objective_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'iwae'"):
        objective_class("iawe")


def test_objectives_are_attributes_of_the_module_and_wrong_names_are_not():
    assert objectives.DReG is objective_class("dreg")
    with pytest.raises(AttributeError):
        _ = objectives.Nothing
