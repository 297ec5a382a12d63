"""The transitions of annealing: equal to the formulas on latents, reversible, and true to the density they sample."""

from functools import partial

import numpy as np
import pytest
import reference
import reference_annealing
import tensorflow as tf
from linear_gaussian_models import DIM, UNITS, linear_gaussian
from small_models import binary_images, reference_weights, small_model

from iwae_tf.evaluation.hmc import chains_at, hmc_transition, leapfrog

CHAINS = 20_000
GAIN = 1.0  # of the small models' kernels: at 3, their default, float32 derivatives run into the 1e5


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def annealed_gaussian(exact, x, mean_error, scale_factor, beta):
    """Mean and covariance, in noise, of q^(1-beta) p^beta for q = N(mean + error, (factor scale)^2), one layer."""
    _, covariance = exact.posterior(x)
    scale = np.sqrt(np.diag(covariance))
    center, spread = -mean_error / (scale_factor * scale), np.full(UNITS, 1.0 / scale_factor)  # the posterior in noise
    precision = (1.0 - beta) + beta / spread**2
    return beta * center / spread**2 / precision, np.diag(1.0 / precision)


def stationary_chains(beta, mean_error=0.5, scale_factor=0.7):
    """Chains at exact samples of f_beta for one x, with the density's mean and covariance."""
    model, exact = linear_gaussian(1, mean_error, scale_factor)
    x = normal(1, DIM, seed=5)
    mean, covariance = annealed_gaussian(exact, x, mean_error, scale_factor, beta)
    noise = mean + normal(CHAINS, 1, UNITS, seed=1) * np.sqrt(np.diag(covariance))
    log_weights = partial(model.log_weights_from_noise, tf.constant(x))
    return log_weights, chains_at(log_weights, tf.constant(noise, tf.float32)), mean, covariance


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_gradient_is_the_derivative_of_the_log_weight(layers):
    model, x = small_model(layers, GAIN), binary_images(3)
    noise = normal(4, 3, sum(model.latent_units))
    chains = chains_at(partial(model.log_weights_from_noise, tf.constant(x)), tf.constant(noise))
    splits = np.cumsum(model.latent_units)[:-1]

    def log_w(noise):
        return reference.iwae_log_weights(x, np.split(noise, splits, axis=-1), **reference_weights(model))

    np.testing.assert_allclose(chains.log_w, log_w(noise), rtol=1e-5)
    expected = reference_annealing.gradient(log_w, noise.astype(np.float64))
    # float32 sums of tens of terms up to 10
    np.testing.assert_allclose(chains.gradient, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_leapfrog_moves_the_latents_as_with_the_posterior_scales_for_a_mass(num_steps):
    model, x = small_model(1, GAIN), binary_images(1)
    loc, log_scale = (np.asarray(p, np.float64)[0] for p in model.encode(x)[0])
    noise, momentum = normal(6, 1, 5), normal(6, 1, 5, seed=1)
    step, beta, scale = np.linspace(0.05, 0.3, 6), 0.3, np.exp(log_scale)
    log_weights = partial(model.log_weights_from_noise, tf.constant(x))
    start = chains_at(log_weights, tf.constant(noise))
    step32 = tf.constant(step[:, None], tf.float32)
    end, end_momentum = leapfrog(log_weights, start, tf.constant(momentum), 0.3, step32, num_steps)

    weights = reference_weights(model)

    def density(h):
        log_q = reference.gaussian_log_prob(h, loc, log_scale)
        log_w = reference.iwae_log_weights(x, [((h - loc) / scale)[:, None]], **weights)[:, 0]
        return log_q + beta * log_w

    h, h_momentum = reference_annealing.leapfrog(
        density, loc + scale * noise[:, 0], momentum[:, 0] / scale, step, scale, num_steps
    )
    np.testing.assert_allclose(loc + scale * end.noise.numpy()[:, 0], h, rtol=1e-4, atol=1e-4)  # float32
    np.testing.assert_allclose(end_momentum.numpy()[:, 0], scale * h_momentum, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("layers", [1, 2])
def test_leapfrog_leads_back_with_the_momentum_turned_round(layers):
    model, x = small_model(layers, GAIN), tf.constant(binary_images(3))
    log_weights = partial(model.log_weights_from_noise, x)
    units = sum(model.latent_units)
    start, momentum, step = (
        chains_at(log_weights, tf.constant(normal(8, 3, units))),
        normal(8, 3, units, seed=1),
        tf.fill([8, 3], 0.2),
    )
    end, end_momentum = leapfrog(log_weights, start, momentum, 0.8, step, 5)
    assert np.abs(end.noise - start.noise).max() > 0.5
    back, back_momentum = leapfrog(log_weights, end, -end_momentum, 0.8, step, 5)
    np.testing.assert_allclose(back.noise, start.noise, atol=1e-3)  # ten steps of float32
    np.testing.assert_allclose(-back_momentum, momentum, atol=1e-3)


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_a_transition_keeps_the_mean_and_covariance_of_its_density(beta):
    log_weights, chains, mean, covariance = stationary_chains(beta)
    before = chains.noise.numpy()
    move = tf.function(hmc_transition, autograph=False)
    rng, acceptance = np.random.default_rng(3), []
    for _ in range(6):
        momentum = rng.standard_normal(before.shape).astype(np.float32)
        uniform = rng.random((CHAINS, 1)).astype(np.float32)
        beta32, step = tf.constant(beta, tf.float32), tf.fill([CHAINS, 1], 1.1 * np.float32(covariance[0, 0] ** 0.5))
        chains, probability = move(log_weights, chains, momentum, uniform, beta32, step, 2)
        acceptance.append(probability.numpy().mean())
    assert 0.5 < np.mean(acceptance) < 0.98  # else a wrong rule would not show
    after = chains.noise.numpy()[:, 0].astype(np.float64)
    assert np.abs(np.corrcoef(before[:, 0].T, after.T)[:UNITS, UNITS:]).max() < 0.5  # the chains have moved
    # 5 standard errors: sd / sqrt(n) of a mean, sqrt(2 / n) of a relative variance
    np.testing.assert_allclose(after.mean(axis=0), mean, atol=5 * np.sqrt(covariance[0, 0] / CHAINS))
    np.testing.assert_allclose(np.cov(after.T) / covariance[0, 0], np.eye(UNITS), atol=5 * np.sqrt(2 / CHAINS))


def test_the_mean_of_exp_minus_the_energy_error_is_one():
    # The motion keeps volumes and the start is in equilibrium, so E exp(H(start) - H(end)) = 1 for any step.
    log_weights, chains, _, covariance = stationary_chains(0.6)
    momentum, step = (
        tf.constant(normal(CHAINS, 1, UNITS, seed=2)),
        tf.fill([CHAINS, 1], 1.3 * np.float32(covariance[0, 0] ** 0.5)),
    )
    end, end_momentum = leapfrog(log_weights, chains, momentum, 0.6, step, 3)
    energies = [
        0.5 * tf.reduce_sum(tf.square(p), axis=-1) - c.log_density(0.6)
        for c, p in ((chains, momentum), (end, end_momentum))
    ]
    ratio = np.exp(np.asarray(energies[0] - energies[1], np.float64))
    assert ratio.std() > 0.1  # the steps are large enough for the energy to change
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / np.sqrt(CHAINS)


def test_a_chain_stays_where_its_trajectory_leaves_the_numbers():
    def log_weights(noise):
        return tf.reduce_sum(tf.math.log(noise), axis=-1)  # NaN below 0, as is its derivative there

    start = chains_at(log_weights, tf.constant([[[0.1, 2.0]], [[1.0, 2.0]]]))
    momentum = tf.constant([[[-50.0, 0.0]], [[0.1, 0.0]]])
    after, probability = hmc_transition(log_weights, start, momentum, tf.zeros([2, 1]), 1.0, tf.fill([2, 1], 0.1), 2)
    assert probability[0, 0] == 0.0
    for old, new in zip(start, after, strict=True):
        np.testing.assert_array_equal(old[0], new[0])
        assert np.isfinite(new).all()
    assert (after.noise[1] != start.noise[1]).numpy().any()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gradients_are_finite_far_out(layers):
    model, x = small_model(layers, GAIN), tf.constant(binary_images(3))
    chains = chains_at(
        partial(model.log_weights_from_noise, x), tf.constant(1000.0 * normal(10, 3, sum(model.latent_units)))
    )
    assert np.isfinite(chains.log_w).all()
    assert np.isfinite(chains.gradient).all()
