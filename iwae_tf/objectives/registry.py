"""Objectives by name."""

from typing import Any

from iwae_tf.errors import InputError
from iwae_tf.registry import registered_class

# name -> (module, class, when one would use it). A new objective is one file and one line here.
OBJECTIVES = {
    "elbo": ("iwae_tf.objectives.elbo", "ELBO", "the VAE's bound; k samples lower its variance"),
    "elbo-kl": (
        "iwae_tf.objectives.elbo_kl",
        "AnalyticKLELBO",
        "the same with the KL in closed form; one Gaussian layer only",
    ),
    "iwae": ("iwae_tf.objectives.iwae", "IWAEBound", "the k-sample bound of the paper; k = 1 is the VAE"),
    "dreg": (
        "iwae_tf.objectives.dreg",
        "DReG",
        "L_k, unbiased, with less noise for the inference network: the first to try",
    ),
    "stl": (
        "iwae_tf.objectives.stl",
        "STL",
        "L_k without the score term: biased for k > 1, no noise where q is the posterior",
    ),
    "miwae": (
        "iwae_tf.objectives.miwae",
        "MIWAE",
        "mean of M bounds of k / M samples: more signal for the inference network",
    ),
    "piwae": ("iwae_tf.objectives.piwae", "PIWAE", "iwae for the generative network, miwae for the inference network"),
    "ciwae": (
        "iwae_tf.objectives.ciwae",
        "CIWAE",
        "beta elbo + (1 - beta) iwae: some of the ELBO's signal in a tight bound",
    ),
    "vr-iwae": (
        "iwae_tf.objectives.vr_iwae",
        "VRIWAE",
        "Renyi bound of order alpha, from iwae (0) to elbo (1): a looser bound, evener weights",
    ),
    "vr-max": (
        "iwae_tf.objectives.vr_max",
        "VRMax",
        "gradient of the best sample alone; with --backward-samples 1 the cheapest",
    ),
    "jvi": ("iwae_tf.objectives.jvi", "JVI", "L_k with its bias in k jackknifed away: near log p(x), but no bound"),
    "dreg-alpha": ("iwae_tf.objectives.dreg_alpha", "DReGAlpha", "between dreg (alpha = 0) and rws-dreg (1)"),
    "rws-dreg": (
        "iwae_tf.objectives.rws_dreg",
        "RWSDReG",
        "rws with its score reparameterised: q covers the posterior, less noise",
    ),
    "rws": ("iwae_tf.objectives.rws", "RWS", "reweighted wake-sleep, wake phase for both networks; binary units too"),
    "rws-sleep": (
        "iwae_tf.objectives.rws_sleep",
        "RWSSleep",
        "the same with the sleep phase for q, on draws of the model; binary units too",
    ),
    "vimco": (
        "iwae_tf.objectives.vimco",
        "VIMCO",
        "L_k, unbiased by score functions: the first to try with binary units",
    ),
    "tvo": (
        "iwae_tf.objectives.tvo",
        "TVO",
        "thermodynamic bound between elbo and log p(x), K points; binary units too",
    ),
}

# objective -> the settings that it has beside those of all objectives; see `iwae_tf.config.ObjectiveConfig`
PARAMETERS = {
    "elbo": ("kl_annealing",),
    "elbo-kl": ("kl_annealing",),
    "miwae": ("groups",),
    "piwae": ("groups",),
    "ciwae": ("beta", "learn_beta"),
    "vr-iwae": ("alpha",),
    "dreg-alpha": ("alpha",),
    "jvi": ("order",),
    "tvo": ("points",),
}


def objective_class(name: str) -> type:
    """The class of an objective; raises `InputError` for an unknown name."""
    return registered_class("objective", name, OBJECTIVES)


def name_of(objective: type) -> str:
    """The name of an objective's class, for messages: its own where it is not registered."""
    names = {cls: name for name, (_, cls, _) in OBJECTIVES.items()}
    return names.get(objective.__name__, objective.__name__)


def check_parameters(name: str, given: dict[str, Any]) -> None:
    """Raises `InputError` for a setting that the objective does not have. Imports no TensorFlow.

    Args:
        name: of the objective.
        given: names and values of settings, as `ObjectiveConfig.given`.
    """
    for parameter in given:
        if parameter not in (*PARAMETERS.get(name, ()), "backward_samples"):
            having = [other for other, parameters in PARAMETERS.items() if parameter in parameters]
            flag = "--" + parameter.replace("_", "-")
            raise InputError(f"objective {name!r} has no {flag}; it belongs to {', '.join(having)}")
