"""Expectations over binary latents as sums over all their states, and targets as functions of these sums."""

import itertools

import numpy as np
import tensorflow as tf

from iwae_tf.objectives import Objective
from iwae_tf.objectives.gradients import bound_and_gradients
from iwae_tf.objectives.objective import GradientWeights

CERTAIN = 8.0  # noise so far out that a unit takes the value wished: Phi(-8) is 6e-16


def all_states(units):
    """Every state of all layers side by side, float32 [S, sum of units]."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=sum(units))), np.float32)


def noise_for(states):
    """Noise of which the states are made whatever the logits are: h = 1 where Phi(noise) < sigmoid(logits)."""
    return tf.constant(CERTAIN * (1.0 - 2.0 * states))


def enumerated(model, x):
    """log p(x, h) and log q(h | x) of every state for one x [1, D], [S]; differentiable by both networks."""
    h = tf.split(tf.constant(all_states(model.latent_units))[:, None], model.latent_units, axis=-1)  # [S, 1, H_l]
    return model.generative_network.log_prob(x, h)[:, 0], model.inference_network.log_prob(x, tuple(h))[:, 0]


class Weighted(Objective):
    """An objective whose examples count `shares` [B] in the gradient, not 1/B each."""

    def __init__(self, objective, shares):
        super().__init__(objective.num_samples)
        self.objective, self.needs_path = objective, objective.needs_path
        self.factors = tf.constant(np.asarray(shares) * len(shares), tf.float32)

    def bound(self, log_w):
        return self.factors * self.objective.bound(log_w)

    def gradient_weights(self, log_w):
        rows = self.objective.gradient_weights(log_w)
        return GradientWeights(*(None if row is None else row * self.factors for row in rows[:3]))


def expected_gradients(model, objective, x, draws, probabilities):
    """The exact mean of the estimator over `draws` [k, P, H] of the states of k samples, of `probabilities` [P]."""
    tiled = tf.tile(x, [draws.shape[1], 1])
    bound, gradients = bound_and_gradients(model, Weighted(objective, probabilities), tiled, noise_for(draws))
    return tf.reduce_mean(bound), gradients


def all_pairs(model, x):
    """All pairs of states [2, S^2, H] and their probabilities under q, float64 [S^2]."""
    states = all_states(model.latent_units)
    q = np.exp(enumerated(model, x)[1].numpy().astype(np.float64))
    first, second = (index.ravel() for index in np.indices((len(states), len(states))))
    return np.stack([states[first], states[second]]), q[first] * q[second]


def expected_bound_of_two(log_p, log_q):
    """E_q L_2 = sum_ij q_i q_j log (w_i + w_j) / 2; scalar."""
    log_w, q = log_p - log_q, tf.exp(log_q)
    highest = tf.maximum(log_w[:, None], log_w[None])
    pairs = highest + tf.math.log(0.5 * (tf.exp(log_w[:, None] - highest) + tf.exp(log_w[None] - highest)))
    return tf.reduce_sum(q[:, None] * q[None] * pairs)


def thermodynamic_value(log_p, log_q, ends):
    """sum_j (beta_{j+1} - beta_j) E_{pi_j}[log w], pi_j proportional to q^(1 - beta_j) p^beta_j; scalar."""
    total = 0.0
    for beta, end in itertools.pairwise(ends):
        pi = tf.nn.softmax((1.0 - beta) * log_q + beta * log_p)
        total += (end - beta) * tf.reduce_sum(pi * (log_p - log_q))
    return total


def wake_target(log_p, log_q):
    """log p(x) for theta and minus KL(p(h | x) || q(h | x)) for phi, up to a constant; scalar."""
    posterior = tf.stop_gradient(tf.nn.softmax(log_p))
    return tf.reduce_logsumexp(log_p) + tf.reduce_sum(posterior * log_q)


def all_counts(k, states):
    """Every way to draw k samples of a few states: counts, int [C, S]."""
    bars = itertools.combinations(range(k + states - 1), states - 1)
    return np.array([np.diff([-1, *bar, k + states - 1]) - 1 for bar in bars])
