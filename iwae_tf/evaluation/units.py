"""Latent units: which of them carry information about x, and the model without the others."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.distributions.gaussian import StandardNormal
from iwae_tf.errors import InputError, check_seed, finite_number, positive_integer
from iwae_tf.models.checks import check_gaussian
from iwae_tf.models.networks import MLP

ACTIVE_THRESHOLD = 0.01
BATCH_SIZE = 100


def unit_activities(model, x: np.ndarray, num_samples: int = 100, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Returns the activity of every latent unit, the variance over x of its posterior mean, Var_x(E_q[u | x]).

    The mean of a binary unit is the probability that it is 1.

    The mean of a unit in the first layer is known exactly. Deeper means are averages over samples of the layers
    below. Their variance would count sampling noise as activity, so it is estimated without bias by the covariance of
    two averages over independent halves of the samples.

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
    x = model.checked(x)
    if len(x) < 2 or positive_integer("num_samples", num_samples) % 2:
        raise InputError(
            f"active units need at least 2 rows and an even number of samples, got {len(x)} rows, {num_samples} samples"
        )
    seed = check_seed(seed)
    means_of_halves = tf.function(_posterior_means, autograph=False, reduce_retracing=True)
    batches = []
    for first in range(0, len(x), BATCH_SIZE):
        key = seeds.key(seed, seeds.Purpose.ACTIVE_UNITS, first)
        batches.append(means_of_halves(model, x[first : first + BATCH_SIZE], key, num_samples))
    activities = []
    for halves in zip(*batches, strict=True):  # of one layer, for every batch
        one, two = (np.concatenate(half).astype(np.float64) for half in zip(*halves, strict=True))  # [N, H_l]
        activities.append(((one - one.mean(0)) * (two - two.mean(0))).sum(0) / (len(x) - 1))
    return tuple(activities)


def active_units(model, x: np.ndarray, threshold: float = ACTIVE_THRESHOLD, seed: int = 0) -> list[int]:
    """Returns the number of units with activity above `threshold` in each stochastic layer, nearest x first.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D], N >= 2.
        threshold: the paper's 0.01.
        seed: seed of the noise.
    """
    threshold = finite_number("threshold", threshold)
    return [int((activity > threshold).sum()) for activity in unit_activities(model, x, seed=seed)]


def _posterior_means(model, x, key, num_samples):
    """Returns E_q[h[l] | x] from either half of the samples: a pair of [B, H_l] for each layer; exact for l = 0."""
    first, *others = model.inference_network.stages
    means = [(first.head.mean(first(x)),) * 2]
    if others:
        noise = seeds.normal([num_samples, tf.shape(x)[0], sum(model.latent_units)], key)
        h, _ = model.inference_network.transform(x, noise)
        for stage, condition in zip(others, h[:-1], strict=True):
            halves = tf.split(stage.head.mean(stage(condition)), 2)  # each [k / 2, B, H_l]
            means.append(tuple(tf.reduce_mean(half, axis=0) for half in halves))
    return means


class _Units(NamedTuple):
    """Units of one layer: which are kept, bool [H_l], and the constants that readers get for the others, [H_l]."""

    kept: np.ndarray
    constants: np.ndarray


def pruned(model, activities: Sequence[np.ndarray], threshold: float = ACTIVE_THRESHOLD):
    """Returns the model without its inactive latent units.

    A layer that reads units h with the kernel W reads, if all but the units K are dropped,

        h W + b  ->  h[K] W[K] + (b + sum_{u not in K} c_u W[u])

    and the columns of the dropped units are removed from the heads that compute `loc` and `log_scale` of q(h_l | .)
    and p(h_l | h_{l+1}). The constant c_u is the unit's mean under the generative network, with all layers above at
    their means: 0 in the top layer, where the prior is N(0, I), and `loc` of p(h_l | h_{l+1} = c) below. No prior
    pulls those means to 0, and a reader may use an inactive unit with mean 1 as a bias.

    Where q(u | .) = p(u | .) is the same for every x, and no network reads u, every log-weight stays as it is. The
    activity has the unit of h: below the top layer, where a scale can be small, low activity may carry information.

    Args:
        model: an `iwae_tf.IWAE`.
        activities: of every unit, one array [H_l] for each layer, from `iwae_tf.evaluation.unit_activities`.
        threshold: units with an activity above it are kept; the paper's 0.01. In a layer without such a unit the most
            active one is kept, with a warning.

    Returns:
        A new `IWAE` with fewer `latent_units` and otherwise the same configuration; not compiled.

    Raises:
        InputError: (a `ValueError`) for activities that do not fit the model or are not finite, a threshold that is
            no number, or a model without Gaussian units, or with networks or a prior of the user's.

    Reference: Burda, Grosse, Salakhutdinov (2016), section 5.2, which finds that the likelihood hardly changes.
    """
    check_prunable(model)
    kept = _kept(_checked(model, activities), threshold)
    config = {**model.get_config(), "latent_units": tuple(int(mask.sum()) for mask in kept)}
    smaller = type(model).from_config(config)
    units = [_Units(*layer) for layer in zip(kept, _constants(model.generative_network), strict=True)]
    below = [None, *units[:-1]]  # the layer that q(h_l | .) reads and p(. | h_l) makes; x has no units to drop
    for old, new, read, made in (
        (model.inference_network, smaller.inference_network, below, units),
        (model.generative_network, smaller.generative_network, units, below),
    ):
        for stages in zip(old.stages, new.stages, read, made, strict=True):
            _copy_stage(*stages)
    return smaller


def check_prunable(model) -> None:
    """Raises `InputError` for a model without Gaussian units, or with networks or a prior of the user's."""
    check_gaussian(model, "pruning", "a unit that is 0 or 1 cannot be replaced by its mean")
    ends = (model.inference_network.stages[0], model.generative_network.likelihood_stage)
    own_networks = all(isinstance(stage.hidden, MLP) for stage in ends)
    if not own_networks or not isinstance(model.generative_network.prior, StandardNormal):
        raise InputError(
            "pruning needs the package's tanh networks and the prior N(0, I), this model has an encoder, decoder or "
            "prior of its own: leave pruning (--prune) out"
        )


def _checked(model, activities) -> list[np.ndarray]:
    activities = [np.asarray(activity, np.float64) for activity in activities]
    shapes = [activity.shape for activity in activities]
    if shapes != [(units,) for units in model.latent_units] or not all(np.isfinite(a).all() for a in activities):
        raise InputError(
            f"activities must be finite, one for each unit of the layers {model.latent_units}, got arrays of shapes "
            f"{shapes}: take them from iwae_tf.evaluation.unit_activities(model, x)"
        )
    return activities


def _kept(activities: list[np.ndarray], threshold: float) -> list[np.ndarray]:
    """Returns a mask of the units that stay, bool [H_l] for each layer, at least one in each."""
    threshold = finite_number("threshold", threshold)
    kept = [activity > threshold for activity in activities]
    for number, (mask, activity) in enumerate(zip(kept, activities, strict=True), start=1):
        if not mask.any():
            mask[np.argmax(activity)] = True
            warnings.warn(
                f"no unit of stochastic layer {number} is above {threshold:g}: its most active one, unit "
                f"{np.argmax(activity)} with {activity.max():.2g}, is kept",
                stacklevel=3,
            )
    return kept


def _constants(network) -> list[np.ndarray]:
    """Returns the mean of each layer given the mean of the layer above, 0 at the top: [H_l] each, nearest x first."""
    means = [network.prior.mean()[None]]
    for stage in reversed(network.stages[1:]):
        means.append(stage.head.mean(stage(means[-1])))
    return [mean.numpy()[0] for mean in reversed(means)]


def _copy_stage(old, new, read: _Units | None, made: _Units | None) -> None:
    """Copies a conditional distribution; None if no unit is dropped of those it reads, or of those it makes."""
    for number, (source, target) in enumerate(zip(old.hidden.dense, new.hidden.dense, strict=True)):
        _copy_dense(source, target, None if number else read, None)
    heads = zip(*(getattr(stage.head, "heads", [stage.head]) for stage in (old, new)), strict=True)  # of columns
    for old_head, new_head in heads:
        outputs = {name: layer for name, layer in vars(old_head).items() if hasattr(layer, "kernel")}
        for name, source in outputs.items():
            _copy_dense(source, getattr(new_head, name), None if old.hidden.dense else read, made)
        # Other weights of a head do not depend on the features, e.g. degrees of freedom.
        copied = {id(weight) for layer in outputs.values() for weight in layer.weights}
        for source, target in zip(old_head.weights, new_head.weights, strict=True):
            if id(source) not in copied:
                target.assign(source)


def _copy_dense(source, target, read: _Units | None, made: _Units | None) -> None:
    """Copies x W + b without the rows of the dropped inputs and the columns of the dropped outputs."""
    kernel, bias = (variable.numpy() for variable in (source.kernel, source.bias))
    if read is not None:
        bias = bias + read.constants[~read.kept] @ kernel[~read.kept]
        kernel = kernel[read.kept]
    if made is not None:
        kernel, bias = kernel[:, made.kept], bias[made.kept]
    target.kernel.assign(kernel)
    target.bias.assign(bias)
