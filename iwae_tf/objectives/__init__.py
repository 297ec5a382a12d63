"""Objectives: bounds on log p(x) with estimators of their gradient, as functions of the log importance weights.

Every class that `OBJECTIVES` lists, their base class `Objective`, `GradientWeights` and the callback `KLAnnealing`.
Classes are imported on first use, so that the command line lists them without TensorFlow.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from iwae_tf.declarations import declared, find
from iwae_tf.errors import InputError

OBJECTIVES = declared("objective")  # name -> declaration, of this package; `declared` adds those of plugins
_MODULES = {declaration.attribute: declaration.module for declaration in OBJECTIVES.values()}
_MODULES["Objective"] = _MODULES["GradientWeights"] = "iwae_tf.objectives.objective"
_MODULES["KLAnnealing"] = "iwae_tf.objectives.bounds"

__all__ = ["OBJECTIVES", "build_objective", "objective_class", *_MODULES]


def __getattr__(name: str):
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def objective_class(name: str) -> type:
    """Returns the class of a declared objective; raises `InputError` for an unknown name."""
    return find("objective", name).load()


def build_objective(name: str, num_samples: int, settings: Mapping[str, Any]):
    """Builds a declared objective.

    Args:
        name: declared name.
        num_samples: k.
        settings: its own settings, and `backward_samples`.

    Raises:
        InputError: an unknown name, a setting that the objective does not have, or values out of range.
    """
    declaration = find("objective", name)
    for setting in settings:
        if setting not in (*declaration.settings, "backward_samples"):
            owners = [other for other, known in declared("objective").items() if setting in known.settings]
            flag = "--" + setting.replace("_", "-")
            raise InputError(f"objective {name!r} has no {flag}; it belongs to {', '.join(owners)}")
    return declaration.load()(num_samples, **settings)
