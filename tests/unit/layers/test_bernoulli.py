import itertools

import numpy as np
import pytest
import reference
import tensorflow as tf
from iwae_tf.layers.bernoulli import Bernoulli

from iwae_tf import seeds

# A pixel is value * logit - softplus(logit): two float32 terms of up to 10, each rounded to 6e-7, 6 pixels in a sum.
SUMS = {"rtol": 1e-6, "atol": 1e-5}
# One float32 matrix product.
OUTPUTS = {"rtol": 1e-5, "atol": 1e-6}

PIXELS, FEATURES = 6, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def layer(mean=None, seed=0):
    bernoulli = Bernoulli(PIXELS, seeds.initializer_seeds(seed), mean=mean)
    bernoulli.build((None, FEATURES))
    return bernoulli


def logits_and_images(rng, k=7, batch=3):
    logits = rng.uniform(-10.0, 10.0, (k, batch, PIXELS)).astype(np.float32)
    return tf.constant(logits), (rng.random((batch, PIXELS)) < 0.5).astype(np.float32)


# ---------------------------------------------------------------------------------------------- log-likelihood


def test_log_prob_equals_the_reference_and_tfp(rng):
    logits, x = logits_and_images(rng)
    log_prob = Bernoulli.log_prob(logits, x)
    assert log_prob.shape == (7, 3)
    np.testing.assert_allclose(log_prob, reference.bernoulli_log_prob(x, logits), **SUMS)
    np.testing.assert_allclose(log_prob, Bernoulli.distribution(logits).log_prob(x), **SUMS)


def test_log_prob_of_a_pixel_is_the_log_of_its_probability():
    logits = tf.constant([[np.log(3.0)]], tf.float32)  # p = 3/4
    np.testing.assert_allclose(Bernoulli.log_prob(logits, tf.constant([[1.0]])), [np.log(0.75)], rtol=1e-6)  # float32
    np.testing.assert_allclose(Bernoulli.log_prob(logits, tf.constant([[0.0]])), [np.log(0.25)], rtol=1e-6)  # float32


def test_log_prob_sums_over_pixels_and_does_not_average(rng):
    logits, x = logits_and_images(rng)
    twice = Bernoulli.log_prob(tf.concat([logits, logits], -1), tf.concat([x, x], -1))
    np.testing.assert_allclose(twice, 2.0 * Bernoulli.log_prob(logits, x), **SUMS)


def test_an_intensity_gives_the_expected_log_prob_of_the_binarized_image(rng):
    logits, _ = logits_and_images(rng)
    intensities = np.array([[0.0, 1.0, 0.5, 0.25, 0.9, 1 / 255]] * 3)
    images = np.array(list(itertools.product([0.0, 1.0], repeat=PIXELS)))  # all 64
    chances = np.prod(np.where(images[:, None] == 1.0, intensities, 1.0 - intensities), axis=-1)  # [64, B]
    each = reference.bernoulli_log_prob(images[:, None, None], logits.numpy())  # [64, k, B]
    expected = np.sum(chances[:, None] * each, axis=0)
    np.testing.assert_allclose(Bernoulli.log_prob(logits, intensities.astype(np.float32)), expected, **SUMS)


@pytest.mark.parametrize("size", [100.0, 1e4])
def test_huge_logits_give_a_finite_log_prob_and_the_gradient_x_minus_probability(size):
    logits = tf.constant([[size, -size, size, -size]])
    x = np.array([[1.0, 0.0, 0.0, 1.0]], np.float32)  # certain and right twice, certain and wrong twice
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_prob = Bernoulli.log_prob(logits, x)
    np.testing.assert_allclose(log_prob, [-2.0 * size], rtol=1e-6)  # float32; the right pixels add e^-100
    np.testing.assert_allclose(tape.gradient(log_prob, logits), [[0.0, 0.0, -1.0, 1.0]], atol=1e-7)
    with np.errstate(divide="ignore"):  # what is avoided: sigmoid(100) is 1 and log(1 - 1) is -inf in float32
        naive = tf.math.log(1.0 - tf.sigmoid(logits)).numpy()[0, 0]
    assert naive == -np.inf


def test_the_gradient_is_x_minus_probability_for_logits_of_every_size(rng):
    logits, x = logits_and_images(rng)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_prob = Bernoulli.log_prob(logits, x)
    expected = x - 1.0 / (1.0 + np.exp(-logits.numpy().astype(np.float64)))
    np.testing.assert_allclose(tape.gradient(log_prob, logits), expected, atol=3e-7)  # differences of float32 near 1


def test_the_distribution_is_over_all_pixels_at_once(rng):
    logits, _ = logits_and_images(rng)
    distribution = Bernoulli.distribution(logits)
    assert distribution.event_shape == (PIXELS,)
    assert distribution.batch_shape == (7, 3)
    np.testing.assert_allclose(distribution.mean(), Bernoulli.mean(logits), rtol=1e-6)  # two float32 sigmoids


# ---------------------------------------------------------------------------------------------- samples


def test_samples_are_1_as_often_as_the_probability_says():
    n, p = 100_000, np.array([0.001, 0.1, 0.5, 0.9, 0.999])
    logits = tf.broadcast_to(tf.constant(np.log(p / (1 - p)), tf.float32), [n, 5])
    draws = Bernoulli.sample(logits, seeds.key(0, seeds.Purpose.SAMPLE)).numpy()
    assert draws.dtype == np.float32
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert (np.abs(draws.mean(axis=0) - p) < 4.0 * np.sqrt(p * (1 - p) / n)).all()  # 4 standard errors


@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0 - 2.0**-23])  # the ends of the generator's range
def test_a_certain_pixel_is_drawn_as_such_every_time(monkeypatch, draw):
    monkeypatch.setattr("iwae_tf.seeds.uniform", lambda shape, key: tf.fill(shape, draw))
    draws = Bernoulli.sample(tf.constant([100.0, -200.0]), seeds.key(0, seeds.Purpose.SAMPLE))
    np.testing.assert_array_equal(draws, [1.0, 0.0])


def test_samples_are_a_function_of_their_key():
    logits = tf.zeros([3, 50])
    key, other = (seeds.key(0, seeds.Purpose.SAMPLE, major) for major in (0, 1))
    np.testing.assert_array_equal(Bernoulli.sample(logits, key), Bernoulli.sample(logits, key))
    assert (Bernoulli.sample(logits, key) != Bernoulli.sample(logits, other)).numpy().any()


def test_the_mean_is_the_probability_of_a_1(rng):
    logits, _ = logits_and_images(rng)
    expected = 1.0 / (1.0 + np.exp(-logits.numpy().astype(np.float64)))
    np.testing.assert_allclose(Bernoulli.mean(logits), expected, rtol=1e-6)  # one float32 sigmoid


# ---------------------------------------------------------------------------------------------- the layer


def test_the_layer_is_one_dense_layer(rng):
    bernoulli, features = layer(), rng.normal(0.0, 5.0, (7, 3, FEATURES)).astype(np.float32)
    np.testing.assert_allclose(bernoulli(features), reference.dense(features, bernoulli.logits.weights), **OUTPUTS)


def test_the_bias_starts_at_the_logit_of_the_data_mean_clipped_at_a_thousandth():
    mean = np.array([0.0, 1e-4, 0.001, 0.25, 0.999, 1.0])
    p = np.array([0.001, 0.001, 0.001, 0.25, 0.999, 0.999])
    bernoulli = layer(mean=mean)
    np.testing.assert_allclose(bernoulli.logits.bias, np.log(p / (1 - p)), rtol=1e-6)  # float32
    at_no_feature = Bernoulli.mean(bernoulli(tf.zeros([1, FEATURES])))
    np.testing.assert_allclose(at_no_feature[0], p, rtol=2e-6)  # a float32 sigmoid of a float32 logit of up to 7
    np.testing.assert_array_equal(mean[[0, -1]], [0.0, 1.0])  # the caller's array stays as it was


def test_the_bias_starts_at_0_without_a_data_mean():
    np.testing.assert_array_equal(layer().logits.bias, np.zeros(PIXELS))


def test_the_kernel_is_glorot_uniform_and_a_function_of_the_seed():
    kernel, again, other = (layer(seed=seed).logits.kernel.numpy() for seed in (1, 1, 2))
    limit = np.sqrt(6.0 / (FEATURES + PIXELS))
    assert limit / 2 < np.abs(kernel).max() <= limit
    np.testing.assert_array_equal(kernel, again)
    assert (kernel != other).all()


def test_values_from_0_to_1_can_be_observed_and_no_others():
    good = tf.constant([[0.0, 0.5], [1.0, 1 / 255]])
    assert Bernoulli.in_support(good)
    for bad in (-1e-6, 1.000001, 255.0, float("nan"), float("inf"), -float("inf")):
        assert not Bernoulli.in_support(tf.concat([good, [[0.0, bad]]], axis=0))
