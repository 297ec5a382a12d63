"""The doubly reparameterised gradient of the importance weighted bound."""

import tensorflow as tf

from iwae_tf.objectives.iwae import IWAEBound
from iwae_tf.objectives.objective import GradientWeights, serializable


@serializable
class DReG(IWAEBound):
    """Value of `IWAEBound`; an unbiased gradient of it whose inference part keeps its signal as k grows.

    The score term of q is reparameterised a second time, which turns its weights into squares of the normalised
    weights on the path. The generative network keeps the normalised weights.

    Reference: Tucker, Lawson, Gu, Maddison (2019), section 3.
    """

    single_backward = False

    def gradient_weights(self, log_w):
        weights = super().gradient_weights(log_w).generative
        return GradientWeights(generative=weights, path=tf.square(weights), score=None, path_factor=weights)
