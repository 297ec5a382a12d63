"""The importance weighted bound."""

from iwae_tf.numerics import log_mean_exp, normalized_weights
from iwae_tf.objectives.objective import GradientWeights, Objective, serializable


@serializable
class IWAEBound(Objective):
    """L_k = log 1/k sum_i w_i, which rises with k from the VAE's bound (k = 1) towards log p(x).

    Reference: Burda, Grosse, Salakhutdinov (2016), equation 8; the gradient is equation 14.
    """

    single_backward = True

    def bound(self, log_w):
        return log_mean_exp(log_w, axis=0)

    def gradient_weights(self, log_w):
        weights = normalized_weights(log_w)
        return GradientWeights(generative=weights, path=weights, score=-weights)
