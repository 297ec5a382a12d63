"""Objectives by name."""

from iwae_tf.registry import registered_class

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
    return registered_class("objective", name, OBJECTIVES)
