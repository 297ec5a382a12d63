"""log p of every dimension, [..., D], for each likelihood by name, in NumPy and SciPy float64.

Arguments are `value` [..., D] and the parameters of the distribution as float64 arrays.
"""

import numpy as np
from scipy import special, stats

NODES, WEIGHTS = np.polynomial.legendre.leggauss(400)


def continuous_bernoulli(value, logits):
    """log of e^(l x) / int_0^1 e^(l t) dt, the integral by Gauss-Legendre quadrature, shifted by its largest term."""
    nodes, weights = 0.5 * (NODES + 1.0), 0.5 * WEIGHTS
    exponents = logits[..., None] * nodes
    return logits * value - special.logsumexp(exponents, b=weights, axis=-1)


def discretized_logistic(value, logits, loc, log_scale, levels):
    """log of a mixture of differences of logistic CDFs, each computed in the tail where the CDF is small."""
    z, half = (2.0 * value - 1.0)[..., None], 1.0 / (levels - 1)
    lower = np.where(z < -1.0 + half, -np.inf, (z - half - loc) / np.exp(log_scale))
    upper = np.where(z > 1.0 - half, np.inf, (z + half - loc) / np.exp(log_scale))
    flipped = lower + upper < 0.0  # the distribution is symmetric: use the tail with small probabilities
    lower, upper = np.where(flipped, -upper, lower), np.where(flipped, -lower, upper)
    far, near = stats.logistic.logsf(upper), stats.logistic.logsf(lower)
    with np.errstate(divide="ignore"):
        log_p = near + np.log1p(-np.exp(far - near))
    return special.logsumexp(special.log_softmax(logits, axis=-1) + log_p, axis=-1)


def categorical(value, logits, levels):
    """The logit of the value's level minus the log of the sum of all their exponentials."""
    level = np.rint(np.broadcast_to(value, logits.shape[:-1]) * (levels - 1)).astype(int)
    return np.take_along_axis(special.log_softmax(logits, axis=-1), level[..., None], axis=-1)[..., 0]


def student_t(value, loc, log_scale, df):
    """log density by SciPy."""
    return stats.t.logpdf(value, df, loc, np.exp(log_scale))
