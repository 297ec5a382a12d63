"""Gradients where log p(x), the posterior and the divergences from it have closed forms."""

import numpy as np
import pytest
import tensorflow as tf
from linear_gaussian_models import DIM, linear_gaussian
from objective_table import MAX_Z, gradient, gradient_samples, made, number_of_parameters, of_kind, z_scores

BATCH = 100


def _images(n=BATCH):
    return tf.constant(np.random.default_rng(2).standard_normal((n, DIM)).astype(np.float32) * 2)


def _pieces(samples, network):
    """Gradients by the variables of a network, path -> [repeats, values]."""
    variables = network.trainable_variables
    ends = np.cumsum([int(np.prod(variable.shape)) for variable in variables])
    return dict(zip([variable.path for variable in variables], np.split(samples, ends, axis=1), strict=False))


@pytest.fixture(scope="module", params=[1, 2], ids="{} layers".format)
def at_the_posterior(request):
    """Model with q the posterior, its exact counterpart, number of phi's parameters, gradients on shared noise."""
    model, exact = linear_gaussian(request.param)
    estimators = {name: made(name) for name in ("iwae", "rws", "rws-sleep")}
    phi = number_of_parameters(model.inference_network)
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
        moved = (
            step
            * np.ones(())
            * (np.arange(value.size).reshape(value.shape) == np.ravel_multi_index(index, value.shape))
        )
        above, below = (
            type(exact)(**{**vars(exact), name: value + sign * moved}).log_prob(x).mean() for sign in (1, -1)
        )
        derivative[index] = -(above - below) / (2.0 * step)
    return derivative


def test_at_the_posterior_the_generative_gradient_is_that_of_log_p_x(at_the_posterior):
    model, exact, phi, samples = at_the_posterior
    pieces, x = _pieces(samples["iwae"][:, phi:], model.generative_network), _images().numpy().astype(np.float64)
    for level, stage in enumerate(model.generative_network.stages, 1):
        suffix = str(level) if len(model.latent_units) > 1 else ""
        for variable, name in ((stage.head.loc.kernel, "a" + suffix), (stage.head.loc.bias, "b" + suffix)):
            expected = _derivative_of_log_prob(exact, name, x).T  # kernels are A^T
            assert np.abs(expected).max() > 0.02
            assert np.abs(z_scores(pieces[variable.path], expected.ravel())).max() < MAX_Z


def _moments(model, exact, x):
    """Mean and scale of q(h | x), mean and scale of the posterior, for one layer; means [B, H], scales [H]."""
    loc, log_scale = (value.numpy().astype(np.float64) for value in model.inference_network.stages[0](x))
    mean, covariance = exact.posterior(x.numpy().astype(np.float64))
    return loc, np.exp(log_scale[0]), mean, np.sqrt(np.diag(covariance))


def _by_bias(samples, model, scale):
    """Gradients by the mean and by the log scale of q, [repeats, H] each, for one layer.

    The log scale is 7 tanh(raw / 7), so its derivative by the raw value is 1 - (log scale / 7)^2.
    """
    pieces, head = _pieces(samples, model.inference_network), model.inference_network.stages[0].head
    return pieces[head.loc.bias.path], pieces[head.log_scale.bias.path] / (1.0 - (np.log(scale) / 7.0) ** 2)


def test_off_the_posterior_elbo_descends_kl_from_q_and_the_sleep_phase_kl_to_q():
    model, exact = linear_gaussian(1, mean_error=0.3, scale_factor=1.3)
    x = _images()
    loc, scale, mean, posterior_scale = _moments(model, exact, x)
    samples = gradient_samples(model, {name: made(name) for name in ("elbo", "rws-sleep")}, x)
    expected = {
        # KL(q || p) = log(s_p / s) + (s^2 + (m - m_p)^2) / (2 s_p^2) - 1/2, and log p(x) does not depend on q
        "elbo": (((loc - mean) / posterior_scale**2).mean(axis=0), scale**2 / posterior_scale**2 - 1.0),
        # For h of the posterior of any x: E (h - m) = -0.3, E (h - m)^2 = s_p^2 + 0.3^2
        "rws-sleep": (0.3 / scale**2, 1.0 - (posterior_scale**2 + 0.09) / scale**2),
    }
    for name, values in expected.items():
        for found, value in zip(_by_bias(samples[name], model, scale), values, strict=True):
            assert np.abs(z_scores(found, value)).max() < MAX_Z
