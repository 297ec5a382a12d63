import numpy as np
import pytest
import reference
import tensorflow as tf
import tensorflow_probability as tfp
from iwae_tf.layers.gaussian import DiagonalGaussian, GaussianParameters, standard_normal_log_prob

from iwae_tf import seeds

# Sums of a dozen float32 terms, each off by a few parts in 1e7 (exp and square); the sum may be smaller than they are.
SUMS = {"rtol": 3e-6, "atol": 2e-5}
# One float32 matrix product and one tanh.
OUTPUTS = {"rtol": 1e-5, "atol": 1e-6}

UNITS, FEATURES = 5, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def layer(mean=None, seed=0):
    gaussian = DiagonalGaussian(UNITS, seeds.initializer_seeds(seed), mean=mean)
    gaussian.build((None, FEATURES))
    return gaussian


def parameters(rng, *shape, low=-2.0, high=2.0):
    loc = rng.normal(0.0, 2.0, shape).astype(np.float32)
    return GaussianParameters(tf.constant(loc), tf.constant(rng.uniform(low, high, shape).astype(np.float32)))


def values_near(rng, q, k):
    """Draws k values for every row, from the middle to three standard deviations out."""
    noise = rng.uniform(-3.0, 3.0, (k, *q.loc.shape)).astype(np.float32)
    return q.loc.numpy() + q.scale.numpy() * noise


# ---------------------------------------------------------------------------------------------- densities


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (-7.0, -6.0), (6.0, 7.0)])
def test_log_prob_equals_the_reference_and_tfp_for_scales_of_every_size(rng, low, high):
    q = parameters(rng, 3, UNITS, low=low, high=high)
    value = values_near(rng, q, k=6)  # [6, 3, H] against parameters of [3, H]
    log_prob = DiagonalGaussian.log_prob(q, tf.constant(value))
    assert log_prob.shape == (6, 3)
    np.testing.assert_allclose(log_prob, reference.gaussian_log_prob(value, q.loc, q.log_scale), **SUMS)
    # TFP takes value / scale - loc / scale, two numbers rounded to 6e-8 of themselves; then z <= 3, and 5 units.
    rounding = 2 * 6e-8 * np.abs(value / q.scale).max() * 3 * UNITS
    in_tfp = DiagonalGaussian.distribution(q).log_prob(value)
    np.testing.assert_allclose(log_prob, in_tfp, rtol=SUMS["rtol"], atol=SUMS["atol"] + rounding)


def test_log_prob_far_in_the_tail_is_finite_and_right(rng):
    q = parameters(rng, 3, UNITS, low=-7.0, high=-7.0)
    value = q.loc.numpy() + 50.0  # 55,000 standard deviations
    log_prob = DiagonalGaussian.log_prob(q, tf.constant(value))
    np.testing.assert_allclose(log_prob, reference.gaussian_log_prob(value, q.loc, q.log_scale), rtol=3e-6)
    assert (log_prob.numpy() < -1e9).all()


def test_the_standard_normal_log_prob_is_the_case_of_loc_0_and_scale_1(rng):
    value = rng.normal(size=(6, 3, UNITS)).astype(np.float32)
    np.testing.assert_allclose(standard_normal_log_prob(value), reference.gaussian_log_prob(value, 0.0, 0.0), **SUMS)


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (-7.0, -6.0), (6.0, 7.0)])
def test_the_kl_to_the_standard_normal_equals_the_reference_and_tfp(rng, low, high):
    q = parameters(rng, 3, UNITS, low=low, high=high)
    kl = DiagonalGaussian.kl_to_standard_normal(q)
    assert kl.shape == (3,)
    np.testing.assert_allclose(kl, reference.gaussian_kl_to_standard(q.loc, q.log_scale), **SUMS)
    tfd = tfp.distributions
    prior = tfd.Independent(tfd.Normal(tf.zeros(UNITS), tf.ones(UNITS)), reinterpreted_batch_ndims=1)
    np.testing.assert_allclose(kl, tfd.kl_divergence(DiagonalGaussian.distribution(q), prior), **SUMS)


def test_the_kl_is_zero_for_the_standard_normal_alone(rng):
    zeros = tf.zeros([1, UNITS])
    np.testing.assert_array_equal(DiagonalGaussian.kl_to_standard_normal(GaussianParameters(zeros, zeros)), [0.0])
    assert (DiagonalGaussian.kl_to_standard_normal(parameters(rng, 20, UNITS)).numpy() > 0.1).all()


def test_the_distribution_is_over_all_units_at_once(rng):
    q = parameters(rng, 3, UNITS)
    distribution = DiagonalGaussian.distribution(q)
    assert distribution.event_shape == (UNITS,)
    assert distribution.batch_shape == (3,)
    np.testing.assert_array_equal(distribution.mean(), DiagonalGaussian.mean(q))
    np.testing.assert_allclose(distribution.stddev(), np.exp(q.log_scale.numpy()), rtol=1e-6)  # one float32 exp


# ---------------------------------------------------------------------------------------------- samples


def test_samples_have_the_mean_and_the_spread_of_the_parameters(rng):
    n, q = 100_000, parameters(rng, UNITS)
    many = GaussianParameters(*(tf.broadcast_to(value, [n, UNITS]) for value in q))
    draws = DiagonalGaussian.sample(many, seeds.key(0, seeds.Purpose.SAMPLE)).numpy().astype(np.float64)
    scale = q.scale.numpy().astype(np.float64)
    assert draws.shape == (n, UNITS)
    # standard errors: scale / sqrt(n) of the mean, scale^2 sqrt(2 / n) of the variance
    assert (np.abs(draws.mean(axis=0) - q.loc) < 4.0 * scale / np.sqrt(n)).all()
    assert (np.abs(draws.var(axis=0) - scale**2) < 4.0 * scale**2 * np.sqrt(2.0 / n)).all()
    correlations = np.corrcoef(draws.T)[np.triu_indices(UNITS, 1)]
    assert (np.abs(correlations) < 4.0 / np.sqrt(n)).all()


def test_samples_are_a_function_of_their_key(rng):
    q = parameters(rng, 3, UNITS)
    key, other = (seeds.key(0, seeds.Purpose.SAMPLE, major) for major in (0, 1))
    np.testing.assert_array_equal(DiagonalGaussian.sample(q, key), DiagonalGaussian.sample(q, key))
    assert (DiagonalGaussian.sample(q, key) != DiagonalGaussian.sample(q, other)).numpy().all()


def test_a_transformed_sample_is_loc_plus_scale_times_noise(rng):
    q = parameters(rng, 3, UNITS)
    noise = rng.normal(size=(6, 3, UNITS)).astype(np.float32)
    expected = q.loc.numpy() + np.exp(q.log_scale.numpy().astype(np.float64)) * noise
    np.testing.assert_allclose(DiagonalGaussian.transform(q, noise), expected, **OUTPUTS)


def test_a_sample_made_of_noise_comes_with_its_density_and_with_the_total_derivative_of_that(rng):
    q, noise = parameters(rng, 3, UNITS), tf.constant(rng.normal(size=(6, 3, UNITS)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(q)
        h, log_q = DiagonalGaussian.sample_and_log_prob(q, noise)
        at_h = DiagonalGaussian.log_prob(q, h)
    np.testing.assert_array_equal(h, DiagonalGaussian.transform(q, noise))
    np.testing.assert_allclose(log_q, reference.gaussian_log_prob(h.numpy(), *(t.numpy() for t in q)), **SUMS)
    assert tape.gradient(log_q, q.loc) is None  # the mean moves the sample with it
    np.testing.assert_allclose(tape.gradient(at_h, q.loc), np.zeros((3, UNITS)), atol=1e-4)  # float32, terms up to 10
    np.testing.assert_array_equal(tape.gradient(log_q, q.log_scale), np.full((3, UNITS), -6.0))
    np.testing.assert_allclose(tape.gradient(at_h, q.log_scale), np.full((3, UNITS), -6.0), rtol=1e-4)


# ---------------------------------------------------------------------------------------------- the layer


def test_the_layer_makes_the_parameters_of_the_reference(rng):
    gaussian, features = layer(), rng.normal(0.0, 5.0, (6, 3, FEATURES)).astype(np.float32)
    q = gaussian(features)
    stage = {"hidden": [], "loc": gaussian.loc.weights, "log_scale": gaussian.log_scale.weights}
    loc, log_scale = reference.gaussian_stage(features, stage)
    assert q.loc.shape == q.log_scale.shape == (6, 3, UNITS)
    np.testing.assert_allclose(q.loc, loc, **OUTPUTS)
    np.testing.assert_allclose(q.log_scale, log_scale, **OUTPUTS)
    np.testing.assert_allclose(q.scale, np.exp(log_scale), rtol=1e-5)  # exp of a number off by 1e-6


def test_a_small_raw_output_is_the_log_scale_itself():
    gaussian = layer()
    gaussian.log_scale.bias.assign([0.0, 0.3, -0.3, 0.05, -0.05])
    q = gaussian(tf.zeros([1, FEATURES]))
    np.testing.assert_allclose(q.log_scale[0], [0.0, 0.3, -0.3, 0.05, -0.05], atol=2e-4)  # raw^3 / 147 = 1.8e-4


@pytest.mark.parametrize("raw", [1e6, -1e6, 1e30, -1e30])
def test_a_huge_raw_output_gives_a_bounded_scale_and_finite_gradients(raw):
    gaussian = layer()
    gaussian.log_scale.bias.assign([raw] * UNITS)
    noise = tf.constant(np.random.default_rng(1).normal(size=(6, 3, UNITS)).astype(np.float32))
    with tf.GradientTape() as tape:
        q = gaussian(tf.ones([3, FEATURES]))
        h = gaussian.transform(q, noise)
        log_prob = gaussian.log_prob(q, tf.stop_gradient(h))
        kl = gaussian.kl_to_standard_normal(q)
        total = tf.reduce_sum(log_prob) + tf.reduce_sum(kl) + tf.reduce_sum(h)
    np.testing.assert_allclose(q.log_scale, np.full((3, UNITS), np.sign(raw) * 7.0), rtol=1e-6)  # float32 tanh
    for value in (q.loc, q.scale, h, log_prob, kl, *tape.gradient(total, [v.value for v in gaussian.weights])):
        assert np.isfinite(value.numpy()).all()
    np.testing.assert_allclose(log_prob, reference.gaussian_log_prob(h.numpy(), q.loc, q.log_scale), **SUMS)


def test_the_bias_of_loc_starts_at_the_data_mean_and_at_0_without_one():
    mean = np.array([0.5, -3.0, 0.0, 100.0, 1e-3])
    np.testing.assert_allclose(layer(mean=mean).loc.bias, mean, rtol=1e-7)  # rounded to float32
    np.testing.assert_array_equal(layer().loc.bias, np.zeros(UNITS))
    np.testing.assert_array_equal(layer(mean=mean).log_scale.bias, np.zeros(UNITS))


def test_the_kernels_are_glorot_uniform_and_a_function_of_the_seed():
    gaussian, again, other = layer(seed=1), layer(seed=1), layer(seed=2)
    limit = np.sqrt(6.0 / (FEATURES + UNITS))
    for name in ("loc", "log_scale"):
        kernel = getattr(gaussian, name).kernel.numpy()
        assert limit / 2 < np.abs(kernel).max() <= limit
        np.testing.assert_array_equal(kernel, getattr(again, name).kernel)
        assert (kernel != getattr(other, name).kernel.numpy()).all()
    assert (gaussian.loc.kernel.numpy() != gaussian.log_scale.kernel.numpy()).all()


def test_only_finite_numbers_can_be_observed():
    good = tf.constant([[-1e30, 0.0], [255.0, 1e30]])
    assert DiagonalGaussian.in_support(good)
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert not DiagonalGaussian.in_support(tf.concat([good, [[0.0, bad]]], axis=0))
