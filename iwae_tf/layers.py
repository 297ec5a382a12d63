"""Building blocks of an `iwae_tf.IWAE`: convolutional networks for images of any size, the base of likelihoods."""

from collections.abc import Sequence

import keras
import numpy as np

from iwae_tf.distributions.columns import ColumnModel
from iwae_tf.distributions.head import Likelihood
from iwae_tf.errors import InputError, check_seed, positive_integer
from iwae_tf.seeds import Purpose

__all__ = ["ColumnModel", "ConvDecoder", "ConvEncoder", "Likelihood"]

FILTERS = (16, 32)
KERNEL_SIZE = 3


class _Conv(keras.layers.Layer):
    """Base class: shape of an image, channels after each stride, seeds of the initialisers.

    `part` numbers the subclass, so that encoder and decoder have different seeds.
    """

    part = 0

    def __init__(self, image_shape: Sequence[int], filters: Sequence[int] = FILTERS, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        if self.dtype_policy.name not in ("float32", "mixed_bfloat16"):
            raise InputError(
                f"convolutions take the dtype float32 or mixed_bfloat16, got {self.dtype_policy.name}: float16 would "
                "lose small gradients, and weights are float32"
            )
        self.image_shape = tuple(positive_integer("image_shape", n) for n in image_shape)
        filters = filters if isinstance(filters, Sequence) else (filters,)
        self.filters = tuple(positive_integer("filters", n) for n in filters)
        if len(self.image_shape) != 3 or not self.filters:
            raise InputError(f"image_shape is (height, width, channels) and filters at least one, got {image_shape}")
        self.seed = check_seed(seed)
        self.sizes = [self.image_shape[:2]]  # of the image, and after each convolution of stride 2
        for _ in self.filters:
            self.sizes.append(tuple(-(-n // 2) for n in self.sizes[-1]))

    def _initializers(self):
        """Yields Glorot uniform initialisers, each with a seed that nothing else in a model has."""
        sequence = np.random.SeedSequence([self.seed, int(Purpose.WEIGHTS), self.part])
        while True:
            yield keras.initializers.GlorotUniform(int(sequence.spawn(1)[0].generate_state(1)[0] >> 1))

    def get_config(self):
        own = {"image_shape": self.image_shape, "filters": self.filters, "seed": self.seed}
        return {**super().get_config(), **own}

    def _strided(self, kind: type, filters: int, initializer) -> keras.layers.Layer:
        settings = {"strides": 2, "padding": "same", "activation": "elu", "dtype": self.dtype_policy}
        settings["data_format"] = "channels_last"  # whatever keras.json says
        return kind(filters, KERNEL_SIZE, kernel_initializer=initializer, **settings)


@keras.saving.register_keras_serializable("iwae_tf")
class ConvEncoder(_Conv):
    """Images to features: [N, D] -> [N, F], by convolutions of size 3 and stride 2 with ELU.

    Args:
        image_shape: (height, width, channels) of an image; its values come flat, D = height * width * channels.
        filters: channels after each convolution, largest image first.
        seed: of the initial weights.
        **kwargs: `name` and `dtype`, "float32" or "mixed_bfloat16".

    Raises:
        InputError: (a `ValueError`) for a shape or a number out of range, or another dtype.
    """

    part = 1

    def build(self, input_shape):
        initializers = self._initializers()
        self.convolutions, channels = [], self.image_shape[2]
        for size, filters in zip(self.sizes[:-1], self.filters, strict=True):
            self.convolutions.append(self._strided(keras.layers.Conv2D, filters, next(initializers)))
            self.convolutions[-1].build((None, *size, channels))
            channels = filters
        self.built = True

    def call(self, x):
        """Flat images [N, D] -> features [N, F]."""
        features = keras.ops.reshape(x, (-1, *self.image_shape))
        for convolution in self.convolutions:
            features = convolution(features)
        return keras.ops.reshape(features, (-1, self.filters[-1] * self.sizes[-1][0] * self.sizes[-1][1]))


@keras.saving.register_keras_serializable("iwae_tf")
class ConvDecoder(_Conv):
    """Latents to features of every pixel: [N, H] -> [N, height, width, filters[0]].

    A dense layer makes the smallest image; transposed convolutions of size 3 and stride 2, with ELU, double it, each
    cropped to the size in the encoder. Arguments are those of `ConvEncoder`.
    """

    part = 2

    def build(self, input_shape):
        initializers = self._initializers()
        smallest, channels = self.sizes[-1], self.filters[-1]
        self.dense = keras.layers.Dense(
            smallest[0] * smallest[1] * channels,
            activation="elu",
            kernel_initializer=next(initializers),
            dtype=self.dtype_policy,
        )
        self.dense.build(input_shape)
        self.transposed = []
        for size, filters in zip(self.sizes[:0:-1], [*self.filters[-2::-1], self.filters[0]], strict=True):
            self.transposed.append(self._strided(keras.layers.Conv2DTranspose, filters, next(initializers)))
            self.transposed[-1].build((None, *size, channels))
            channels = filters
        self.built = True

    def call(self, h):
        """[N, H] -> [N, height, width, filters[0]]."""
        features = keras.ops.reshape(self.dense(h), (-1, *self.sizes[-1], self.filters[-1]))
        for layer, (height, width) in zip(self.transposed, self.sizes[-2::-1], strict=True):
            features = layer(features)[:, :height, :width]
        return features
