"""Observation models by name."""

from iwae_tf.registry import registered_class

# name -> (module, class, when one would use it). A new likelihood is one layer and one line here.
LIKELIHOODS = {
    "bernoulli": ("iwae_tf.layers.bernoulli", "Bernoulli", "binary pixels"),
    "gaussian": ("iwae_tf.layers.gaussian", "DiagonalGaussian", "real values, learned mean and scale for each"),
}


def likelihood_class(name: str) -> type:
    """The layer class of an observation model; raises `InputError` for an unknown name."""
    return registered_class("likelihood", name, LIKELIHOODS)
