"""Log importance weights of a model, for training and in streams, and the estimate of log p(x) that they give."""

from collections.abc import Iterator

import tensorflow as tf

from iwae_tf.errors import InputError, check_seed, positive_integer
from iwae_tf.layers.shared_terms import SharedTerms
from iwae_tf.layers.standard_normal import StandardNormal
from iwae_tf.models.bound_trainer import BoundTrainer
from iwae_tf.models.log_weight_stream import MAX_ROWS, log_weight_stream, samples_in_chunk
from iwae_tf.models.tiles import log_weights_in_tiles
from iwae_tf.models.weights import weights_read_once
from iwae_tf.numerics import empty_grouped_bound, grouped_bound, update_grouped_bound
from iwae_tf.replicas import split_rows

WEIGHTS_IN_CHUNK = 200_000  # images times samples, whose statistics are taken together: few calls, and a few megabytes

_update_bound = tf.function(update_grouped_bound, reduce_retracing=True, autograph=False)


class ImportanceWeights(BoundTrainer):
    """log w = log p(x, h) - log q(h | x) of a model with the two networks, `latent_units` and `checked`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

        def log_weights_of_blocks(x, rows, blocks, seed):  # -> [50 n, B]
            with weights_read_once(self):
                return log_weights_in_tiles(self, x, rows, blocks, seed)

        self._log_weights_of_blocks = split_rows(self.distribute_strategy, log_weights_of_blocks)

    def shared_terms(self, x) -> SharedTerms:
        """What `log_weights_from_noise` can be given for x [B, D]."""
        of_images, of_weights = self.generative_network.likelihood_stage.shared_terms(x)
        return SharedTerms((self.inference_network.first_parameters(x), of_images), of_weights)

    def log_weights_from_noise(self, x, noise, shared=None):
        """log p(x, h) - log q(h | x) at h made from standard normal noise, [k, B].

        Args:
            x: [B, D].
            noise: [k, B, sum of H_l].
            shared: `shared_terms` of x, where they are computed once for many samples.
        """
        (first_parameters, of_images), of_weights = ((None, ()), ()) if shared is None else shared
        h, log_q = self.inference_network.transform(x, noise, first_parameters)
        return self.generative_network.log_prob(x, h, SharedTerms(of_images, of_weights)) - log_q

    def log_weight_parts(self, x, noise):
        """log p(x | h) and log p(h) - log q(h | x), whose sum are the log-weights: shapes as above, both [k, B]."""
        h, log_q = self.inference_network.transform(x, noise)
        return self.generative_network.log_likelihood(x, h), self.generative_network.log_prior(h) - log_q

    def log_weight_parts_with_analytic_kl(self, x, noise):
        """log p(x | h) [k, B] and -KL(q(h | x) || p(h)) [B], for one Gaussian stochastic layer: arguments as above."""
        if not isinstance(self.generative_network.prior, StandardNormal):
            raise InputError("the KL divergence has a closed form for the prior N(0, I) alone: use 'elbo'")
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
        chunk_size = samples_in_chunk(x.shape[0], WEIGHTS_IN_CHUNK) if chunk_size is None else chunk_size
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
                state = _update_bound(state, log_w, tf.constant(num_samples))
            estimates.append(grouped_bound(state))
        return tf.concat(estimates, axis=0)
