"""Posterior expectations and draws where the posterior is a Gaussian in closed form and q is another."""

import numpy as np
import pytest
import reference
import tensorflow as tf

import iwae_tf
from iwae_tf.evaluation.posterior import posterior_expectation, posterior_samples

DIM, UNITS = 6, 3


def set_gaussian(head, kernel, bias, scale):
    head.loc.kernel.assign(kernel)
    head.loc.bias.assign(bias)
    head.log_scale.kernel.assign(np.zeros_like(head.log_scale.kernel))
    head.log_scale.bias.assign(7.0 * np.arctanh(np.log(scale) / 7.0))


def set_wrong_posterior(head, posterior_of, dim):
    """Makes a stage of q the affine posterior but for its mean, off by 0.4 standard deviations, and 1.5 its scales."""
    means, covariance = posterior_of(np.concatenate([np.zeros((1, dim)), np.eye(dim)]))
    scale = np.sqrt(np.diag(covariance))
    set_gaussian(head, means[1:] - means[0], means[0] + 0.4 * scale, 1.5 * scale)


def one_layer():
    """A linear-Gaussian model whose posterior is not diagonal, with a q that is; and x -> mean, covariance of h."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((DIM, UNITS)) * 0.5
    exact = reference.LinearGaussian(a, rng.standard_normal(DIM), np.full(DIM, 0.7))
    model = iwae_tf.IWAE(DIM, (UNITS,), ((),), likelihood="gaussian")
    set_gaussian(model.generative_network.stages[0].head, a.T, exact.b, exact.s)
    set_wrong_posterior(model.inference_network.stages[0].head, exact.posterior, DIM)
    return model, exact.posterior


def two_layers():
    """The same with h2 of two units; mean and covariance are those of (h1, h2) together."""
    rng = np.random.default_rng(1)
    a1, a2 = 0.5 * rng.standard_normal((DIM, UNITS)), 0.6 * rng.standard_normal((UNITS, 2))
    b1, b2 = rng.standard_normal(DIM), rng.standard_normal(UNITS)
    exact = reference.TwoLayerLinearGaussian(a1, b1, np.full(DIM, 0.7), a2, b2, np.full(UNITS, 0.6))
    model = iwae_tf.IWAE(DIM, (UNITS, 2), ((), ()), likelihood="gaussian")
    set_gaussian(model.generative_network.stages[0].head, a1.T, b1, exact.s1)
    set_gaussian(model.generative_network.stages[1].head, a2.T, b2, exact.s2)
    set_wrong_posterior(model.inference_network.stages[0].head, exact.posterior_h1, DIM)
    set_wrong_posterior(model.inference_network.stages[1].head, exact.posterior_h2, UNITS)

    def joint_posterior(x):
        mean1, cov1 = exact.posterior_h1(x)
        mean2, cov2 = exact.posterior_h2(mean1)
        slope = (exact.posterior_h2(np.eye(UNITS))[0] - exact.posterior_h2(np.zeros((1, UNITS)))[0]).T  # [H2, H1]
        covariance = np.block([[cov1, cov1 @ slope.T], [slope @ cov1, cov2 + slope @ cov1 @ slope.T]])
        return np.concatenate([mean1, mean2], axis=1), covariance

    return model, joint_posterior


MODELS = {1: one_layer, 2: two_layers}


def observations(n):
    return (1.5 * np.random.default_rng(2).standard_normal((n, DIM))).astype(np.float32)


def moments(h):
    """All units and all their products: tuple of [c, B, H_l] -> [c, B, H + H^2]."""
    h = tf.concat(h, axis=-1)
    products = h[..., :, None] * h[..., None, :]
    return tf.concat([h, tf.reshape(products, [*h.shape[:2], h.shape[2] ** 2])], axis=-1)


@pytest.mark.parametrize("layers", [1, 2])
def test_means_and_covariances_are_those_of_the_posterior_within_their_standard_errors(layers):
    model, exact = MODELS[layers]()
    x = observations(100)
    mean, covariance = exact(x)
    products = covariance + mean[:, :, None] * mean[:, None, :]
    truth = np.concatenate([mean, products.reshape(100, -1)], axis=1)
    estimate = posterior_expectation(model, moments, x, 2000, seed=1)
    z = (estimate.mean.numpy() - truth) / estimate.standard_error.numpy()
    # 100 rows of 12 or 30 numbers, of which some 1,000 are different: 4.5 standard errors happen once in 150 times
    assert np.abs(z).max() < 4.5
    # the mean square of 100 independent rows, correlated within a row, is known to 0.15 at worst
    assert 0.7 < np.mean(z**2) < 1.3
    error_of_q = np.abs(moments_of_q(model, x) - truth) / estimate.standard_error.numpy()
    assert np.mean(error_of_q[:, : mean.shape[1]]) > 5.0  # what the weights had to mend


def moments_of_q(model, x):
    noise = tf.random.stateless_normal([2000, len(x), sum(model.latent_units)], [0, 1])
    return tf.reduce_mean(moments(model.inference_network.transform(tf.constant(x), noise)[0]), axis=0).numpy()


@pytest.mark.parametrize("layers", [1, 2])
def test_resampled_draws_have_mean_and_covariance_of_the_posterior(layers):
    model, exact = MODELS[layers]()
    x = observations(1)
    (mean,), covariance = exact(x)
    draws = posterior_samples(model, x, n=4000, num_samples=20_000, seed=1)
    assert [layer.shape for layer in draws] == [(4000, 1, units) for units in model.latent_units]
    assert all(layer.dtype == tf.float32 for layer in draws)
    z = np.linalg.solve(np.linalg.cholesky(covariance), (np.concatenate(draws, axis=-1)[:, 0] - mean).T)  # N(0, I)
    # variance of each mean: 1 / 4000 of the choice and about 2 / 20,000 of what there was to choose from
    assert np.abs(z.mean(axis=1)).max() < 4 * np.sqrt(1 / 4000 + 2 / 20_000)
    # a variance or a correlation has twice that variance or less
    assert np.abs(np.cov(z) - np.eye(len(z))).max() < 4 * np.sqrt(2 / 4000 + 4 / 20_000)
