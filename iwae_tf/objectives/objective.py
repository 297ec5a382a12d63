"""The base class of objectives: a bound, and three rows of gradient weights."""

import abc
import functools
import inspect

import keras
import tensorflow as tf

from iwae_tf.errors import InputError, checked_samples, positive_integer
from iwae_tf.memory import check_fits

MOST_PROBED = 100_000  # samples of zeros


class GradientWeights:
    """Weights of the samples in the gradient of the bound; constants, never differentiated.

        d bound / d theta =  sum_i generative[i] d log p(x, h_i) / d theta
        d bound / d phi   =  sum_i path[i]       (d log w_i / d h_i) (d h_i / d phi)
                           + sum_i score[i]      d log q(h_i | x) / d phi  with h_i held fixed

    `GradientWeights(generative, path, score)` takes any three rows. Two relations between rows make the gradient
    cheaper, and each has a constructor of its own, so that a relation that is used always holds: `of_bound` and
    `scaled_path`.

    Attributes:
        generative: [k, B].
        path: [k, B], or None for a row of zeros, which costs nothing.
        score: [k, B], or None for a row of zeros.
        is_bound_derivative: True if generative = path = -score, so that one backward pass gives both gradients.
        path_factor: path / generative, [k, B], if the rows were made by `scaled_path`; else None.
    """

    def __init__(self, generative: tf.Tensor, path: tf.Tensor | None, score: tf.Tensor | None):
        self.generative, self.path, self.score = generative, path, score
        self.is_bound_derivative = False
        self.path_factor = None

    @classmethod
    def of_bound(cls, weights: tf.Tensor) -> "GradientWeights":
        """Returns the rows of a bound's own derivative: `weights` = d bound / d log_w, [k, B]."""
        rows = cls(weights, weights, -weights)
        rows.is_bound_derivative = True
        return rows

    @classmethod
    def scaled_path(cls, generative: tf.Tensor, factor: tf.Tensor, score: tf.Tensor | None = None) -> "GradientWeights":
        """Returns rows with path = factor * generative: one pass through p(x, h) serves both rows. [k, B] each."""
        rows = cls(generative, factor * generative, score)
        rows.path_factor = factor
        return rows

    def map(self, function, select=None) -> "GradientWeights":
        """Applies a function that is linear in a row, e.g. a scale for each sample, to every row.

        Args:
            function: [k, B] -> [m, B].
            select: applied to `path_factor` instead, [k, B] -> [m, B]; None leaves it as it is.
        """
        mapped = GradientWeights(*(None if row is None else function(row) for row in self.rows))
        mapped.is_bound_derivative = self.is_bound_derivative
        mapped.path_factor = (
            self.path_factor if select is None or self.path_factor is None else select(self.path_factor)
        )
        return mapped

    @property
    def rows(self) -> tuple[tf.Tensor | None, ...]:
        """generative, path and score."""
        return self.generative, self.path, self.score


class Objective(abc.ABC):
    """A bound on log p(x) with an estimator of its gradient.

    A subclass defines `bound` and `gradient_weights` as functions of the log importance weights. It registers itself
    with Keras, so that `model.save` and `keras.saving.load_model` keep it; decorated by
    `iwae_tf.declarations.declare("objective", name, help)` it is also known by name to the command line.

    Args:
        num_samples: k, the number of importance samples for each x, >= 1.
        backward_samples: m, how many of the k samples go through the backward pass, drawn in proportion to their
            weights so that the mean gradient stays the same; None for all (`iwae_tf.models.gradients`).
    """

    # True if the inference network learns from draws of the generative network in place of the score row.
    sleep_phase = False
    # True if the prior has to be N(0, I).
    needs_standard_prior = False
    # Why one sample is not enough, for the error message; empty if it is.
    needs_several_samples = ""
    # A Keras layer that holds the objective's own trainable weights, or None.
    state: keras.layers.Layer | None = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(cls.__module__.split(".")[0])(cls)

    def __init__(self, num_samples: int = 1, backward_samples: int | None = None):
        self.num_samples = checked_samples(num_samples)
        if self.needs_several_samples and num_samples < 2:
            raise InputError(
                f"{self.name} needs at least 2 samples, got {num_samples}: {self.needs_several_samples}; raise --k "
                "(num_samples)"
            )
        self.backward_samples = backward_samples
        if backward_samples is not None and positive_integer("backward_samples", backward_samples) > num_samples:
            raise InputError(
                f"backward_samples must be at most the number of samples, {num_samples}, got {backward_samples}"
            )

    @property
    def name(self) -> str:
        """The declared name, or the class's name if it is not declared."""
        declaration = vars(type(self)).get("declaration")
        return declaration.name if declaration else type(self).__name__

    @property
    def numbers(self) -> int:
        """Numbers that `gradient_weights` holds for an example."""
        return self.num_samples

    @abc.abstractmethod
    def bound(self, log_w: tf.Tensor) -> tf.Tensor:
        """Returns the bound for every example, in nats: log importance weights [k, B] -> [B]."""

    @abc.abstractmethod
    def gradient_weights(self, log_w: tf.Tensor) -> GradientWeights:
        """Returns the three rows of weights: log importance weights [k, B] -> rows of [k, B]."""

    @functools.cached_property
    def _row_structure(self) -> tuple[bool, bool]:
        """`needs_path` and `is_bound_derivative`, from the rows of equal weights: they do not depend on log_w.

        Raises:
            InputError: `gradient_weights` or `bound` return something else than [k, B] and [B].
        """
        shape, found = (self.num_samples, 1 if self.num_samples > 1 else 2), []

        def probe(log_w):
            found.extend((self.gradient_weights(log_w), self.bound(log_w)))

        if self.num_samples <= MOST_PROBED:
            probe(tf.zeros(shape))  # eagerly, as `run_eagerly` promises
        else:
            tf.function(probe, autograph=False).get_concrete_function(tf.TensorSpec(shape))  # takes no memory
        rows, bound = found
        if not isinstance(rows, GradientWeights):
            raise InputError(f"gradient_weights of {self.name} must return GradientWeights, got {type(rows).__name__}")
        for name, row in zip(("generative", "path", "score"), rows.rows, strict=True):
            if row is not None and tuple(row.shape) != shape:
                raise InputError(
                    f"gradient_weights of {self.name} must give rows of the shape of log_w, {shape}, got {name} of "
                    f"shape {tuple(row.shape)}"
                )
        if tuple(bound.shape) != shape[1:]:
            raise InputError(
                f"bound of {self.name} must reduce the samples, axis 0: {shape} to {shape[1:]}, got "
                f"{tuple(bound.shape)}"
            )
        return rows.path is not None, rows.is_bound_derivative

    @property
    def needs_path(self) -> bool:
        """True if gradients pass through the samples; otherwise the samples may be discrete."""
        return self._row_structure[0]

    @property
    def is_bound_derivative(self) -> bool:
        """True if one backward pass gives both gradients (`GradientWeights.of_bound`)."""
        return self._row_structure[1]

    def log_weights(self, model, x: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Returns the log importance weights that `bound` reads: x [B, D], noise [k, B, H] -> [k, B].

        A subclass may replace them where its rows are those of the bound (`GradientWeights.of_bound`).
        """
        return model.log_weights_from_noise(x, noise)

    def log_weights_and_target(self, model, x: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `log_weights` and the terms whose weighted sum a single backward pass differentiates; both [k, B]."""
        log_w = self.log_weights(model, x, noise)
        return log_w, log_w

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Returns callbacks that `fit` adds to the user's."""
        return []

    def reset(self) -> None:  # noqa: B027 (most objectives have nothing to reset)
        """Undoes what callbacks may have changed; called before and after `fit`."""

    def check_model(self, latent_units: tuple[int, ...], reparameterised: bool) -> None:
        """Raises `InputError` if the objective does not exist for a model with these stochastic layers.

        Args:
            latent_units: H_l of each stochastic layer.
            reparameterised: True if gradients pass through the samples of the latent units.
        """
        check_fits({f"the log-weights of {self.name}": self.numbers}, "lower k (--k, num_samples) or its settings")
        if self.needs_path and not reparameterised:
            raise InputError(
                f"{self.name} needs samples that a gradient can pass through, and binary units have none: "
                "use vimco, tvo, rws or rws-sleep"
            )
        own = [
            name
            for name in ("log_weights", "log_weights_and_target")
            if getattr(type(self), name) is not getattr(Objective, name)
        ]
        if own and not self.is_bound_derivative:  # their three rows are of the model's own log-weights
            raise InputError(
                f"{self.name} replaces {own[0]}, which training reads only where gradient_weights returns "
                "GradientWeights.of_bound: derive it from such an objective, e.g. IWAEBound"
            )

    def get_config(self) -> dict:
        """Returns the constructor arguments, for Keras serialisation: the attributes of their names.

        Raises:
            InputError: an argument is no attribute; a subclass that keeps it otherwise overrides this method.
        """
        names = _arguments(type(self))
        missing = [name for name in names if not hasattr(self, name)]
        if missing and type(self).get_config is Objective.get_config:
            raise InputError(
                f"{self.name} cannot be saved: keep its argument {missing[0]} as an attribute, or define get_config"
            )
        return {name: getattr(self, name) for name in names if name not in missing}

    @classmethod
    def from_config(cls, config: dict) -> "Objective":
        """Builds the objective from the result of `get_config`."""
        return cls(**config)


def _arguments(cls: type) -> list[str]:
    """Returns the names of the constructor's arguments, and of its bases' where it passes on others."""
    names: list[str] = []
    for each in cls.__mro__:
        if "__init__" in vars(each):
            parameters = list(inspect.signature(each.__init__).parameters.values())[1:]
            passed_on = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
            names += [p.name for p in parameters if p.kind not in passed_on]
            if not passed_on & {p.kind for p in parameters}:
                break
    return list(dict.fromkeys(names))
