"""Sigmoid belief networks in NumPy float64; every expectation over latents is a sum over all their states.

Shapes: x [B, D], binary latents h_l [k, B, H_l], or [S, 1, H_l] for all S states. Stages are as in tests/reference.py,
those of the latents dict(hidden=[(W, b), ...], logits=(W, b)).
"""

import itertools

import numpy as np
from reference import bernoulli_log_prob, dense, log_likelihood_of_x, mlp
from scipy import special


def logits_of(condition, stage):
    """Logits of a stage given its condition; [..., C] -> [..., H]."""
    return dense(mlp(condition, stage["hidden"]), stage["logits"])


def sample_posterior(x, noise, inference):
    """Layers h_l = 1 where Phi(noise_l) < sigmoid(logits_l(h_{l-1})), h_0 = x; list of [k, B, H_l]."""
    h, below = [], x
    for stage, epsilon in zip(inference, noise, strict=True):
        probability = special.expit(logits_of(below, stage))
        below = (special.ndtr(np.asarray(epsilon, np.float64)) < probability).astype(np.float64)  # [k, B, H_l]
        h.append(below)
    return h


def log_posterior(x, h, inference):
    """log q(h | x) = sum_l log Bernoulli(h_l; logits_l(h_{l-1})), h_0 = x; [k, B]."""
    conditions = [x, *h[:-1]]
    return sum(bernoulli_log_prob(value, logits_of(c, s)) for value, c, s in zip(h, conditions, inference, strict=True))


def log_joint(x, h, generative, prior_logits, likelihood="bernoulli"):
    """log p(x, h) = log p(h_L) + sum_{l<L} log p(h_l | h_{l+1}) + log p(x | h_1); `generative` top first; [k, B]."""
    log_p = bernoulli_log_prob(h[-1], prior_logits) + log_likelihood_of_x(x, h[0], generative[-1], likelihood)
    for below, above, stage in zip(h[-2::-1], h[:0:-1], generative[:-1], strict=True):
        log_p = log_p + bernoulli_log_prob(below, logits_of(above, stage))
    return log_p


def log_weights(x, noise, inference, generative, prior_logits, likelihood="bernoulli"):
    """log p(x, h) - log q(h | x) for noise, a list of [k, B, H_l]; [k, B]."""
    h = sample_posterior(x, noise, inference)
    return log_joint(x, h, generative, prior_logits, likelihood) - log_posterior(x, h, inference)


def states(size):
    """All 2^size vectors of 0 and 1, counting up; [2^size, size]."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=size)))


def all_latents(units):
    """Every state of all layers together; list of [S, 1, H_l], S = 2^(H_1 + ... + H_L)."""
    return np.split(states(sum(units))[:, None], np.cumsum(units)[:-1], axis=-1)


def log_prob(x, units, generative, prior_logits, likelihood="bernoulli"):
    """Exact log p(x) = log sum_h p(x, h) over all h; [B, D] -> [B]."""
    return special.logsumexp(log_joint(x, all_latents(units), generative, prior_logits, likelihood), axis=0)


def posterior(x, units, generative, prior_logits, likelihood="bernoulli"):
    """Exact p(h | x) of every state of `all_latents`; [B, D] -> [S, B]."""
    return special.softmax(log_joint(x, all_latents(units), generative, prior_logits, likelihood), axis=0)
