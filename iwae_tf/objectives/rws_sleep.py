"""Reweighted wake-sleep with the sleep phase for the inference network."""

from iwae_tf.objectives.iwae import IWAEBound
from iwae_tf.objectives.objective import GradientWeights, serializable


@serializable
class RWSSleep(IWAEBound):
    """Value of `IWAEBound` and its gradient by theta; phi learns from dreams, draws of the generative network.

    For (x, h) drawn from p(x, h), as many as the batch has examples, phi climbs log q(h | x): minus the gradient of
    KL(p(h | x) || q(h | x)) averaged over the model's x, not the data's. Unbiased for that target; no gradient passes
    through the samples: they may be discrete.

    Reference: Bornschein & Bengio (2015), section 2: the wake phase for p, the sleep phase for q.
    """

    single_backward = False
    needs_path = False
    sleep_phase = True

    def gradient_weights(self, log_w):
        return GradientWeights(generative=super().gradient_weights(log_w).generative, path=None, score=None)
