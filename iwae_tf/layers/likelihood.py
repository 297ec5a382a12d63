"""What every likelihood p(x | features) is: a Keras layer that makes parameters and knows how to read them."""

from collections.abc import Iterator

import keras
import tensorflow as tf

from iwae_tf.layers.readout import Readout
from iwae_tf.layers.shared_terms import NO_TERMS, SharedTerms


class Likelihood(keras.layers.Layer):
    """Base class of the built-in likelihoods and of a user's own.

    A subclass is made with `(units, initializer_seeds, mean=None)`: D, an iterator of seeds for `dense`, and the mean
    of the training data [D] or None. One with `needs_levels` also gets `levels`. It has `call`, `log_prob`, `mean` and
    `sample`, and `distribution` if it wants one. To be found again by `keras.saving.load_model` it is registered:

        @keras.saving.register_keras_serializable("mine")
        class Poisson(iwae_tf.layers.Likelihood): ...

    Features go through layers made by `dense` alone, which takes them for each row or for each pixel. Parameters are a
    tensor, or a tuple of tensors, with the leading axes of the features. All of it is TensorFlow
    without Python state, in float32, row by row: exported models and tiled evaluation call it too.

    Attributes:
        support: what can be observed, for error messages.
        advice: what to do with data that cannot.
        bias_start: where the output bias starts, for `config.json`.
        needs_levels: True if the layer is made with `levels`, the number of values that an observation can have.
        levels: that number; the log-likelihood is then the log of a probability. None for a density, or for others.
    """

    support = "finite numbers"
    advice = "divide 8-bit grey values by 255"
    bias_start = "set by the likelihood's layer"
    needs_levels = False
    levels: int | None = None

    def __init__(self, **kwargs):
        super().__init__(dtype="float32", **kwargs)  # whatever the policy: see `iwae_tf.models.precision`

    def dense(self, units: int, initializer_seeds: Iterator[int], bias=None) -> Readout:
        """A linear layer on the features, to be kept as an attribute.

        Args:
            units: values for each row.
            initializer_seeds: where the initialiser of the kernel, Glorot uniform, takes its seed from.
            bias: what the bias starts at, [units] or a number; 0 if None.
        """
        return Readout(
            units,
            kernel_initializer=keras.initializers.GlorotUniform(next(initializer_seeds)),
            bias_initializer="zeros" if bias is None else keras.initializers.Constant(bias),
            dtype="float32",
        )

    def build(self, input_shape):
        for layer in vars(self).values():
            if isinstance(layer, keras.layers.Layer):
                layer.build(input_shape)
        self.built = True

    def call(self, features):
        """[..., F], or with features for each pixel [..., height, width, F] -> the parameters, [..., D] or a tuple."""
        raise NotImplementedError

    def log_prob(self, parameters, value: tf.Tensor) -> tf.Tensor:
        """log p(value) in nats, summed over the last axis: parameters [k, B, D], value [B, D] -> [k, B]."""
        raise NotImplementedError

    def mean(self, parameters) -> tf.Tensor:
        """The mean, [..., D]."""
        raise NotImplementedError

    def sample(self, parameters, key: tf.Tensor) -> tf.Tensor:
        """One draw for every row of the parameters, [..., D], a function of `key` (see `iwae_tf.seeds`) alone."""
        raise NotImplementedError

    def distribution(self, parameters):
        """The same as a `tfp.distributions.Distribution` with event shape [D], for `IWAE.likelihood` alone."""
        raise NotImplementedError

    def shared_terms(self, value: tf.Tensor, precision: str) -> SharedTerms:
        """What `log_prob_of_features` can be given: value [B, D], and the precision of the features, say "float32"."""
        return NO_TERMS

    def log_prob_of_features(self, features: tf.Tensor, value: tf.Tensor, shared=NO_TERMS) -> tf.Tensor:
        """log p(value | features): features [k, B, F], value [B, D], its `shared_terms` if they are known -> [k, B]."""
        return self.log_prob(self(features), value)

    @staticmethod
    def in_support(value: tf.Tensor) -> tf.Tensor:
        """True if every value can be observed (NaN cannot); a scalar."""
        return tf.reduce_all(tf.math.is_finite(value))
