"""Bernoulli pixels and binary latent units from logits."""

from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.declarations import declare
from iwae_tf.distributions.head import DistributionHead, Likelihood, checked_share

# Multiply every 16th pixel together so that loads stay vectorised: no vector register of a CPU is wider than 16 floats.
STRIDE = 16
MAX_FACTORS = 64  # a product of up to 64 numbers from [1, 2] keeps all its digits in float32


class BernoulliParameters(NamedTuple):
    """Parameters of independent Bernoulli units: `logits`, [..., H]."""

    logits: tf.Tensor

    @property
    def probability(self) -> tf.Tensor:
        """Probability of each unit being 1, [..., H]."""
        return tf.sigmoid(self.logits)


@declare(
    "latent",
    "bernoulli",
    "binary units: a sigmoid belief network; for rws, rws-sleep, vimco and tvo",
    gaussian=False,
    reparameterised=False,
)
class BernoulliLatent(DistributionHead):
    """Maps features to the logits of independent binary units.

    Args:
        units: H, or D for pixels.
        initializer_seeds: source of the seed of the initialiser.
        mean: mean of the observations, [D], in [0, 1]; the bias starts at logit(clip(mean, 0.001, 0.999)) as in the
            paper's code, and at 0 if None.
    """

    display_fields = ("probability",)  # of `display_parameters`, for people

    def __init__(self, units: int, initializer_seeds: Iterator[int], mean=None, **kwargs):
        super().__init__(**kwargs)
        bias = None
        if mean is not None:
            mean = np.clip(checked_share(mean), 0.001, 0.999)
            bias = np.log(mean / (1.0 - mean))
        self.logits = self.dense(units, initializer_seeds, bias)

    def call(self, features) -> tf.Tensor:
        """[..., F] -> logits [..., D]."""
        return self.logits(features)

    def distribution(self, logits: tf.Tensor):
        from tensorflow_probability import distributions as tfd  # takes 1 to 2 s; training does not need it

        return tfd.Independent(tfd.Bernoulli(logits=logits, dtype=tf.float32), reinterpreted_batch_ndims=1)

    @staticmethod
    def log_prob(logits: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """Returns log p(value), summed over pixels, finite for every finite logit: [..., D] -> [...].

        Values between 0 and 1 give value * log p(1) + (1 - value) * log p(0), the expectation over a binarised pixel.
        TFP's takes about twice as long, 1.2 of a training step.
        """
        return tf.reduce_sum(value * logits - tf.nn.softplus(logits), axis=-1)

    @classmethod
    def sample_and_log_prob(cls, logits: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns units made of standard normal noise, and their log q in nats, summed over units.

            h = 1 where noise < Phi^-1(sigmoid(logits)),  so that P(h = 1) = sigmoid(logits)

        For logits above 0 the threshold is -Phi^-1(sigmoid(-logits)), the same in exact arithmetic: in float32
        sigmoid(17) is 1, sigmoid(-17) is not, and Phi^-1 is exact to 1e-6 where its argument is small. The noise
        itself ends at 5.6 in float32, so that probabilities below 1e-8 are drawn as 0. No gradient passes to the
        units. Logits that differ by rounding give another unit about once in a million draws.

        Args:
            logits: [..., H].
            noise: standard normal, [..., H]; it may have more leading axes.

        Returns:
            h, 0 and 1, float32 with the shape of the noise, and log q(h), the same without the last axis.
        """
        threshold = tf.math.ndtri(tf.sigmoid(-tf.abs(logits)))  # of the rarer value, <= 0
        value = tf.cast(noise < tf.where(logits > 0.0, -threshold, threshold), tf.float32)
        return value, cls.log_prob(logits, value)

    @staticmethod
    def sample(logits: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Returns one 0/1 draw for every pixel, float32 [..., D], from the generator of `iwae_tf.seeds`."""
        return tf.cast(seeds.uniform(tf.shape(logits), key) < tf.sigmoid(logits), tf.float32)

    @staticmethod
    def mean(logits: tf.Tensor) -> tf.Tensor:
        """Returns the probability of a pixel being 1, [..., D], without importing TFP."""
        return tf.sigmoid(logits)

    @staticmethod
    def display_parameters(logits: tf.Tensor) -> BernoulliParameters:
        """Returns the parameters as `IWAE.encode` does."""
        return BernoulliParameters(logits)

    @staticmethod
    def default_prior(units: int) -> "BernoulliPrior":
        """Returns the prior of the top layer."""
        return BernoulliPrior(units)


class BernoulliPrior(keras.layers.Layer):
    """p(h) = prod_j sigmoid(b_j)^h_j (1 - sigmoid(b_j))^(1 - h_j) for h in {0, 1}^H, with learned b, initially 0.

    Args:
        units: H, the number of units.
    """

    description = "independent Bernoulli, learned logits that start at 0"

    def __init__(self, units: int):
        super().__init__(name="prior", dtype="float32")
        self.logits = self.add_weight(shape=(units,), initializer="zeros", name="logits")
        self.built = True

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Returns log p(value) in nats, summed over units: [..., H] -> [...]."""
        return BernoulliLatent.log_prob(tf.convert_to_tensor(self.logits), value)

    def sample(self, n: int, key: tf.Tensor) -> tf.Tensor:
        """Returns n draws of 0 and 1, float32 [n, H]."""
        logits = tf.convert_to_tensor(self.logits)
        return BernoulliLatent.sample(tf.broadcast_to(logits, [n, logits.shape[0]]), key)

    def mean(self) -> tf.Tensor:
        """Returns the probability of each unit being 1, float32 [H]."""
        return BernoulliLatent.mean(tf.convert_to_tensor(self.logits))


@declare("likelihood", "bernoulli", "binary pixels, drawn from intensities", binarised=True)
class Bernoulli(BernoulliLatent, Likelihood):
    """Maps features to independent Bernoulli pixels."""

    support = "values in [0, 1]"
    bias_start = "logit of the training mean clipped to [0.001, 0.999]"

    def log_prob_of_features(self, features: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """Returns log p(value | features): features [k, B, F], value [B, D] -> [k, B], by `bernoulli_log_prob`."""
        same_rows = features.shape.rank == 3 and features.shape[1:2].is_compatible_with(value.shape[:-1])
        if self.logits.num_axes or self.logits.units % STRIDE or not same_rows:
            return self.log_prob(self(features), value)
        if features.dtype != tf.bfloat16:  # float16 lacks the range for the gradient
            features = tf.cast(features, tf.float32)
        kernel, bias = (tf.convert_to_tensor(weight) for weight in (self.logits.kernel, self.logits.bias))
        return bernoulli_log_prob(features, kernel, bias, value)

    @staticmethod
    def in_support(value: tf.Tensor) -> tf.Tensor:
        """Returns True if every value is in [0, 1] (NaN is not); a scalar."""
        return tf.reduce_all((value >= 0.0) & (value <= 1.0))


@tf.custom_gradient
def bernoulli_log_prob(features: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, value: tf.Tensor):
    """Returns the log-likelihood of pixels with logits l = features W + b, and its gradient.

        log p(x) = sum_d x_d l_d - max(l_d, 0) + log sigmoid(|l_d|)
        sum_d x_d l_d = features . (W x) + b . x            one small product for each image, not one for each sample
        sum_d log sigmoid(|l_d|) = sum over groups of log prod over a group of (1 + |t_d|) / 2,  t = tanh(l / 2)
        d log p / d l = x - sigmoid(l) = (2 x - 1 - t) / 2

    The same value as sum_d x_d l_d - log(1 + e^l_d), up to rounding. With 784 logits for every sample of an MNIST image
    the cost is in reading and writing them and in their logarithms and exponentials: this form has one tanh, which the
    gradient reuses, and one logarithm for up to 64 pixels. On two CPU cores a training step with k = 50 takes 0.83 (20
    images) and 0.81 (100 images) of the time of TensorFlow's softplus.

    With bfloat16 features, b and the three products with W are bfloat16 too, as in the hidden layers, and every term
    uses the rounded l, so that x_d l_d - max(l_d, 0) still vanishes for a well explained pixel. All else is float32. A
    step takes 0.82 (20 images) and 0.78 (100 images) of float32's time.

    Args:
        features: float32 or bfloat16 [k, B, F].
        kernel: W, float32 [F, D], D a multiple of 16.
        bias: b, [D].
        value: x in [0, 1], [B, D].

    Returns:
        [k, B], in nats; finite for finite logits.
    """
    num_units, num_pixels = kernel.shape
    samples_and_images = tf.shape(features)[:-1]
    image_shape = tf.concat([samples_and_images, [num_pixels]], axis=0)
    rows = tf.reshape(features, [-1, num_units])  # [k B, F]
    kernel_in_dtype, half_bias = tf.cast(kernel, rows.dtype), tf.cast(0.5 * bias, rows.dtype)
    half_logits = tf.cast(tf.nn.bias_add(tf.matmul(0.5 * rows, kernel_in_dtype), half_bias), tf.float32)  # [k B, D]
    tanh = tf.tanh(half_logits)
    factors = next(n for n in range(MAX_FACTORS, 0, -1) if num_pixels // STRIDE % n == 0)
    likelier = tf.reshape(1.0 + tf.abs(tanh), [-1, factors, STRIDE])  # twice the probability of the likelier value
    log_products = tf.math.log(0.5**factors * tf.reduce_prod(likelier, axis=1))
    log_likelier = tf.reduce_sum(tf.reshape(log_products, [-1, num_pixels // factors]), axis=-1)  # [k B]
    above_zero = 2.0 * tf.reduce_sum(tf.nn.relu(half_logits), axis=-1)
    bias_products = 0.0
    if rows.dtype == tf.float32:
        products = tf.reduce_sum(features * tf.matmul(value, kernel, transpose_b=True), axis=-1)
        bias_products = tf.linalg.matvec(value, bias)
    elif value.shape[0] == 1:  # one matrix-vector product: bfloat16 scores take 0.9 of the time
        products = 2.0 * tf.reshape(tf.linalg.matvec(half_logits, value[0]), samples_and_images)
    else:
        products = 2.0 * tf.reduce_sum(value * tf.reshape(half_logits, image_shape), axis=-1)
    # Differences, since TensorFlow reorders a sum of several terms depending on which shapes it knows.
    log_p = products - (tf.reshape(above_zero - log_likelier, samples_and_images) - bias_products)  # [k, B]

    def gradient(upstream):  # [k, B]
        twice_residuals = 2.0 * value - 1.0 - tf.reshape(tanh, image_shape)  # [k, B, D]
        twice_residuals = tf.cast(tf.reshape(twice_residuals, [-1, num_pixels]), rows.dtype)  # [k B, D]
        half_weights = 0.5 * tf.cast(tf.reshape(upstream, [-1, 1]), rows.dtype)
        to_rows = half_weights * tf.matmul(twice_residuals, kernel_in_dtype, transpose_b=True)
        to_kernel = tf.cast(tf.matmul(half_weights * rows, twice_residuals, transpose_a=True), tf.float32)
        to_bias = tf.cast(tf.matmul(half_weights, twice_residuals, transpose_a=True)[0], tf.float32)
        to_value = tf.reduce_sum(2.0 * upstream[..., None] * tf.reshape(half_logits, image_shape), axis=0)
        return tf.reshape(to_rows, tf.shape(features)), to_kernel, to_bias, to_value

    return log_p, gradient
