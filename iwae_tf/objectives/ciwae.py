"""A mixture of the VAE's bound and the importance weighted bound."""

import math

import keras
import tensorflow as tf

from iwae_tf.errors import InputError, finite_number
from iwae_tf.numerics import log_mean_exp, normalized_weights
from iwae_tf.objectives.objective import GradientWeights, Objective, serializable


@serializable
class CIWAE(Objective):
    """beta ELBO + (1 - beta) L_k, both from the same k samples; beta = 0 is `IWAEBound`, beta = 1 `ELBO`.

    A little of the ELBO keeps signal in the inference network's gradient where k is large.

    A learned beta climbs the bound like every other parameter. As the ELBO is the smaller of the two for every x and
    every draw, it can only fall: training starts with the signal of the ELBO and ends at the importance weighted
    bound, at a pace that the gap between the two sets.

    Args:
        num_samples: k.
        beta: in [0, 1]; inside (0, 1), where it starts, if it is learned.
        learn_beta: whether beta is trained along with the networks.
        **kwargs: as of `Objective`.

    Reference: Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh (2018), section 5.
    """

    single_backward = True

    def __init__(self, num_samples: int = 50, beta: float = 0.05, learn_beta: bool = False, **kwargs):
        super().__init__(num_samples, **kwargs)
        if not 0.0 <= finite_number("beta", beta) <= 1.0:
            raise InputError(f"beta must be in [0, 1], got {beta}: 0 is the bound of iwae, 1 that of elbo")
        if not isinstance(learn_beta, bool):
            raise InputError(f"learn_beta must be True or False, got {learn_beta!r}")
        if learn_beta and beta in (0.0, 1.0):
            raise InputError(f"a beta that is learned must start between 0 and 1, got {beta}: there it would stay")
        self.beta = float(beta)
        self.state = _LearnedShare(self.beta) if learn_beta else None

    def current_beta(self) -> tf.Tensor:
        """beta as it is now, scalar."""
        return tf.constant(self.beta) if self.state is None else self.state.share()

    def bound(self, log_w):
        beta = tf.cast(self.current_beta(), log_w.dtype)
        return beta * tf.reduce_mean(log_w, axis=0) + (1.0 - beta) * log_mean_exp(log_w, axis=0)

    def gradient_weights(self, log_w):
        beta = tf.cast(self.current_beta(), log_w.dtype)
        equal = 1.0 / tf.cast(tf.shape(log_w)[0], log_w.dtype)
        weights = beta * equal + (1.0 - beta) * normalized_weights(log_w)
        return GradientWeights(generative=weights, path=weights, score=-weights)

    def get_config(self):
        return {**super().get_config(), "beta": self.beta, "learn_beta": self.state is not None}


class _LearnedShare(keras.layers.Layer):
    """A number between 0 and 1: sigmoid of a trainable scalar."""

    def __init__(self, start: float):
        super().__init__(name="beta", dtype="float32")
        logit = math.log(start / (1.0 - start))
        self.logit = self.add_weight(shape=(), initializer=keras.initializers.Constant(logit), name="logit")
        self.built = True

    def share(self) -> tf.Tensor:
        return tf.sigmoid(tf.convert_to_tensor(self.logit))
