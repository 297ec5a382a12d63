"""The thermodynamic variational objective: a Riemann sum on the path from q to the posterior."""

import numpy as np
import tensorflow as tf

from iwae_tf.errors import positive_integer
from iwae_tf.objectives.objective import GradientWeights, Objective, serializable

FIRST_POINT = 0.025  # where the geometric part of the partition begins


@serializable
class TVO(Objective):
    """sum_j (beta_{j+1} - beta_j) E_{pi_j}[log w], pi_j the distribution q^(1 - beta_j) p^beta_j, normalised.

    log p(x) is the integral of E_{pi_beta}[log w] over beta from 0 to 1, and the integrand rises: the left sum is a
    lower bound, at one point (beta = 0) the ELBO. The expectations are sums over the k samples with the weights
    w^beta, normalised; that makes the value for finite k an estimate with a bias that falls as 1/k.

    The points are 0 and, for K > 1, geometric from 0.025 up to below 1.

    The gradient is the derivative of every expectation as a covariance, with the same weights. No gradient passes
    through the samples: they may be discrete. Like the value it is consistent in k, not unbiased.

    Args:
        num_samples: k.
        points: K, the number of terms of the sum.
        **kwargs: as of `Objective`.

    Reference: Masrani, Le, Wood (2019), sections 3 and 4.
    """

    needs_path = False
    needs_others = "a covariance over one sample is 0, and q would learn nothing"

    def __init__(self, num_samples: int = 50, points: int = 5, **kwargs):
        super().__init__(num_samples, **kwargs)
        self.points = positive_integer("points", points)

    def bound(self, log_w):
        lengths, _, weights = self._partition(log_w)
        return tf.reduce_sum(lengths * weights * log_w, axis=[0, 1])

    def gradient_weights(self, log_w):
        lengths, betas, weights = self._partition(log_w)
        centred = log_w - tf.reduce_sum(weights * log_w, axis=1, keepdims=True)  # [K, k, B]
        generative = tf.reduce_sum(lengths * weights * (1.0 + betas * centred), axis=0)
        score = tf.reduce_sum(lengths * weights * ((1.0 - betas) * centred - 1.0), axis=0)
        return GradientWeights(generative=generative, path=None, score=score)

    def get_config(self):
        return {**super().get_config(), "points": self.points}

    def _partition(self, log_w):
        """Lengths and points of the partition, [K, 1, 1], and normalised weights w^beta at its points, [K, k, B]."""
        ends = (
            np.array([0.0, *np.geomspace(FIRST_POINT, 1.0, self.points)]) if self.points > 1 else np.array([0.0, 1.0])
        )
        lengths = tf.constant(np.diff(ends)[:, None, None], log_w.dtype)
        betas = tf.constant(ends[:-1, None, None], log_w.dtype)
        return lengths, betas, tf.nn.softmax(betas * log_w, axis=1)
