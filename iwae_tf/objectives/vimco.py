"""The score-function gradient of the importance weighted bound, with a baseline from the other samples."""

import tensorflow as tf

from iwae_tf.numerics import log_mean_exp, log_sum_of_others, normalized_weights
from iwae_tf.objectives.iwae import IWAEBound
from iwae_tf.objectives.objective import GradientWeights, serializable


@serializable
class VIMCO(IWAEBound):
    """Value of `IWAEBound`; an unbiased gradient of it that needs no path through the samples: they may be discrete.

    The signal of sample i is what it adds to the bound: L_k minus the bound in which its log-weight is the mean of
    the others'. That baseline does not depend on sample i, so the mean is that of the gradient of L_k.

    Args:
        num_samples: k, at least 2: with one sample there are no others.

    Reference: Mnih & Rezende (2016), section 2, with the geometric mean of the others in the baseline.
    """

    single_backward = False
    needs_path = False
    needs_others = "each is compared with the others"

    def gradient_weights(self, log_w):
        k = tf.cast(tf.shape(log_w)[0], log_w.dtype)
        mean_of_others = (tf.reduce_sum(log_w, axis=0) - log_w) / (k - 1.0)
        log_sums = tf.stack([log_sum_of_others(log_w), mean_of_others])  # [2, k, B]
        baseline = tf.reduce_logsumexp(log_sums, axis=0) - tf.math.log(k)
        signal = log_mean_exp(log_w, axis=0) - baseline  # [k, B]
        weights = normalized_weights(log_w)
        return GradientWeights(generative=weights, path=None, score=signal - weights)
