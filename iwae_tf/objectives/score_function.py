"""Objectives without a path through the samples, which may therefore be discrete: wake-sleep, VIMCO, TVO."""

import numpy as np
import tensorflow as tf

from iwae_tf.declarations import declare
from iwae_tf.errors import positive_integer
from iwae_tf.numerics import log_mean_exp, log_sum_of_others, normalized_weights
from iwae_tf.objectives.bounds import IWAEBound
from iwae_tf.objectives.objective import GradientWeights, Objective

FIRST_POINT = 0.025  # where the geometric part of TVO's partition begins


@declare("objective", "rws", "reweighted wake-sleep, wake phase for both networks; binary units too")
class RWS(IWAEBound):
    """Value of `IWAEBound` and its gradient by theta; phi moves q(h | x) towards the posterior p(h | x).

    The normalised weights make the k samples of q an approximate sample of the posterior, whose log-density under q
    phi climbs: sum_i wn_i grad log q(h_i | x), an estimate of minus the gradient of KL(p(h | x) || q(h | x)), biased
    for finite k and consistent as k grows.

    Reference: Bornschein & Bengio (2015), section 2: the wake phase for p and for q.
    """

    needs_several_samples = "its normalised weight would always be 1, and q would learn nothing"

    def gradient_weights(self, log_w):
        weights = normalized_weights(log_w)
        return GradientWeights(generative=weights, path=None, score=weights)


@declare("objective", "rws-sleep", "the same with the sleep phase for q, on draws of the model; binary units too")
class RWSSleep(IWAEBound):
    """Value of `IWAEBound` and its gradient by theta; phi learns from draws of the generative network.

    For (x, h) drawn from p(x, h), as many as the batch has examples, phi climbs log q(h | x): minus the gradient of
    KL(p(h | x) || q(h | x)) averaged over the model's x, not the data's. Unbiased for that target.

    Reference: Bornschein & Bengio (2015), section 2: the wake phase for p, the sleep phase for q.
    """

    sleep_phase = True

    def gradient_weights(self, log_w):
        return GradientWeights(generative=normalized_weights(log_w), path=None, score=None)


@declare("objective", "vimco", "L_k, unbiased by score functions: the first to try with binary units")
class VIMCO(IWAEBound):
    """Value of `IWAEBound`; an unbiased gradient of it by score functions.

    The signal of sample i is what it adds to the bound:

        signal_i = L_k - log 1/k (sum_{j != i} w_j + geometric mean of the w_j, j != i)

    The second term does not depend on sample i, so subtracting it leaves the mean gradient that of L_k.

    Args:
        num_samples: k, at least 2: with one sample there are no others.

    Reference: Mnih & Rezende (2016), section 2, with the geometric mean of the others in the baseline.
    """

    needs_several_samples = "each is compared with the others"

    def gradient_weights(self, log_w):
        k = tf.cast(tf.shape(log_w)[0], log_w.dtype)
        mean_of_others = (tf.reduce_sum(log_w, axis=0) - log_w) / (k - 1.0)  # log of their geometric mean
        log_sums = tf.stack([log_sum_of_others(log_w), mean_of_others])  # [2, k, B]
        baseline = tf.reduce_logsumexp(log_sums, axis=0) - tf.math.log(k)
        signal = log_mean_exp(log_w, axis=0) - baseline  # [k, B]
        weights = normalized_weights(log_w)
        return GradientWeights(generative=weights, path=None, score=signal - weights)


@declare(
    "objective",
    "tvo",
    "thermodynamic bound between elbo and log p(x), K points; binary units too",
    settings={"points": "K, terms of the sum"},
)
class TVO(Objective):
    """sum_j (beta_{j+1} - beta_j) E_{pi_j}[log w], pi_j the distribution q^(1 - beta_j) p^beta_j, normalised.

    log p(x) is the integral of E_{pi_beta}[log w] over beta from 0 to 1, and the integrand rises: the left sum is a
    lower bound, at one point (beta = 0) the ELBO. The expectations are sums over the k samples with the weights
    w^beta, normalised; for finite k the value is an estimate with a bias that falls as 1/k.

    The points are 0 and, for K > 1, geometric from 0.025 up to below 1.

    The gradient is the derivative of every expectation as a covariance, with the same weights. Like the value it is
    consistent in k, not unbiased.

    Args:
        num_samples: k.
        points: K, the number of terms of the sum.
        **kwargs: see `Objective`.

    Reference: Masrani, Le, Wood (2019), sections 3 and 4.
    """

    needs_several_samples = "a covariance over one sample is 0, and q would learn nothing"

    def __init__(self, num_samples: int = 50, points: int = 5, **kwargs):
        super().__init__(num_samples, **kwargs)
        self.points = positive_integer("points", points)

    @property
    def numbers(self):
        return self.num_samples * self.points

    def bound(self, log_w):
        lengths, _, weights = self._partition(log_w)
        return tf.reduce_sum(lengths * weights * log_w, axis=[0, 1])

    def gradient_weights(self, log_w):
        lengths, betas, weights = self._partition(log_w)
        centred = log_w - tf.reduce_sum(weights * log_w, axis=1, keepdims=True)  # [K, k, B]
        generative = tf.reduce_sum(lengths * weights * (1.0 + betas * centred), axis=0)
        score = tf.reduce_sum(lengths * weights * ((1.0 - betas) * centred - 1.0), axis=0)
        return GradientWeights(generative=generative, path=None, score=score)

    def _partition(self, log_w):
        """Returns lengths and points of the partition, [K, 1, 1], and the normalised weights w^beta, [K, k, B]."""
        ends = np.array([0.0, *(np.geomspace(FIRST_POINT, 1.0, self.points) if self.points > 1 else [1.0])])
        lengths = tf.constant(np.diff(ends)[:, None, None], log_w.dtype)
        betas = tf.constant(ends[:-1, None, None], log_w.dtype)
        return lengths, betas, tf.nn.softmax(betas * log_w, axis=1)
