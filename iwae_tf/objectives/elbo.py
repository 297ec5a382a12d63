"""The VAE's evidence lower bound, averaged over k samples."""

import tensorflow as tf

from iwae_tf.objectives.objective import GradientWeights, Objective, serializable


@serializable
class ELBO(Objective):
    """L_VAE = 1/k sum_i log w_i, the bound a VAE maximises.

    More samples lower the variance of its gradient and leave the bound itself as it is; `IWAEBound` puts the same
    samples to better use.

    `kl_weight`, 1 unless `KLAnnealing` sets it, multiplies log p(h) - log q(h | x) in the gradient. `bound` stays the
    bound, whatever the weight.

    Args:
        num_samples: k.
        **kwargs: as of `Objective`.

    Reference: Kingma & Welling (2014), equation 6 (estimator A).
    """

    single_backward = True

    def __init__(self, num_samples: int = 1, **kwargs):
        super().__init__(num_samples, **kwargs)
        self.kl_weight = tf.Variable(1.0, trainable=False, name="kl_weight")

    def bound(self, log_w):
        return tf.reduce_mean(log_w, axis=0)

    def gradient_weights(self, log_w):
        weights = tf.ones_like(log_w) / tf.cast(tf.shape(log_w)[0], log_w.dtype)
        return GradientWeights(generative=weights, path=weights, score=-weights)

    def log_weights_and_target(self, model, x, noise):
        log_likelihood, minus_kl = self.log_weight_parts(model, x, noise)
        return log_likelihood + minus_kl, log_likelihood + self.kl_weight * minus_kl

    def begin_fit(self):
        self.kl_weight.assign(1.0)

    def log_weight_parts(self, model, x, noise):
        """log p(x | h) and log p(h) - log q(h | x), whose sum is log w; both [k, B]."""
        return model.log_weight_parts(x, noise)
