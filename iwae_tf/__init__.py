"""Importance weighted autoencoders in TensorFlow/Keras: train them, and estimate log p(x).

`IWAE` is the model, `objectives` its training objectives, `evaluation` estimates log p(x), `data` loads data sets,
`layers` has building blocks for networks and likelihoods, `serving` exports SavedModels that score.
"""

import importlib

from iwae_tf.errors import InputError
from iwae_tf.version import __version__

__all__ = ["IWAE", "InputError", "__version__", "data", "evaluation", "layers", "objectives", "serving"]


def __getattr__(name: str):
    """Imports on first use, since TensorFlow takes 5 s that `--help` and a client of a server need not wait for."""
    if name == "IWAE":
        return importlib.import_module("iwae_tf.models.iwae").IWAE
    if name in __all__:
        return importlib.import_module(f"iwae_tf.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
