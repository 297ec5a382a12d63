"""Latent units made of standard normal noise, Gaussian and binary, and their priors."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from scipy import special
from tensorflow_probability import distributions as tfd

from iwae_tf import InputError, seeds
from iwae_tf.declarations import declared, find
from iwae_tf.distributions.bernoulli import BernoulliLatent, BernoulliPrior
from iwae_tf.distributions.gaussian import GaussianLatent, GaussianParameters
from iwae_tf.seeds import Purpose

# Sums of a dozen float32 terms, each off by a few parts in 1e7 (exp and square); the sum may be smaller than they are.
SUMS = {"rtol": 3e-6, "atol": 2e-5}
UNITS, FEATURES = 5, 4


def built(name, units=UNITS):
    head = find("latent", name).load()(units, seeds.initializer_seeds(0))
    head.build((None, FEATURES))
    return head


def gaussian(*shape, low=-2.0, high=2.0):
    rng = np.random.default_rng(0)
    loc, log_scale = rng.normal(0.0, 2.0, shape), rng.uniform(low, high, shape)
    return GaussianParameters(tf.constant(loc, tf.float32), tf.constant(log_scale, tf.float32))


@pytest.mark.parametrize("name", declared("latent"))
def test_every_kind_of_units_has_a_prior_facts_and_parameters_for_people(name):
    head, facts = built(name, 3), find("latent", name).facts
    prior = type(head).default_prior(3)
    np.testing.assert_array_equal(prior.mean(), [0.0] * 3 if head.gaussian else [0.5] * 3)
    assert prior.sample(4, seeds.key(0, Purpose.SAMPLE)).shape == (4, 3)
    assert (head.gaussian, head.reparameterised) == (facts["gaussian"], facts["reparameterised"])
    displayed = head.display_parameters(head(tf.zeros([5, FEATURES])))
    assert [getattr(displayed, field).shape for field in head.display_fields] == [(5, 3)] * len(head.display_fields)


def test_an_unknown_kind_of_units_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="unknown latent 'bernouli': did you mean 'bernoulli'"):
        find("latent", "bernouli")


# ------------------------------------------------------------------------------------------- Gaussian


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (-7.0, -6.0), (6.0, 7.0)])
def test_the_kl_to_the_standard_normal_equals_the_reference_and_tfp(low, high):
    q, head = gaussian(3, UNITS, low=low, high=high), built("gaussian")
    kl = head.kl_to_standard_normal(q)
    np.testing.assert_allclose(kl, reference.gaussian_kl_to_standard(q.loc, q.log_scale), **SUMS)
    prior = tfd.Independent(tfd.Normal(tf.zeros(UNITS), tf.ones(UNITS)), reinterpreted_batch_ndims=1)
    np.testing.assert_allclose(kl, tfd.kl_divergence(head.distribution(q), prior), **SUMS)
    zeros = tf.zeros([1, UNITS])
    np.testing.assert_array_equal(head.kl_to_standard_normal(GaussianParameters(zeros, zeros)), [0.0])


def test_a_sample_made_of_noise_comes_with_its_density_and_with_the_total_derivative_of_that():
    q, noise = gaussian(3, UNITS), tf.constant(np.random.default_rng(1).normal(size=(6, 3, UNITS)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(q)
        h, log_q = GaussianLatent.sample_and_log_prob(q, noise)
        at_h = GaussianLatent.log_prob(q, h)
    np.testing.assert_allclose(h, q.loc + np.exp(np.float64(q.log_scale)) * noise, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(h, GaussianLatent.transform(q, noise))
    np.testing.assert_allclose(log_q, reference.gaussian_log_prob(h.numpy(), *(t.numpy() for t in q)), **SUMS)
    assert tape.gradient(log_q, q.loc) is None  # the mean moves the sample with it
    np.testing.assert_allclose(tape.gradient(at_h, q.loc), np.zeros((3, UNITS)), atol=1e-4)  # float32, terms up to 10
    np.testing.assert_array_equal(tape.gradient(log_q, q.log_scale), np.full((3, UNITS), -6.0))
    np.testing.assert_allclose(tape.gradient(at_h, q.log_scale), np.full((3, UNITS), -6.0), rtol=1e-4)


@pytest.mark.parametrize("raw", [1e6, -1e6, 1e30, -1e30])
def test_a_huge_raw_output_gives_a_bounded_scale_and_finite_gradients(raw):
    head = built("gaussian")
    head.log_scale.bias.assign([raw] * UNITS)
    noise = tf.constant(np.random.default_rng(1).normal(size=(6, 3, UNITS)).astype(np.float32))
    with tf.GradientTape() as tape:
        q = head(tf.ones([3, FEATURES]))
        h = head.transform(q, noise)
        log_prob, kl = head.log_prob(q, tf.stop_gradient(h)), head.kl_to_standard_normal(q)
        total = tf.reduce_sum(log_prob) + tf.reduce_sum(kl) + tf.reduce_sum(h)
    np.testing.assert_allclose(q.log_scale, np.full((3, UNITS), np.sign(raw) * 7.0), rtol=1e-6)  # float32 tanh
    for value in (q.loc, q.scale, h, log_prob, kl, *tape.gradient(total, [v.value for v in head.weights])):
        assert np.isfinite(value.numpy()).all()


# ------------------------------------------------------------------------------------------- binary


def threshold(logit: float) -> float:
    """Noise below it gives 1, in float64; the rarer side keeps the digits."""
    return -special.ndtri(special.expit(-logit)) if logit > 0 else special.ndtri(special.expit(logit))


@pytest.mark.parametrize("logit", [0.0, 1e-3, -1e-3, 3.0, -3.0, 10.0, -10.0, 17.0, -17.0, 18.5, -18.5, 40.0, -40.0])
def test_a_unit_is_1_up_to_the_quantile_of_its_probability_in_either_tail(logit):
    margin = 2e-6 * max(1.0, abs(threshold(logit)))  # the float32 quantile is good to some units in the seventh digit
    noise = tf.constant([[threshold(logit) - margin], [threshold(logit) + margin]], tf.float32)
    value, _ = BernoulliLatent.sample_and_log_prob(tf.constant([logit]), noise)
    np.testing.assert_array_equal(value, [[1.0], [0.0]])


def test_log_q_is_the_density_at_the_sample_and_its_gradient_the_score():
    rng = np.random.default_rng(0)
    logits, noise = rng.uniform(-10.0, 10.0, (3, 6)).astype(np.float32), rng.standard_normal((7, 3, 6))
    logits, noise = tf.constant(logits), tf.constant(noise, tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([logits, noise])
        value, log_q = BernoulliLatent.sample_and_log_prob(logits, noise)
    assert (value.shape, log_q.shape) == ((7, 3, 6), (7, 3))
    np.testing.assert_allclose(log_q, reference.bernoulli_log_prob(value.numpy(), logits), rtol=1e-6, atol=1e-5)
    assert tape.gradient(value, [logits, noise]) == [None, None]
    assert tape.gradient(log_q, noise) is None
    score = np.sum(value - special.expit(np.float64(logits)), axis=0)  # with the value held fixed
    np.testing.assert_allclose(tape.gradient(log_q, logits), score, atol=2e-6)
    assert np.isnan(BernoulliLatent.sample_and_log_prob(tf.constant([[np.nan, 0.0]]), tf.zeros([1, 2]))[1]).all()


def test_the_prior_of_binary_units_is_independent_bernoulli_and_learned():
    prior, logits = BernoulliPrior(3), np.array([-1.0, 0.5, 4.0])
    assert [variable.path for variable in prior.trainable_variables] == ["prior/logits"]
    prior.logits.assign(logits)
    p, h = special.expit(logits), np.random.default_rng(0).integers(0, 2, (5, 2, 3))
    with tf.GradientTape() as tape:
        log_p = prior.log_prob(tf.constant(h, tf.float32))
    np.testing.assert_allclose(log_p, reference.bernoulli_log_prob(h, logits), rtol=1e-6)  # float32
    gradient = tape.gradient(log_p, prior.logits.value)
    np.testing.assert_allclose(gradient, (h - p).sum(axis=(0, 1)), rtol=2e-5)  # float32, 1 - 0.982
    np.testing.assert_allclose(prior.mean(), p, rtol=1e-6)
