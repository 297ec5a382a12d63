"""The base classes of every conditional distribution: features -> parameters -> TFP distribution."""

import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.declarations import declared, find
from iwae_tf.errors import InputError
from iwae_tf.memory import check_fits


class DistributionHead(keras.layers.Layer):
    """Maps features to the parameters of a distribution of D independent values.

    A subclass defines `call`, features -> parameters, and `distribution`, parameters -> TFP distribution; `log_prob`,
    `mean` and `sample` follow from it. Parameters are a tensor, or a tuple of tensors, with the leading axes of the
    features. All of it is TensorFlow without Python state, in float32, row by row, since exported models call it too.

    A subclass overrides a derived method only where TFP's arithmetic costs at least 10% of a training step or of a
    score, or is wrong in the tails; a comment says which.
    """

    def __init__(self, **kwargs):
        super().__init__(dtype="float32", **kwargs)  # whatever the model's policy: see `models/mixed_precision.py`

    def dense(self, units: int, initializer_seeds: Iterator[int], bias=None) -> "OutputDense":
        """Returns a linear layer on the features, to be kept as an attribute.

        Args:
            units: values for each row.
            initializer_seeds: source of the seed of the kernel's initialiser, Glorot uniform.
            bias: initial bias, [units] or a number; 0 if None.
        """
        return OutputDense(
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
        """Features [..., F], or for each pixel [..., height, width, F] -> the parameters, [..., D] or a tuple."""
        raise NotImplementedError(f"{type(self).__name__} must define call(features)")

    def distribution(self, parameters):
        """Returns a `tfp.distributions.Distribution` with event shape [D]."""
        raise NotImplementedError(f"{type(self).__name__} must define distribution(parameters)")

    def log_prob(self, parameters, value: tf.Tensor) -> tf.Tensor:
        """Returns log p(value) in nats, summed over the last axis: parameters [k, B, D], value [B, D] -> [k, B]."""
        return self.distribution(parameters).log_prob(value)

    def mean(self, parameters) -> tf.Tensor:
        """Returns the mean, [..., D]."""
        return self.distribution(parameters).mean()

    def sample(self, parameters, key: tf.Tensor) -> tf.Tensor:
        """Returns one draw for every row of the parameters, [..., D], a function of `key` (`iwae_tf.seeds`) alone."""
        return self.distribution(parameters).sample(seed=seeds.int32_pair(key))

    def log_prob_of_features(self, features: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """Returns log p(value | features): features [k, B, F], value [B, D] -> [k, B]."""
        return self.log_prob(self(features), value)


class Likelihood(DistributionHead):
    """Base class of p(x | h_0), for the package's likelihoods and for a user's.

    A subclass is constructed with `(units, initializer_seeds, mean=None)`: D, an iterator of seeds for `dense`, and the
    mean of the training data [D] or None; one with `needs_levels` also with `levels`. `declare` gives it a name:

        @declare("likelihood", "poisson", "counts")
        class Poisson(iwae_tf.layers.Likelihood):
            def __init__(self, units, initializer_seeds, mean=None, **kwargs):
                super().__init__(**kwargs)
                self.log_rate = self.dense(units, initializer_seeds)

            def call(self, features):
                return self.log_rate(features)

            def distribution(self, log_rate):
                return tfd.Independent(tfd.Poisson(log_rate=log_rate), 1)

    Attributes:
        support: possible observations, for error messages.
        advice: how to prepare other data, for error messages.
        bias_start: initial output bias, for `config.json`.
        binarised: True if x is drawn from intensities in [0, 1] as 0 or 1, in training and in scores.
        real: True if every real number is a possible observation; the columns of a table are then standardised.
        density: True if p(x) is a density in x, of which not every real number is a possible observation.
        needs_levels: True if the layer is constructed with `levels`, the number of values that an observation can have.
        needs_columns: True if it is constructed with `columns` and `missing`.
        levels: that number; the log-likelihood is then the log of a probability. None for a density.
    """

    support = "finite numbers"
    advice = "divide 8-bit grey values by 255"
    bias_start = "set by the likelihood's layer"
    binarised = False
    real = False
    density = False
    needs_levels = False
    needs_columns = False
    levels: int | None = None

    def log_prob_of_each(self, parameters, value: tf.Tensor) -> tf.Tensor:
        """Returns log p of each value in nats: parameters [k, B, D], value [B, D] -> [k, B, D].

        Raises:
            InputError: `distribution` is no `tfd.Independent`, so that log p is no sum over the values.
        """
        return self.independent(parameters).distribution.log_prob(value)

    def independent(self, parameters):
        """Returns `distribution`, a `tfd.Independent`; raises `InputError` if it is none."""
        from tensorflow_probability import distributions as tfd

        found = self.distribution(parameters)
        if not isinstance(found, tfd.Independent):
            raise InputError(
                f"the likelihood {type(self).__name__} is not that of independent values: its distribution must be a "
                f"tfd.Independent for this, got {type(found).__name__}"
            )
        return found

    @staticmethod
    def in_support(value: tf.Tensor) -> tf.Tensor:
        """Returns True if every value is a possible observation (NaN is not); a scalar."""
        return tf.reduce_all(tf.math.is_finite(value))

    def found(self, value: tf.Tensor) -> str:
        """Returns in words what is found in values [N, D] that are not all possible, for error messages."""
        return f"values from {np.min(value)} to {np.max(value)}"


class OutputDense(keras.layers.Layer):
    """Linear layer from features to `units` values; features may come for each position, e.g. each pixel.

        features [..., F]:              features W + b            W [F, units],      b [units]
        features [..., *positions, F]:  flatten(features W) + b   W [F, units / P],  b [units],  P positions

    The second is a convolution of size 1 with a bias for each position and channel. Values are in the order of the
    positions, row by row, then of the channels.

    Args:
        units: values for each row.
        kernel_initializer: of W.
        bias_initializer: of b.
    """

    def __init__(self, units: int, kernel_initializer, bias_initializer, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer

    def build(self, input_shape):
        _, *positions, features = input_shape
        self.num_axes, number = len(positions), math.prod(positions)
        if self.units % number:
            raise InputError(
                f"features for {' x '.join(map(str, positions))} positions cannot make {self.units} values: the "
                "decoder's height x width must be that of the image, or flatten its output"
            )
        kernel = (features, self.units // number)
        check_fits({"an output layer": math.prod(kernel)}, "lower the units or the levels")
        self.kernel = self.add_weight(shape=kernel, initializer=self.kernel_initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer=self.bias_initializer, name="bias")
        self.built = True

    def call(self, features):
        """[..., F] or [..., *positions, F] -> [..., units]."""
        products = keras.ops.matmul(features, self.kernel)
        if self.num_axes:
            leading = len(features.shape) - self.num_axes - 1
            flat = tf.reshape(products, tf.concat([tf.shape(products)[:leading], [self.units]], axis=0))
            products = tf.ensure_shape(flat, [*features.shape[:leading], self.units])
        return keras.ops.add(products, self.bias)


def checked_share(mean) -> np.ndarray:
    """Returns the mean of values in [0, 1] as float64; raises `InputError` for one that is not in [0, 1]."""
    mean = np.asarray(mean, np.float64)
    if mean.size and not (mean.min() >= 0.0 and mean.max() <= 1.0):
        raise InputError(
            f"data_mean must be in [0, 1] as the data are, got {mean.min():g} to {mean.max():g}: divide 8-bit grey "
            "values by 255, or take a likelihood of other values"
        )
    return mean


def likelihood_name(likelihood: str | type) -> str:
    """Returns the name that a likelihood is saved under: its declared name, or the name that Keras registered.

    Raises:
        InputError: a class that is no `Likelihood`, or that could not be found again when a model is loaded.
    """
    if not isinstance(likelihood, type):
        return likelihood
    if not issubclass(likelihood, Likelihood):
        raise InputError(f"a likelihood is a name or a class derived from iwae_tf.layers.Likelihood, got {likelihood}")
    if "declaration" in vars(likelihood):
        return likelihood.declaration.name
    name = keras.saving.get_registered_name(likelihood)
    if keras.saving.get_registered_object(name) is not likelihood:
        raise InputError(
            f"{likelihood.__name__} has to be found again when a model is loaded: decorate it with "
            '@iwae_tf.declarations.declare("likelihood", NAME, HELP) or '
            "@keras.saving.register_keras_serializable(PACKAGE)"
        )
    return name


def likelihood_class(name: str) -> type:
    """Returns the class of a declared likelihood, or of one that Keras registered as PACKAGE>NAME.

    Raises:
        InputError: for an unknown name.
    """
    if name in declared("likelihood") or ">" not in str(name):
        return find("likelihood", name).load()
    registered = keras.saving.get_registered_object(name)
    if registered is None:
        raise InputError(f"nothing is registered as {name!r}: import the module of this likelihood first")
    return registered


def build_likelihood(
    name: str,
    data_dim: int,
    initializer_seeds,
    data_mean,
    levels: int | None,
    columns: Sequence | None = None,
    missing: bool = False,
) -> Likelihood:
    """Builds the layer p(x | features) by its `likelihood_name`.

    Raises:
        InputError: an unknown name, or levels or columns that are missing, out of range, or not for this likelihood.
    """
    layer = likelihood_class(name)
    if layer.needs_columns != (columns is not None):
        wanted = "needs columns, one for each value" if layer.needs_columns else "takes no columns"
        raise InputError(f"the likelihood {name} {wanted}")
    if missing and columns is None:
        raise InputError("missing values are for a likelihood of columns: give columns, or leave missing out")
    if columns is not None:
        if levels is not None or data_mean is not None:
            raise InputError("levels and data_mean are for pixels; columns have theirs in each ColumnModel")
        return layer(data_dim, initializer_seeds, columns=columns, missing=missing)
    if layer.needs_levels:
        if levels is None:
            raise InputError(
                f"the likelihood {name} needs levels (--levels), the number of values that a pixel can have: 256 for "
                "8-bit grey values"
            )
        return layer(data_dim, initializer_seeds, mean=data_mean, levels=levels)
    if levels is not None:
        raise InputError(f"levels (--levels {levels}) are for likelihoods over levels, not for {name}: leave them out")
    return layer(data_dim, initializer_seeds, mean=data_mean)
