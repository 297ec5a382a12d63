"""Bounds on log p(x) from both sides on data simulated from the model: how exact annealed importance sampling is."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.errors import positive_integer
from iwae_tf.evaluation.annealing_passes import AnnealingPasses
from iwae_tf.numerics import log_mean_exp


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
        """`upper` - `lower`, float64 [n], in nats.

        Its mean is at least the error of the mean of `lower`; one example's may be negative.
        """
        return self.upper - self.lower


def bidirectional_bounds(
    model,
    num_examples: int,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    leapfrog_steps: int = 3,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> BidirectionalBounds:
    """Sandwiches log p(x) of examples simulated from the model, by bidirectional Monte Carlo.

        h ~ p(h), x ~ p(x | h)      so that h is an exact sample of p(h | x)
        lower =  log 1/C sum_c w_c  chains from q(h | x) to p(h | x), E[w_c] = p(x)
        upper = -log 1/C sum_c v_c  chains from h back to q by the same transitions in reverse, E[v_c] = 1 / p(x)

    By Jensen's inequality E[lower] <= log p(x) <= E[upper]. There is one exact sample for each x, so its C reverse
    chains share their start: every v_c still has the expectation 1 / p(x) over h ~ p(h | x), and so has their mean,
    independent or not. The mean gap bounds the error of `annealed_log_likelihood` with the same settings on such
    data; on other data, that is an extrapolation.

    Args:
        model: an `iwae_tf.IWAE`.
        num_examples: n, how many x to simulate.
        num_chains: C, chains for each x in either direction.
        num_temperatures: T, steps between q and p.
        leapfrog_steps: steps of the trajectory at each temperature.
        seed: seed of all random numbers; an example is a function of (seed, its number).
        progress: called with the number of rows moved on by one temperature since the last call, 3 n (T - 1) in all.

    Returns:
        `BidirectionalBounds`.

    Raises:
        InputError: (a `ValueError`) for a number that is no integer >= 1, a seed out of range, or a model without
            Gaussian units.

    Reference: Grosse, Ghahramani, Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte Carlo,
    section 3; for decoders, Wu, Burda, Salakhutdinov, Grosse (2017), On the quantitative analysis of decoder-based
    generative models, section 3.
    """
    passes = AnnealingPasses(model, num_chains, num_temperatures, leapfrog_steps, seed, progress)
    x, h = _simulate(model.generative_network, positive_integer("num_examples", num_examples), passes.seed)
    lower, upper = [], []
    for batch in passes.batches(x):
        step_sizes = passes.step_sizes(batch)  # functions of x and not of h, which stays an exact sample given them
        lower.append(log_mean_exp(passes.forward(batch, step_sizes)[0]))
        exact = _noise_of(model.inference_network, batch.x, [tf.gather(layer, batch.rows) for layer in h])
        upper.append(-log_mean_exp(passes.reverse(batch, step_sizes, exact)[0]))
    return BidirectionalBounds(np.concatenate(lower), np.concatenate(upper), x.numpy())


def _simulate(network, num_examples: int, seed: int) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Draws of p(x, h), each from keys of its own: x [n, D] and h, a tuple of [n, H_l]."""

    def draw(row):
        def key(layer):
            return seeds.key(seed, seeds.Purpose.SIMULATION, row, layer)

        x, _, h = network.sample(1, key)
        return tuple(value[0] for value in (x, *h))

    signature = (tf.float32,) * (len(network.stages) + 1)
    simulate = tf.function(lambda rows: tf.map_fn(draw, rows, fn_output_signature=signature), autograph=False)
    x, *h = simulate(tf.range(num_examples))
    return x, tuple(h)


def _noise_of(network, x: tf.Tensor, h: list[tf.Tensor]) -> tf.Tensor:
    """The noise that the inference network makes h of: x [B, D], h a list of [B, H_l] -> [B, H]."""
    noise = []
    for stage, condition, value in zip(network.stages, (x, *h[:-1]), h, strict=True):
        parameters = stage(condition)
        noise.append((value - parameters.loc) * tf.exp(-parameters.log_scale))
    return tf.concat(noise, axis=-1)
