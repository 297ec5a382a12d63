"""The mean of several importance weighted bounds."""

import tensorflow as tf

from iwae_tf.errors import InputError, positive_integer
from iwae_tf.numerics import log_mean_exp
from iwae_tf.objectives.objective import GradientWeights, Objective, serializable


@serializable
class MIWAE(Objective):
    """1/M sum_m log 1/K sum_{i in group m} w_i: the mean of M bounds of K = k / M samples each.

    Its expectation is L_K. The mean over groups lowers the noise of the inference network's gradient and leaves its
    signal, where more samples in one bound drown it. M = 1 is `IWAEBound`, M = k is `ELBO`.

    Args:
        num_samples: k, all samples together.
        groups: M, a divisor of k.
        **kwargs: as of `Objective`.

    Reference: Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh (2018), section 5.
    """

    single_backward = True

    def __init__(self, num_samples: int = 50, groups: int = 5, **kwargs):
        super().__init__(num_samples, **kwargs)
        self.groups = checked_groups(num_samples, groups)

    def bound(self, log_w):
        return tf.reduce_mean(log_mean_exp(in_groups(log_w, self.groups), axis=1), axis=0)

    def gradient_weights(self, log_w):
        weights = weights_in_groups(log_w, self.groups)
        return GradientWeights(generative=weights, path=weights, score=-weights)

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}


def checked_groups(num_samples: int, groups: int) -> int:
    """The number of groups; raises `InputError` unless it divides the number of samples."""
    if num_samples % positive_integer("groups", groups):
        divisors = [n for n in range(1, num_samples + 1) if num_samples % n == 0]
        nearest = min(divisors, key=lambda n: abs(n - groups))
        raise InputError(f"groups must divide the number of samples, {num_samples}, got {groups}; {nearest} does")
    return groups


def in_groups(log_w: tf.Tensor, groups: int) -> tf.Tensor:
    """[k, B] -> [M, K, B]."""
    return tf.reshape(log_w, [groups, -1, tf.shape(log_w)[1]])


def weights_in_groups(log_w: tf.Tensor, groups: int) -> tf.Tensor:
    """Weights normalised within each group, over M: each column sums to 1. [k, B] -> [k, B]."""
    grouped = in_groups(log_w, groups)
    weights = tf.nn.softmax(grouped, axis=1) / tf.cast(groups, log_w.dtype)
    return tf.reshape(weights, tf.shape(log_w))
