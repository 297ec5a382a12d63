"""Data sets as arrays, `load("mnist")` or `load("table.csv")`, and the batches that a run trains on."""

from iwae_tf.data.dataset import Column, Dataset
from iwae_tf.data.sources import load

__all__ = ["Column", "Dataset", "load", "training_batches"]


def __getattr__(name: str):
    if name == "training_batches":  # imported lazily: it needs TensorFlow (5 s), arrays do not
        from iwae_tf.data.pipeline import training_batches

        return training_batches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
