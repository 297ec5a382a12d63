"""Reweighted wake-sleep with the wake phase for both networks."""

from iwae_tf.objectives.iwae import IWAEBound
from iwae_tf.objectives.objective import GradientWeights, serializable


@serializable
class RWS(IWAEBound):
    """Value of `IWAEBound` and its gradient by theta; phi moves q(h | x) towards the posterior p(h | x).

    The normalised weights make the k samples of q an approximate sample of the posterior, whose log-density under q
    phi climbs: sum_i wn_i grad log q(h_i | x), an estimate of minus the gradient of KL(p(h | x) || q(h | x)), biased
    for finite k and consistent as k grows. No gradient passes through the samples: they may be discrete.

    Reference: Bornschein & Bengio (2015), section 2: the wake phase for p and for q.
    """

    single_backward = False
    needs_path = False
    needs_others = "its normalised weight would always be 1, and q would learn nothing"

    def gradient_weights(self, log_w):
        weights = super().gradient_weights(log_w).generative
        return GradientWeights(generative=weights, path=None, score=weights)
