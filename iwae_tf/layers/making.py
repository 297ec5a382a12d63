"""Makes the likelihood of a model, of ours or of a user, and looks at a user's prior."""

import keras
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.errors import InputError
from iwae_tf.layers.folded import check_stateless
from iwae_tf.layers.likelihood import Likelihood
from iwae_tf.layers.registry import likelihood_class


def likelihood_name(likelihood: str | type) -> str:
    """The name that a likelihood is saved under: one of ours, or what Keras registered a user's class as.

    Raises:
        InputError: a class that is no `Likelihood`, or that Keras could not find again.
    """
    if not isinstance(likelihood, type):
        return likelihood
    if not issubclass(likelihood, Likelihood):
        raise InputError(f"a likelihood is a name or a class derived from iwae_tf.layers.Likelihood, got {likelihood}")
    name = keras.saving.get_registered_name(likelihood)
    if keras.saving.get_registered_object(name) is not likelihood:
        raise InputError(
            f"{likelihood.__name__} has to be found again when a model is loaded: decorate it with "
            "@keras.saving.register_keras_serializable(PACKAGE)"
        )
    return name


def make_likelihood(name: str, data_dim: int, initializer_seeds, data_mean, levels: int | None) -> Likelihood:
    """The layer p(x | features).

    Args:
        name: from `likelihood_name`.
        data_dim: D.
        initializer_seeds: iterator of initialiser seeds.
        data_mean: mean of the training data [D], or None.
        levels: number of values that an observation can have, for the likelihoods that are over levels.

    Raises:
        InputError: an unknown name, or levels that are missing, out of range, or not for this likelihood.
    """
    made = likelihood_class(name)
    if made.needs_levels:
        if levels is None:
            raise InputError(
                f"the likelihood {name} needs levels (--levels), the number of values that a pixel can have: 256 for "
                "8-bit grey values"
            )
        return made(data_dim, initializer_seeds, mean=data_mean, levels=levels)
    if levels is not None:
        raise InputError(f"levels (--levels {levels}) are for likelihoods over levels, not for {name}: leave them out")
    return made(data_dim, initializer_seeds, mean=data_mean)


def checked_prior(prior: keras.layers.Layer, units: int) -> keras.layers.Layer:
    """A user's prior of the top layer, if it can be one.

    Args:
        prior: a Keras layer with `log_prob(h)`, [..., H] -> [...] in nats, and `sample(n, key)`, float32 [n, H].
        units: H.

    Raises:
        InputError: it is no layer, lacks a method, or a method gives another shape.
    """
    if not isinstance(prior, keras.layers.Layer) or not (hasattr(prior, "log_prob") and hasattr(prior, "sample")):
        raise InputError(f"prior must be a Keras layer with log_prob(h) and sample(n, key), got {prior!r}")
    drawn = tuple(prior.sample(3, seeds.key(0, seeds.Purpose.SAMPLE)).shape)
    if drawn != (3, units):
        raise InputError(f"prior must give sample(3, key) of shape {(3, units)}, got {drawn}")
    log_p = tuple(prior.log_prob(tf.zeros([2, 3, units])).shape)
    if log_p != (2, 3):
        raise InputError(f"prior must give log_prob of h of shape {(2, 3, units)} as (2, 3), got {log_p}")
    check_stateless(prior, "prior")
    return prior
