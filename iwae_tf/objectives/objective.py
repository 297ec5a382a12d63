"""What an objective is: a bound, and three rows of gradient weights."""

import abc
from typing import NamedTuple

import keras
import tensorflow as tf

from iwae_tf.errors import InputError, positive_integer
from iwae_tf.objectives.registry import name_of


class GradientWeights(NamedTuple):
    """Weights of the samples in the gradient of the bound; constants, never differentiated.

        d bound / d theta =  sum_i generative[i] d log p(x, h_i) / d theta
        d bound / d phi   =  sum_i path[i]       (d log w_i / d h_i) (d h_i / d phi)
                           + sum_i score[i]      d log q(h_i | x) / d phi  with h_i held fixed

    Attributes:
        generative: [k, B].
        path: [k, B], or None for a row of zeros, which then costs nothing.
        score: [k, B], or None for a row of zeros.
        path_factor: path / generative, [k, B], where that is a finite number for every log_w: one pass through the
            generative network then serves both rows. None takes a pass for each.
    """

    generative: tf.Tensor
    path: tf.Tensor | None
    score: tf.Tensor | None
    path_factor: tf.Tensor | None = None


class Objective(abc.ABC):
    """A bound on log p(x) with an estimator of its gradient.

    A new objective gives `bound` and `gradient_weights` as functions of the log importance weights, and is entered
    in `registry.OBJECTIVES`.

    Args:
        num_samples: k, the number of importance samples for each x, >= 1.
        backward_samples: m, how many of the k samples go through the backward pass, drawn in proportion to their
            weights so that the mean gradient stays the same; None for all (`backward_samples.py`).
    """

    # True if generative = path = -score for every log_w, so that one plain backward pass gives the gradient.
    single_backward = False
    # False if `path` is None for every log_w: then the samples may be discrete.
    needs_path = True
    # True if the inference network learns from draws of the generative network in the place of the score row.
    sleep_phase = False
    # Why one sample is not enough, for the error; empty where it is.
    needs_others = ""
    # A Keras layer that holds what the objective itself learns, by its bound.
    state: keras.layers.Layer | None = None

    def __init__(self, num_samples: int = 1, backward_samples: int | None = None):
        self.num_samples = positive_integer("num_samples", num_samples)
        if self.needs_others and num_samples < 2:
            raise InputError(
                f"{name_of(type(self))} needs at least 2 samples, got {num_samples}: {self.needs_others}; raise --k "
                "(num_samples)"
            )
        self.backward_samples = backward_samples
        if backward_samples is not None and positive_integer("backward_samples", backward_samples) > num_samples:
            raise InputError(
                f"backward_samples must be at most the number of samples, {num_samples}, got {backward_samples}"
            )

    @abc.abstractmethod
    def bound(self, log_w: tf.Tensor) -> tf.Tensor:
        """The bound for every example, in nats: log importance weights [k, B] -> [B]."""

    @abc.abstractmethod
    def gradient_weights(self, log_w: tf.Tensor) -> GradientWeights:
        """The three rows of weights: log importance weights [k, B] -> rows of [k, B]."""

    def log_weights(self, model, x: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """The log importance weights that `bound` reads: x [B, D], noise [k, B, H] -> [k, B]."""
        return model.log_weights_from_noise(x, noise)

    def log_weights_and_target(self, model, x: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`log_weights`, and what the single backward pass differentiates in their place; both [k, B]."""
        log_w = self.log_weights(model, x, noise)
        return log_w, log_w

    def begin_fit(self) -> None:  # noqa: B027 (most objectives have nothing to do)
        """Called when `fit` starts: undoes what a `fit` that was stopped has left."""

    def check_model(self, latent_units: tuple[int, ...], latent: str) -> None:
        """Raises `InputError` if the objective does not exist for a model with these stochastic layers.

        Args:
            latent_units: H_l of each stochastic layer.
            latent: name of their distribution, a key of `iwae_tf.layers.registry.LATENTS`.
        """
        if self.needs_path and latent == "bernoulli":
            raise InputError(
                f"{name_of(type(self))} needs samples that a gradient can pass through, and binary units have none: "
                "use vimco, tvo, rws or rws-sleep"
            )

    def get_config(self) -> dict:
        """Constructor arguments, for Keras serialisation."""
        return {"num_samples": self.num_samples, "backward_samples": self.backward_samples}

    @classmethod
    def from_config(cls, config: dict) -> "Objective":
        """The inverse of `get_config`."""
        return cls(**config)


def serializable(cls: type) -> type:
    """Class decorator: lets `model.save` and `keras.saving.load_model` keep the objective."""
    return keras.saving.register_keras_serializable("iwae_tf")(cls)
