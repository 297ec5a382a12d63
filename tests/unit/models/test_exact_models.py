"""Models with a known log p(x), linear Gaussian and sigmoid belief networks: bounds below it that rise to it."""

import keras
import numpy as np
import pytest
import reference_bernoulli as reference
import tensorflow as tf
from binary_models import belief_network, generative_weights, inference_weights
from linear_gaussian_models import DIM, UNITS, linear_gaussian
from scipy import special
from small_models import binary_images, standard_noise

from iwae_tf import IWAE, seeds
from iwae_tf.evaluation.estimate import estimate_log_likelihood
from iwae_tf.models.gradients import bound_and_gradients
from iwae_tf.objectives import STL, DReG, IWAEBound

DEPTHS = pytest.mark.parametrize("layers", [1, 2])
SIZES = pytest.mark.parametrize("units", [(4,), (3, 2, 2)])  # 16 and 128 states


def images(n):
    return 2 * np.random.default_rng(2).standard_normal((n, DIM)).astype(np.float32)


@DEPTHS
def test_every_weight_is_p_x_where_q_is_the_posterior(layers):
    (model, exact), x = linear_gaussian(layers), images(5)
    log_w = model.log_weights_from_noise(x, standard_noise(model, 60, 5))
    np.testing.assert_allclose(log_w, np.tile(exact.log_prob(x), (60, 1)), rtol=2e-5)  # float32, squares of 100


def test_the_bound_rises_with_k_to_the_exact_log_likelihood_and_stays_below():
    (model, exact), x = linear_gaussian(2, mean_error=0.5), images(100)
    truth = exact.log_prob(x)
    estimate = estimate_log_likelihood(model, x, 5000, sample_sizes=(1, 10, 100), refine="off")
    gaps = [truth - estimate.bounds[k] for k in (1, 10, 100, 5000)]
    means, errors = ([f(gap) for gap in gaps] for f in (np.mean, lambda gap: gap.std() / np.sqrt(len(gap))))
    assert means[0] > means[1] + 5 * errors[1] > means[2] + 5 * errors[2]
    assert means[2] > 5 * errors[2]  # below log p(x) by more than chance
    assert -5 * errors[3] < means[3] < 0.25  # 0.13 is left with 5,000 samples
    # The ELBO lies below by KL(q || posterior), every mean off by 0.5; that of layer 2 is conditional on h1.
    covariances = exact.posterior_h1(x[:1])[1], exact.posterior_h2(np.zeros((1, UNITS)))[1]
    kl = 0.5 * sum((0.25 / np.diag(covariance)).sum() for covariance in covariances)
    gap = truth - estimate.elbo
    assert abs(gap.mean() - kl) < 4 * gap.std() / np.sqrt(len(gap))


def test_estimates_of_many_different_rows_have_errors_that_are_independent():
    """With shared noise the error of the mean would not fall with the number of rows."""
    (model, exact), x = linear_gaussian(1, mean_error=0.3), images(400)
    estimate = estimate_log_likelihood(model, x, 500, refine="off")
    z = (estimate.log_likelihood - exact.log_prob(x)).sum() / np.sqrt((estimate.standard_error**2).sum())
    assert abs(z) < 4.0  # standard errors, plus a bias of 0.3; with shared noise up to 20
    assert 0.8 < np.std((estimate.log_likelihood - exact.log_prob(x)) / estimate.standard_error) < 1.25


def test_samples_follow_the_model_where_it_is_known():
    model = IWAE(2, (2, 2), ((), ()), likelihood="gaussian")
    for stage in model.generative_network.stages:
        stage.head.loc.kernel.assign(2.0 * np.eye(2))
        stage.head.log_scale.kernel.assign(np.zeros((2, 2)))
    # h2 has variance 1, h1 4 + 1, x 4 * 5 + 1 = 21, known to sqrt(2 / n) = 1%; four standard errors.
    np.testing.assert_allclose(np.var(model.sample(20_000, seed=1), axis=0), 21.0, rtol=0.04)


def test_dreg_has_less_spread_than_the_plain_gradient_near_the_posterior():
    (model, _), x = linear_gaussian(2, mean_error=0.1), tf.constant(images(20))
    gradients = {IWAEBound: [], DReG: []}
    for number in range(12):
        for objective, found in gradients.items():
            _, parts = bound_and_gradients(model, objective(16), x, standard_noise(model, 16, 20, seed=number))
            phi = parts[: len(model.inference_network.trainable_variables)]
            found.append(np.concatenate([np.ravel(gradient) for gradient in phi]))
    spreads = {objective: np.sqrt(np.var(found, axis=0).sum()) for objective, found in gradients.items()}
    assert spreads[DReG] < 0.5 * spreads[IWAEBound]


def test_a_trained_inference_network_finds_the_posterior():
    (model, exact), x = linear_gaussian(1, mean_error=1.0), images(64)
    model.generative_network.trainable = False
    noise = standard_noise(model, 200, 64)
    before = model.log_weights_from_noise(x, noise).numpy().std(axis=0).mean()
    model.compile(keras.optimizers.Adam(0.02), objective=STL(8))
    model.fit(tf.data.Dataset.from_tensors(x).repeat(300), shuffle=False, verbose=0)
    log_w = model.log_weights_from_noise(x, noise).numpy()
    assert log_w.std(axis=0).mean() < 0.05 * before
    assert abs(exact.log_prob(x).mean() - log_w.mean()) < 0.01


def exact_log_prob(model, x):
    return reference.log_prob(x, model.latent_units, **generative_weights(model))


@SIZES
def test_densities_sum_to_1_over_all_states(units):
    model, x = belief_network(DIM, units), binary_images(3, DIM)
    h = [tf.constant(np.repeat(layer, 3, axis=1), tf.float32) for layer in reference.all_latents(units)]  # [S, 3, H_l]
    log_q = model.inference_network.log_prob(tf.constant(x), h).numpy().astype(np.float64)
    np.testing.assert_allclose(np.exp(log_q).sum(axis=0), 1.0, rtol=1e-5)  # float32 log q
    np.testing.assert_allclose(np.exp(model.generative_network.log_prior(h)).sum(axis=0), 1.0, rtol=1e-5)
    log_p = model.generative_network.log_prob(tf.constant(x), h).numpy().astype(np.float64)
    np.testing.assert_allclose(special.logsumexp(log_p, axis=0), exact_log_prob(model, x), rtol=1e-5)  # float32 log p


def test_samples_of_q_p_h_and_p_x_are_as_frequent_as_their_densities():
    units = (3, 2, 2)
    model, x, n = belief_network(3, units), binary_images(1, 3), 50_000
    states = reference.all_latents(units)

    def check(drawn, p):
        digits = drawn.shape[-1]
        number = drawn @ 2 ** np.arange(digits)[::-1]  # the state's place in `all_latents` and `states`
        frequency = np.bincount(number.astype(int), minlength=2**digits) / n
        # 4.5 standard errors for each of up to 128 states, and a count for those that are hardly ever seen.
        assert (np.abs(frequency - p) < 4.5 * np.sqrt(p * (1 - p) / n) + 1 / n).all()

    h, _ = model.inference_network.transform(tf.constant(x), tf.constant(standard_noise(model, n, 1)))
    check(np.concatenate(h, axis=-1)[:, 0], np.exp(reference.log_posterior(x, states, inference_weights(model)))[:, 0])
    h = model.generative_network.sample_latents(n, lambda layer: seeds.key(0, seeds.Purpose.SAMPLE, layer))
    prior = model.generative_network.log_prior([tf.constant(layer[:, 0], tf.float32) for layer in states])
    check(np.concatenate(h, axis=-1), np.exp(np.float64(prior)))
    check(model.sample(n, seed=5).numpy(), np.exp(exact_log_prob(model, reference.states(3))))


def test_log_likelihood_converges_from_below_to_the_sum_over_all_states():
    model, x = (
        belief_network(DIM, (3, 2, 2), gain=1.0),
        reference.states(DIM).astype(np.float32),
    )  # every image there is
    truth = exact_log_prob(model, x)
    estimate = estimate_log_likelihood(model, x, 5000, sample_sizes=(1, 10, 100))
    assert estimate.standard_error.max() < 0.08
    z = (estimate.log_likelihood - truth) / estimate.standard_error
    assert np.abs(z).max() < 4.5  # standard errors, of 64 images
    assert abs(z.mean()) < 4.0 / np.sqrt(len(x))
    gaps = [truth - estimate.bounds[k] for k in (1, 10, 100)]
    errors, means = [gap.std() / np.sqrt(len(gap)) for gap in gaps], [gap.mean() for gap in gaps]
    assert means[0] > means[1] + 3 * errors[1] > means[2] + 3 * errors[2]
    assert means[2] > 0.0
    noise = standard_noise(model, 10_000, 4)
    ratio = np.exp(model.log_weights_from_noise(x[:4], noise).numpy().astype(np.float64) - truth[:4])  # w / p(x)
    error = ratio.std(axis=0, ddof=1) / np.sqrt(len(ratio))
    assert (np.abs(ratio.mean(axis=0) - 1.0) < 4.0 * error).all()


@DEPTHS
def test_every_weight_of_binary_units_is_p_x_where_q_is_the_posterior(layers):
    """Unit j is seen by pixel j alone and by unit j above, so that the posterior factorises and q can be exact."""
    model, n = belief_network(4, (4,) * layers), 4
    rng = np.random.default_rng(0)
    prior_logit = model.generative_network.prior.logits.numpy().astype(np.float64)
    stages = zip(model.inference_network.stages, model.generative_network.stages, strict=True)
    for above, stage in reversed(list(stages)):
        weight, bias = rng.normal(0.0, 2.0, n), rng.normal(0.0, 1.0, n)  # P(below = 1 | h) = sigmoid(weight h + bias)
        # log odds of h: those before, plus log p(below | h = 1) - log p(below | h = 0), which is linear in below
        odds = prior_logit + np.logaddexp(0.0, bias) - np.logaddexp(0.0, bias + weight)
        for either, its_bias in ((stage, bias), (above, odds)):
            either.head.logits.kernel.assign(np.diag(weight))
            either.head.logits.bias.assign(its_bias)
        p = special.expit(prior_logit)
        below = p * special.expit(weight + bias) + (1 - p) * special.expit(bias)
        prior_logit = special.logit(below)  # of the units below with those above summed out
    x = reference.states(n).astype(np.float32)
    truth = exact_log_prob(model, x)
    assert np.ptp(truth) > 1.0
    log_w = model.log_weights_from_noise(x, standard_noise(model, 100, len(x)))
    np.testing.assert_allclose(log_w, np.tile(truth, (100, 1)), rtol=2e-5, atol=2e-5)  # float32
