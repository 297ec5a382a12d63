"""Objectives: bounds on log p(x) with estimators of their gradient, as functions of the log importance weights.

Every class that `declared("objective")` lists, their base class `Objective`, `GradientWeights` and the callback
`KLAnnealing`. Classes are imported on first use, so that the command line lists them without TensorFlow.
"""

import importlib

from iwae_tf.declarations import declared

_MODULES = {declaration.attribute: declaration.module for declaration in declared("objective").values()}
_MODULES["Objective"] = _MODULES["GradientWeights"] = "iwae_tf.objectives.objective"
_MODULES["KLAnnealing"] = "iwae_tf.objectives.bounds"

__all__ = list(_MODULES)


def __getattr__(name: str):
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
