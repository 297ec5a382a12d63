"""q(h | x): the chain x -> h[0] -> h[1] -> ... of independent units given the layer before."""

import keras
import tensorflow as tf

from iwae_tf.layers.conditional import Conditional
from iwae_tf.layers.folded import Folded
from iwae_tf.layers.mlp import MLP
from iwae_tf.layers.registry import latent_class


class InferenceNetwork(keras.layers.Layer):
    """q(h | x) = q(h[0] | x) q(h[1] | h[0]) ...; x is encoded once, whatever the number of samples.

    Args:
        data_dim: D.
        latent_units: H_l of each stochastic layer, nearest x first.
        hidden_units: widths of the tanh layers below each stochastic layer.
        latent: name of the distribution of the units, a key of `iwae_tf.layers.registry.LATENTS`.
        initializer_seeds: iterator of initialiser seeds.
        encoder: layer from x to the features below q(h[0] | x), in the place of the tanh layers; or None.
    """

    def __init__(self, data_dim, latent_units, hidden_units, latent, initializer_seeds, encoder=None, **kwargs):
        super().__init__(**kwargs)
        self.latent_units = tuple(latent_units)
        self.stages = []
        condition_dim = data_dim
        for number, (units, hidden) in enumerate(zip(latent_units, hidden_units, strict=True), start=1):
            if number == 1 and encoder is not None:
                below = Folded(encoder, "encoder", flatten=True)
            else:
                below = MLP(hidden, initializer_seeds, dtype=self.dtype_policy)
            stage = Conditional(below, latent_class(latent)(units, initializer_seeds), name=f"q_h{number}")
            stage.build((None, condition_dim))
            self.stages.append(stage)
            condition_dim = units
        self.built = True

    def first_parameters(self, x: tf.Tensor):
        """Parameters of q(h[0] | x), [B, H_0] each, the same for all samples of an image."""
        return self.stages[0](x)

    def transform(
        self, x: tf.Tensor, noise: tf.Tensor, first_parameters=None
    ) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """Samples made of noise, and their density: a gradient passes through Gaussian ones, through binary ones none.

        Args:
            x: [B, D].
            noise: standard normal [k, B, sum of H_l].
            first_parameters: of the first layer, if they are known.

        Returns:
            h, a tuple of [k, B, H_l], and log q(h | x), [k, B], in nats.
        """
        h, log_q, condition = [], 0.0, None
        first = self.first_parameters(x) if first_parameters is None else first_parameters
        for stage, layer_noise in zip(self.stages, tf.split(noise, self.latent_units, axis=-1), strict=True):
            parameters = first if condition is None else stage(condition)  # [B, H_0], then [k, B, H_l]
            condition, layer_log_q = stage.head.sample_and_log_prob(parameters, layer_noise)
            log_q = log_q + layer_log_q  # [k, B]
            h.append(condition)
        return tuple(h), log_q

    def log_prob(self, x: tf.Tensor, h: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """log q(h | x) at given h: x [B, D], h a tuple of [k, B, H_l] -> [k, B]."""
        conditions = (x, *h[:-1])
        return tf.add_n([s.head.log_prob(s(c), value) for s, c, value in zip(self.stages, conditions, h, strict=True)])

    def distribution(self, x: tf.Tensor):
        """q(h | x) as a TFP joint distribution: x [B, D]; samples are tuples of [k, B, H_l]."""
        from tensorflow_probability import distributions as tfd  # 1 to 2 s; training does not need it

        first, *others = self.stages
        root = first.head.distribution(first(x))

        def chain():
            condition = yield tfd.JointDistributionCoroutine.Root(root)
            for stage in others:
                condition = yield stage.head.distribution(stage(condition))

        return tfd.JointDistributionCoroutine(chain)

    def parameters_along_mean(self, x: tf.Tensor) -> tuple:
        """Parameters of each layer given the mean of the layer below, as named tuples: x [B, D] -> [B, H_l] each."""
        described, condition = [], x
        for stage in self.stages:
            parameters = stage(condition)
            described.append(stage.head.described(parameters))
            condition = stage.head.mean(parameters)
        return tuple(described)
