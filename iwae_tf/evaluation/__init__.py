"""Evaluation: log p(x), the bounds on it, and the information in the latent units.

The names are imported on first use, so that `iwae_tf.evaluation.compare` costs no import of TensorFlow (5 s).
"""

import importlib

# The names of each module. No module has the name of a function: importing it would hide the function.
_NAMES = {
    "estimate": ("PAPER_SAMPLE_SIZES", "LikelihoodEstimate", "estimate_log_likelihood"),
    "annealing": ("AnnealedEstimate", "BidirectionalBounds", "annealed_log_likelihood", "bidirectional_bounds"),
    "bias": ("Deviation", "JackknifeEstimate", "deviation", "jackknife", "jackknife_log_likelihood"),
    "compare": ("Comparison", "compare_refits", "compare_scores", "compare_with_first", "mean_scores"),
    "amortisation": ("InferenceGap", "inference_gap"),
    "imputation": ("impute", "impute_draws"),
    "posterior": ("posterior_expectation", "posterior_samples"),
    "units": ("active_units", "pruned", "unit_activities"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
