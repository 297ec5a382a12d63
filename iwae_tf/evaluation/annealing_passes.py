"""The passes of annealed importance sampling between q(h | x) and p(h | x): pilot, forward and reverse."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.errors import check_seed, positive_integer
from iwae_tf.evaluation.hmc import Chains, chains_at, hmc_transition
from iwae_tf.layers.registry import check_gaussian

STEEPNESS = 4.0  # of the sigmoid schedule
TARGET_ACCEPTANCE = 0.65
PILOT_CHAINS = 8
PILOT_TRANSITIONS = 200  # at least so many in all, so that the step sizes of a short schedule settle too
ADAPTATION_GAIN = 0.5  # change of the log step size for each unit of acceptance above its target
JITTER = 0.2  # of the step size: without it a trajectory of about one period leads back to where it began
# Always so many go through the networks together, with the last one repeated where there are fewer: a matrix product
# rounds by its shape, and a chain whose proposal is refused in one batch and taken in another goes another way.
ROWS_TOGETHER = 32


class Batch(NamedTuple):
    """Images that are annealed together: B = 32, of which only the first `count` count.

    Attributes:
        rows: numbers of the images in their data set, int32 [B].
        x: [B, D].
        count: how many are not there to fill the batch.
    """

    rows: tf.Tensor
    x: tf.Tensor
    count: int


def temperatures(num_temperatures: int) -> np.ndarray:
    """beta_t, rising from exactly 0 to exactly 1 with small steps at both ends: float64 [T + 1].

    beta_t = (s_t - s_0) / (s_T - s_0) with s_t = sigmoid(4 (2 t / T - 1)).

    Reference: Grosse, Ghahramani, Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte Carlo.
    """
    s = 1.0 / (1.0 + np.exp(-STEEPNESS * np.linspace(-1.0, 1.0, num_temperatures + 1)))
    return (s - s[0]) / (s[-1] - s[0])


class AnnealingPasses:
    """The passes for one model and one choice of settings.

    Args:
        model: an `iwae_tf.IWAE`.
        num_chains: C, chains for each row.
        num_temperatures: T, steps from q to p.
        leapfrog_steps: steps of the trajectory at each temperature.
        seed: seed of all random numbers.
        progress: called with the number of rows moved on by one temperature, T - 1 times for each pass of a batch.

    Raises:
        InputError: (a `ValueError`) for a model without Gaussian units, a number that is no integer >= 1, or a seed
            out of range.
    """

    def __init__(
        self,
        model,
        num_chains: int,
        num_temperatures: int,
        leapfrog_steps: int,
        seed: int,
        progress: Callable[[int], None] | None,
    ):
        check_gaussian(model.latent, "annealed importance sampling", "its transitions follow the gradient by the units")
        self.model = model
        self.num_chains = positive_integer("num_chains", num_chains)
        self.betas = temperatures(positive_integer("num_temperatures", num_temperatures))  # [T + 1]
        self.leapfrog_steps = positive_integer("leapfrog_steps", leapfrog_steps)
        self.seed = check_seed(seed)
        self.progress = progress or (lambda rows: None)
        self._chains_at = tf.function(self._chains_at_noise, autograph=False, reduce_retracing=True)
        self._move = tf.function(self._hmc_transition, autograph=False, reduce_retracing=True)

    def batches(self, x: tf.Tensor) -> list[Batch]:
        """The rows of x [N, D] in batches of one size."""
        batches = []
        for first in range(0, len(x), ROWS_TOGETHER):
            rows = tf.minimum(first + tf.range(ROWS_TOGETHER), len(x) - 1)
            batches.append(Batch(rows, tf.gather(x, rows), min(ROWS_TOGETHER, len(x) - first)))
        return batches

    def step_sizes(self, batch: Batch) -> list[tf.Tensor]:
        """The pilot pass: step sizes at beta_1, ..., beta_{T-1}, each float32 [B], a list of T - 1.

        After every transition the log step size rises by 0.5 (acceptance - 0.65), with the acceptance the mean over
        the pilot's own chains.
        """
        repeats = -(-PILOT_TRANSITIONS // max(1, len(self.betas) - 2))
        number, step_sizes = 0, []
        chains = self._start(batch, PILOT_CHAINS, seeds.Purpose.ANNEALING_PILOT)
        step = tf.fill([len(batch.x)], chains.noise.shape[-1] ** -0.25)  # the error of the energy is of order H step^4
        for beta in self.betas[1:-1]:
            for _ in range(repeats):
                number += 1
                random = row_draws(self.seed, batch.rows, seeds.Purpose.ANNEALING_PILOT, number, chains.noise.shape)
                chains, acceptance = self._move(batch.x, chains, random, tf.constant(beta, tf.float32), step)
                step *= tf.exp(ADAPTATION_GAIN * (acceptance - TARGET_ACCEPTANCE))
            step_sizes.append(step)
            self.progress(batch.count)
        return step_sizes

    def forward(self, batch: Batch, step_sizes: list[tf.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """From q to p: log w [C, count], in nats, with E[w] = p(x), and the mean acceptance [count]; float64."""
        chains = self._start(batch, self.num_chains, seeds.Purpose.ANNEALING)
        return self._anneal(batch, chains, self.betas, step_sizes, seeds.Purpose.ANNEALING)

    def reverse(self, batch: Batch, step_sizes: list[tf.Tensor], noise: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """From p to q by the same transitions in reverse order: log v [C, count] with E[v] = 1 / p(x), and acceptance.

        Args:
            batch: the images.
            step_sizes: from `step_sizes`.
            noise: noise of one exact sample of p(h | x) for each image, where all its chains start; [B, H].
        """
        noise = tf.tile(noise[None], [self.num_chains, 1, 1])  # [C, B, H]
        chains = self._chains_at(batch.x, noise)
        return self._anneal(batch, chains, self.betas[::-1], step_sizes[::-1], seeds.Purpose.ANNEALING_REVERSE)

    def _anneal(self, batch, chains, betas, step_sizes, purpose):
        """sum_t (beta_t - beta_{t-1}) log_w(h_{t-1}), with a transition at each beta but the first and the last."""
        log_weight = tf.zeros(chains.log_w.shape, tf.float64)  # [C, B]
        total_acceptance = tf.zeros([len(batch.x)], tf.float64)
        for number, change in enumerate(np.diff(betas), start=1):
            log_weight += change * tf.cast(chains.log_w, tf.float64)
            if number < len(betas) - 1:
                random = row_draws(self.seed, batch.rows, purpose, number, chains.noise.shape)
                beta = tf.constant(betas[number], tf.float32)
                chains, acceptance = self._move(batch.x, chains, random, beta, step_sizes[number - 1])
                total_acceptance += tf.cast(acceptance, tf.float64)
                self.progress(batch.count)
        acceptance = total_acceptance / (len(step_sizes) or np.nan)
        return log_weight[:, : batch.count].numpy(), acceptance[: batch.count].numpy()

    def _start(self, batch, num_chains, purpose) -> Chains:
        """Chains at samples of q(h | x)."""
        shape = [num_chains, len(batch.x), sum(self.model.latent_units)]
        noise, _ = row_draws(self.seed, batch.rows, purpose, 0, shape)
        return self._chains_at(batch.x, noise)

    def _chains_at_noise(self, x, noise):
        return chains_at(partial(self.model.log_weights_from_noise, x), noise)

    def _hmc_transition(self, x, chains, random, beta, step):
        """Step sizes [B] -> the chains after a transition, and its acceptance, the mean over the chains, [B]."""
        momentum, uniform = random  # [C, B, H], [2, C, B]
        jittered = step * (1.0 + JITTER * (2.0 * uniform[1] - 1.0))  # [C, B]
        log_weights = partial(self.model.log_weights_from_noise, x)
        chains, acceptance = hmc_transition(
            log_weights, chains, momentum, uniform[0], beta, jittered, self.leapfrog_steps
        )
        return chains, tf.reduce_mean(acceptance, axis=0)


def row_draws(seed: int, rows: tf.Tensor, purpose: seeds.Purpose, number: int, shape) -> tuple[tf.Tensor, tf.Tensor]:
    """Random numbers of transition `number`, those of a row keyed by (seed, row, number).

    Returns:
        Standard normal [C, B, H] = `shape`, and uniform in [0, 1) [2, C, B].
    """
    num_chains, _, units = shape
    return _row_draws(tf.constant(seed), rows, tf.constant(2 * number, tf.int64), int(purpose), num_chains, units)


@tf.function(autograph=False, reduce_retracing=True)
def _row_draws(seed, rows, minor, purpose, num_chains, units):
    purpose = seeds.Purpose(purpose)
    keys = [seeds.key(seed, purpose, rows, tf.fill(tf.shape(rows), m)) for m in (minor, minor + 1)]  # each [B, 2]
    normal, uniform = tf.map_fn(
        lambda pair: (seeds.normal([num_chains, units], pair[0]), seeds.uniform([2, num_chains], pair[1])),
        tuple(keys),
        fn_output_signature=(tf.float32, tf.float32),
    )  # [B, C, H], [B, 2, C]
    return tf.transpose(normal, [1, 0, 2]), tf.transpose(uniform, [1, 2, 0])
