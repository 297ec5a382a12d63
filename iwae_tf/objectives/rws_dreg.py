"""The wake phase of the inference network, doubly reparameterised."""

from iwae_tf.objectives.iwae import IWAEBound
from iwae_tf.objectives.objective import GradientWeights, serializable


@serializable
class RWSDReG(IWAEBound):
    """Value of `IWAEBound`; the mean gradient of `RWS`, through the samples and with less noise where q is good.

    The score term of the wake phase is reparameterised: its weights wn become wn - wn^2 on the path.

    Reference: Tucker, Lawson, Gu, Maddison (2019), section 5.
    """

    single_backward = False
    needs_others = "its normalised weight would always be 1, and q would learn nothing"

    def gradient_weights(self, log_w):
        weights = super().gradient_weights(log_w).generative
        factor = 1.0 - weights
        return GradientWeights(generative=weights, path=factor * weights, score=None, path_factor=factor)
