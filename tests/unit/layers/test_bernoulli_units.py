"""Binary units made of standard normal noise, and the prior of the top layer."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from iwae_tf.layers.bernoulli import Bernoulli
from iwae_tf.layers.bernoulli_prior import BernoulliPrior
from iwae_tf.layers.registry import LATENTS, PRIORS, check_gaussian, latent_class, prior_class
from iwae_tf.layers.standard_normal import StandardNormal
from scipy import special

from iwae_tf import seeds
from iwae_tf.errors import InputError
from iwae_tf.seeds import Purpose

# A unit is value * logit - softplus(logit): two float32 terms of up to 10, each rounded to 6e-7, 6 units in a sum.
SUMS = {"rtol": 1e-6, "atol": 1e-5}


def bound_of(logit: float) -> float:
    """Where the noise of a unit with this logit passes from 1 to 0, in float64; the rarer side keeps the digits."""
    return -special.ndtri(special.expit(-logit)) if logit > 0 else special.ndtri(special.expit(logit))


# ---------------------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("logit", [0.0, 1e-3, -1e-3, 3.0, -3.0, 10.0, -10.0, 17.0, -17.0, 18.5, -18.5, 40.0, -40.0])
def test_a_unit_is_1_up_to_the_quantile_of_its_probability_in_either_tail(logit):
    margin = 2e-6 * max(1.0, abs(bound_of(logit)))  # the float32 quantile is good to some units in the seventh digit
    noise = tf.constant([[bound_of(logit) - margin], [bound_of(logit) + margin]], tf.float32)
    value, _ = Bernoulli.sample_and_log_prob(tf.constant([logit]), noise)
    np.testing.assert_array_equal(value, [[1.0], [0.0]])


def test_units_are_1_as_often_as_their_probability_says():
    n, p = 400_000, np.array([1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999])
    noise = seeds.normal([n, len(p)], seeds.key(0, Purpose.TRAIN_NOISE))
    value, _ = Bernoulli.sample_and_log_prob(tf.constant(np.log(p / (1 - p)), tf.float32), noise)
    assert value.dtype == tf.float32
    assert set(np.unique(value)) == {0.0, 1.0}
    assert (np.abs(value.numpy().mean(axis=0) - p) < 4.0 * np.sqrt(p * (1 - p) / n)).all()  # 4 standard errors


@pytest.mark.parametrize("logit", [19.0, 100.0, 1e4, np.inf])  # P of the rarer value is below 6e-9
def test_no_noise_that_is_ever_drawn_reaches_the_rarer_value_of_a_certain_unit(logit):
    ends = tf.constant([[-5.678], [0.0], [5.678]])  # sqrt(-2 log 1e-7), where TensorFlow's normal numbers end
    for sign, expected in ((1.0, 1.0), (-1.0, 0.0)):
        value, log_q = Bernoulli.sample_and_log_prob(tf.constant([sign * logit]), ends)
        np.testing.assert_array_equal(value, [[expected]] * 3)
        if np.isfinite(logit):
            np.testing.assert_allclose(log_q, [0.0] * 3, atol=2e-6)  # log(1 - 6e-9) at float32's digits of 19


def test_log_q_is_the_density_at_the_sample():
    rng = np.random.default_rng(0)
    logits, noise = rng.uniform(-10.0, 10.0, (3, 6)).astype(np.float32), rng.standard_normal((7, 3, 6))
    value, log_q = Bernoulli.sample_and_log_prob(tf.constant(logits), tf.constant(noise, tf.float32))
    assert value.shape == (7, 3, 6)
    assert log_q.shape == (7, 3)
    np.testing.assert_allclose(log_q, reference.bernoulli_log_prob(value.numpy(), logits), **SUMS)


def test_no_gradient_passes_to_the_units_and_that_of_log_q_is_the_score():
    logits, noise = tf.constant([[0.3, -2.0, 1.0]]), tf.constant([[0.1, -0.5, 1.5]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([logits, noise])
        value, log_q = Bernoulli.sample_and_log_prob(logits, noise)
    assert tape.gradient(value, [logits, noise]) == [None, None]
    assert tape.gradient(log_q, noise) is None
    expected = value.numpy() - special.expit(logits.numpy())  # d log q / d logit with the value held fixed
    np.testing.assert_allclose(tape.gradient(log_q, logits), expected, rtol=1e-6)  # a float32 sigmoid


def test_compiled_units_are_the_same_units():
    logits = tf.constant(np.linspace(-12.0, 12.0, 50), tf.float32)
    noise = seeds.normal([400, 50], seeds.key(1, Purpose.TRAIN_NOISE))
    value, _ = Bernoulli.sample_and_log_prob(logits, noise)
    compiled, _ = tf.function(Bernoulli.sample_and_log_prob, jit_compile=True)(logits, noise)
    np.testing.assert_array_equal(compiled, value)  # 20,000 draws; rounding moves one in a million


def test_a_logit_that_is_no_number_gives_a_log_q_that_is_none():
    _, log_q = Bernoulli.sample_and_log_prob(tf.constant([[np.nan, 0.0]]), tf.zeros([1, 2]))
    assert np.isnan(log_q).all()


def test_the_parameters_are_described_by_the_probability():
    logits = tf.constant([[-2.0, 0.0, 3.0]])
    described = Bernoulli.described(logits)
    np.testing.assert_array_equal(described.logits, logits)
    assert [getattr(described, name).shape for name in Bernoulli.described_by] == [(1, 3)]
    np.testing.assert_allclose(described.probability, special.expit(logits.numpy()), rtol=1e-6)  # a float32 sigmoid


# ---------------------------------------------------------------------------------------------- priors


def test_the_prior_starts_at_one_half_and_is_learned():
    prior = BernoulliPrior(4)
    assert [variable.path for variable in prior.trainable_variables] == ["prior/logits"]
    np.testing.assert_array_equal(prior.mean(), [0.5] * 4)


def test_the_prior_is_independent_bernoulli():
    prior, logits = BernoulliPrior(3), np.array([-1.0, 0.5, 4.0])
    prior.logits.assign(logits)
    h = np.random.default_rng(0).integers(0, 2, (5, 2, 3))
    log_p = prior.log_prob(tf.constant(h, tf.float32))
    np.testing.assert_allclose(log_p, reference.bernoulli_log_prob(h, logits), rtol=1e-6)  # float32
    np.testing.assert_allclose(prior.mean(), special.expit(logits), rtol=1e-6)  # a float32 sigmoid
    draws, p = prior.sample(50_000, seeds.key(0, Purpose.SAMPLE)).numpy(), special.expit(logits)
    assert draws.shape == (50_000, 3)
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert (np.abs(draws.mean(axis=0) - p) < 4.0 * np.sqrt(p * (1 - p) / 50_000)).all()  # 4 standard errors
    correlations = np.corrcoef(draws.T)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 4.0 / np.sqrt(50_000)  # 4 standard errors of a correlation of 0


def test_the_gradient_of_the_prior_is_value_minus_probability():
    prior = BernoulliPrior(3)
    prior.logits.assign([-1.0, 0.5, 4.0])
    h = tf.constant([[0.0, 1.0, 1.0]])
    with tf.GradientTape() as tape:
        log_p = prior.log_prob(h)
    gradient = tape.gradient(log_p, prior.logits.value)
    np.testing.assert_allclose(gradient, h[0] - special.expit([-1.0, 0.5, 4.0]), rtol=2e-5)  # float32, 1 - 0.982


def test_the_prior_of_gaussian_units_is_standard_normal():
    prior, value = StandardNormal(4), np.random.default_rng(0).standard_normal((5, 4))
    expected = reference.gaussian_log_prob(value, 0.0, 0.0)
    np.testing.assert_allclose(prior.log_prob(tf.constant(value, tf.float32)), expected, rtol=1e-6)  # float32
    np.testing.assert_array_equal(prior.mean(), np.zeros(4))
    key = seeds.key(0, Purpose.SAMPLE)
    np.testing.assert_array_equal(prior.sample(7, key), seeds.normal([7, 4], key))


# ---------------------------------------------------------------------------------------------- names


def test_every_kind_of_units_has_a_layer_and_a_prior():
    assert LATENTS.keys() == PRIORS.keys()
    for name in LATENTS:
        assert prior_class(name)(3).mean().shape == (3,)
        head = latent_class(name)(3, seeds.initializer_seeds(0))
        head.build((None, 2))
        described = head.described(head(tf.zeros([5, 2])))
        assert [getattr(described, array).shape for array in head.described_by] == [(5, 3)] * len(head.described_by)


def test_an_unknown_kind_of_units_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="unknown latent 'bernouli': did you mean 'bernoulli'"):
        latent_class("bernouli")


def test_what_is_for_gaussian_units_alone_says_why():
    check_gaussian("gaussian", "a thing", "a reason")
    with pytest.raises(InputError, match="a thing exists for Gaussian units, this model's are bernoulli: a reason"):
        check_gaussian("bernoulli", "a thing", "a reason")
