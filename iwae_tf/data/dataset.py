"""What every loader returns: three arrays of images as they were read, and how to read their values."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images in three parts, flattened, in the number format of their file.

    Attributes:
        name: short name, part of the run folder's name.
        x_train: uint8 or float32 [N_train, D].
        x_valid: the same [N_valid, D]; N_valid is 0 where a user's file has no validation part.
        x_test: the same [N_test, D].
        scale: intensities in [0, 1] are `x / scale` (255 for 8-bit grey values, 1 for 0/1 pixels and floats).
        image_shape: (height, width) with height * width = D; (1, D) for rows that are no pictures.
        source: one line on where the arrays came from.
        split: one line on how the three parts were made.
    """

    name: str
    x_train: np.ndarray
    x_valid: np.ndarray
    x_test: np.ndarray
    scale: float
    image_shape: tuple[int, int]
    source: str
    split: str

    @property
    def data_dim(self) -> int:
        """D, the number of pixels of an image."""
        return self.x_train.shape[1]

    @property
    def levels(self) -> int | None:
        """How many equally spaced values a pixel can have: scale + 1 for integers, None for floats."""
        return int(self.scale) + 1 if self.x_train.dtype == np.uint8 else None

    def intensities(self, part: str) -> np.ndarray:
        """The images of `part` ("train", "valid" or "test") as float32 in [0, 1], [N, D]."""
        x = getattr(self, f"x_{part}")
        return x.astype(np.float32) / np.float32(self.scale)

    def train_mean(self) -> np.ndarray:
        """Mean intensity of every pixel over the training images, float32 [D]."""
        return (self.x_train.mean(axis=0, dtype=np.float64) / self.scale).astype(np.float32)
