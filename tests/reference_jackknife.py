"""The jackknife and self-normalised importance sampling once more, in NumPy: slow, and straight from definitions.

Nothing here is shared with the package. Shapes: log importance weights `log_w` [k, B].
"""

import itertools
import math

import numpy as np
from reference import log_mean_exp, normalized_weights


def mean_without(log_w, j):
    """The mean over all subsets without j of the n samples of log (1/(n-j) sum_i w_i); [n, B] -> [B]."""
    n = len(log_w)
    subsets = itertools.combinations(range(n), n - j)
    return np.mean([log_mean_exp(log_w[list(subset)]) for subset in subsets], axis=0)


def jackknife(log_w, m):
    """sum_{j=0..m} c_j mean_without(j) with c_j = (-1)^j (n - j)^m / ((m - j)! j!), over all subsets; [n, B] -> [B]."""
    log_w = np.asarray(log_w, np.float64)
    n = len(log_w)
    total = np.zeros(log_w.shape[1])
    for j in range(m + 1):
        coefficient = (-1) ** j * (n - j) ** m / (math.factorial(m - j) * math.factorial(j))
        total = total + coefficient * mean_without(log_w, j)
    return total


def jackknife_standard_error(log_w, m):
    """sqrt((n-1)/n sum_i (T_i - mean T)^2), T_i = jackknife(log_w without i, m); [n, B] -> [B]."""
    n = len(log_w)
    without = np.array([jackknife(np.delete(log_w, i, axis=0), m) for i in range(n)])
    return np.sqrt((n - 1) / n * np.sum((without - without.mean(axis=0)) ** 2, axis=0))


def jackknife_of_pairs(log_w, m):
    """Orders 1 and 2 from all n + n(n-1)/2 sums, in the longest float there is; [n, B] -> [B].

    w_1 + ... + w_n - w_i - w_j is a difference: not for weights of which one or two carry nearly all.
    """
    log_w = np.asarray(log_w, np.longdouble)
    n, top = len(log_w), log_w.max(axis=0)
    w = np.exp(log_w - top)
    total = w.sum(axis=0)
    without_0 = np.log(total / n)
    without_1 = np.log((total - w) / (n - 1)).mean(axis=0)
    if m == 1:
        return np.asarray(top + n * without_0 - (n - 1) * without_1, np.float64)
    without_2 = sum(np.log((total - w[i] - w[i + 1 :]) / (n - 2)).sum(axis=0) for i in range(n - 1)) / (n * (n - 1) / 2)
    both = n**2 * without_0 / 2 - (n - 1) ** 2 * without_1 + (n - 2) ** 2 * without_2 / 2
    return np.asarray(top + both, np.float64)


def expectation(log_w, values):
    """The estimate sum_i wn_i f_i and its standard error sqrt(sum_i wn_i^2 (f_i - estimate)^2).

    log_w [k, B], values [k, B, ...] -> ([B, ...], [B, ...]).
    """
    values = np.asarray(values, np.float64)
    wn = normalized_weights(log_w).reshape(np.shape(log_w) + (1,) * (values.ndim - 2))
    mean = np.sum(wn * values, axis=0)
    return mean, np.sqrt(np.sum(wn**2 * (values - mean) ** 2, axis=0))
