"""The largest weight alone: the variational Renyi bound at alpha = minus infinity."""

import tensorflow as tf

from iwae_tf.objectives.objective import GradientWeights, Objective, serializable


@serializable
class VRMax(Objective):
    """log max_i w_i - log k, with the gradient of the sample of largest weight.

    The constant log k, which no gradient sees, makes the value a bound: it is the least that L_k can be with that
    largest weight. One sample goes through the backward pass in effect, so `backward_samples=1` gives the same
    gradient for the cost of one.

    Reference: Li & Turner (2016), section 4, where the value is log max_i w_i.
    """

    single_backward = True

    def bound(self, log_w):
        return tf.reduce_max(log_w, axis=0) - tf.math.log(tf.cast(tf.shape(log_w)[0], log_w.dtype))

    def gradient_weights(self, log_w):
        weights = tf.one_hot(tf.argmax(log_w, axis=0), tf.shape(log_w)[0], axis=0, dtype=log_w.dtype)
        return GradientWeights(generative=weights, path=weights, score=-weights)
