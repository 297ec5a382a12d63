"""Gradients of both networks, for 1, 2 and 3 stochastic layers, by value and by mean."""

import numpy as np
import pytest
import tensorflow as tf
from small_models import binary_images, small_model

from iwae_tf.objectives import ELBO, STL, AnalyticKLELBO, DReG, IWAEBound
from iwae_tf.objectives.gradients import bound_and_gradients

K, BATCH, REPEATS = 4, 200, 60


class ThreeRowIWAE(IWAEBound):
    """IWAE's rows through the routine for any rows."""

    single_backward = False


class ThreeRowELBO(ELBO):
    """The ELBO's rows through the routine for any rows."""

    single_backward = False


def _flat(gradients):
    return np.concatenate([np.ravel(gradient) for gradient in gradients])


def _autodiff(model, objective, x, noise):
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(objective.bound(objective.log_weights(model, x, noise)))
    return tape.gradient(loss, variables)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("objective", [ELBO, IWAEBound, ThreeRowELBO, ThreeRowIWAE])
def test_the_rows_of_a_bounds_own_gradient_equal_autodiff(layers, objective):
    model, x = small_model(layers), tf.constant(binary_images(6))
    noise = tf.random.stateless_normal([9, 6, sum(model.latent_units)], (0, layers))
    _, gradients = bound_and_gradients(model, objective(9), x, noise)
    expected = _autodiff(model, objective(9), x, noise)
    for one, other, variable in zip(gradients, expected, model.trainable_variables, strict=True):
        assert one.shape == variable.shape
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)  # float32 sums in another order


def test_the_gradient_with_analytic_kl_equals_autodiff():
    model, x = small_model(1), tf.constant(binary_images(6))
    noise = tf.random.stateless_normal([9, 6, 5], (0, 1))
    _, gradients = bound_and_gradients(model, AnalyticKLELBO(9), x, noise)
    expected = _autodiff(model, AnalyticKLELBO(9), x, noise)
    np.testing.assert_allclose(_flat(gradients), _flat(expected), rtol=1e-3, atol=2e-5)


@pytest.fixture(scope="module", params=[1, 2, 3])
def gradient_samples(request):
    """Gradients of many independent batches for several estimators on shared noise: name -> [REPEATS, parameters]."""
    model = small_model(request.param, gain=1.0, seed=5)  # gradients without heavy tails
    x = tf.constant(np.repeat(binary_images(1), BATCH, axis=0))
    estimators = {
        "iwae": IWAEBound(K),
        "dreg": DReG(K),
        "stl": STL(K),
        "elbo": ELBO(K),
        "iwae 1": IWAEBound(1),
        "stl 1": STL(1),
        "dreg 1": DReG(1),
    }

    @tf.function(autograph=False)
    def gradients(objective_name, number):
        objective = estimators[objective_name]
        noise = tf.random.stateless_normal([objective.num_samples, BATCH, sum(model.latent_units)], [7, number])
        return bound_and_gradients(model, objective, x, noise)[1]

    phi = sum(int(np.prod(v.shape)) for v in model.inference_network.trainable_variables)
    samples = {
        name: np.stack([_flat(gradients(name, tf.constant(number))) for number in range(REPEATS)]).astype(np.float64)
        for name in estimators
    }
    return phi, samples


def _z_scores(one, other):
    """Differences of the means of paired samples in standard errors, for parameters that either estimator moves."""
    difference = one - other
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    moved = error > 1e-9
    assert np.abs(difference[:, ~moved]).max(initial=0.0) < 1e-6
    return difference.mean(axis=0)[moved] / error[moved]


# Of some hundred parameters the largest |z| of 60 batches (t with 59 degrees of freedom) stays below 5 by far.
MAX_Z = 5.0


def test_dreg_has_the_mean_gradient_of_the_bound_for_both_networks(gradient_samples):
    phi, samples = gradient_samples
    z = _z_scores(samples["dreg"][:, :phi], samples["iwae"][:, :phi])
    assert np.abs(z).max() < MAX_Z
    assert z.std() > 0.5  # the differences are chance, not zero by construction
    # The generative network has the same weights, so not only the same mean.
    np.testing.assert_allclose(samples["dreg"][:, phi:], samples["iwae"][:, phi:], rtol=1e-3, atol=1e-4)


def test_stl_is_unbiased_with_one_sample_and_biased_with_more(gradient_samples):
    phi, samples = gradient_samples
    assert np.abs(_z_scores(samples["stl 1"][:, :phi], samples["iwae 1"][:, :phi])).max() < MAX_Z
    assert np.abs(_z_scores(samples["stl"][:, :phi], samples["iwae"][:, :phi])).max() > 2 * MAX_Z
    np.testing.assert_allclose(samples["stl"][:, phi:], samples["iwae"][:, phi:], rtol=1e-3, atol=1e-4)


def test_with_one_sample_dreg_is_stl(gradient_samples):
    _, samples = gradient_samples
    np.testing.assert_allclose(samples["dreg 1"], samples["stl 1"], rtol=1e-3, atol=1e-4)


def test_the_elbos_gradient_does_not_depend_on_the_number_of_samples_in_the_mean(gradient_samples):
    _, samples = gradient_samples
    difference = samples["elbo"].mean(axis=0) - samples["iwae 1"].mean(axis=0)
    error = np.sqrt((samples["elbo"].var(axis=0) + samples["iwae 1"].var(axis=0)) / REPEATS)
    moved = error > 1e-9
    assert np.abs(difference[moved] / error[moved]).max() < MAX_Z


def test_the_bound_of_several_samples_pulls_elsewhere_than_the_elbo(gradient_samples):
    _, samples = gradient_samples
    assert np.abs(_z_scores(samples["elbo"], samples["iwae"])).max() > 2 * MAX_Z
