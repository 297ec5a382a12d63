"""Observation models and kinds of latent units by name."""

from iwae_tf.errors import InputError
from iwae_tf.registry import registered_class

# name -> (module, class, when one would use it). A new likelihood is one layer and one line here.
LIKELIHOODS = {
    "bernoulli": ("iwae_tf.layers.bernoulli", "Bernoulli", "binary pixels, drawn from intensities"),
    "categorical": ("iwae_tf.layers.categorical", "Categorical", "few grey levels, a softmax over them"),
    "continuous-bernoulli": (
        "iwae_tf.layers.continuous_bernoulli",
        "ContinuousBernoulli",
        "intensities in [0, 1] as they are, a density",
    ),
    "discretized-logistic": (
        "iwae_tf.layers.discretized_logistic",
        "DiscretizedLogistic",
        "grey levels, a mixture that knows their order",
    ),
    "gaussian": ("iwae_tf.layers.gaussian", "DiagonalGaussian", "real values, learned mean and scale for each"),
    "student-t": ("iwae_tf.layers.student_t", "StudentT", "real values with outliers"),
}
LATENTS = {
    "gaussian": ("iwae_tf.layers.gaussian", "DiagonalGaussian", "real units, a standard normal prior"),
    "bernoulli": (
        "iwae_tf.layers.bernoulli",
        "Bernoulli",
        "binary units: a sigmoid belief network; for rws, rws-sleep, vimco and tvo",
    ),
}
PRIORS = {  # of the top layer, for each kind of latent units
    "gaussian": ("iwae_tf.layers.standard_normal", "StandardNormal", "N(0, I)"),
    "bernoulli": ("iwae_tf.layers.bernoulli_prior", "BernoulliPrior", "learned logits"),
}


def likelihood_class(name: str) -> type:
    """The layer class of an observation model: one of ours, or a user's by the name that Keras registered it under.

    Raises:
        InputError: for an unknown name.
    """
    if name not in LIKELIHOODS and ">" in str(name):
        import keras

        registered = keras.saving.get_registered_object(name)
        if registered is None:
            raise InputError(f"nothing is registered as {name!r}: import the module of this likelihood before")
        return registered
    return registered_class("likelihood", name, LIKELIHOODS)


def latent_class(name: str) -> type:
    """The layer class that ends q(h_l | .) and p(h_l | .); raises `InputError` for an unknown name."""
    return registered_class("latent", name, LATENTS)


def prior_class(latent: str) -> type:
    """The class of p(h_L), the prior of the top layer, made with the number of units."""
    return registered_class("latent", latent, PRIORS)


def check_gaussian(latent: str, what: str, reason: str) -> None:
    """Raises `InputError` unless the latent units are Gaussian.

    Args:
        latent: a key of `LATENTS`.
        what: what is there for Gaussian units only.
        reason: why.
    """
    if latent != "gaussian":
        raise InputError(f"{what} exists for Gaussian units, this model's are {latent}: {reason}")
