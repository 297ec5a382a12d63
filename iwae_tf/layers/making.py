"""Makes the likelihood of a model, of ours or of a user."""

import keras

from iwae_tf.errors import InputError
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
