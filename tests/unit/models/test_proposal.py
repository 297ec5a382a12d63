"""Proposals refined for a row: the match in closed form, densities, exact models, and draws of their own."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from linear_gaussian_models import DIM, linear_gaussian
from scipy import stats
from small_models import binary_images, small_model

from iwae_tf import seeds
from iwae_tf.evaluation import annealed_log_likelihood, annealing, estimate_log_likelihood
from iwae_tf.models import proposal
from iwae_tf.models.proposal import Proposal

H = 4
RNG = np.random.default_rng(0)
START = Proposal(*(tf.constant(v) for v in (RNG.normal(size=H), RNG.normal(size=(H, H)), np.float64(0.3))))


@pytest.fixture(autouse=True)
def numbers_that_do_not_depend_on_other_tests():
    RNG.bit_generator.state = np.random.default_rng(100).bit_generator.state


def covariance(found: Proposal) -> np.ndarray:
    return found.factor.numpy() @ found.factor.numpy().T


def gaussian_target():
    root = RNG.normal(size=(H, H))
    return RNG.normal(size=H), root @ root.T + np.eye(H)


def test_a_match_finds_a_gaussian_whatever_the_weights_and_the_proposal():
    mean, target = gaussian_target()
    z = RNG.normal(size=(9, H))
    at = START.loc.numpy() + z @ START.factor.numpy().T
    gradient = np.linalg.solve(target, (mean - at).T).T @ START.factor.numpy()
    weights = RNG.dirichlet(np.ones(9))
    found = proposal.matched(START, tf.constant(z), tf.constant(gradient), tf.constant(weights), 1e12)
    np.testing.assert_allclose(found.loc, mean, rtol=1e-4)  # a rate of 1e12 leaves the proposal 1e-6 of the say
    np.testing.assert_allclose(covariance(found), target, rtol=1e-4, atol=1e-4)
    log_det = START.log_det + np.linalg.slogdet(found.factor)[1] - np.linalg.slogdet(START.factor)[1]
    np.testing.assert_allclose(found.log_det, log_det, rtol=1e-9)


def test_a_match_solves_its_equations_and_stays_at_the_proposal_without_trust():
    z, gradient, weights = RNG.normal(size=(20, H)), RNG.normal(size=(20, H)), RNG.dirichlet(np.ones(20))
    standard = proposal.inference_proposal(H)
    for rate in (0.5, 3.0):
        found = proposal.matched(standard, tf.constant(z), tf.constant(gradient), tf.constant(weights), rate)

        def moments(values, rate=rate):
            mean = weights @ values
            spread = (weights[:, None] * (values - mean)).T @ (values - mean)
            return mean, rate * spread + rate / (1 + rate) * np.outer(mean, mean)

        (z_mean, v), (g_mean, u) = moments(z), moments(gradient)
        s = covariance(found)
        np.testing.assert_allclose(s @ u @ s + s, np.eye(H) + v, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.loc, rate / (1 + rate) * (s @ g_mean + z_mean), rtol=1e-9)
        np.testing.assert_allclose(found.log_det, 0.5 * np.linalg.slogdet(s)[1], rtol=1e-9)
    still = proposal.matched(standard, tf.constant(z), tf.constant(gradient), tf.constant(weights), 1e-12)
    np.testing.assert_allclose(covariance(still), np.eye(H), atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_leaves_the_proposal_as_it_is(bad):
    gradient = np.ones((5, H))
    gradient[2, 1] = bad
    found = proposal.matched(
        START, tf.zeros([5, H]), tf.constant(gradient), tf.fill([5], tf.constant(0.2, tf.float64)), 5.0
    )
    for new, old in zip(found, START, strict=True):
        np.testing.assert_array_equal(new, old)


def test_the_weight_of_a_draw_is_that_of_its_density():
    model, x = small_model(gain=1.0), tf.constant(binary_images(1))
    units = sum(model.latent_units)
    rng = np.random.default_rng(1)
    factor = np.eye(units) + 0.2 * rng.normal(size=(units, units))
    found = Proposal(
        tf.constant(rng.normal(size=units)), tf.constant(factor), tf.constant(np.linalg.slogdet(factor)[1])
    )
    z = tf.constant(rng.normal(size=(7, 1, units)), tf.float32)
    noise = found.loc.numpy() + z.numpy()[:, 0] @ factor.T
    log_r = stats.multivariate_normal(found.loc.numpy(), factor @ factor.T).logpdf(noise)
    log_prior = stats.multivariate_normal(np.zeros(units), np.eye(units)).logpdf(noise)
    log_w = model.log_weights_from_noise(x, tf.constant(noise[:, None], tf.float32))[:, 0]
    expected = log_w + log_prior - log_r
    np.testing.assert_allclose(found.log_weights(model, x, z)[:, 0], expected, rtol=1e-4)  # float32 sums of tens
    wider = found.wider(tf.constant(1.3, tf.float64))
    np.testing.assert_allclose(covariance(wider), 1.69 * covariance(found), rtol=1e-12)
    np.testing.assert_allclose(wider.log_det, found.log_det + units * np.log(1.3), rtol=1e-12)


@pytest.mark.parametrize("layers", [1, 2])
def test_where_the_posterior_is_gaussian_every_sample_gives_log_p(layers):
    model, exact = linear_gaussian(layers, mean_error=1.0, scale_factor=0.5)
    x = 2 * np.random.default_rng(2).standard_normal((6, DIM)).astype(np.float32)
    plain = model.log_likelihood(x, 300)
    refined = estimate_log_likelihood(model, x, 300)
    truth = exact.log_prob(x)
    assert np.abs(plain - truth).mean() > 0.1  # q misses the posterior by far
    np.testing.assert_allclose(refined.log_likelihood, truth, atol=2e-4)  # float32 log-weights
    np.testing.assert_allclose(refined.effective_sample_size, 300.0, rtol=1e-5)
    assert refined.reliable.all()
    np.testing.assert_allclose(refined.bounds[300], plain, rtol=1e-12)  # L_k stays that of q; float64


@pytest.fixture(scope="module")
def skewed():
    """A model of binary pixels whose posteriors are not Gaussian, images, and their refined estimates by fours."""
    model = small_model(1, gain=1.0)
    x = np.unique(binary_images(30), axis=0)[:8]
    return model, x, estimate_log_likelihood(model, x, 2000, batch_size=4)


def test_refined_estimates_agree_with_annealing_and_have_more_effective_samples(skewed, monkeypatch):
    model, x, refined = skewed
    monkeypatch.setattr(annealing, "PILOT_TRANSITIONS", 20)  # annealing is right for any step sizes
    truth = annealed_log_likelihood(model, x, num_chains=100, num_temperatures=60)
    error = np.hypot(refined.standard_error, truth.standard_error)
    assert (np.abs(refined.log_likelihood - truth.log_likelihood) < 4.5 * error).all()
    plain = reference.effective_sample_size(model.log_weights(x, 2000).numpy())
    assert np.median(refined.effective_sample_size / refined.num_samples / (plain / 2000)) > 1.2  # 1.6; q is good here


def test_the_mean_weight_is_p_x_whatever_the_fit():
    """Over seeds, E[w] = p(x): the draws that fit the proposal are not those of the estimate."""
    model, x = small_model(gain=1.0), binary_images(1)
    rows = tf.constant(np.tile(x, (400, 1)))
    streams = seeds.row_streams(tf.range(400, dtype=tf.int64), rows)
    units = sum(model.latent_units)

    def one(stream):
        fitted = proposal.refine(model, rows[:1], stream)
        log_w = fitted.log_weights(
            model, rows[:1], seeds.row_normals(0, 50, units, seeds.stream_key(stream, seeds.Purpose.SAMPLE))[:, None]
        )
        return tf.reduce_logsumexp(tf.cast(log_w, tf.float64)) - np.log(50.0)

    estimates = np.exp(tf.function(lambda s: tf.map_fn(one, s, fn_output_signature=tf.float64))(streams).numpy())
    truth = np.exp(model.log_likelihood(x, 200_000).numpy()[0])
    error = np.hypot(estimates.std(ddof=1) / 20.0, 0.01 * truth)
    assert abs(estimates.mean() - truth) < 4.0 * error


def test_a_refined_row_depends_on_seed_and_content_alone(skewed):
    model, x, whole = skewed
    order = np.array([6, 0, 5, 3, 1, 7, 2, 4])  # other rows together, at other places; batches of the same graph
    again = estimate_log_likelihood(model, x[order], 2000, batch_size=4)
    np.testing.assert_allclose(again.log_likelihood, whole.log_likelihood[order], rtol=1e-4)  # rounding moves the fit
    other = estimate_log_likelihood(model, x[:4], 2000, seed=1, batch_size=4)
    assert (other.log_likelihood != whole.log_likelihood[:4]).all()
