"""Gradients at the exact posterior, where log p(x) and its derivatives have closed forms."""

import numpy as np
import pytest
import tensorflow as tf
from linear_gaussian_models import DIM, linear_gaussian
from objective_table import MAX_Z, gradient, gradient_samples, made, of_kind, size_of_phi, z_scores

BATCH = 100


def _images(n=BATCH):
    return tf.constant(np.random.default_rng(2).standard_normal((n, DIM)).astype(np.float32) * 2)


def _pieces(samples, network):
    """Gradients by the variables of a network, path -> [repeats, values]."""
    variables = network.trainable_variables
    ends = np.cumsum([int(np.prod(variable.shape)) for variable in variables])
    return dict(zip([variable.path for variable in variables], np.split(samples, ends, axis=1), strict=False))


@pytest.fixture(scope="module")
def at_the_posterior():
    """Model of two layers, q the posterior; its exact counterpart, number of phi's parameters, gradients."""
    model, exact = linear_gaussian(2)
    estimators = {name: made(name) for name in ("iwae", "rws", "rws-sleep")}
    phi = size_of_phi(model)
    return model, exact, phi, gradient_samples(model, estimators, _images())


@pytest.mark.parametrize("name", of_kind("path"))
def test_at_the_posterior_the_inference_gradient_through_the_path_alone_is_0(at_the_posterior, name):
    model, _, phi, _ = at_the_posterior
    noise = tf.random.stateless_normal([6, 4, sum(model.latent_units)], (0, 1))
    # float32 rounding of terms of size 10
    assert np.abs(gradient(model, made(name), _images(4), noise)[:phi]).max() < 2e-4


def test_at_the_posterior_other_inference_gradients_are_0_in_the_mean_alone(at_the_posterior):
    _, _, phi, samples = at_the_posterior
    for found in samples.values():
        assert np.abs(found[0, :phi]).max() > 0.01
        assert np.abs(z_scores(found[:, :phi])).max() < MAX_Z


def _derivative_of_log_prob(exact, name, x, step=1e-5):
    """Of minus the mean of log p(x) by a field of the exact model, central differences in float64."""
    value = getattr(exact, name)
    derivative = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        moved = np.zeros_like(value)
        moved[index] = step
        above, below = (
            type(exact)(**{**vars(exact), name: value + sign * moved}).log_prob(x).mean() for sign in (1, -1)
        )
        derivative[index] = -(above - below) / (2.0 * step)
    return derivative


def test_at_the_posterior_the_generative_gradient_is_that_of_log_p_x(at_the_posterior):
    model, exact, phi, samples = at_the_posterior
    pieces, x = _pieces(samples["iwae"][:, phi:], model.generative_network), _images().numpy().astype(np.float64)
    for level, stage in enumerate(model.generative_network.stages, 1):
        for variable, name in ((stage.head.loc.kernel, f"a{level}"), (stage.head.loc.bias, f"b{level}")):
            expected = _derivative_of_log_prob(exact, name, x).T  # kernels are A^T
            assert np.abs(expected).max() > 0.02
            assert np.abs(z_scores(pieces[variable.path], expected.ravel())).max() < MAX_Z
