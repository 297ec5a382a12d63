"""The likelihoods beside Bernoulli and Gaussian: densities and their gradients, also at their ends."""

import numpy as np
import pytest
import reference_likelihoods as reference
import tensorflow as tf
from iwae_tf.layers.continuous_bernoulli import ContinuousBernoulli
from iwae_tf.layers.discretized_logistic import LogisticMixture
from iwae_tf.layers.student_t import StudentT, StudentTParameters
from likelihood_cases import (
    FLOAT32,
    LEVELS,
    NAMES,
    D,
    expected_log_prob,
    in_double,
    layer,
    parameters,
    values,
)

from iwae_tf import seeds


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_log_prob_equals_float64_for_parameters_of_every_size(name, wide):
    q, value = parameters(name, (50, 4), wide=wide), values(name, (4,))
    log_prob = layer(name).log_prob(q, tf.constant(value))
    assert log_prob.shape == (50, 4)
    expected = expected_log_prob(name, q, value).sum(axis=-1)
    # A wide logistic has z / s of 1e5, of which the location of size 30 keeps 2e-6 / s.
    tolerance = {"rtol": 3e-5, "atol": 3e-3} if wide else FLOAT32
    np.testing.assert_allclose(log_prob, expected, **tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_equals_that_of_the_tfp_distribution(name):
    q, value, head = parameters(name, (4,)), values(name, (4,)), layer(name)
    distribution = head.distribution(q)
    assert distribution.event_shape == (D,)
    assert distribution.batch_shape == (4,)
    # TFP's continuous Bernoulli takes a series of fewer terms where lambda is within 0.499 and 0.501.
    np.testing.assert_allclose(distribution.log_prob(value), head.log_prob(q, tf.constant(value)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", ["categorical", "discretized-logistic"])
def test_probabilities_of_the_levels_sum_to_one(name, wide):
    head, q = layer(name), parameters(name, (20,), wide=wide)
    one = tf.nest.map_structure(lambda v: v[:, :1], q)  # of the first dimension
    grid = tf.cast(tf.range(LEVELS[name]), tf.float32)[:, None, None] / (LEVELS[name] - 1.0)
    total = tf.reduce_sum(tf.exp(head.log_prob(one, grid)), axis=0)  # log_prob [L, 20]
    np.testing.assert_allclose(total, np.ones(20), rtol=2e-5)  # float32, 17 terms; logits of 100 rounded to 8e-6
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(head.level_log_probs(one)), axis=-1), np.ones((20, 1)), rtol=2e-5)


@pytest.mark.parametrize("logit", [-100.0, -5.0, -0.5001, -0.4999, -0.01, 0.0, 1e-5, 0.3, 2.0, 100.0])
def test_the_density_of_a_continuous_bernoulli_integrates_to_one_with_the_mean_it_says(logit):
    nodes, weights = reference.NODES.astype(np.float64) * 0.5 + 0.5, 0.5 * reference.WEIGHTS
    logits, value = tf.constant([[logit]], tf.float32), tf.constant(nodes[:, None], tf.float32)
    density = np.exp(ContinuousBernoulli.log_prob(logits, value).numpy().astype(np.float64))
    assert abs(weights @ density - 1.0) < 2e-5  # nodes and exponents of up to 100 rounded to float32
    assert abs(weights @ (density * nodes) - float(ContinuousBernoulli.mean(logits)[0, 0])) < 2e-5


@pytest.mark.parametrize("df", [1.5, 3.0, 500.0])
def test_the_density_of_student_t_integrates_to_one(df):
    grid = np.sinh(np.linspace(-14.0, 14.0, 4001))  # reaches 6e5: beyond lies 1e-8 of the mass with 1.5 degrees
    q = StudentTParameters(tf.zeros([1]), tf.zeros([1]), tf.constant([df]))
    density = np.exp(StudentT.log_prob(q, tf.constant(grid[:, None], tf.float32)).numpy().astype(np.float64))
    assert abs(np.trapezoid(density, grid) - 1.0) < 2e-5


@pytest.mark.parametrize("logit", [-1e8, -100.0, -0.5, -0.499, -1e-3, 0.0, 1e-6, 0.4999, 0.5, 3.0, 100.0, 1e8])
def test_the_gradient_of_a_continuous_bernoulli_is_the_value_minus_the_mean(logit):
    logits = tf.constant([[logit]] * 3)
    value = tf.constant([[0.0], [0.3], [1.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_prob = ContinuousBernoulli.log_prob(logits, value)
    gradient = tape.gradient(log_prob, logits)  # an exponential family: x - E[x]
    np.testing.assert_allclose(gradient, value - ContinuousBernoulli.mean(logits), atol=5e-7)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_differences_of_the_reference(name):
    q, value, head = parameters(name, (4,)), values(name, (4,)), layer(name)
    flat = tf.nest.flatten(q)
    with tf.GradientTape() as tape:
        tape.watch(flat)
        total = tf.reduce_sum(head.log_prob(q, tf.constant(value)))
    gradients = tape.gradient(total, flat)
    exact = in_double(q)
    for number, gradient in enumerate(gradients):
        direction = np.random.default_rng(number).standard_normal(exact[number].shape)
        step, moved = 1e-5, []
        for sign in (1.0, -1.0):
            shifted = [part + sign * step * direction * (i == number) for i, part in enumerate(exact)]
            levels = {"levels": LEVELS[name]} if name in LEVELS else {}
            moved.append(getattr(reference, name.replace("-", "_"))(value.astype(np.float64), *shifted, **levels).sum())
        # float64 differences are good to 1e-9 here; float32 sums of a hundred terms to 1e-5 of the largest, up to 50
        assert float(tf.reduce_sum(gradient * direction)) == pytest.approx(
            (moved[0] - moved[1]) / (2 * step), rel=1e-4, abs=1e-3
        )


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_finite_at_the_ends(name):
    q, value, head = parameters(name, (500, 4), wide=True), values(name, (4,)), layer(name)
    flat = tf.nest.flatten(q)
    with tf.GradientTape() as tape:
        tape.watch(flat)
        total = tf.reduce_sum(head.log_prob(q, tf.constant(value)))
    assert all(np.isfinite(gradient).all() for gradient in (total, *tape.gradient(total, flat)))
    assert np.isfinite(head.mean(q)).all()
    assert np.isfinite(head.sample(q, seeds.key(0, seeds.Purpose.SAMPLE))).all()


def test_a_bin_whose_probability_underflows_keeps_its_log_and_a_gradient_towards_it():
    head = layer("discretized-logistic")
    loc = tf.constant([[[3.0] * 5] * D])
    q = LogisticMixture(tf.zeros([1, D, 5]), loc, tf.fill([1, D, 5], -5.0))
    with tf.GradientTape() as tape:
        tape.watch(loc)
        log_prob = head.log_prob(q._replace(loc=loc), tf.fill([1, D], 0.5))
    expected = expected_log_prob("discretized-logistic", q, np.full((1, D), 0.5)).sum()
    assert float(log_prob[0]) < -1000.0  # of a probability of 1e-560
    np.testing.assert_allclose(log_prob, [expected], rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(tape.gradient(log_prob, loc)), -D * np.exp(5.0), rtol=1e-5)
