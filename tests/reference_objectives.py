"""Values and gradient weights of every objective in NumPy float64, from their definitions.

`log_w` is [k, B], a value [B], rows are (generative, path, score), [k, B]. `VALUES` and `ROWS` map the name of an
objective to a function of log_w and of the objective's own settings.
"""

import itertools
import math

import numpy as np
from reference import elbo, iwae, normalized_weights
from reference_jackknife import jackknife


def groups_of(log_w, groups):
    """The M slices of k / M consecutive samples; list of [k / M, B]."""
    size = len(log_w) // groups
    return [log_w[start : start + size] for start in range(0, len(log_w), size)]


def miwae(log_w, groups):
    """1/M sum_m log 1/K sum_{i in group m} w_i."""
    return np.mean([iwae(group) for group in groups_of(log_w, groups)], axis=0)


def ciwae(log_w, beta, learn_beta=False):
    """beta mean_i log w_i + (1 - beta) log mean_i w_i."""
    return beta * elbo(log_w) + (1.0 - beta) * iwae(log_w)


def vr_iwae(log_w, alpha):
    """1 / (1 - alpha) log mean_i w_i^(1 - alpha)."""
    powers = (1.0 - alpha) * log_w
    top = powers.max(axis=0)
    return (top + np.log(np.mean(np.exp(powers - top), axis=0))) / (1.0 - alpha)


def vr_max(log_w):
    """log max_i w_i - log k."""
    return log_w.max(axis=0) - math.log(len(log_w))


def tvo_ends(points):
    """Ends of the K intervals: 0 and 1, or 0 and K points from 0.025 to 1 that rise by the same factor."""
    if points == 1:
        return [0.0, 1.0]
    return [0.0] + [0.025 ** (1.0 - j / (points - 1)) for j in range(points)]


def tvo(log_w, points):
    """sum_j (beta_{j+1} - beta_j) sum_i v_ij log w_i, v_j the normalised w^beta_j."""
    total = np.zeros(log_w.shape[1])
    for start, end in itertools.pairwise(tvo_ends(points)):
        total += (end - start) * np.sum(normalized_weights(start * log_w) * log_w, axis=0)
    return total


VALUES = dict.fromkeys(("iwae", "dreg", "stl", "rws-dreg", "rws", "rws-sleep", "vimco"), iwae) | {
    "elbo": elbo,
    "elbo-kl": elbo,
    "miwae": miwae,
    "piwae": lambda log_w, groups: iwae(log_w),
    "ciwae": ciwae,
    "vr-iwae": vr_iwae,
    "vr-max": vr_max,
    "jvi": lambda log_w, order: jackknife(log_w, order),
    "dreg-alpha": lambda log_w, alpha: iwae(log_w),
    "tvo": tvo,
}


def own_gradient(weights):
    """Rows of the gradient of a bound whose derivative by log w is `weights`: (v, v, -v)."""
    return weights, weights, -weights


def group_weights(log_w, groups):
    """Derivative of `miwae` by log w: normalised in each group, over M."""
    return np.concatenate([normalized_weights(group) / groups for group in groups_of(log_w, groups)])


def largest_only(log_w):
    """1 for the first sample of largest weight."""
    weights = np.zeros(log_w.shape)
    for b in range(log_w.shape[1]):
        weights[list(log_w[:, b]).index(max(log_w[:, b])), b] = 1.0
    return weights


def jvi_weights(log_w, order):
    """Derivative of `jackknife`: sum_j c_j mean over the subsets without j samples of their normalised weights."""
    n, total = len(log_w), np.zeros(log_w.shape)
    for j in range(order + 1):
        subsets = [list(subset) for subset in itertools.combinations(range(n), n - j)]
        coefficient = (-1) ** j * (n - j) ** order / (math.factorial(order - j) * math.factorial(j))
        for subset in subsets:
            total[subset] += coefficient / len(subsets) * normalized_weights(log_w[subset])
    return total


def vimco_rows(log_w):
    """Score L_k - L_k(log w_i replaced by the mean of the other log-weights) - wn_i, one sample after the other."""
    signal = np.zeros(log_w.shape)
    for i in range(len(log_w)):
        replaced = log_w.copy()
        replaced[i] = np.delete(log_w, i, axis=0).mean(axis=0)
        signal[i] = iwae(log_w) - iwae(replaced)
    wn = normalized_weights(log_w)
    return wn, np.zeros_like(wn), signal - wn


def tvo_rows(log_w, points):
    """Every E_j = E_{pi_j}[log w] differentiated as a covariance under pi_j, which is q^(1 - beta_j) p^beta_j.

    d E_j / d theta = E_j[g] + beta_j Cov_j(log w, g),           g = d log p(x, h) / d theta
    d E_j / d phi   = -E_j[s] + (1 - beta_j) Cov_j(log w, s),    s = d log q(h | x) / d phi
    """
    generative, score = np.zeros(log_w.shape), np.zeros(log_w.shape)
    for beta, end in itertools.pairwise(tvo_ends(points)):
        v = normalized_weights(beta * log_w)
        covariance = v * log_w - v * np.sum(v * log_w, axis=0)  # of log w with what it multiplies
        generative += (end - beta) * (v + beta * covariance)
        score += (end - beta) * ((1.0 - beta) * covariance - v)
    return generative, np.zeros_like(score), score


def rows_of_weights(path, score):
    """Rows (wn, path, score) from functions of the normalised weights wn and of the objective's settings."""

    def rows(log_w, **settings):
        wn = normalized_weights(log_w)
        return wn, path(wn, **settings), score(wn)

    return rows


ROWS = {
    "elbo": lambda log_w: own_gradient(np.full(log_w.shape, 1.0 / len(log_w))),
    "elbo-kl": lambda log_w: own_gradient(np.full(log_w.shape, 1.0 / len(log_w))),
    "iwae": lambda log_w: own_gradient(normalized_weights(log_w)),
    "dreg": rows_of_weights(lambda wn: wn**2, np.zeros_like),
    "stl": rows_of_weights(lambda wn: wn, np.zeros_like),
    "miwae": lambda log_w, groups: own_gradient(group_weights(log_w, groups)),
    "piwae": lambda log_w, groups: (normalized_weights(log_w), *own_gradient(group_weights(log_w, groups))[1:]),
    "ciwae": lambda log_w, beta, learn_beta=False: own_gradient(
        beta / len(log_w) + (1.0 - beta) * normalized_weights(log_w)
    ),
    "vr-iwae": lambda log_w, alpha: own_gradient(normalized_weights((1.0 - alpha) * log_w)),
    "vr-max": lambda log_w: own_gradient(largest_only(log_w)),
    "jvi": lambda log_w, order: own_gradient(jvi_weights(log_w, order)),
    # (1 - alpha) of dreg's path and alpha of rws-dreg's
    "dreg-alpha": rows_of_weights(lambda wn, alpha: (1.0 - alpha) * wn**2 + alpha * (wn - wn**2), np.zeros_like),
    "rws-dreg": rows_of_weights(lambda wn: wn - wn**2, np.zeros_like),
    "rws": rows_of_weights(np.zeros_like, lambda wn: wn),
    "rws-sleep": rows_of_weights(np.zeros_like, np.zeros_like),
    "vimco": vimco_rows,
    "tvo": tvo_rows,
}
