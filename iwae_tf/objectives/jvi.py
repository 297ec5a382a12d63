"""The importance weighted bound with its bias jackknifed away: closer to log p(x), and no bound."""

import math

import tensorflow as tf

from iwae_tf.errors import InputError, positive_integer
from iwae_tf.numerics import is_largest, log_mean_exp, log_sum_of_others
from iwae_tf.objectives.objective import GradientWeights, Objective, serializable


@serializable
class JVI(Objective):
    """The jackknife of order m of L_k, an estimate of log p(x) with a bias of order k^-(m + 1); m is 1 or 2.

        order 1:  k L_k - (k-1) mean_i L_{k-1} without i
        order 2:  k^2/2 L_k - (k-1)^2 mean_i L_{k-1} without i + (k-2)^2/2 mean_{i<j} L_{k-2} without i and j

    Written in small differences, as in `iwae_tf.evaluation.jackknife`: d_i = log(1 - a_i) - log(1 - 1/k) and
    g_ij = log(1 - t_i t_j) - log(1 - 1/(k-1)^2), with a the normalised weights and t = a / (1 - a). Order 2 takes
    memory for k^2 numbers an example.

    It is no lower bound: where few weights dominate, it may lie above log p(x), and training can come to use that.
    Watch L_k on validation images.

    Args:
        num_samples: k, more than the order.
        order: m, 1 or 2.
        **kwargs: as of `Objective`.

    Reference: Nowozin (2018), the estimators JVI-1 and JVI-2.
    """

    single_backward = True

    def __init__(self, num_samples: int = 50, order: int = 1, **kwargs):
        super().__init__(num_samples, **kwargs)
        if positive_integer("order", order) > 2:
            raise InputError(f"order must be 1 or 2, got {order}")
        if num_samples <= order:
            raise InputError(
                f"a jackknife of order {order} leaves {order} of the samples out and needs more than that, got "
                f"{num_samples}: raise --k (num_samples)"
            )
        self.order = order

    def bound(self, log_w):
        n = float(self.num_samples)
        near_0 = log_w - tf.stop_gradient(tf.reduce_max(log_w, axis=0))  # or the d_i drown in the rounding of log_w
        log_others = log_sum_of_others(near_0) - tf.reduce_logsumexp(near_0, axis=0)  # log(1 - a_i), [k, B]
        gain = tf.reduce_sum(log_others, axis=0) - n * math.log1p(-1.0 / n)  # sum_i d_i
        if self.order == 1:
            return log_mean_exp(log_w) - (n - 1) / n * gain
        pairs = _sum_over_pairs(near_0, log_others) - n * (n - 1) / 2 * math.log1p(-1.0 / (n - 1) ** 2)
        return log_mean_exp(log_w) - (2 * n - 3) / n * gain + (n - 2) ** 2 / (n * (n - 1)) * pairs

    def gradient_weights(self, log_w):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(log_w)
            bound = self.bound(log_w)
        weights = tape.gradient(bound, log_w)
        return GradientWeights(generative=weights, path=weights, score=-weights)

    def get_config(self):
        return {**super().get_config(), "order": self.order}


def _sum_over_pairs(log_w: tf.Tensor, log_others: tf.Tensor) -> tf.Tensor:
    """sum_{i<j} log(1 - t_i t_j): log-weights and log(1 - a_i), [k, B] -> [B].

    Where i is the largest weight, t_i may overflow and 1 - a_i - a_j be a difference of near equals. There it is
    log(1 - b_j) - log(1 - a_j), with b the normalised weights without the largest.
    """
    largest = is_largest(log_w)
    log_a = log_w - tf.reduce_logsumexp(log_w, axis=0)
    t = tf.exp(tf.where(largest, float("-inf"), log_a - log_others))  # [k, B], 0 at the largest
    products = tf.where(tf.eye(tf.shape(t)[0], dtype=tf.bool)[..., None], 0.0, t[:, None] * t[None])  # [k, k, B]
    rest = tf.where(largest, float("-inf"), log_w)
    with_largest = log_sum_of_others(rest) - tf.reduce_logsumexp(rest, axis=0) - log_others  # [k, B]
    with_largest = tf.where(largest, 0.0, with_largest)
    return 0.5 * tf.reduce_sum(tf.math.log1p(-products), axis=[0, 1]) + tf.reduce_sum(with_largest, axis=0)
