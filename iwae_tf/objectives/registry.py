"""Objectives by name; does not import TensorFlow until one is asked for."""

import importlib

from iwae_tf.errors import unknown_name

# name -> (module, class, when one would use it). A new objective is one file and one line here.
OBJECTIVES = {
    "elbo": ("iwae_tf.objectives.elbo", "ELBO", "the VAE's bound; k samples lower its variance"),
    "elbo-kl": ("iwae_tf.objectives.elbo_kl", "AnalyticKLELBO", "the same with the KL in closed form, one layer only"),
    "iwae": ("iwae_tf.objectives.iwae", "IWAEBound", "the k-sample bound of the paper"),
    "dreg": ("iwae_tf.objectives.dreg", "DReG", "the same bound, better gradient of the inference network"),
    "stl": ("iwae_tf.objectives.stl", "STL", "the same bound, no score term; biased for k > 1, little noise"),
}


def objective_class(name: str) -> type:
    """The class of an objective; raises `InputError` for an unknown name."""
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES)
    module, cls, _ = OBJECTIVES[name]
    return getattr(importlib.import_module(module), cls)
