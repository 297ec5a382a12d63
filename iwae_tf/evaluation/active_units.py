"""Which latent units carry information about x."""

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.errors import InputError, check_seed

ACTIVE_THRESHOLD = 0.01
BATCH_SIZE = 100


def unit_activities(model, x: np.ndarray, num_samples: int = 100, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Variance over x of the posterior mean of every latent unit, Var_x(E_q[u | x]).

    The mean of a binary unit is the probability that it is 1.

    The mean of a unit in the first layer is known exactly. Deeper means are averages over samples of the layers
    below; the variance is then the covariance of two averages over independent halves of the samples, which has the
    right expectation, where the variance of one average would count sampling noise as activity.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D], N >= 2.
        num_samples: samples for each x, an even number; used for the second layer and above.
        seed: seed of the noise.

    Returns:
        One array for each stochastic layer, float64 [H_l].

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, fewer than two rows, or an odd number of
            samples.

    Reference: Burda, Grosse, Salakhutdinov (2016), section 5.
    """
    if len(x) < 2 or num_samples < 2 or num_samples % 2:
        raise InputError(
            f"active units need at least 2 rows and an even number of samples, got {len(x)} rows, {num_samples} samples"
        )
    seed = check_seed(seed)
    halves = tf.function(_posterior_means, autograph=False, reduce_retracing=True)
    batches = []
    for first in range(0, len(x), BATCH_SIZE):
        rows = model.checked(x[first : first + BATCH_SIZE])
        key = seeds.key(seed, seeds.Purpose.ACTIVE_UNITS, first)
        batches.append(
            tf.nest.map_structure(lambda t: t.numpy().astype(np.float64), halves(model, rows, key, num_samples))
        )
    activities = []
    for layer in range(len(model.latent_units)):
        one, two = (np.concatenate([batch[layer][half] for batch in batches]) for half in (0, 1))  # [N, H_l]
        activities.append(((one - one.mean(0)) * (two - two.mean(0))).sum(0) / (len(x) - 1))
    return tuple(activities)


def active_units(model, x: np.ndarray, threshold: float = ACTIVE_THRESHOLD, seed: int = 0) -> list[int]:
    """Number of units with activity above `threshold`, one count for each stochastic layer, nearest x first.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D], N >= 2.
        threshold: the paper's 0.01.
        seed: seed of the noise.
    """
    return [int((activity > threshold).sum()) for activity in unit_activities(model, x, seed=seed)]


def _posterior_means(model, x, key, num_samples):
    """E_q[h[l] | x] from either half of the samples: a pair of [B, H_l] for each layer; exact for l = 0."""
    network = model.inference_network
    stage = network.stages[0]
    means = [(stage.head.mean(stage(x)),) * 2]
    if len(network.stages) > 1:
        noise = seeds.normal([num_samples, tf.shape(x)[0], sum(model.latent_units)], key)
        h, _ = network.transform(x, noise)
        for stage, condition in zip(network.stages[1:], h[:-1], strict=True):
            mean = stage.head.mean(stage(condition))  # [k, B, H_l]
            half = num_samples // 2
            means.append((tf.reduce_mean(mean[:half], axis=0), tf.reduce_mean(mean[half:], axis=0)))
    return means
