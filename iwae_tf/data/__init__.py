"""Data sets as arrays: `load("mnist")`, `load("digits")`, `load("my_images.npz")`."""

from iwae_tf.data.dataset import Dataset
from iwae_tf.data.loading import load

__all__ = ["Dataset", "load"]
