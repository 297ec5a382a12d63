"""Gradients of both networks in the mean over many batches, for 1, 2 and 3 stochastic layers; shared noise."""

import numpy as np
import pytest
import tensorflow as tf
from autodiff import flat, number_of_parameters
from paired import MAX_Z, z_scores
from small_models import binary_images, small_model

from iwae_tf.objectives import ELBO, RWS, STL, VIMCO, DReG, IWAEBound, RWSDReG
from iwae_tf.objectives.gradients import bound_and_gradients

K, BATCH, REPEATS = 4, 200, 60


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
        "vimco": VIMCO(K),
        "rws": RWS(K),
        "rws-dreg": RWSDReG(K),
        "iwae 1": IWAEBound(1),
        "stl 1": STL(1),
        "dreg 1": DReG(1),
    }

    @tf.function(autograph=False)
    def gradients(objective_name, number):
        objective = estimators[objective_name]
        noise = tf.random.stateless_normal([objective.num_samples, BATCH, sum(model.latent_units)], [7, number])
        return bound_and_gradients(model, objective, x, noise)[1]

    samples = {
        name: np.stack([flat(gradients(name, tf.constant(number))) for number in range(REPEATS)]).astype(np.float64)
        for name in estimators
    }
    return number_of_parameters(model.inference_network), samples


@pytest.mark.parametrize("name", ["dreg", "vimco"])
def test_an_unbiased_estimator_has_the_mean_gradient_of_the_bound_for_both_networks(gradient_samples, name):
    phi, samples = gradient_samples
    z = z_scores(samples[name][:, :phi], samples["iwae"][:, :phi])
    assert np.abs(z).max() < MAX_Z
    assert z.std() > 0.5  # the differences are chance, not zero by construction
    # The generative network has the same weights, so not only the same mean.
    np.testing.assert_allclose(samples[name][:, phi:], samples["iwae"][:, phi:], rtol=1e-3, atol=1e-4)


def test_rws_dreg_has_the_mean_gradient_of_rws_and_not_that_of_the_bound(gradient_samples):
    phi, samples = gradient_samples
    z = z_scores(samples["rws-dreg"][:, :phi], samples["rws"][:, :phi])
    assert np.abs(z).max() < MAX_Z
    assert z.std() > 0.5
    assert np.abs(z_scores(samples["rws-dreg"][:, :phi], samples["dreg"][:, :phi])).max() > 2 * MAX_Z
    np.testing.assert_allclose(samples["rws-dreg"][:, phi:], samples["iwae"][:, phi:], rtol=1e-3, atol=1e-4)


def test_stl_is_unbiased_with_one_sample_and_biased_with_more(gradient_samples):
    phi, samples = gradient_samples
    assert np.abs(z_scores(samples["stl 1"][:, :phi], samples["iwae 1"][:, :phi])).max() < MAX_Z
    assert np.abs(z_scores(samples["stl"][:, :phi], samples["iwae"][:, :phi])).max() > 2 * MAX_Z
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
    assert np.abs(z_scores(samples["elbo"], samples["iwae"])).max() > 2 * MAX_Z
