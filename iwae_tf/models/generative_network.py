"""p(x, h): the prior of the top layer, the conditionals down to h[0], and the likelihood p(x | h[0])."""

from collections.abc import Callable

import keras
import tensorflow as tf

from iwae_tf.layers.conditional import Conditional
from iwae_tf.layers.folded import Folded
from iwae_tf.layers.making import checked_prior, make_likelihood
from iwae_tf.layers.mlp import MLP
from iwae_tf.layers.registry import latent_class, prior_class
from iwae_tf.layers.shared_terms import NO_TERMS


class GenerativeNetwork(keras.layers.Layer):
    """p(x, h) = p(h[L-1]) ... p(h[0] | h[1]) p(x | h[0]), the mirror image of the inference network.

    Args:
        data_dim: D.
        latent_units: H_l of each stochastic layer, nearest x first.
        hidden_units: widths of the tanh layers of the inference network below each stochastic layer; used in
            reverse here.
        latent: name of the distribution of the units, a key of `iwae_tf.layers.registry.LATENTS`.
        likelihood: name of the observation model.
        data_mean: mean of the training images [D] for the output bias, or None.
        levels: number of values that an observation can have, for likelihoods over levels; else None.
        initializer_seeds: iterator of initialiser seeds.
        decoder: layer from h[0] to the features below p(x | h[0]), in the place of the tanh layers; or None.
        prior: of the top layer, or None for that of `latent`.
    """

    def __init__(
        self,
        data_dim,
        latent_units,
        hidden_units,
        latent,
        likelihood,
        data_mean,
        levels,
        initializer_seeds,
        decoder=None,
        prior=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.latent_units = tuple(latent_units)
        self.stages = []  # stages[l] is p(h[l-1] | h[l]); stages[0] is the likelihood
        for number, units in enumerate(latent_units):
            if number == 0 and decoder is not None:
                below = Folded(decoder, "decoder")
            else:
                below = MLP(tuple(reversed(hidden_units[number])), initializer_seeds, dtype=self.dtype_policy)
            if number == 0:
                head = make_likelihood(likelihood, data_dim, initializer_seeds, data_mean, levels)
            else:
                head = latent_class(latent)(latent_units[number - 1], initializer_seeds)
            stage = Conditional(below, head, name=f"p_h{number}" if number else "p_x")
            stage.build((None, units))
            self.stages.append(stage)
        top = self.latent_units[-1]
        self.prior = prior_class(latent)(top) if prior is None else checked_prior(prior, top)
        self.built = True

    @property
    def likelihood_stage(self) -> Conditional:
        """p(x | h[0])."""
        return self.stages[0]

    def log_prior(self, h: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """log p(h), all layers: tuple of [..., H_l] -> [...]."""
        log_p = self.prior.log_prob(h[-1])
        for stage, value, condition in zip(self.stages[1:], h[:-1], h[1:], strict=True):
            log_p = log_p + stage.head.log_prob(stage(condition), value)
        return log_p

    def log_likelihood(self, x: tf.Tensor, h: tuple[tf.Tensor, ...], shared=NO_TERMS) -> tf.Tensor:
        """log p(x | h): x [B, D], h a tuple of [k, B, H_l] -> [k, B]; `shared` is of the likelihood stage."""
        return self.likelihood_stage.log_prob(h[0], x, shared)

    def log_prob(self, x: tf.Tensor, h: tuple[tf.Tensor, ...], shared=NO_TERMS) -> tf.Tensor:
        """log p(x, h): x [B, D], h a tuple of [k, B, H_l] -> [k, B]; `shared` is of the likelihood stage."""
        return self.log_likelihood(x, h, shared) + self.log_prior(h)

    def sample_latents(self, n: int, key_of: Callable[[int], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """n draws of p(h), a tuple of [n, H_l].

        Args:
            n: how many.
            key_of: number of a layer, l + 1 for h[l], to the key of its random numbers.
        """
        h = [self.prior.sample(n, key_of(len(self.stages)))]
        for number in range(len(self.stages) - 1, 0, -1):
            stage = self.stages[number]
            h.insert(0, stage.head.sample(stage(h[0]), key_of(number)))
        return tuple(h)

    def sample(self, n: int, key_of: Callable[[int], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """n draws of p(x, h): x and the means of p(x | h) that it is drawn from, [n, D], and h, a tuple of [n, H_l].

        Args:
            n: how many.
            key_of: number of a layer, 0 for x and l + 1 for h[l], to the key of its random numbers.
        """
        h = self.sample_latents(n, key_of)
        head, parameters = self.likelihood_stage.head, self.likelihood_stage(h[0])
        x = tf.cast(head.sample(parameters, key_of(0)), tf.float32)  # a user's may be counts
        return x, head.mean(parameters), h
