"""The importance weighted autoencoder as a Keras model, with any number of stochastic layers."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.config import PAPER_NETWORKS
from iwae_tf.errors import InputError, check_seed, positive_integer
from iwae_tf.layers import conv  # noqa: F401, Keras has to know its classes
from iwae_tf.layers.bernoulli import BernoulliParameters
from iwae_tf.layers.gaussian import GaussianParameters
from iwae_tf.layers.likelihood import Likelihood
from iwae_tf.layers.making import likelihood_name
from iwae_tf.models.generative_network import GenerativeNetwork
from iwae_tf.models.importance_weights import ImportanceWeights
from iwae_tf.models.inference_network import InferenceNetwork
from iwae_tf.models.precision import checked_policy


@keras.saving.register_keras_serializable("iwae_tf")
class IWAE(ImportanceWeights):
    """Importance weighted autoencoder.

    q(h | x) = q(h[0] | x) q(h[1] | h[0]) ... and p(x, h) = p(h[L-1]) ... p(h[0] | h[1]) p(x | h[0]), each conditional
    a tanh network, or a user's, with independent units at its end, p(x | h[0]) the likelihood.

    Args:
        data_dim: D, the number of pixels.
        latent_units: H_l of each stochastic layer, nearest x first.
        hidden_units: widths of the tanh layers below each stochastic layer; the generative network mirrors them.
        likelihood: of x given h[0], a name in `iwae_tf.layers.registry.LIKELIHOODS`, or a class derived from
            `iwae_tf.layers.Likelihood` and registered with Keras.
        data_mean: mean of the training data, [D], from which the bias of the output starts; None starts at 0.
        seed: seed of the initial weights and of all noise in training, an integer in [0, 2**31 - 1].
        latent: units of every stochastic layer, "gaussian" with a standard normal prior, or "bernoulli" (0 or 1) with a
            prior of learned logits: a sigmoid belief network.
        levels: L, the number of values i / (L - 1) that a pixel can have, for the likelihoods over levels; else None.
        encoder: Keras layer from x [N, D] to features below q(h[0] | x), in the place of hidden_units[0]; e.g.
            `iwae_tf.layers.ConvEncoder`. Features with more than one axis are joined.
        decoder: Keras layer from h[0], [N, H], to features below p(x | h[0]): [N, F] for each row, or for each pixel,
            [N, height, width, F] of `iwae_tf.layers.ConvDecoder`. Both keep their own initialisers and dtypes. They
            must have no state: dropout and batch normalisation are refused. Losses of theirs are not added.
        prior: of the top layer, a Keras layer with `log_prob(h)`, [..., H] -> [...], and `sample(n, key)`, [n, H]; None
            for that of `latent`.
        **kwargs: `name`, and `dtype`, "float32", "mixed_bfloat16" or "mixed_float16" (products of 16 bits); Keras'
            global policy if not given.

    Raises:
        InputError: (a `ValueError`) for any of these out of range.

    Reference: Burda, Grosse, Salakhutdinov (2016), sections 3 and 5; Neal (1992), Connectionist learning of belief
    networks, for binary units.
    """

    def __init__(
        self,
        data_dim: int,
        latent_units: Sequence[int] = PAPER_NETWORKS[1].latent_units,
        hidden_units: Sequence[Sequence[int]] = PAPER_NETWORKS[1].hidden_units,
        likelihood: str | type[Likelihood] = "bernoulli",
        data_mean: Sequence[float] | None = None,
        seed: int = 0,
        latent: str = "gaussian",
        levels: int | None = None,
        encoder: keras.layers.Layer | None = None,
        decoder: keras.layers.Layer | None = None,
        prior: keras.layers.Layer | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.data_dim = positive_integer("data_dim", data_dim)
        self.latent_units = tuple(positive_integer("latent_units", units) for units in latent_units)
        self.hidden_units = tuple(tuple(positive_integer("hidden_units", n) for n in layer) for layer in hidden_units)
        if len(self.latent_units) != len(self.hidden_units) or not self.latent_units:
            raise InputError(
                "latent_units and hidden_units need one entry for each stochastic layer, got "
                f"{len(self.latent_units)} and {len(self.hidden_units)}"
            )
        self.likelihood_name, self.latent, self.levels = likelihood_name(likelihood), latent, levels
        self.data_mean = None if data_mean is None else _checked_mean(data_mean, self.data_dim)
        self.seed = check_seed(seed)
        self._has_users_prior = prior is not None
        initializer_seeds = seeds.initializer_seeds(self.seed)
        sizes, policy = (self.data_dim, self.latent_units, self.hidden_units, latent), checked_policy(self.dtype_policy)
        self.inference_network = InferenceNetwork(
            *sizes, initializer_seeds, encoder, name="inference_network", dtype=policy
        )
        self.generative_network = GenerativeNetwork(
            *sizes,
            self.likelihood_name,
            self.data_mean,
            levels,
            initializer_seeds,
            decoder,
            prior,
            name="generative_network",
            dtype=policy,
        )
        self.built = True

    @classmethod
    def one_layer(cls, data_dim: int, **kwargs) -> "IWAE":
        """The paper's network with one stochastic layer: D-200-200-50 and back."""
        return cls(data_dim, *PAPER_NETWORKS[1], **kwargs)

    @classmethod
    def two_layer(cls, data_dim: int, **kwargs) -> "IWAE":
        """The paper's network with two stochastic layers: D-200-200-100-100-100-50 and back."""
        return cls(data_dim, *PAPER_NETWORKS[2], **kwargs)

    def build(self, input_shape=None):
        """Nothing to do: the constructor makes all weights, so that an untrained model can be saved."""

    def get_config(self):
        own = {
            "encoder": getattr(self.inference_network.stages[0].hidden, "layer", None),
            "decoder": getattr(self.generative_network.likelihood_stage.hidden, "layer", None),
            "prior": self.generative_network.prior if self._has_users_prior else None,
        }
        return {
            **super().get_config(),
            "data_dim": self.data_dim,
            "latent_units": self.latent_units,
            "hidden_units": self.hidden_units,
            "likelihood": self.likelihood_name,
            "data_mean": self.data_mean,
            "seed": self.seed,
            "latent": self.latent,
            "levels": self.levels,
            **{name: keras.saving.serialize_keras_object(layer) for name, layer in own.items()},
        }

    @classmethod
    def from_config(cls, config):
        layers = {name: config[name] for name in ("encoder", "decoder", "prior") if config.get(name) is not None}
        made = {name: keras.saving.deserialize_keras_object(layer) for name, layer in layers.items()}
        return cls(**{**config, **made})

    def posterior(self, x):
        """q(h | x) as a TFP joint distribution over the tuple h: x [B, D]; samples are tuples of [k, B, H_l]."""
        return self.inference_network.distribution(self.checked(x))

    def likelihood(self, h):
        """p(x | h) as a TFP distribution over x: h a tuple of [..., H_l], of which h[0] is read."""
        stage = self.generative_network.likelihood_stage
        return stage.head.distribution(stage(h[0]))

    def encode(self, x) -> tuple[GaussianParameters | BernoulliParameters, ...]:
        """Parameters of q for each stochastic layer, given the mean of the layer below.

        Args:
            x: [B, D].

        Returns:
            For each layer `loc`, `log_scale` and `scale`; of binary units `logits` and `probability`: [B, H_l].
        """
        return self.inference_network.parameters_along_mean(self.checked(x))

    def reconstruct(self, x) -> tf.Tensor:
        """Mean of p(x | h) at the mean of q(h[0] | x): [B, D] -> [B, D]."""
        return self(self.checked(x))

    def call(self, inputs):
        first, last = self.inference_network.stages[0], self.generative_network.likelihood_stage
        return last.head.mean(last(first.head.mean(first(inputs))))

    def sample(self, n: int, seed: int = 0, mean: bool = False) -> tf.Tensor:
        """n draws from p(x), [n, D]; with `mean=True` the means of p(x | h) at n draws of h, better to look at."""
        n, seed = positive_integer("n", n), check_seed(seed)
        x, x_mean, _ = self.generative_network.sample(n, lambda layer: seeds.key(seed, seeds.Purpose.SAMPLE, layer))
        return x_mean if mean else x

    def input_requirements(self, came: str) -> str:
        """The message of every error about x."""
        head = self.generative_network.likelihood_stage.head
        return (
            f"x must be [batch, {self.data_dim}] with {head.support} (no NaN), got {came}. Reshape images to "
            f"(len(x), -1) and {head.advice}"
        )

    def _check_size(self, x):
        if x.shape.rank != 2 or x.shape[1] not in (None, self.data_dim):
            raise InputError(self.input_requirements(f"shape {tuple(x.shape)}"))

    def checked(self, x) -> tf.Tensor:
        """x as float32 [B, D]; raises `InputError` if it is anything else or empty."""
        x = tf.cast(tf.convert_to_tensor(x), tf.float32)
        self._check_size(x)
        if x.shape[0] == 0 or not self.generative_network.likelihood_stage.head.in_support(x):
            values = f"values from {np.min(x)} to {np.max(x)}" if x.shape[0] else "no rows"
            raise InputError(self.input_requirements(values))
        return x


def _checked_mean(data_mean, data_dim: int) -> list[float]:
    mean = np.asarray(data_mean, np.float64)
    if mean.shape != (data_dim,) or not np.isfinite(mean).all():
        raise InputError(f"data_mean must be {data_dim} finite numbers, got an array of shape {mean.shape}")
    return mean.tolist()
