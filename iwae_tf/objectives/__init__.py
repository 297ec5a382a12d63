"""Objectives: what is maximised, as functions of the log importance weights.

The classes of `registry.OBJECTIVES`, their base class `Objective` and the callback `KLAnnealing`; a class is imported
when it is first used, so that the command line can list them without TensorFlow.
"""

import importlib

from iwae_tf.objectives.registry import OBJECTIVES, objective_class

_CLASSES = {cls: module for module, cls, _ in OBJECTIVES.values()}
_CLASSES["Objective"] = _CLASSES["GradientWeights"] = "iwae_tf.objectives.objective"
_CLASSES["KLAnnealing"] = "iwae_tf.objectives.kl_annealing"

__all__ = ["OBJECTIVES", "objective_class", *_CLASSES]


def __getattr__(name: str):
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
