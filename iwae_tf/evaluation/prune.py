"""A smaller model: the same networks without the latent units that carry no information."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from iwae_tf.errors import InputError
from iwae_tf.evaluation.active_units import ACTIVE_THRESHOLD
from iwae_tf.layers.mlp import MLP
from iwae_tf.layers.readout import Readout
from iwae_tf.layers.registry import check_gaussian
from iwae_tf.layers.standard_normal import StandardNormal


class _Units(NamedTuple):
    """What becomes of the units of one stochastic layer.

    Attributes:
        kept: bool [H_l].
        constants: what those that are dropped are replaced by where they are read, float32 [H_l].
    """

    kept: np.ndarray
    constants: np.ndarray


def pruned(model, activities: Sequence[np.ndarray], threshold: float = ACTIVE_THRESHOLD):
    """The model without its inactive latent units.

    A network that reads units h with the kernel W reads, where all but the units K are dropped,

        h W + b  ->  h[K] W[K] + (b + sum_{u not in K} c_u W[u])

    and the columns of the dropped units go from the heads that make `loc` and `log_scale` of q(h_l | .) and
    p(h_l | h_{l+1}). The constant c_u is the mean that the generative network gives the unit where all above are at
    theirs: 0 in the top layer, where the prior is N(0, I), and `loc` of p(h_l | h_{l+1} = c) below. There no prior
    pulls the mean of a unit to 0, and a bias may have come to rely on it: an inactive unit at 1 is read as 1.

    Where q(u | .) = p(u | .) is the same for every x, and no network reads u, every log-weight stays as it is. The
    activity has the unit of h: below the top layer, where a scale can be small, a small one may carry information.

    Args:
        model: an `iwae_tf.IWAE`.
        activities: of every unit, one array [H_l] for each layer, from `iwae_tf.evaluation.unit_activities`.
        threshold: units with an activity above it are kept; the paper's 0.01. Of a layer without any the most active
            unit is kept, with a warning.

    Returns:
        A new `IWAE` with fewer `latent_units` and all else as in the model; not compiled.

    Raises:
        InputError: (a `ValueError`) for activities that do not fit the model or are not finite, a threshold that is
            no number, or a model without Gaussian units, or with networks or a prior of the user's.

    Reference: Burda, Grosse, Salakhutdinov (2016), section 5.2, which finds that the likelihood hardly changes.
    """
    check_gaussian(model.latent, "pruning", "a unit that is 0 or 1 cannot be replaced by its mean")
    _check_networks(model)
    kept = _kept(_checked(model, activities), threshold)
    config = {**model.get_config(), "latent_units": tuple(int(mask.sum()) for mask in kept)}
    smaller = type(model).from_config(config)
    units = [_Units(*layer) for layer in zip(kept, _constants(model.generative_network), strict=True)]
    below = [None, *units[:-1]]  # what each stage q(h_l | .) reads and each p(. | h_l) makes; x has no units to drop
    for networks, reads, makes in (
        ((model.inference_network, smaller.inference_network), below, units),
        ((model.generative_network, smaller.generative_network), units, below),
    ):
        for old, new, read, made in zip(*(network.stages for network in networks), reads, makes, strict=True):
            _copy_stage(old, new, read, made)
    return smaller


def _check_networks(model) -> None:
    stages = (model.inference_network.stages[0], model.generative_network.likelihood_stage)
    ours = all(isinstance(stage.hidden, MLP) for stage in stages)
    if not ours or not isinstance(model.generative_network.prior, StandardNormal):
        raise InputError("pruning knows the tanh networks and the prior N(0, I), this model has others: leave it out")


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
    """Which units stay, bool [H_l] for each layer, at least one in each."""
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not np.isfinite(threshold):
        raise InputError(f"threshold must be a finite number, got {threshold!r}")
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
    """The mean of each layer given that of the layer above, 0 at the top: [H_l] each, nearest x first."""
    mean = network.prior.mean()[None]
    means = [mean]
    for stage in reversed(network.stages[1:]):
        mean = stage.head.mean(stage(mean))
        means.append(mean)
    return [mean.numpy()[0] for mean in reversed(means)]


def _copy_stage(old, new, read: _Units | None, made: _Units | None) -> None:
    """Copies a conditional distribution; None where no unit is dropped of what it reads, or of what it makes."""
    heads = {name: layer for name, layer in vars(old.head).items() if isinstance(layer, Readout)}
    for source, target in zip(old.hidden.dense, new.hidden.dense, strict=True):
        _copy_dense(source, target, read if source is old.hidden.dense[0] else None, None)
    for name, source in heads.items():
        _copy_dense(source, getattr(new.head, name), None if old.hidden.dense else read, made)
    for source, target in zip(_own_weights(old.head), _own_weights(new.head), strict=True):
        target.assign(source)


def _own_weights(head) -> list:
    """What a head learns for each dimension of x whatever the features, such as degrees of freedom."""
    dense = [layer for layer in vars(head).values() if isinstance(layer, keras.layers.Layer)]
    of_dense = {id(weight) for layer in dense for weight in layer.weights}
    return [weight for weight in head.weights if id(weight) not in of_dense]


def _copy_dense(source, target, read: _Units | None, made: _Units | None) -> None:
    """Copies x W + b without the rows of what is no longer read and the columns of what is no longer made."""
    kernel, bias = (variable.numpy() for variable in (source.kernel, source.bias))
    if read is not None:
        bias = bias + read.constants[~read.kept] @ kernel[~read.kept]
        kernel = kernel[read.kept]
    if made is not None:
        kernel, bias = kernel[:, made.kept], bias[made.kept]
    target.kernel.assign(kernel)
    target.bias.assign(bias)
