"""Every likelihood against float64 and its own TFP distribution: density, gradient, mean, draws, also at the ends."""

import numpy as np
import pytest
import reference_likelihoods as reference
import tensorflow as tf
from likelihood_cases import (
    CASES,
    FEATURES,
    FLOAT32,
    D,
    expected_log_prob,
    in_double,
    layer,
    many,
    parameters,
    values,
)

from iwae_tf import seeds
from iwae_tf.distributions.levels import LogisticMixture

EVERY = pytest.mark.parametrize(("name", "levels"), CASES)
KEY = seeds.key(0, seeds.Purpose.SAMPLE)


@EVERY
@pytest.mark.parametrize("wide", [False, True])
def test_log_prob_equals_float64_and_tfp_for_parameters_of_every_size(name, levels, wide):
    head, q, value = layer(name, levels), parameters(name, levels, (50, 4), wide=wide), values(name, levels, (4,))
    distribution, log_prob = head.distribution(q), head.log_prob(q, tf.constant(value))
    assert (distribution.event_shape, distribution.batch_shape) == ((D,), (50, 4))
    # A wide logistic has z / s of 1e5, of which a location of size 30 keeps 2e-6 / s.
    tolerance = {"rtol": 3e-5, "atol": 3e-3} if wide else FLOAT32
    np.testing.assert_allclose(log_prob, expected_log_prob(name, levels, in_double(q), value), **tolerance)
    # TFP subtracts value / scale and loc / scale, each rounded; its continuous Bernoulli has a shorter series at 1/2.
    np.testing.assert_allclose(log_prob, distribution.log_prob(value), rtol=3e-5, atol=1e-2 if wide else 1e-4)


@EVERY
def test_values_and_gradients_are_finite_at_the_ends_and_the_gradient_is_that_of_float64(name, levels):
    head, q, value = layer(name, levels), parameters(name, levels, (500, 4), wide=True), values(name, levels, (4,))
    log_prob, gradients = _gradients(head, q, value)
    assert all(np.isfinite(v).all() for v in (log_prob, *gradients, head.mean(q), head.sample(q, KEY)))
    q = parameters(name, levels, (4,))
    exact = in_double(q)
    _, gradients = _gradients(head, q, value)
    for number, gradient in enumerate(gradients):
        direction, step, moved = np.random.default_rng(number).standard_normal(exact[number].shape), 1e-5, []
        for sign in (1.0, -1.0):
            shifted = [v + sign * step * direction * (i == number) for i, v in enumerate(exact)]
            moved.append(expected_log_prob(name, levels, shifted, value).sum())
        # float64 differences are good to 1e-9 here; float32 sums of a hundred terms to 1e-5 of the largest, up to 50
        found = float(tf.reduce_sum(gradient * direction))
        assert found == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-4, abs=2e-3)


def _gradients(head, q, value):
    """log p of every row, and the gradients of their sum by the parameters."""
    flat = tf.nest.flatten(q)
    with tf.GradientTape() as tape:
        tape.watch(flat)
        log_prob = head.log_prob(tf.nest.pack_sequence_as(q, flat), tf.constant(value))
    return log_prob, tape.gradient(log_prob, flat)


@pytest.mark.parametrize(("name", "levels"), [*CASES[2:4], ("categorical", 7), ("discretized-logistic", 17)])
def test_xla_gives_the_same_value_and_gradient(name, levels):
    head, q, value = layer(name, levels), parameters(name, levels, (6, 4)), values(name, levels, (4,))
    log_prob, gradients = _gradients(head, q, value)
    compiled = tf.function(lambda q: _gradients(head, q, value), jit_compile=True, autograph=False)(q)
    np.testing.assert_allclose(compiled[0], log_prob, rtol=1e-5, atol=1e-4)  # float32 in another order
    for one, other in zip(compiled[1], gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@EVERY
@pytest.mark.parametrize("wide", [False, True])
def test_the_mean_is_that_of_tfp(name, levels, wide):
    head, q = layer(name, levels), parameters(name, levels, (20,), wide=wide)
    np.testing.assert_allclose(head.mean(q), head.distribution(q).mean(), rtol=1e-5, atol=3e-5)


@EVERY
def test_draws_follow_the_tfp_distribution_and_their_key(name, levels):
    head, n = layer(name, levels), 40_000 if levels != 256 else 10_000
    q = parameters(name, levels, (), seed=4)
    draws = head.sample(many(q, n), KEY)
    assert draws.shape == (n, D)
    assert head.in_support(draws)
    one = head.distribution(q).distribution
    if name == "bernoulli":
        points, p = np.zeros((1, D)), 1.0 - one.probs_parameter().numpy()[None]
    else:
        points = np.quantile(draws, [0.5, 0.02, 0.2, 0.9], axis=0).astype(np.float32)  # [4, D]
        points = points + 1e-4 * (levels is not None)  # between levels
        p = np.clip(one.cdf(points), 0.0, 1.0)
    below = draws.numpy()[:, None] <= points
    assert (np.abs(below.mean(axis=0) - p) < 4.5 * np.sqrt(p * (1.0 - p) / n) + 1e-6).all()  # 4.5 standard errors
    # Each dimension has draws of its own: correlations of independent draws have the standard error 1 / sqrt(n).
    halves = below[:, 0][:, below[:, 0].std(axis=0) > 0.0]
    assert halves.shape[1] >= 2
    assert (np.abs(np.corrcoef(halves.T)[np.triu_indices(halves.shape[1], 1)]) < 4.0 / np.sqrt(n)).all()
    np.testing.assert_array_equal(draws, head.sample(many(q, n), KEY))
    assert (draws != head.sample(many(q, n), seeds.key(1, seeds.Purpose.SAMPLE))).numpy().any()


@EVERY
def test_the_layer_starts_at_the_mean_of_the_data_with_float32_parameters(name, levels):
    mean = np.array([0.2, 0.5, 0.65])
    head, without, nothing = layer(name, levels, mean=mean), layer(name, levels), tf.zeros([1, FEATURES])
    # The tails of the logistics are cut at the ends of the levels, which moves a mean off the middle.
    near = {"discretized-logistic": 0.03 if levels != 2 else 0.2}.get(name, 1e-5)
    np.testing.assert_allclose(head.mean(head(nothing))[0], mean, atol=near)
    middle = 0.0 if name in ("gaussian", "student-t") else 0.5
    np.testing.assert_allclose(without.mean(without(nothing))[0], [middle] * D, atol=1e-6)
    assert {v.dtype for v in tf.nest.flatten(head(tf.ones([2, FEATURES], tf.bfloat16)))} == {tf.float32}


@pytest.mark.parametrize(
    ("name", "levels", "start"),
    [("bernoulli", None, 0.001), ("categorical", 7, 0.01), ("continuous-bernoulli", None, 0.01)],
)
def test_a_pixel_that_is_always_0_or_1_starts_near_it(name, levels, start):
    mean = np.array([0.0, 1.0, 0.25])
    head = layer(name, levels, mean=mean)
    np.testing.assert_allclose(head.mean(head(tf.zeros([1, FEATURES])))[0], [start, 1.0 - start, 0.25], rtol=1e-5)
    np.testing.assert_array_equal(mean, [0.0, 1.0, 0.25])  # the caller's array stays as it was


@EVERY
def test_only_possible_observations_are_in_the_support(name, levels):
    head, good = layer(name, levels), values(name, levels, (4,))
    assert head.in_support(tf.constant(good))
    bad = [float("nan"), float("inf"), -float("inf")]
    bad += [] if name in ("gaussian", "student-t") else [-0.01, 1.01, -1e-6, 1.000001][: 4 if levels is None else 2]
    bad += [] if levels is None else [(levels // 2 + 0.4) / (levels - 1) if levels > 2 else 0.495]
    for value in bad:
        assert not head.in_support(tf.constant(np.where(np.arange(D) == 1, value, good), tf.float32)), value


@pytest.mark.parametrize("levels", [2, 17, 50, 100, 256, 4096])
def test_every_level_is_in_the_support_and_keeps_its_number(levels):
    head = layer("categorical", levels, units=1)
    grid = (np.arange(levels) / (levels - 1)).astype(np.float32)
    assert head.in_support(tf.constant(grid))
    np.testing.assert_array_equal(head.level(tf.constant(grid)), np.arange(levels))
    np.testing.assert_allclose(head.value(tf.range(levels)), grid, rtol=1e-7)


@pytest.mark.parametrize("levels", [4, 16, 256])
def test_a_value_near_a_level_has_its_probability_by_every_door(levels):
    head = layer("categorical", levels, units=levels)
    value = tf.constant(
        (np.arange(levels) / (levels - 1)).astype(np.float16 if levels < 256 else np.float32), tf.float32
    )
    value += 0.005 / (levels - 1) * tf.constant([1.0] + [-1.0] * (levels - 1))
    q = head(tf.constant(np.random.default_rng(0).normal(size=(3, FEATURES)), tf.float32))
    each = head.log_prob_of_each(q, value)
    np.testing.assert_allclose(tf.reduce_sum(each, axis=-1), head.log_prob(q, value), rtol=1e-5)
    np.testing.assert_allclose(head.distribution(q).log_prob(value), head.log_prob(q, value), rtol=1e-5)


def test_degrees_of_freedom_start_at_10_and_stay_above_1():
    head = layer("student-t")
    np.testing.assert_allclose(head(tf.zeros([1, FEATURES])).df, [10.0] * D, rtol=1e-6)
    for raw, df in ((-1e6, 1.0 + np.exp(-7.0)), (1e6, 1.0 + np.exp(7.0))):
        head.raw_df.assign([raw] * D)
        np.testing.assert_allclose(head(tf.zeros([1, FEATURES])).df, [df] * D, rtol=1e-6)


LOGITS = [-1e8, -100.0, -5.0, -0.5001, -0.4999, -1e-3, 0.0, 1e-6, 0.3, 2.0, 100.0, 1e8]


@pytest.mark.parametrize("logit", LOGITS)
def test_the_density_of_a_continuous_bernoulli_integrates_to_one_with_its_mean_and_gradient(logit):
    head, logits = layer("continuous-bernoulli"), tf.constant([[logit]] * 3)
    if abs(logit) < 1e3:
        nodes, weights = reference.NODES * 0.5 + 0.5, 0.5 * reference.WEIGHTS
        density = np.exp(np.float64(head.log_prob(logits[:1], tf.constant(nodes[:, None], tf.float32))))
        assert abs(weights @ density - 1.0) < 2e-5  # nodes and exponents of up to 100 rounded to float32
        assert abs(weights @ (density * nodes) - float(head.mean(logits)[0, 0])) < 2e-5
        draws = head.sample(tf.fill([20_000, 1], logit), seeds.key(5, seeds.Purpose.SAMPLE)).numpy()
        spread = np.sqrt(weights @ (density * nodes**2) - (weights @ (density * nodes)) ** 2)
        assert abs(draws.std() - spread) < 0.03 * spread + 1e-4  # 4 standard errors of an exponential's deviation
        assert abs(draws.mean() - float(head.mean(logits)[0, 0])) < 4.0 * spread / np.sqrt(20_000)
    value = tf.constant([[0.0], [0.3], [1.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_prob = head.log_prob(logits, value)
    # an exponential family: x - E[x]
    np.testing.assert_allclose(tape.gradient(log_prob, logits), value - head.mean(logits), atol=5e-6)


def test_a_bin_whose_probability_underflows_keeps_its_log_and_a_gradient_towards_it():
    head, loc = layer("discretized-logistic", 17), tf.constant([[[3.0] * 5] * D])
    q = LogisticMixture(tf.zeros([1, D, 5]), loc, tf.fill([1, D, 5], -5.0))
    with tf.GradientTape() as tape:
        tape.watch(loc)
        log_prob = head.log_prob(q._replace(loc=loc), tf.fill([1, D], 0.5))
    expected = expected_log_prob("discretized-logistic", 17, in_double(q), np.full((1, D), 0.5))
    assert float(log_prob[0]) < -1000.0  # of a probability of 1e-560
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(tape.gradient(log_prob, loc)), -D * np.exp(5.0), rtol=1e-5)
