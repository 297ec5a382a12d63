"""Gradients with binary units: exact means of the estimators, summed over all states, against their targets."""

import math

import numpy as np
import pytest
import reference_objectives
import tensorflow as tf
from autodiff import autodiff, flat, number_of_parameters
from binary_models import belief_network
from enumeration import (
    all_counts,
    all_pairs,
    all_states,
    enumerated,
    expected_bound_of_two,
    expected_gradients,
    thermodynamic_value,
    wake_target,
)
from paired import MAX_Z, z_scores
from small_models import binary_images

from iwae_tf import seeds
from iwae_tf.objectives import RWS, TVO, VIMCO, RWSSleep
from iwae_tf.objectives.gradients import bound_and_gradients

DIM = 4
UNITS = [(3,), (3, 2), (2, 2, 2)]
# Sums of up to 4096 float32 terms of size 1 and less.
CLOSE = {"rtol": 1e-3, "atol": 2e-5}


def _x(n=1):
    return tf.constant(binary_images(n, DIM))


def _exact(model, x, target):
    return flat(autodiff(model, lambda: target(*enumerated(model, x))))


@pytest.mark.parametrize("units", UNITS)
def test_vimco_has_the_exact_gradient_of_the_expected_bound_as_its_mean(units):
    model, x = belief_network(DIM, units), _x()
    value, gradients = expected_gradients(model, VIMCO(2), x, *all_pairs(model, x))
    np.testing.assert_allclose(value, expected_bound_of_two(*enumerated(model, x)), rtol=1e-4)
    expected = _exact(model, x, expected_bound_of_two)
    assert np.abs(expected[: number_of_parameters(model.inference_network)]).max() > 0.01
    np.testing.assert_allclose(flat(gradients), expected, **CLOSE)


def _errors_with_more_samples(objective, target):
    """Distances of the estimator's exact mean from the exact gradient of its target, for k = 8, 16, 32; by phi, theta.

    Two units have four states: the counts of these in k draws of q are few enough to be summed over.
    """
    model, x = belief_network(DIM, (2,)), _x()
    states, exact = all_states((2,)), _exact(model, x, target)
    q = np.exp(enumerated(model, x)[1].numpy().astype(np.float64))
    phi, errors = number_of_parameters(model.inference_network), []
    for k in (8, 16, 32):
        counts = all_counts(k, len(states))
        draws = np.stack([np.repeat(states, count, axis=0) for count in counts], axis=1)  # [k, C, H]
        ways = [math.factorial(k) / np.prod([float(math.factorial(n)) for n in count]) for count in counts]
        probabilities = np.array(ways) * np.prod(q**counts, axis=1)
        np.testing.assert_allclose(probabilities.sum(), 1.0, rtol=1e-5)  # q is float32
        _, gradients = expected_gradients(model, objective(k), x, draws, probabilities)
        error = flat(gradients) - exact
        errors.append([np.linalg.norm(error[:phi]), np.linalg.norm(error[phi:])])
    scale = [np.linalg.norm(exact[:phi]), np.linalg.norm(exact[phi:])]
    return np.array(errors) / scale


@pytest.mark.parametrize("points", [1, 2, 5])
def test_the_bias_of_the_thermodynamic_gradient_falls_as_one_over_k(points):
    ends = reference_objectives.tvo_ends(points)
    errors = _errors_with_more_samples(
        lambda k: TVO(k, points=points), lambda log_p, log_q: thermodynamic_value(log_p, log_q, ends)
    )
    halved = errors[:-1] / errors[1:]
    assert (halved[:, 0] > 1.6).all()
    assert (halved[:, 0] < 2.6).all()
    assert (errors[-1] < 0.1).all()
    if points == 1:  # theta's weights are 1/k whatever the samples, and phi has the covariance over k, not k - 1
        np.testing.assert_allclose(errors[:, 0], [1 / 8, 1 / 16, 1 / 32], rtol=1e-2)
        assert errors[:, 1].max() < 1e-4
    else:
        assert (halved[:, 1] > 1.6).all()


def test_the_bias_of_the_wake_phase_falls_as_one_over_k():
    errors = _errors_with_more_samples(RWS, wake_target)
    assert (errors[:-1] / errors[1:] > 1.6).all()
    assert (errors[:-1] / errors[1:] < 2.6).all()
    assert (errors[-1] < 0.1).all()


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", ["rws", "tvo"])
def test_with_many_samples_the_gradient_is_that_of_the_target(units, name):
    model, x, k = belief_network(DIM, units), _x(), 100_000
    noise = tf.random.stateless_normal([k, 1, sum(units)], (0, 1))
    ends = reference_objectives.tvo_ends(5)
    objective, target = {
        "rws": (RWS(k), wake_target),
        "tvo": (TVO(k, points=5), lambda log_p, log_q: thermodynamic_value(log_p, log_q, ends)),
    }[name]
    gradients = flat(bound_and_gradients(model, objective, x, noise)[1])
    # 100,000 samples of terms of size 1: a standard error of 0.003, and weights of several times the mean
    np.testing.assert_allclose(gradients, _exact(model, x, target), atol=0.03)
    assert np.linalg.norm(gradients - _exact(model, x, target)) < 0.05 * np.linalg.norm(gradients)


@pytest.mark.parametrize("units", UNITS)
def test_the_sleep_phase_has_the_gradient_of_its_target_as_its_mean(units):
    model, batch = belief_network(DIM, units), 500
    phi = number_of_parameters(model.inference_network)
    x, noise = tf.tile(_x(), [batch, 1]), tf.zeros([1, batch, sum(units)])

    @tf.function(autograph=False)
    def gradients(number):
        return bound_and_gradients(
            model, RWSSleep(1), x, noise, lambda purpose, counter=0: seeds.key(0, purpose, number, counter)
        )[1]

    samples = np.stack([flat(gradients(tf.constant(number)))[:phi] for number in range(40)])

    def dream():
        """sum_x sum_h p(x, h) log q(h | x) over all images and states."""
        images = tf.constant(all_states((DIM,)))
        terms = [enumerated(model, image[None]) for image in images]
        return tf.add_n([tf.reduce_sum(tf.stop_gradient(tf.exp(log_p)) * log_q) for log_p, log_q in terms])

    expected = flat(autodiff(model, dream))[:phi]
    assert np.abs(expected).max() > 0.01
    assert np.abs(z_scores(samples, expected)).max() < MAX_Z
