"""Observation models by name; does not import TensorFlow until one is asked for."""

import importlib

from iwae_tf.errors import unknown_name

# name -> (module, class, when one would use it). A new likelihood is one layer and one line here.
LIKELIHOODS = {
    "bernoulli": ("iwae_tf.layers.bernoulli", "Bernoulli", "binary pixels"),
    "gaussian": ("iwae_tf.layers.gaussian", "DiagonalGaussian", "real values, learned mean and scale for each"),
}


def likelihood_class(name: str) -> type:
    """The layer class of an observation model; raises `InputError` for an unknown name."""
    if name not in LIKELIHOODS:
        raise unknown_name("likelihood", name, LIKELIHOODS)
    module, cls, _ = LIKELIHOODS[name]
    return getattr(importlib.import_module(module), cls)
