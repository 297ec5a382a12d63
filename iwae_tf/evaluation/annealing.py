"""log p(x) by annealed importance sampling from q(h | x) to p(x, h), and bounds on it from both sides.

The chains move the noise from which the inference network makes h. With h = T(noise) the annealed density is

    log f_beta(h) + log |dh / dnoise| = log N(noise; 0, I) + beta log_w(noise),   log_w = log p(x, h) - log q(h | x)

so f_beta = q^(1-beta) p^beta needs the log-weights alone, and q's scales, in every layer, are the mass matrix.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.errors import check_seed, positive_integer
from iwae_tf.models.checks import check_gaussian
from iwae_tf.models.streaming import batch_noise
from iwae_tf.numerics import log_mean_exp, squared_norm

STEEPNESS = 4.0  # of the sigmoid schedule
TARGET_ACCEPTANCE = 0.65
PILOT_CHAINS = 8
PILOT_TRANSITIONS = 200  # at least, so that the step sizes of a short schedule settle too
ADAPTATION_GAIN = 0.5  # change of the log step size for each unit of acceptance above its target
JITTER = 0.2  # of the step size: without it a trajectory of about one period returns to its start
# All batches have this size, the last one filled with copies of its last row: matrix products of another shape round
# differently, and one refused proposal sends a chain along another path.
ROWS_TOGETHER = 32


@dataclasses.dataclass(frozen=True, eq=False)
class AnnealedEstimate:
    """Annealed importance weights of every row; that of each chain is an unbiased estimate of p(x).

    Attributes:
        log_weights: float64 [C, N], in nats.
        acceptance: mean probability of acceptance of the transitions, float64 [N]; NaN without transitions.
    """

    log_weights: np.ndarray
    acceptance: np.ndarray

    @property
    def log_likelihood(self) -> np.ndarray:
        """Log of the mean weight over the chains, float64 [N], in nats: on average a lower bound on log p(x)."""
        return log_mean_exp(tf.constant(self.log_weights)).numpy()

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of `log_likelihood` by the delta method, float64 [N], in nats; NaN for a single chain.

        It is too small where the effective sample size is.
        """
        if len(self.log_weights) == 1:
            return np.full(self.log_weights.shape[1], np.nan)
        weights = self._relative_weights()
        return weights.std(axis=0, ddof=1) / np.sqrt(len(weights)) / weights.mean(axis=0)

    @property
    def effective_sample_size(self) -> np.ndarray:
        """(sum w)^2 / sum w^2 over the chains, between 1 and C, float64 [N] (Kong 1992)."""
        weights = self._relative_weights()
        return weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0)

    def _relative_weights(self) -> np.ndarray:
        return np.exp(self.log_weights - self.log_weights.max(axis=0))


@dataclasses.dataclass(frozen=True, eq=False)
class BidirectionalBounds:
    """Stochastic bounds for simulated examples: E[lower] <= log p(x) <= E[upper] for each x.

    Attributes:
        lower: from chains that end in the posterior, float64 [n], in nats.
        upper: from chains that start in it, float64 [n], in nats.
        x: the examples, float32 [n, D].
    """

    lower: np.ndarray
    upper: np.ndarray
    x: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """`upper` - `lower`, float64 [n], in nats; its mean bounds the error of the mean of `lower` from above."""
        return self.upper - self.lower


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
    leaves q^(1-beta_t) p^beta_t invariant. The chains start at the samples of `model.log_weights` with the same seed,
    so T = 1 gives these log-weights. The expectation of w is p(x) for any step sizes that do not depend on the chain
    itself, so a pilot pass with its own chains adapts them, for every image and temperature.

    A row's result is a function of x, seed and the row's number. Memory grows with `num_chains` only.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D].
        num_chains: C, chains for each row.
        num_temperatures: T, steps from q to p.
        leapfrog_steps: steps of the trajectory at each temperature.
        seed: seed of all random numbers.
        progress: called with the number of rows moved on by one temperature since the last call, 2 N (T - 1) in all;
            the first half is the pilot pass.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, a number that is no integer >= 1, or a model
            without Gaussian units.

    Reference: Neal (2001), Annealed importance sampling, section 2; Wu, Burda, Salakhutdinov, Grosse (2017), On the
    quantitative analysis of decoder-based generative models, section 3.
    """
    passes = AnnealingPasses(model, num_chains, num_temperatures, leapfrog_steps, seed, progress)
    results = [passes.forward(batch, passes.step_sizes(batch)) for batch in passes.batches(model.checked(x))]
    return AnnealedEstimate(*(np.concatenate(arrays, axis=-1) for arrays in zip(*results, strict=True)))


def bidirectional_bounds(
    model,
    num_examples: int,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    leapfrog_steps: int = 3,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> BidirectionalBounds:
    """Bounds log p(x) of examples simulated from the model from both sides, by bidirectional Monte Carlo.

        h ~ p(h), x ~ p(x | h)      so that h is an exact sample of p(h | x)
        lower =  log 1/C sum_c w_c  chains from q(h | x) to p(h | x), E[w_c] = p(x)
        upper = -log 1/C sum_c v_c  chains from h back to q by the same transitions in reverse, E[v_c] = 1 / p(x)

    By Jensen's inequality E[lower] <= log p(x) <= E[upper]. The C reverse chains of an x share their start, its one
    exact sample: every v_c, and so their mean, still has the expectation 1 / p(x) over h ~ p(h | x). The mean gap
    bounds the error of `annealed_log_likelihood` with the same settings on simulated data; for other data it is an
    extrapolation.

    Args:
        model: an `iwae_tf.IWAE`.
        num_examples: n, number of x to simulate; each is a function of (seed, its number).
        num_chains: C, chains for each x in either direction; the other settings as in `annealed_log_likelihood`.
        num_temperatures: T.
        leapfrog_steps: steps of the trajectory at each temperature.
        seed: seed of all random numbers.
        progress: called with the number of rows moved on by one temperature since the last call, 3 n (T - 1) in all.

    Raises:
        InputError: (a `ValueError`) for a number that is no integer >= 1, a seed out of range, or a model without
            Gaussian units.

    Reference: Grosse, Ghahramani, Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte Carlo,
    section 3; for decoders, Wu, Burda, Salakhutdinov, Grosse (2017), section 3.
    """
    passes = AnnealingPasses(model, num_chains, num_temperatures, leapfrog_steps, seed, progress)
    x, h = _simulate(model.generative_network, positive_integer("num_examples", num_examples), passes.seed)
    lower, upper = [], []
    for batch in passes.batches(x):
        step_sizes = passes.step_sizes(batch)  # a function of x and not of h, which stays an exact sample given them
        lower.append(log_mean_exp(passes.forward(batch, step_sizes)[0]))
        exact = _noise_of(model.inference_network, batch.x, [tf.gather(layer, batch.rows) for layer in h])
        upper.append(-log_mean_exp(passes.reverse(batch, step_sizes, exact)[0]))
    return BidirectionalBounds(np.concatenate(lower), np.concatenate(upper), x.numpy())


def _simulate(network, num_examples: int, seed: int) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Returns draws of p(x, h), each from its own keys: x [n, D] and h, a tuple of [n, H_l]."""

    def draw(row):
        x, _, h = network.sample(1, lambda layer: seeds.key(seed, seeds.Purpose.SIMULATION, row, layer))
        return tuple(value[0] for value in (x, *h))

    signature = (tf.float32,) * (len(network.stages) + 1)
    simulate = tf.function(lambda rows: tf.map_fn(draw, rows, fn_output_signature=signature), autograph=False)
    x, *h = simulate(tf.range(num_examples))
    return x, tuple(h)


def _noise_of(network, x: tf.Tensor, h: list[tf.Tensor]) -> tf.Tensor:
    """Returns the noise from which the inference network makes h: x [B, D], h a list of [B, H_l] -> [B, H]."""
    noise = []
    for stage, condition, value in zip(network.stages, (x, *h[:-1]), h, strict=True):
        parameters = stage(condition)
        noise.append((value - parameters.loc) * tf.exp(-parameters.log_scale))
    return tf.concat(noise, axis=-1)


def temperatures(num_temperatures: int) -> np.ndarray:
    """Returns beta_t, rising from exactly 0 to exactly 1 with small steps at both ends: float64 [T + 1].

    beta_t = (s_t - s_0) / (s_T - s_0) with s_t = sigmoid(4 (2 t / T - 1)), as Grosse, Ghahramani, Adams (2015).
    """
    s = 1.0 / (1.0 + np.exp(-STEEPNESS * np.linspace(-1.0, 1.0, num_temperatures + 1)))
    return (s - s[0]) / (s[-1] - s[0])


class Batch(NamedTuple):
    """Images that are annealed together: numbers of the rows, int32 [32], x [32, D], and `count` of them to report."""

    rows: tf.Tensor
    x: tf.Tensor
    count: int


class AnnealingPasses:
    """Pilot, forward and reverse pass for one model and its settings, those of `annealed_log_likelihood`."""

    def __init__(self, model, num_chains, num_temperatures, leapfrog_steps, seed, progress=None):
        check_gaussian(model, "annealed importance sampling", "its transitions follow the gradient by the units")
        self.model = model
        self.num_chains = positive_integer("num_chains", num_chains)
        self.betas = temperatures(positive_integer("num_temperatures", num_temperatures))  # [T + 1]
        self.leapfrog_steps = positive_integer("leapfrog_steps", leapfrog_steps)
        self.seed = check_seed(seed)
        self.progress = progress or (lambda rows: None)
        self._start = tf.function(
            lambda x, noise: chains_at(partial(model.log_weights_from_noise, x), noise),
            autograph=False,
            reduce_retracing=True,
        )
        self._move = tf.function(self._transition, autograph=False, reduce_retracing=True)

    def batches(self, x: tf.Tensor) -> Iterator[Batch]:
        """Yields the rows of x [N, D] in batches of one size."""
        for first in range(0, len(x), ROWS_TOGETHER):
            rows = tf.minimum(first + tf.range(ROWS_TOGETHER), len(x) - 1)
            yield Batch(rows, tf.gather(x, rows), min(ROWS_TOGETHER, len(x) - first))

    def step_sizes(self, batch: Batch) -> list[tf.Tensor]:
        """Returns the step sizes at beta_1, ..., beta_{T-1}, each float32 [B], by the pilot pass.

        After every transition the log step size rises by 0.5 (acceptance - 0.65), with the acceptance the mean over
        the pilot's own chains.
        """
        units, repeats = sum(self.model.latent_units), -(-PILOT_TRANSITIONS // max(1, len(self.betas) - 2))
        betas = np.repeat(self.betas[1:-1], repeats)
        keys = self._keys(batch, seeds.Purpose.ANNEALING_PILOT, len(betas) + 1)
        chains = self._start(batch.x, seeds.normal([PILOT_CHAINS, len(batch.x), units], keys[0, 0]))
        step, step_sizes = tf.fill([len(batch.x)], units**-0.25), []  # the energy error is of order H step^4
        for number, beta in enumerate(betas, start=1):
            chains, acceptance = self._move(batch.x, chains, keys[number], tf.constant(beta, tf.float32), step)
            step *= tf.exp(ADAPTATION_GAIN * (acceptance - TARGET_ACCEPTANCE))
            if number % repeats == 0:
                step_sizes.append(step)
                self.progress(batch.count)
        return step_sizes

    def forward(self, batch: Batch, step_sizes: list[tf.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Returns log w [C, count] from q to p, in nats, E[w] = p(x), and the mean acceptance [count]; float64."""
        noise = batch_noise(batch.x, self.seed, 0, self.num_chains, sum(self.model.latent_units))
        return self._anneal(batch, noise, self.betas, step_sizes, seeds.Purpose.ANNEALING)

    def reverse(self, batch: Batch, step_sizes: list[tf.Tensor], noise: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Returns log v [C, count] from p to q by the forward transitions in reverse, E[v] = 1 / p(x), and acceptance.

        Args:
            batch: the images.
            step_sizes: from `step_sizes`.
            noise: noise of one exact sample of p(h | x) for each image, the start of all its chains; [B, H].
        """
        noise = tf.tile(noise[None], [self.num_chains, 1, 1])  # [C, B, H]
        return self._anneal(batch, noise, self.betas[::-1], step_sizes[::-1], seeds.Purpose.ANNEALING_REVERSE)

    def _anneal(self, batch, noise, betas, step_sizes, purpose):
        """Returns sum_t (beta_t - beta_{t-1}) log_w(h_{t-1}), with a transition at each beta but the first and last."""
        chains, keys = self._start(batch.x, noise), self._keys(batch, purpose, len(betas) - 1)
        log_weight = tf.zeros(noise.shape[:2], tf.float64)  # [C, B]
        total_acceptance = tf.zeros([len(batch.x)], tf.float64)
        for number, change in enumerate(np.diff(betas), start=1):
            log_weight += change * tf.cast(chains.log_w, tf.float64)
            if number < len(betas) - 1:
                beta = tf.constant(betas[number], tf.float32)
                chains, acceptance = self._move(batch.x, chains, keys[number], beta, step_sizes[number - 1])
                total_acceptance += tf.cast(acceptance, tf.float64)
                self.progress(batch.count)
        acceptance = total_acceptance / (len(step_sizes) or np.nan)
        return log_weight[:, : batch.count].numpy(), acceptance[: batch.count].numpy()

    def _keys(self, batch: Batch, purpose: seeds.Purpose, count: int) -> np.ndarray:
        """Returns two keys for every transition, int64 [count, 2, 2]; as batches have one size, they serve all rows."""
        return seeds.key(self.seed, purpose, batch.rows[0], tf.range(2 * count)).numpy().reshape(count, 2, 2)

    def _transition(self, x, chains, keys, beta, step):
        """Returns the chains after a transition with step sizes [B], and its acceptance, the mean over chains [B]."""
        shape = tf.shape(chains.noise)
        momentum = seeds.normal(shape, keys[0])
        uniform = seeds.uniform(tf.concat([[2], shape[:2]], axis=0), keys[1])
        jittered = step * (1.0 + JITTER * (2.0 * uniform[1] - 1.0))  # [C, B]
        log_weights = partial(self.model.log_weights_from_noise, x)
        chains, acceptance = hmc_transition(
            log_weights, chains, momentum, uniform[0], beta, jittered, self.leapfrog_steps
        )
        return chains, tf.reduce_mean(acceptance, axis=0)


class Chains(NamedTuple):
    """States of C chains for each of B images; independent of the temperature.

    Attributes:
        noise: [C, B, H], H the units of all stochastic layers together.
        log_w: log importance weights at the noise, [C, B], in nats.
        gradient: derivative of `log_w` by the noise, [C, B, H].
    """

    noise: tf.Tensor
    log_w: tf.Tensor
    gradient: tf.Tensor

    def log_density(self, beta: tf.Tensor) -> tf.Tensor:
        """Returns log f_beta of the noise up to a constant, [C, B]."""
        return beta * self.log_w - 0.5 * squared_norm(self.noise)

    def force(self, beta: tf.Tensor) -> tf.Tensor:
        """Returns the derivative of `log_density` by the noise, [C, B, H]."""
        return beta * self.gradient - self.noise


def chains_at(log_weights: Callable[[tf.Tensor], tf.Tensor], noise: tf.Tensor) -> Chains:
    """Returns the chains at some noise [C, B, H]; `log_weights` maps it to [C, B], each from its own noise alone."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(noise)
        log_w = log_weights(noise)
    return Chains(noise, log_w, tape.gradient(log_w, noise))


def leapfrog(log_weights, chains: Chains, momentum, beta, step, num_steps: int) -> tuple[Chains, tf.Tensor]:
    """Follows the motion with energy 1/2 |momentum|^2 - log f_beta; returns the chains and the momentum at its end.

        momentum <- momentum + step / 2 force
        noise    <- noise + step momentum
        momentum <- momentum + step / 2 force

    Volumes are kept, and with the momentum reversed the same steps lead back. Arguments as of `hmc_transition`.

    Reference: Neal (2011), MCMC using Hamiltonian dynamics, section 2.3.
    """
    step = step[..., None]  # [C, B, 1]

    def one_step(chains, momentum):
        momentum = momentum + 0.5 * step * chains.force(beta)
        chains = chains_at(log_weights, chains.noise + step * momentum)
        return chains, momentum + 0.5 * step * chains.force(beta)

    return tf.while_loop(
        lambda *_: True, one_step, (chains, momentum), maximum_iterations=num_steps, parallel_iterations=1
    )


def hmc_transition(log_weights, chains: Chains, momentum, uniform, beta, step, num_steps: int):
    """Moves the chains by a transition that leaves f_beta invariant and is its own reversal.

    The end of the trajectory is accepted with probability min(1, exp(energy at its start - energy at its end)), and
    refused if that is not a number.

    Args:
        log_weights: as in `chains_at`.
        chains: the current states.
        momentum: standard normal, [C, B, H].
        uniform: uniform in [0, 1), [C, B].
        beta: inverse temperature, float32 scalar in [0, 1].
        step: step sizes, [C, B]; they must not depend on the history of these chains.
        num_steps: leapfrog steps.

    Returns:
        The chains after the transition, and the probability of acceptance, [C, B].

    Reference: Neal (2011), MCMC using Hamiltonian dynamics, section 3.2.
    """
    end, end_momentum = leapfrog(log_weights, chains, momentum, beta, step, num_steps)
    energy_lost = end.log_density(beta) - chains.log_density(beta)
    energy_lost += 0.5 * (squared_norm(momentum) - squared_norm(end_momentum))  # [C, B]
    probability = tf.exp(tf.minimum(energy_lost, 0.0))
    probability = tf.where(tf.math.is_nan(probability), 0.0, probability)
    accepted = uniform < probability
    moved = tf.nest.map_structure(
        lambda new, old: tf.where(accepted if new.shape.rank == 2 else accepted[..., None], new, old), end, chains
    )
    return moved, probability
