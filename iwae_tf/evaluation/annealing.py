"""log p(x) by annealed importance sampling from q(h | x) to p(x, h)."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from iwae_tf.evaluation.annealing_passes import AnnealingPasses
from iwae_tf.numerics import log_mean_exp


@dataclasses.dataclass(frozen=True, eq=False)
class AnnealedEstimate:
    """Annealed importance weights of every row; each chain's is an unbiased estimate of p(x).

    Attributes:
        log_weights: float64 [C, N], in nats.
        acceptance: mean probability of acceptance of the transitions, float64 [N]; NaN where there are none.
    """

    log_weights: np.ndarray
    acceptance: np.ndarray

    @property
    def log_likelihood(self) -> np.ndarray:
        """Estimate of log p(x), the log of the mean weight over the chains, float64 [N], in nats.

        A lower bound on log p(x) in expectation (Jensen's inequality).
        """
        return log_mean_exp(tf.constant(self.log_weights)).numpy()

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of `log_likelihood` by the delta method, float64 [N], in nats; NaN for a single chain.

        It is too small where the effective sample size is, since weights that were not met are not in it.
        """
        if len(self.log_weights) == 1:
            return np.full(self.log_weights.shape[1], np.nan)
        weights = np.exp(self.log_weights - self.log_weights.max(axis=0))
        return weights.std(axis=0, ddof=1) / np.sqrt(len(weights)) / weights.mean(axis=0)

    @property
    def effective_sample_size(self) -> np.ndarray:
        """(sum w)^2 / sum w^2 over the chains, between 1 and C, float64 [N] (Kong 1992)."""
        weights = np.exp(self.log_weights - self.log_weights.max(axis=0))
        return weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0)


def annealed_log_likelihood(
    model,
    x: np.ndarray,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    leapfrog_steps: int = 3,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> AnnealedEstimate:
    """Estimates log p(x) of every row by annealed importance sampling.

        log w = sum_{t=1..T} (beta_t - beta_{t-1}) (log p(x, h_{t-1}) - log q(h_{t-1} | x))

    for 0 = beta_0 < ... < beta_T = 1, with h_0 from q(h | x) and h_t from h_{t-1} by a Hamiltonian transition that
    leaves q^(1-beta_t) p^beta_t invariant. T = 1 is importance sampling. The expectation of w is p(x) for any step
    sizes that do not depend on the chain itself; adapted within the chain, the transitions would leave nothing
    invariant. So a pilot pass with chains of its own adapts them, for every image and temperature, and they are frozen
    for the pass that counts.

    A row's random numbers are a function of (seed, row) alone. Rows are annealed 32 at a time whatever N is, so that
    the result of a row does not depend on which others are there; memory grows with `num_chains` only.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D].
        num_chains: C, chains for each row.
        num_temperatures: T, steps from q to p.
        leapfrog_steps: steps of the trajectory at each temperature.
        seed: seed of all random numbers.
        progress: called with the number of rows moved on by one temperature since the last call, 2 N (T - 1) in all;
            the first half is the pilot pass.

    Returns:
        An `AnnealedEstimate`.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, a number that is no integer >= 1, or a model
            without Gaussian units.

    Reference: Neal (2001), Annealed importance sampling, section 2; Wu, Burda, Salakhutdinov, Grosse (2017), On the
    quantitative analysis of decoder-based generative models, section 3.
    """
    passes = AnnealingPasses(model, num_chains, num_temperatures, leapfrog_steps, seed, progress)
    x = model.checked(x)
    parts = [passes.forward(batch, passes.step_sizes(batch)) for batch in passes.batches(x)]
    return AnnealedEstimate(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))
