"""Networks, a prior and a likelihood as a user writes them."""

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from iwae_tf import seeds
from iwae_tf.layers import ConvDecoder, ConvEncoder, Likelihood

HEIGHT, WIDTH, CHANNELS = 2, 3, 2  # 12 values, tests' SMALL_DIM


@keras.saving.register_keras_serializable("tests")
class LearnedGaussian(keras.layers.Layer):
    """N(m, diag(s^2)) with learned m and log s."""

    description = "N(m, s^2), learned"

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.loc = self.add_weight(shape=(units,), initializer="zeros", name="loc")
        self.log_scale = self.add_weight(shape=(units,), initializer="zeros", name="log_scale")

    def get_config(self):
        return {**super().get_config(), "units": self.units}

    def log_prob(self, h):
        z = (h - self.loc) * tf.exp(-self.log_scale)
        return tf.reduce_sum(-0.5 * z**2 - self.log_scale - 0.5 * np.log(2.0 * np.pi), axis=-1)

    def sample(self, n, key):
        return self.loc + tf.exp(self.log_scale) * seeds.normal([n, self.units], key)


class Joint(Likelihood):
    """A Gaussian that TFP has as one vector: log p(x) is no sum over the values that it knows of."""

    real = True

    def __init__(self, units, initializer_seeds, mean=None, **kwargs):
        super().__init__(**kwargs)
        self.loc = self.dense(units, initializer_seeds)

    def call(self, features):
        return self.loc(features)

    def distribution(self, loc):
        return tfd.MultivariateNormalDiag(loc, tf.ones_like(loc))


def networks(kind: str) -> dict:
    """Keyword arguments of an IWAE with 12 values and 5 units nearest x, made anew."""
    keras.utils.set_random_seed(0)  # a user's layers have initialisers of their own
    layers = keras.layers
    if kind == "conv":
        shape = (HEIGHT, WIDTH, CHANNELS)
        return {"encoder": ConvEncoder(shape, (4, 6)), "decoder": ConvDecoder(shape, (4, 6))}
    if kind == "dense":
        return {
            "encoder": keras.Sequential([layers.Dense(9, "relu"), layers.LayerNormalization()]),
            "decoder": keras.Sequential([layers.Dense(10, "elu")]),
        }
    x = keras.Input((12,))
    image = layers.Reshape((HEIGHT, WIDTH, CHANNELS))(x)
    joined = layers.Concatenate()([image, layers.Conv2D(3, 2, padding="same", activation="tanh")(image)])
    h = keras.Input((5,))
    small = layers.Reshape((HEIGHT, 1, 4))(layers.Dense(4 * HEIGHT, "tanh")(h))
    pixels = layers.Conv2DTranspose(7, (1, 3), padding="valid", activation="tanh")(small)
    return {"encoder": keras.Model(x, joined), "decoder": keras.Model(h, pixels), "prior": LearnedGaussian(5)}


KINDS = ("conv", "dense", "functional")
