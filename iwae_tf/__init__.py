"""Importance weighted autoencoders in TensorFlow/Keras: train them, and estimate log p(x).

`IWAE` is the model, `objectives` its training objectives, `evaluation` estimates log p(x), `data` loads data sets,
`layers` has building blocks for networks and likelihoods, `serving` exports SavedModels that score.
"""

import importlib

from iwae_tf.errors import InputError, missing_package
from iwae_tf.version import __version__

__all__ = ["IWAE", "InputError", "__version__", "data", "evaluation", "layers", "objectives", "serving"]


def __getattr__(name: str):
    """Imports on first use, since TensorFlow takes 5 s that `--help` and a client of a server need not wait for."""
    if name in ("IWAE", "layers", "objectives"):
        check_keras()
    if name == "IWAE":
        return importlib.import_module("iwae_tf.models.iwae").IWAE
    if name in __all__:
        return importlib.import_module(f"iwae_tf.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def check_keras() -> None:
    """Raises `InputError` if Keras' global settings exclude TensorFlow, or float32 for what an optimiser holds."""
    settings = "KERAS_BACKEND, or keras.json in ~/.keras or KERAS_HOME"
    try:
        import keras
    except (ImportError, AssertionError, ValueError) as error:  # a backend without its package, a value out of range
        if isinstance(error, ModuleNotFoundError) and error.name in ("keras", "tensorflow"):
            raise missing_package(error) from None
        raise InputError(
            f"Keras cannot be imported ({type(error).__name__}: {error}): is the backend in {settings}, tensorflow?"
        ) from None
    backend, floatx = keras.config.backend(), keras.config.floatx()
    if backend != "tensorflow":
        raise InputError(f"Keras' backend is {backend}, and tensorflow is needed: set it in {settings}")
    if floatx not in ("float32", "float64"):
        raise InputError(f"Keras' floatx is {floatx}, which rounds learning rates: set float32 in keras.json")
