"""The formulas of the package in NumPy float64, written independently of it and without TensorFlow.

Shapes: x [B, D], latents and noise [k, B, H_l], log importance weights `log_w` [k, B]. Layer 1 is nearest x.
"""

import dataclasses

import numpy as np

LOG_TWO_PI = np.log(2.0 * np.pi)


def log_mean_exp(log_w, axis=0):
    """log (1/k sum_i w_i) = m + log (1/k sum_i exp(log_w_i - m)), m = max_i log_w_i; [k, B] -> [B]."""
    log_w = np.asarray(log_w, dtype=np.float64)
    top = np.max(log_w, axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)  # a column of -inf only must give -inf, not -inf - (-inf) = nan
    with np.errstate(divide="ignore"):
        mean = np.log(np.mean(np.exp(log_w - shift), axis=axis, keepdims=True)) + shift
    return np.squeeze(mean, axis=axis)


def normalized_weights(log_w):
    """Importance weights that sum to 1, wn_i = w_i / sum_j w_j; [k, B] -> [k, B]."""
    log_w = np.asarray(log_w, dtype=np.float64)
    w = np.exp(log_w - log_w.max(axis=0))
    return w / w.sum(axis=0)


def elbo(log_w):
    """Mean of the log-weights, 1/k sum_i log_w_i; [k, B] -> [B]."""
    return np.mean(np.asarray(log_w, dtype=np.float64), axis=0)


def iwae(log_w):
    """The k-sample bound L_k = log (1/k sum_i w_i); [k, B] -> [B]."""
    return log_mean_exp(log_w, axis=0)


def grouped_bound(log_w, k):
    """Mean over the floor(N / k) complete consecutive groups of k samples of log (1/k sum_i w_i); [N, B] -> [B]."""
    log_w = np.asarray(log_w, dtype=np.float64)
    return np.mean([log_mean_exp(log_w[start : start + k]) for start in range(0, len(log_w) - k + 1, k)], axis=0)


def effective_sample_size(log_w):
    """Kong's 1 / sum_i wn_i^2, wn the normalised weights; [k, B] -> [B]."""
    return 1.0 / np.sum(normalized_weights(log_w) ** 2, axis=0)


def standard_error(log_w):
    """Delta method: standard error of the mean weight over the mean weight, s / (sqrt(k) mean w); [k, B] -> [B].

    s^2 = sum_i (w_i - mean w)^2 / (k - 1) is the unbiased estimate of the variance of a weight.
    """
    log_w = np.asarray(log_w, dtype=np.float64)
    w = np.exp(log_w - log_w.max(axis=0))
    return np.std(w, axis=0, ddof=1) / np.sqrt(len(w)) / np.mean(w, axis=0)


def tail_length(num_samples):
    """Number of weights that are the tail, M = ceil(min(0.2 S, 3 sqrt(S)))."""
    return int(np.ceil(min(0.2 * num_samples, 3.0 * np.sqrt(num_samples))))


def tail_excesses(log_w):
    """Excesses of the tail over the largest weight outside it, relative to the largest of all; [S] -> [<= M], rising.

    Weights below e^-650 of the largest count as e^-650, because float64 cannot resolve their excesses.
    """
    log_w = np.sort(np.asarray(log_w, dtype=np.float64))
    w = np.exp(log_w - log_w[-1])
    cutoff = max(w[-tail_length(len(w)) - 1], np.exp(-650.0))
    return w[w > cutoff] - cutoff


def generalized_pareto_log_likelihood(x, theta):
    """Profile log-likelihood of x [n] at theta = k / sigma, and the k that maximises it; a pair of scalars.

    The density is (1 - k x / sigma)^(1 / k - 1) / sigma, in Zhang and Stephens' sign: the shape is -k.
    """
    log_survival = np.log1p(-theta * x)
    k = -np.mean(log_survival)
    return len(x) * np.log(theta / k) + (1.0 / k - 1.0) * np.sum(log_survival), k


def generalized_pareto_shape(x):
    """Zhang and Stephens' posterior mean of the shape given rising excesses x [n]; scalar.

    The m = 30 + floor(sqrt(n)) values theta_j = 1 / x_n + (1 - sqrt(m / (j - 1/2))) / (3 x_q), q = floor(n / 4 + 1/2),
    are weighted by their profile likelihoods; the shape is that of their mean.
    """
    m = 30 + int(np.sqrt(len(x)))
    j = np.arange(1, m + 1)
    theta = 1.0 / x[-1] + (1.0 - np.sqrt(m / (j - 0.5))) / (3.0 * x[int(len(x) / 4 + 0.5) - 1])
    log_likelihood = np.array([generalized_pareto_log_likelihood(x, value)[0] for value in theta])
    return -generalized_pareto_log_likelihood(x, np.sum(normalized_weights(log_likelihood) * theta))[1]


def pareto_shape(log_w):
    """The k-hat of Vehtari et al. with their prior worth ten points at 0.5, (n k + 5) / (n + 10); [S, B] -> [B].

    It is inf where fewer than 5 weights of the tail exceed the cutoff, and -inf where all of them equal the largest.
    """
    return np.array([_pareto_shape(column) for column in np.asarray(log_w, np.float64).T])


def _pareto_shape(log_w):
    if tail_length(len(log_w)) < 5:
        return np.inf
    x = tail_excesses(log_w)
    if len(x) >= 5:
        return (len(x) * generalized_pareto_shape(x) + 10.0 * 0.5) / (len(x) + 10.0)
    return -np.inf if np.sum(log_w == np.max(log_w)) > tail_length(len(log_w)) else np.inf


def gaussian_log_prob(value, loc, log_scale):
    """Sum over d of -1/2 z_d^2 - log_scale_d - 1/2 log 2 pi, z = (value - loc) / exp(log_scale); [..., D] -> [...]."""
    value, loc, log_scale = (np.asarray(a, np.float64) for a in np.broadcast_arrays(value, loc, log_scale))
    z = (value - loc) * np.exp(-log_scale)
    return np.sum(-0.5 * z**2 - log_scale - 0.5 * LOG_TWO_PI, axis=-1)


def bernoulli_log_prob(x, logits):
    """Sum over d of x_d l_d - log(1 + e^l_d), with log(1 + e^l) = max(l, 0) + log1p(e^-|l|); [..., D] -> [...]."""
    x, logits = np.asarray(x, np.float64), np.asarray(logits, np.float64)
    softplus = np.maximum(logits, 0.0) + np.log1p(np.exp(-np.abs(logits)))
    return np.sum(x * logits - softplus, axis=-1)


def gaussian_kl_to_standard(loc, log_scale):
    """KL(N(loc, scale^2) || N(0, I)) = sum_d 1/2 (loc_d^2 + scale_d^2 - 1) - log_scale_d; [..., H] -> [...]."""
    loc, log_scale = np.asarray(loc, np.float64), np.asarray(log_scale, np.float64)
    return np.sum(0.5 * (loc**2 + np.exp(2.0 * log_scale) - 1.0) - log_scale, axis=-1)


def bounded_log_scale(raw, bound=7.0):
    """The value bound tanh(raw / bound), close to raw near 0 and always inside (-bound, bound); same shape."""
    return bound * np.tanh(raw / bound)


def dense(x, weights):
    """One layer x W + b for weights = (W [n, m], b [m]); [..., n] -> [..., m]."""
    kernel, bias = weights
    return np.asarray(x, dtype=np.float64) @ np.asarray(kernel, np.float64) + np.asarray(bias, np.float64)


def mlp(x, weights):
    """The last y of y <- tanh(y W + b) over the list of (W, b), from y = x (an empty list: x); [..., n] -> [..., m]."""
    y = np.asarray(x, dtype=np.float64)
    for pair in weights:
        y = np.tanh(dense(y, pair))
    return y


def gaussian_stage(x, stage, bound=7.0):
    """Parameters (loc, log_scale) = (y W + b, bound tanh((y W' + b') / bound)) with y = mlp(x); each [..., H]."""
    y = mlp(x, stage["hidden"])
    return dense(y, stage["loc"]), bounded_log_scale(dense(y, stage["log_scale"]), bound)


def iwae_log_weights(x, noise, inference, generative, likelihood, bound=7.0):
    """Returns log_w = log p(x, h) - log q(h | x), [k, B].

    log p(x, h) = log p(h_L) + sum_{l<L} log p(h_l | h_{l+1}) + log p(x | h_1), with p(h_L) = N(0, I), and
    log q(h | x) = sum_l log q(h_l | h_{l-1}), with h_0 = x.

    Args:
        x: [B, D].
        noise: list of L arrays [k, B, H_l], standard normal, nearest x first: h_l = loc_l + exp(log_scale_l) noise_l.
        inference: list of L stages dict(hidden=[(W, b), ...], loc=(W, b), log_scale=(W, b)), nearest x first.
        generative: list of L stages, top first: L - 1 stages of the same form for p(h_l | h_{l+1}), then
            dict(hidden=..., logits=(W, b)) for "bernoulli" or the Gaussian form for "gaussian".
        likelihood: "bernoulli" or "gaussian".
        bound: of every log scale.
    """
    h, log_q = sample_posterior(x, noise, inference, bound)
    log_prior = gaussian_log_prob(h[-1], 0.0, 0.0)  # [k, B]
    log_p = log_prior + log_likelihood_of_x(x, h[0], generative[-1], likelihood, bound)
    for below, above, stage in zip(h[-2::-1], h[:0:-1], generative[:-1], strict=True):
        log_p = log_p + gaussian_log_prob(below, *gaussian_stage(above, stage, bound))
    return log_p - log_q


def sample_posterior(x, noise, inference, bound=7.0):
    """Layers h_l = loc_l + scale_l noise_l, from h_{l-1}, and log q(h | x); (list of [k, B, H_l], [k, B])."""
    h, log_q, below = [], 0.0, x
    for stage, epsilon in zip(inference, noise, strict=True):
        loc, log_scale = gaussian_stage(below, stage, bound)
        below = loc + np.exp(log_scale) * epsilon  # [k, B, H_l]
        log_q = log_q + gaussian_log_prob(below, loc, log_scale)  # [k, B]
        h.append(below)
    return h, log_q


def log_likelihood_of_x(x, h1, stage, likelihood, bound=7.0):
    """log p(x | h_1) of Bernoulli(logits(h_1)) or N(loc(h_1), scale(h_1)^2); x [B, D], h_1 [k, B, H_1] -> [k, B]."""
    if likelihood == "bernoulli":
        return bernoulli_log_prob(x, dense(mlp(h1, stage["hidden"]), stage["logits"]))
    assert likelihood == "gaussian"
    return gaussian_log_prob(x, *gaussian_stage(h1, stage, bound))


def normal_log_prob(x, mean, covariance):
    """Full covariance: log N(x; mean, C) = -1/2 (z^T C^-1 z + log det C + D log 2 pi), z = x - mean; [B, D] -> [B]."""
    z = np.atleast_2d(x) - mean
    _, log_det = np.linalg.slogdet(covariance)
    quadratic = np.sum(z * np.linalg.solve(covariance, z.T).T, axis=-1)
    return -0.5 * (quadratic + log_det + z.shape[-1] * LOG_TWO_PI)


def condition(prior_mean, prior_covariance, a, b, s, y):
    """Mean [B, H] and covariance C [H, H] of h given y, for h ~ N(m, P) and y | h ~ N(A h + b, S = diag(s^2)).

    C = (P^-1 + A^T S^-1 A)^-1, mean = C (P^-1 m + A^T S^-1 (y - b)).
    """
    precision = np.linalg.inv(prior_covariance)
    weighted = a.T / s**2  # A^T S^-1, [H, D]
    covariance = np.linalg.inv(precision + weighted @ a)
    mean = (precision @ prior_mean + (np.atleast_2d(y) - b) @ weighted.T) @ covariance  # covariance is symmetric
    return mean, covariance


@dataclasses.dataclass(frozen=True)
class LinearGaussian:
    """h ~ N(0, I), x | h ~ N(A h + b, diag(s^2)); a [D, H], b [D], s [D]."""

    a: np.ndarray
    b: np.ndarray
    s: np.ndarray

    def log_joint(self, x, h):
        """The joint log p(x, h) = log N(h; 0, I) + log N(x; A h + b, diag(s^2)); x [B, D], h [k, B, H] -> [k, B]."""
        return gaussian_log_prob(h, 0.0, 0.0) + gaussian_log_prob(x, h @ self.a.T + self.b, np.log(self.s))

    def log_prob(self, x):
        """Exact log p(x) = log N(x; b, A A^T + diag(s^2)); [B, D] -> [B]."""
        return normal_log_prob(x, self.b, self.a @ self.a.T + np.diag(self.s**2))

    def posterior(self, x):
        """Mean [B, H] and covariance [H, H] of p(h | x) = N(C A^T S^-1 (x - b), C), C = (I + A^T S^-1 A)^-1."""
        size = self.a.shape[1]
        return condition(np.zeros(size), np.eye(size), self.a, self.b, self.s, x)


@dataclasses.dataclass(frozen=True)
class TwoLayerLinearGaussian:
    """h2 ~ N(0, I), h1 | h2 ~ N(A2 h2 + b2, diag(s2^2)), x | h1 ~ N(A1 h1 + b1, diag(s1^2)).

    Shapes: a1 [D, H1], b1 [D], s1 [D], a2 [H1, H2], b2 [H1], s2 [H1].
    """

    a1: np.ndarray
    b1: np.ndarray
    s1: np.ndarray
    a2: np.ndarray
    b2: np.ndarray
    s2: np.ndarray

    def h1_covariance(self):
        """Covariance of h1 = A2 A2^T + diag(s2^2); [H1, H1]."""
        return self.a2 @ self.a2.T + np.diag(self.s2**2)

    def log_joint(self, x, h1, h2):
        """Sum of log N(h2; 0, I), log N(h1; A2 h2 + b2, diag(s2^2)) and log N(x; A1 h1 + b1, diag(s1^2)); [k, B]."""
        log_h1 = gaussian_log_prob(h1, h2 @ self.a2.T + self.b2, np.log(self.s2))
        log_x = gaussian_log_prob(x, h1 @ self.a1.T + self.b1, np.log(self.s1))
        return gaussian_log_prob(h2, 0.0, 0.0) + log_h1 + log_x

    def log_prob(self, x):
        """Exact log p(x) = log N(x; A1 b2 + b1, A1 Cov(h1) A1^T + diag(s1^2)); [B, D] -> [B]."""
        covariance = self.a1 @ self.h1_covariance() @ self.a1.T + np.diag(self.s1**2)
        return normal_log_prob(x, self.a1 @ self.b2 + self.b1, covariance)

    def posterior_h1(self, x):
        """Mean and covariance of p(h1 | x) from the prior N(b2, Cov(h1)) and x | h1; [B, D] -> ([B, H1], [H1, H1])."""
        return condition(self.b2, self.h1_covariance(), self.a1, self.b1, self.s1, x)

    def posterior_h2(self, h1):
        """Mean and covariance of p(h2 | h1), equal to p(h2 | h1, x); [B, H1] -> ([B, H2], [H2, H2])."""
        size = self.a2.shape[1]
        return condition(np.zeros(size), np.eye(size), self.a2, self.b2, self.s2, h1)
