"""Binary units: exact means of the estimators, summed over all states, against their targets; and that they learn."""

import itertools
import math

import keras
import numpy as np
import pytest
import reference_bernoulli
import reference_objectives
import tensorflow as tf
from binary_models import belief_network, generative_weights
from objective_table import (
    MAX_Z,
    AnyRows,
    autodiff,
    bound_and_gradients,
    flat,
    gradient_samples,
    made,
    size_of_phi,
    z_scores,
)
from reference_bernoulli import states
from small_models import binary_images

from iwae_tf.objectives import RWS, TVO, VIMCO

DIM = 4
UNITS = [(3,), (3, 2), (2, 2, 2)]
CERTAIN = 8.0  # noise that fixes a unit, whatever its logit: Phi(-8) is 6e-16


def _x():
    return tf.constant(binary_images(1, DIM))


def _enumerated(model, x):
    """log p(x, h) and log q(h | x) of every state for one x [1, D], [S]; differentiable by both networks."""
    h = [tf.constant(layer, tf.float32) for layer in reference_bernoulli.all_latents(model.latent_units)]
    return model.generative_network.log_prob(x, h)[:, 0], model.inference_network.log_prob(x, tuple(h))[:, 0]


def _probabilities(model, x):
    return np.exp(_enumerated(model, x)[1].numpy().astype(np.float64))


def _exact(model, x, target):
    return autodiff(model, lambda: target(*_enumerated(model, x)))


def _expected(model, objective, x, draws, probabilities):
    """The exact mean of bound and gradient over `draws` [k, P, H] of the states of k samples, `probabilities` [P]."""
    noise = tf.constant(CERTAIN * (1.0 - 2.0 * draws), tf.float32)  # h = 1 where Phi(noise) < sigmoid(logits)
    factors = tf.constant(probabilities * len(probabilities), tf.float32)
    tiled = tf.tile(x, [draws.shape[1], 1])
    bound, gradients = bound_and_gradients(model, AnyRows(objective, factors), tiled, noise)
    return tf.reduce_mean(bound), flat(gradients)


def _bound_of_two(log_p, log_q):
    """E_q L_2 = sum_ij q_i q_j log (w_i + w_j) / 2."""
    log_w, q = log_p - log_q, tf.exp(log_q)
    pairs = tf.reduce_logsumexp(tf.stack(tf.meshgrid(log_w, log_w)), axis=0) - math.log(2.0)
    return tf.reduce_sum(q[:, None] * q[None] * pairs)


def _thermodynamic(points):
    """sum_j (beta_{j+1} - beta_j) E_{pi_j}[log w], pi_j proportional to q^(1 - beta_j) p^beta_j."""

    def value(log_p, log_q):
        total = 0.0
        for beta, end in itertools.pairwise(reference_objectives.tvo_ends(points)):
            pi = tf.nn.softmax((1.0 - beta) * log_q + beta * log_p)
            total += (end - beta) * tf.reduce_sum(pi * (log_p - log_q))
        return total

    return value


def _wake(log_p, log_q):
    """log p(x) for theta and, up to a constant, minus KL(p(h | x) || q(h | x)) for phi."""
    return tf.reduce_logsumexp(log_p) + tf.reduce_sum(tf.stop_gradient(tf.nn.softmax(log_p)) * log_q)


@pytest.mark.parametrize("units", UNITS)
def test_vimco_has_the_exact_gradient_of_the_expected_bound_as_its_mean(units):
    model, x = belief_network(DIM, units), _x()
    every, q = states(sum(units)), _probabilities(model, x)
    first, second = (index.ravel() for index in np.indices((len(every), len(every))))
    value, found = _expected(model, VIMCO(2), x, np.stack([every[first], every[second]]), q[first] * q[second])
    np.testing.assert_allclose(value, _bound_of_two(*_enumerated(model, x)), rtol=1e-4)
    expected = _exact(model, x, _bound_of_two)
    assert np.abs(expected[: size_of_phi(model)]).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-5)  # sums of up to 4096 float32 terms below 1


def _bias(objective, target):
    """Relative distance of the estimator's exact mean from its target's gradient, k = 8, 16, 32; [3, (phi, theta)].

    Two units have four states, so the counts of the states in k draws of q are few enough to be summed over.
    """
    model, x = belief_network(DIM, (2,)), _x()
    exact, q, phi = (
        _exact(model, x, target),
        _probabilities(model, x),
        size_of_phi(model),
    )
    errors = []
    for k in (8, 16, 32):
        bars = itertools.combinations(range(k + 3), 3)
        counts = np.array([np.diff([-1, *bar, k + 3]) - 1 for bar in bars])  # [C, 4]
        draws = np.stack([np.repeat(states(2), count, axis=0) for count in counts], axis=1)  # [k, C, H]
        ways = [math.factorial(k) / math.prod(map(math.factorial, count.tolist())) for count in counts]
        probabilities = np.array(ways) * np.prod(q**counts, axis=1)
        np.testing.assert_allclose(probabilities.sum(), 1.0, rtol=1e-5)  # q is float32
        error = _expected(model, objective(k), x, draws, probabilities)[1] - exact
        errors.append([np.linalg.norm(error[:phi]), np.linalg.norm(error[phi:])])
    return np.array(errors) / [np.linalg.norm(exact[:phi]), np.linalg.norm(exact[phi:])]


@pytest.mark.parametrize(
    ("objective", "target"),
    [(RWS, _wake), *((lambda k, n=n: TVO(k, points=n), _thermodynamic(n)) for n in (1, 5))],
    ids=["rws", "tvo of 1 point", "tvo of 5 points"],
)
def test_the_bias_of_a_consistent_estimator_falls_as_one_over_k(objective, target):
    errors = _bias(objective, target)
    if errors[:, 1].max() < 1e-4:  # tvo of 1 point: theta's weights are 1/k, phi's covariance is over k, not k - 1
        np.testing.assert_allclose(errors[:, 0], [1 / 8, 1 / 16, 1 / 32], rtol=1e-2)
        errors = errors[:, :1]
    halved = errors[:-1] / errors[1:]
    assert (halved > 1.6).all()
    assert (halved[:, 0] < 2.6).all()
    assert (errors[-1] < 0.1).all()


@pytest.mark.parametrize("units", UNITS)
def test_the_sleep_phase_has_the_gradient_of_its_target_as_its_mean(units):
    model, x = belief_network(DIM, units), tf.tile(_x(), [300, 1])
    phi = size_of_phi(model)
    samples = gradient_samples(model, {"rws-sleep": made("rws-sleep", 1)}, x, 40)["rws-sleep"][:, :phi]

    def dream():
        """sum_x sum_h p(x, h) log q(h | x) over all images and states."""
        terms = [_enumerated(model, tf.constant(image[None], tf.float32)) for image in states(DIM)]
        return tf.add_n([tf.reduce_sum(tf.stop_gradient(tf.exp(log_p)) * log_q) for log_p, log_q in terms])

    expected = autodiff(model, dream)[:phi]
    assert np.abs(expected).max() > 0.01
    assert np.abs(z_scores(samples, expected)).max() < MAX_Z


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backward_samples"), [("vimco", 2), ("rws-sleep", None)])
def test_a_sigmoid_belief_network_learns_two_patterns_not_just_the_mean_of_the_pixels(name, backward_samples):
    rng, model, units = np.random.default_rng(0), belief_network(6, (3, 2), gain=1.0), (3, 2)
    patterns = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])[rng.integers(0, 2, 200)]
    x = np.abs(patterns - (rng.random((200, 6)) < 0.1)).astype(np.float32)  # one pixel in ten is flipped

    def log_p_x():
        return reference_bernoulli.log_prob(x, units, **generative_weights(model)).mean()

    before = log_p_x()
    model.compile(keras.optimizers.Adam(0.02), objective=made(name, 8, backward_samples=backward_samples))
    model.fit(np.tile(x, (8, 1)), epochs=10, batch_size=50, verbose=0)
    # independent pixels that are 1 half of the time have -6 log 2
    assert log_p_x() > max(before, -6 * np.log(2.0)) + 0.5
    assert model.evaluate(x, batch_size=200, verbose=0, return_dict=True)["bound"] < log_p_x()
