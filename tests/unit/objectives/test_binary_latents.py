"""Binary units: exact means of the estimators, summed over all states, against their targets."""

import math

import numpy as np
import reference_bernoulli
import tensorflow as tf
from binary_models import belief_network
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

from iwae_tf.objectives import VIMCO

DIM = 4
UNITS = (2, 2, 2)
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


def test_vimco_has_the_exact_gradient_of_the_expected_bound_as_its_mean():
    model, x = belief_network(DIM, UNITS), _x()
    every, q = states(sum(UNITS)), _probabilities(model, x)
    first, second = (index.ravel() for index in np.indices((len(every), len(every))))
    value, found = _expected(model, VIMCO(2), x, np.stack([every[first], every[second]]), q[first] * q[second])
    np.testing.assert_allclose(value, _bound_of_two(*_enumerated(model, x)), rtol=1e-4)
    expected = _exact(model, x, _bound_of_two)
    assert np.abs(expected[: size_of_phi(model)]).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-5)  # sums of up to 4096 float32 terms below 1


def test_the_sleep_phase_has_the_gradient_of_its_target_as_its_mean():
    model, x = belief_network(DIM, UNITS), tf.tile(_x(), [300, 1])
    phi = size_of_phi(model)
    samples = gradient_samples(model, {"rws-sleep": made("rws-sleep", 1)}, x, 40)["rws-sleep"][:, :phi]

    def dream():
        """sum_x sum_h p(x, h) log q(h | x) over all images and states."""
        terms = [_enumerated(model, tf.constant(image[None], tf.float32)) for image in states(DIM)]
        return tf.add_n([tf.reduce_sum(tf.stop_gradient(tf.exp(log_p)) * log_q) for log_p, log_q in terms])

    expected = autodiff(model, dream)[:phi]
    assert np.abs(expected).max() > 0.01
    assert np.abs(z_scores(samples, expected)).max() < MAX_Z
