"""The VAE's evidence lower bound, averaged over k samples."""

import tensorflow as tf

from iwae_tf.objectives.objective import GradientWeights, Objective, serializable


@serializable
class ELBO(Objective):
    """L_VAE = 1/k sum_i log w_i, the bound a VAE maximises.

    More samples lower the variance of its gradient and leave the bound itself as it is; `IWAEBound` puts the same
    samples to better use.

    Reference: Kingma & Welling (2014), equation 6 (estimator A).
    """

    single_backward = True

    def bound(self, log_w):
        return tf.reduce_mean(log_w, axis=0)

    def gradient_weights(self, log_w):
        weights = tf.ones_like(log_w) / tf.cast(tf.shape(log_w)[0], log_w.dtype)
        return GradientWeights(generative=weights, path=weights, score=-weights)
