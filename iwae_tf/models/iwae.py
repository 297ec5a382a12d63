"""The importance weighted autoencoder as a Keras model, with any number of stochastic layers."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.config import PAPER_NETWORKS
from iwae_tf.errors import InputError, check_seed, positive_integer
from iwae_tf.layers.bernoulli import BernoulliParameters
from iwae_tf.layers.gaussian import GaussianParameters
from iwae_tf.models.bound_trainer import BoundTrainer
from iwae_tf.models.evaluation_noise import evaluation_noise
from iwae_tf.models.generative_network import GenerativeNetwork
from iwae_tf.models.inference_network import InferenceNetwork
from iwae_tf.models.log_weight_stream import MAX_ROWS, log_weight_stream
from iwae_tf.models.precision import checked_policy
from iwae_tf.models.tiles import log_weights_in_tiles
from iwae_tf.numerics import empty_grouped_bound, grouped_bound, update_grouped_bound
from iwae_tf.replicas import split_rows


@keras.saving.register_keras_serializable("iwae_tf")
class IWAE(BoundTrainer):
    """Importance weighted autoencoder.

    q(h | x) = q(h[0] | x) q(h[1] | h[0]) ... and p(x, h) = p(h[L-1]) ... p(h[0] | h[1]) p(x | h[0]), each conditional
    a tanh network with independent units at its end, p(x | h[0]) the likelihood.

    Args:
        data_dim: D, the number of pixels.
        latent_units: H_l of each stochastic layer, nearest x first.
        hidden_units: widths of the tanh layers below each stochastic layer; the generative network mirrors them.
        likelihood: "bernoulli" (values in [0, 1]) or "gaussian" (any finite values).
        data_mean: mean of the training data, [D], from which the bias of the output starts; None starts at 0.
        seed: seed of the initial weights and of all noise in training, an integer in [0, 2**31 - 1].
        latent: units of every stochastic layer, "gaussian" with a standard normal prior, or "bernoulli" (0 or 1) with a
            prior of learned logits: a sigmoid belief network.
        **kwargs: `name`, and `dtype`, "float32", "mixed_bfloat16" or "mixed_float16" (hidden layers in 16 bits); Keras'
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
        likelihood: str = "bernoulli",
        data_mean: Sequence[float] | None = None,
        seed: int = 0,
        latent: str = "gaussian",
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
        self.likelihood_name, self.latent = likelihood, latent
        self.data_mean = None if data_mean is None else _checked_mean(data_mean, self.data_dim)
        self.seed = check_seed(seed)
        initializer_seeds = seeds.initializer_seeds(self.seed)
        sizes, policy = (self.data_dim, self.latent_units, self.hidden_units, latent), checked_policy(self.dtype_policy)
        self.inference_network = InferenceNetwork(*sizes, initializer_seeds, name="inference_network", dtype=policy)
        self.generative_network = GenerativeNetwork(
            *sizes, likelihood, self.data_mean, initializer_seeds, name="generative_network", dtype=policy
        )
        self.built = True

        def log_weights_of_blocks(x, rows, blocks, seed):  # -> [50 n, B]
            return log_weights_in_tiles(self, x, evaluation_noise(rows, blocks, seed, sum(self.latent_units)))

        self._log_weights_of_blocks = split_rows(self.distribute_strategy, log_weights_of_blocks)

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
        return {
            **super().get_config(),
            "data_dim": self.data_dim,
            "latent_units": self.latent_units,
            "hidden_units": self.hidden_units,
            "likelihood": self.likelihood_name,
            "data_mean": self.data_mean,
            "seed": self.seed,
            "latent": self.latent,
        }

    def posterior(self, x):
        """q(h | x) as a TFP joint distribution over the tuple h: x [B, D]; samples are tuples of [k, B, H_l]."""
        return self.inference_network.distribution(self.checked(x))

    def likelihood(self, h):
        """p(x | h) as a TFP distribution over x: h a tuple of [..., H_l], of which h[0] is read."""
        stage = self.generative_network.likelihood_stage
        return stage.head.distribution(stage(h[0]))

    def log_weights_from_noise(self, x, noise, first_parameters=None):
        """log p(x, h) - log q(h | x) at h made from standard normal noise: x [B, D], noise [k, B, sum H] -> [k, B]."""
        h, log_q = self.inference_network.transform(x, noise, first_parameters)
        return self.generative_network.log_prob(x, h) - log_q

    def log_weight_parts(self, x, noise):
        """log p(x | h) and log p(h) - log q(h | x), whose sum are the log-weights: shapes as above, both [k, B]."""
        h, log_q = self.inference_network.transform(x, noise)
        return self.generative_network.log_likelihood(x, h), self.generative_network.log_prior(h) - log_q

    def log_weight_parts_with_analytic_kl(self, x, noise):
        """log p(x | h) [k, B] and -KL(q(h | x) || p(h)) [B], for one Gaussian stochastic layer: arguments as above."""
        (stage,) = self.inference_network.stages
        parameters = stage(x)
        h = (stage.head.transform(parameters, noise),)
        return self.generative_network.log_likelihood(x, h), -stage.head.kl_to_standard_normal(parameters)

    def log_weight_chunks(
        self, x, num_samples: int, seed: int = 0, chunk_size: int | None = None, rows=None, first_sample: int = 0
    ) -> Iterator[tf.Tensor]:
        """Streams log importance weights for evaluation, in memory that does not grow with `num_samples`.

        The noise of a sample is a function of (seed, number of the row, number of the sample) alone: other rows, the
        chunk size and the number of samples asked for do not change it.

        Args:
            x: [B, D].
            num_samples: how many samples in all.
            seed: seed of the noise.
            chunk_size: samples in a chunk, a multiple of 50; None chooses one that keeps memory small.
            rows: int [B], number of each row in the data set that it was taken from; None for 0, 1, 2 ...
            first_sample: number of the first sample, to go on where an earlier call ended.

        Yields:
            float32 [c, B]; c is the chunk size, less at the ends.
        """
        x = self.checked(x)
        last_sample = first_sample + positive_integer("num_samples", num_samples)
        rows = tf.range(x.shape[0]) if rows is None else tf.cast(rows, tf.int32)
        return log_weight_stream(
            self._log_weights_of_blocks, x, rows, first_sample, last_sample, check_seed(seed), chunk_size
        )

    def log_weights(self, x, num_samples: int, seed: int = 0) -> tf.Tensor:
        """Log importance weights log p(x, h_i) - log q(h_i | x), float32 [k, B]: x [B, D], k = `num_samples`."""
        return tf.concat(list(self.log_weight_chunks(x, num_samples, seed)), axis=0)

    def log_likelihood(self, x, num_samples: int, seed: int = 0) -> tf.Tensor:
        """Estimate of log p(x) for every row, in nats: log of the mean of `num_samples` importance weights.

        Memory does not grow with `num_samples`. The expectation is L_k, a lower bound on log p(x).

        Args:
            x: [B, D].
            num_samples: k, >= 1; the paper reports k = 5000.
            seed: seed of the noise.

        Returns:
            float64 [B].

        Raises:
            InputError: (a `ValueError`) for x of the wrong size or with values that the likelihood cannot observe.

        Reference: Burda, Grosse, Salakhutdinov (2016), equation 8.
        """
        estimates, x = [], self.checked(x)
        for first in range(0, x.shape[0], MAX_ROWS):
            part = x[first : first + MAX_ROWS]
            state, rows = empty_grouped_bound(part.shape[0]), first + tf.range(part.shape[0])
            for log_w in self.log_weight_chunks(part, num_samples, seed, rows=rows):
                state = update_grouped_bound(state, log_w, num_samples)
            estimates.append(grouped_bound(state))
        return tf.concat(estimates, axis=0)

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
            "(len(x), -1) and divide 8-bit grey values by 255"
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
