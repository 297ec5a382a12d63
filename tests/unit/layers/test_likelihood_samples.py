"""Means and samples of the likelihoods beside Bernoulli and Gaussian, and the layers as they start."""

import numpy as np
import pytest
import reference_likelihoods as reference
import tensorflow as tf
from iwae_tf.layers.categorical import Categorical
from iwae_tf.layers.continuous_bernoulli import ContinuousBernoulli
from iwae_tf.layers.discretized_logistic import DiscretizedLogistic
from likelihood_cases import (
    FEATURES,
    FLOAT32,
    LEVELS,
    NAMES,
    D,
    in_double,
    layer,
    parameters,
    values,
)

from iwae_tf import InputError, seeds


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_mean_and_are_observations(name):
    head, n = layer(name), 40_000
    q = parameters(name, ())
    many = tf.nest.map_structure(lambda v: tf.broadcast_to(v, [n, *v.shape]), q)
    if name == "student-t":  # two degrees and more, or the mean of samples has no standard error
        many = many._replace(df=tf.constant([3.0, 5.0, 30.0]))
    draws = head.sample(many, seeds.key(0, seeds.Purpose.SAMPLE))
    assert draws.shape == (n, D)
    assert head.in_support(draws)
    draws = draws.numpy().astype(np.float64)
    error = draws.std(axis=0) / np.sqrt(n)
    assert (np.abs(draws.mean(axis=0) - head.mean(many)[0]) < 4.0 * error + 1e-7).all()
    # Each dimension has draws of its own: correlations of independent draws have the standard error 1 / sqrt(n).
    assert (np.abs(np.corrcoef(draws.T)[np.triu_indices(D, 1)]) < 4.0 / np.sqrt(n)).all()
    np.testing.assert_array_equal(draws, head.sample(many, seeds.key(0, seeds.Purpose.SAMPLE)))
    assert (draws != head.sample(many, seeds.key(1, seeds.Purpose.SAMPLE)).numpy()).any()


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_distributed_as_the_density_says(name):
    """Shares of the samples below some values, against the CDF by sums or SciPy."""
    head, n = layer(name), 40_000
    q = parameters(name, (), seed=3)
    many = tf.nest.map_structure(lambda v: tf.broadcast_to(v, [n, *v.shape]), q)
    if name == "student-t":
        many = many._replace(df=q.df)
    draws = head.sample(many, seeds.key(2, seeds.Purpose.SAMPLE)).numpy()
    if name in LEVELS:
        p = np.exp(head.level_log_probs(q).numpy())  # [D, L]
        share = np.stack([(np.rint(draws * (LEVELS[name] - 1)) == i).mean(axis=0) for i in range(LEVELS[name])], axis=1)
    elif name == "student-t":
        loc, log_scale, df = in_double(q)
        points = np.array([-3.0, -1.0, 0.0, 0.5, 2.0, 20.0])
        p = reference.stats.t.cdf(points, df[:, None])  # [D, points]
        share = np.mean(((draws - loc) / np.exp(log_scale))[:, :, None] <= points, axis=0)
    else:
        points = np.array([0.1, 0.3, 0.5, 0.9])
        logits = in_double(q)[0][:, None]
        p = np.expm1(logits * points) / np.expm1(logits)
        share = np.mean(draws[:, :, None] <= points, axis=0)
    assert (np.abs(share - p) < 4.5 * np.sqrt(p * (1.0 - p) / n) + 1e-6).all()  # 4.5 standard errors, up to 51 of them


@pytest.mark.parametrize(("name", "points"), [("categorical", 7), ("discretized-logistic", 17)])
def test_the_mean_of_levels_is_the_sum_over_them(name, points):
    head = layer(name)
    for wide in (False, True):
        q = parameters(name, (20,), wide=wide)
        p = np.exp(head.level_log_probs(q).numpy().astype(np.float64))
        np.testing.assert_allclose(head.mean(q), p @ (np.arange(points) / (points - 1)), atol=3e-5)


@pytest.mark.parametrize("logit", [-100.0, 0.0, 1e-7, 1e-5, -1e-3, 100.0])
def test_samples_of_a_continuous_bernoulli_are_right_near_one_half_and_at_the_ends(logit):
    n = 20_000
    draws = ContinuousBernoulli.sample(tf.fill([n, 1], logit), seeds.key(5, seeds.Purpose.SAMPLE)).numpy()
    mean = float(ContinuousBernoulli.mean(tf.constant(logit)))
    spread = 1.0 / np.sqrt(12.0) if abs(logit) < 1 else 0.01  # of a uniform, or an exponential of rate 100
    assert abs(draws.std() - spread) < 0.03 * spread  # 4 standard errors of an exponential's deviation
    assert abs(draws.mean() - mean) < 4.0 * spread / np.sqrt(n)


# ---------------------------------------------------------------------------------------------- the layer


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_starts_at_the_mean_of_the_data(name):
    mean = np.array([0.2, 0.5, 0.65])
    head = layer(name, mean=mean)
    start = head.mean(head(tf.zeros([1, FEATURES])))[0]
    # The tails of the logistics are cut at the ends of the levels, which moves a mean off the middle.
    np.testing.assert_allclose(start, mean, atol=0.03 if name == "discretized-logistic" else 1e-5)
    without = layer(name)
    middle = 0.0 if name == "student-t" else 0.5
    np.testing.assert_allclose(without.mean(without(tf.zeros([1, FEATURES])))[0], [middle] * D, atol=1e-6)


@pytest.mark.parametrize("name", ["categorical", "continuous-bernoulli"])
def test_a_pixel_that_is_always_0_or_1_starts_near_it(name):
    head = layer(name, mean=[0.0, 1.0, 0.5])
    np.testing.assert_allclose(head.mean(head(tf.zeros([1, FEATURES])))[0], [0.01, 0.99, 0.5], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_of_features_is_that_of_their_parameters_for_any_leading_axes(name):
    head, value = layer(name), tf.constant(values(name, (4,)))
    features = tf.random.stateless_normal([6, 4, FEATURES], [0, 1])
    log_prob = head.log_prob_of_features(features, value)
    assert log_prob.shape == (6, 4)
    for sample in range(6):  # products of another shape are added up in another order
        np.testing.assert_allclose(head.log_prob(head(features[sample]), value), log_prob[sample], **FLOAT32)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_float32_from_features_of_16_bits(name):
    head = layer(name)
    q = tf.nest.flatten(head(tf.ones([2, FEATURES], tf.bfloat16)))
    assert {part.dtype for part in q} == {tf.float32}


def test_degrees_of_freedom_start_at_10_and_stay_above_1():
    head = layer("student-t")
    np.testing.assert_allclose(head(tf.zeros([1, FEATURES])).df, [10.0] * D, rtol=1e-6)
    for raw, df in ((-1e6, 1.0 + np.exp(-7.0)), (1e6, 1.0 + np.exp(7.0))):
        head.raw_df.assign([raw] * D)
        np.testing.assert_allclose(head(tf.zeros([1, FEATURES])).df, [df] * D, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_observed_is_not_in_the_support(name):
    head = layer(name)
    good = values(name, (4,))
    assert head.in_support(tf.constant(good))
    bad = [float("nan"), float("inf")]
    bad += [] if name == "student-t" else [-0.01, 1.01]
    bad += [0.495] if name in LEVELS else []
    for value in bad:
        assert not head.in_support(tf.constant(np.where(np.arange(D) == 1, value, good), tf.float32))


@pytest.mark.parametrize("levels", [2, 17, 50, 100, 256, 4096])
def test_every_level_is_in_the_support_and_keeps_its_number(levels):
    head = Categorical(1, seeds.initializer_seeds(0), levels=levels)
    grid = (np.arange(levels) / (levels - 1)).astype(np.float32)
    assert head.in_support(tf.constant(grid))
    np.testing.assert_array_equal(head.level(tf.constant(grid)), np.arange(levels))
    np.testing.assert_allclose(head.value(tf.range(levels)), grid, rtol=1e-7)


@pytest.mark.parametrize("levels", [1, 0, 2.5, "many"])
def test_a_number_of_levels_that_is_none_is_refused(levels):
    with pytest.raises(InputError, match="levels must be"):
        DiscretizedLogistic(D, seeds.initializer_seeds(0), levels=levels)
