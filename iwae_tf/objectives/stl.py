"""Sticking the landing: the importance weighted bound without the score term."""

import tensorflow as tf

from iwae_tf.objectives.iwae import IWAEBound
from iwae_tf.objectives.objective import GradientWeights, serializable


@serializable
class STL(IWAEBound):
    """Value of `IWAEBound`; the gradient of the inference network leaves out the score of q.

    The gradient is exactly zero where q(h | x) is the posterior. Its mean is the ELBO's for k = 1; for k > 1 it is a
    biased estimate of the gradient of L_k, and `DReG` is the unbiased one.

    Reference: Roeder, Wu, Duvenaud (2017); the bias is shown by Tucker, Lawson, Gu, Maddison (2019), section 3.
    """

    single_backward = False

    def gradient_weights(self, log_w):
        weights = super().gradient_weights(log_w).generative
        return GradientWeights(generative=weights, path=weights, score=None, path_factor=tf.ones_like(weights))
