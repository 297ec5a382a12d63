"""What an objective is: a bound, and three rows of gradient weights."""

import abc
from typing import NamedTuple

import keras
import tensorflow as tf

from iwae_tf.errors import positive_integer


class GradientWeights(NamedTuple):
    """Weights of the samples in the gradient of the bound; constants, never differentiated.

        d bound / d theta =  sum_i generative[i] d log p(x, h_i) / d theta
        d bound / d phi   =  sum_i path[i]       (d log w_i / d h_i) (d h_i / d phi)
                           + sum_i score[i]      d log q(h_i | x) / d phi  with h_i held fixed

    Attributes:
        generative: [k, B].
        path: [k, B].
        score: [k, B], or None for a row of zeros, which then costs nothing.
    """

    generative: tf.Tensor
    path: tf.Tensor
    score: tf.Tensor | None


class Objective(abc.ABC):
    """A lower bound on log p(x) with an estimator of its gradient.

    A new objective gives `bound` and `gradient_weights` as functions of the log importance weights, and is entered
    in `registry.OBJECTIVES`.

    Args:
        num_samples: k, the number of importance samples for each x, >= 1.
    """

    # True if generative = path = -score for every log_w, so that one plain backward pass gives the gradient.
    single_backward = False

    def __init__(self, num_samples: int = 1):
        self.num_samples = positive_integer("num_samples", num_samples)

    @abc.abstractmethod
    def bound(self, log_w: tf.Tensor) -> tf.Tensor:
        """The bound for every example, in nats: log importance weights [k, B] -> [B]."""

    @abc.abstractmethod
    def gradient_weights(self, log_w: tf.Tensor) -> GradientWeights:
        """The three rows of weights: log importance weights [k, B] -> rows of [k, B]."""

    def log_weights(self, model, x: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """The log importance weights that `bound` reads: x [B, D], noise [k, B, H] -> [k, B]."""
        return model.log_weights_from_noise(x, noise)

    def check_model(self, latent_units: tuple[int, ...]) -> None:  # noqa: B027 (most objectives fit every model)
        """Raises `InputError` if the objective does not exist for a model with these stochastic layers."""

    def get_config(self) -> dict:
        """Constructor arguments, for Keras serialisation."""
        return {"num_samples": self.num_samples}

    @classmethod
    def from_config(cls, config: dict) -> "Objective":
        """The inverse of `get_config`."""
        return cls(**config)


def serializable(cls: type) -> type:
    """Class decorator: lets `model.save` and `keras.saving.load_model` keep the objective."""
    return keras.saving.register_keras_serializable("iwae_tf")(cls)
