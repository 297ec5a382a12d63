"""A proposal refined for each row: a Gaussian over the noise, fitted to the posterior by score matching.

The inference network makes h = T(noise; x), so the posterior of the noise has the log-density

    log f(noise) = log N(noise; 0, I) + log w(noise),   log w = log p(x, h) - log q(h | x)

up to the constant -log p(x), for any number of Gaussian layers, and q(h | x) is the proposal N(0, I). With the proposal
r = N(loc, A A') the weight of a sample is f / r, whose mean is p(x) as well, because the draws that fit r are not used
for the estimate.
"""

import functools
from typing import NamedTuple

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.numerics import log_mean_exp, squared_norm
from iwae_tf.seeds import Purpose

FIRST_FITS, FIRST_DRAWS = 5, 50  # from q to a Gaussian at the mode
# Fits that weigh their draws; rows that a Gaussian fits well need one. On MNIST with k = 50 as many scores are reliable
# after at most 8 fits as after 12 or 16, and after 4 fewer.
MAX_FITS, DRAWS = 8, 300
# Nats by which the log mean weight of 50 draws may lie below the best before a proposal is refused: it exceeds log p(x)
# by 3 in fewer than 5% of cases, by Markov's inequality.
SLACK = 3.0
GOOD_MISFIT, GAUSSIAN_MISFIT = 1.5, 0.01  # variances of log f / r under the posterior, in nats^2


class Proposal(NamedTuple):
    """A Gaussian over the noise of one row: noise = loc + A z with z standard normal.

    Attributes:
        loc: float64 [H].
        factor: A, float64 [H, H].
        log_det: log |det A|, float64 scalar.
    """

    loc: tf.Tensor
    factor: tf.Tensor
    log_det: tf.Tensor

    def wider(self, width: tf.Tensor) -> "Proposal":
        """Returns the Gaussian with standard deviations `width` times as large; float64 scalar."""
        units = tf.cast(tf.shape(self.loc)[0], tf.float64)
        return Proposal(self.loc, width * self.factor, self.log_det + units * tf.math.log(width))

    def noise(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the noise at z and log N(noise; 0, I) - log r there: z [n, 1, H] -> [n, 1, H], [n, 1]."""
        loc, factor, log_det = (tf.cast(value, z.dtype) for value in self)
        noise = loc + tf.matmul(z[:, 0], factor, transpose_b=True)[:, None]
        return noise, 0.5 * (squared_norm(z) - squared_norm(noise)) + log_det

    def log_weights(self, model, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Returns log of the weight f / r of the noise at z, float32: x [1, D], z [n, 1, H] -> [n, 1]."""
        noise, prior_over_proposal = self.noise(z)
        return model.log_weights_from_noise(x, noise) + prior_over_proposal


def inference_proposal(units: int) -> Proposal:
    """Returns N(0, I), under which the samples are those of q(h | x)."""
    return Proposal(tf.zeros([units], tf.float64), tf.eye(units, dtype=tf.float64), tf.zeros([], tf.float64))


def refine(model, x: tf.Tensor, stream: tf.Tensor) -> Proposal:
    """Returns the proposal fitted to the posterior of a row, a function of x and its stream alone.

    Each fit draws from the current proposal, computes the gradient of log f at the draws, and takes the Gaussian whose
    gradient agrees best with it ("batch and match"). The first fits weigh all draws the same and find the mode. The
    others draw from a wider Gaussian and weigh by importance, so that the agreement is that under the posterior, tails
    included; each counts as much as those before it together.

    Args:
        model: an `IWAE` with Gaussian units.
        x: [1, D].
        stream: of the row, from `iwae_tf.seeds.row_streams`; int64 scalar.

    Reference: Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei, Saul (2024), Batch and match: black-box variational
    inference with a score-based divergence, section 3; there without weights.
    """
    key, units = seeds.stream_key(stream, Purpose.REFINEMENT), sum(model.latent_units)
    fit_width, final_width = (1.0 + excess / units**0.5 for excess in (1.4, 0.7))

    draws = functools.partial(seeds.row_normals, width=units, key=key)  # (first, count) -> z, [count, H]
    first_draws = FIRST_FITS * FIRST_DRAWS

    def first_fit(number, proposal, best, best_bound, rate):
        z = draws(number * FIRST_DRAWS, FIRST_DRAWS)
        log_ratio, gradient = _log_weights_and_gradient(model, x, proposal, z)
        bound = log_mean_exp(log_ratio)
        bound = tf.where(tf.math.is_nan(bound), -float("inf"), bound)
        good = bound >= best_bound - SLACK
        best = select(good, proposal, best)
        weights = tf.fill([FIRST_DRAWS], tf.constant(1.0 / FIRST_DRAWS, tf.float64))
        found = matched(proposal, z, gradient, weights, rate / (tf.cast(number, tf.float64) + 1.0))
        # A step that went too far is taken back, and the next one from there is shorter.
        return (
            number + 1,
            select(good, found, best),
            best,
            tf.maximum(bound, best_bound),
            tf.where(good, rate, rate / 10.0),
        )

    def weighted_fit(number, proposal, _):
        z = fit_width * draws(first_draws + number * DRAWS, DRAWS)
        log_ratio, gradient = _log_weights_and_gradient(model, x, proposal, z)
        log_ratio = tf.cast(log_ratio, tf.float64)  # log f / r; the weights are f over the density of the draws
        weights = tf.nn.softmax(log_ratio - tf.cast(0.5 * (1.0 - fit_width**-2) * squared_norm(z), tf.float64))
        misfit = tf.reduce_sum(weights * tf.square(log_ratio - tf.reduce_sum(weights * log_ratio)))
        rate = tf.where(number == 0, tf.constant(DRAWS, tf.float64), 1.0 / tf.cast(tf.maximum(number, 1), tf.float64))
        return number + 1, matched(proposal, z, gradient, weights, rate), misfit

    start = inference_proposal(units)
    _, _, best, best_bound, _ = tf.while_loop(
        lambda *_: True,
        first_fit,
        (tf.constant(0), start, start, -float("inf"), tf.constant(FIRST_DRAWS, tf.float64)),
        maximum_iterations=FIRST_FITS,
        parallel_iterations=1,
    )
    fits, proposal, misfit = tf.while_loop(
        lambda number, proposal, misfit: misfit > GOOD_MISFIT,
        weighted_fit,
        (tf.constant(0), best, tf.constant(float("inf"), tf.float64)),
        maximum_iterations=MAX_FITS,
        parallel_iterations=1,
    )
    bound = log_mean_exp(proposal.log_weights(model, x, draws(first_draws + fits * DRAWS, FIRST_DRAWS)[:, None]))[0]
    proposal = select(bound >= best_bound - SLACK, proposal, best)
    # The weights of a proposal that is too wide have lighter tails than those of one that is too narrow.
    return proposal.wider(tf.where(misfit < GAUSSIAN_MISFIT, tf.constant(1.0, tf.float64), final_width))


def _log_weights_and_gradient(model, x, proposal: Proposal, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns log f - log r, [n], and the gradient of log f by z, [n, H], at draws z, [n, H]."""
    z = z[:, None]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        log_w = proposal.log_weights(model, x, z)  # [n, 1]
        log_f = log_w - 0.5 * squared_norm(z)  # up to a constant
    return log_w[:, 0], tape.gradient(log_f, z)[:, 0]


def matched(proposal: Proposal, z: tf.Tensor, gradient: tf.Tensor, weights: tf.Tensor, rate) -> Proposal:
    """Returns the Gaussian that agrees best with gradients of log f, in the coordinates z of a proposal.

        minimise  sum_i weights_i |grad log f(z_i) + S^-1 (z_i - m)|^2_S  +  2 / rate  KL(N(0, I) || N(m, S))

    has a closed form: with C, G the weighted covariances and z-, g- the weighted means of z and gradient,

        U = rate G + rate / (1 + rate) g- g-'      V = I + rate C + rate / (1 + rate) z- z-'
        S U S + S = V                              m = rate / (1 + rate) (S g- + z-)

    With V = R R' and R' U R = Q diag(e) Q' the solution is S = B B', B = R Q diag(2 / (1 + sqrt(1 + 4 e)))^(1/2).

    Args:
        proposal: N(loc, A A').
        z: draws in its coordinates, [n, H].
        gradient: of log f by z, [n, H].
        weights: of the draws, float64 [n], sum 1.
        rate: trust in the draws against the proposal, > 0.

    Returns:
        The new proposal; the old one if a gradient is not finite.
    """
    z, gradient = tf.cast(z, tf.float64), tf.cast(gradient, tf.float64)
    identity = tf.eye(z.shape[1], dtype=tf.float64)
    share = rate / (1.0 + rate)

    def moments(values):
        mean = tf.linalg.matvec(values, weights, transpose_a=True)
        centred = values - mean
        covariance = tf.matmul(centred, weights[:, None] * centred, transpose_a=True)
        return mean, rate * covariance + share * mean[:, None] * mean

    (z_mean, v), (gradient_mean, u) = moments(z), moments(gradient)
    finite = tf.math.is_finite(tf.reduce_sum(u) + tf.reduce_sum(v))
    # Eigenvalues of NaN would raise an error, and fail the other rows of a request.
    u, v = (tf.where(finite, values, tf.zeros_like(values)) for values in (u, v))
    root = tf.linalg.cholesky(identity + v)
    eigenvalues, vectors = tf.linalg.eigh(tf.matmul(root, tf.matmul(u, root), transpose_a=True))
    shrink = 2.0 / (1.0 + tf.sqrt(1.0 + 4.0 * tf.maximum(eigenvalues, 0.0)))
    factor = tf.matmul(root, vectors * tf.sqrt(shrink))
    loc = share * (tf.linalg.matvec(factor, tf.linalg.matvec(factor, gradient_mean, transpose_a=True)) + z_mean)
    log_det = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(root))) + 0.5 * tf.reduce_sum(tf.math.log(shrink))
    found = Proposal(
        proposal.loc + tf.linalg.matvec(proposal.factor, loc),
        tf.matmul(proposal.factor, factor),
        proposal.log_det + log_det,
    )
    return select(finite, found, proposal)


def select(condition: tf.Tensor, chosen: Proposal, other: Proposal) -> Proposal:
    """Returns the first proposal if the condition holds, else the other; a bool scalar."""
    return tf.nest.map_structure(functools.partial(tf.where, condition), chosen, other)
