"""Evaluation: log p(x), the bounds on it, and the information in the latent units.

The names are imported on first use, so that `iwae_tf.evaluation.compare` costs no import of TensorFlow (5 s).
"""

import importlib

# name -> module that defines it. No module has the name of a function: importing it would hide the function.
_MODULES = {
    "PAPER_SAMPLE_SIZES": "estimate",
    "AnnealedEstimate": "annealing",
    "BidirectionalBounds": "annealing",
    "Comparison": "compare",
    "Deviation": "bias",
    "JackknifeEstimate": "bias",
    "LikelihoodEstimate": "estimate",
    "active_units": "units",
    "annealed_log_likelihood": "annealing",
    "bidirectional_bounds": "annealing",
    "compare_scores": "compare",
    "compare_with_first": "compare",
    "deviation": "bias",
    "estimate_log_likelihood": "estimate",
    "jackknife": "bias",
    "jackknife_log_likelihood": "bias",
    "posterior_expectation": "posterior",
    "posterior_samples": "posterior",
    "pruned": "units",
    "unit_activities": "units",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
