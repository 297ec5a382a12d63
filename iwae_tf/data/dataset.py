"""`Dataset`: rows in three splits; pixels are built from arrays after checks of their shape, dtype and values."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from iwae_tf.errors import InputError

SPLITS = ("train", "valid", "test")

# Seed of the one draw of validation images; a constant, so that every run trains on the same images.
_VALIDATION_SEED = 20160501

UNSEEN = -1.0  # stands for a text that is not among the categories of its column


class Column(NamedTuple):
    """A column of raw values, in the order of a data set's rows.

    Attributes:
        name: as in the file, or "0", "1", ... for arrays.
        kind: "real", "binary" (0 or 1), "count" (integers >= 0) or "category".
        categories: of a category column its values as text, sorted. The array holds the index 0 ... C-1 of the one
            that equals the text, byte for byte; NaN for the empty text, which is missing; `UNSEEN` for all others.
    """

    name: str
    kind: str
    categories: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Rows in three splits: flattened images in the number format of their file, or raw values in columns.

    Attributes:
        name: short name, used in the name of the run folder.
        x_train: uint8 or float32 [N_train, D]; with columns float32, where NaN is a missing value.
        x_valid: the same [N_valid, D]; N_valid is 0 if a user's file has no validation images.
        x_test: the same [N_test, D].
        scale: intensities in [0, 1] are `x / scale` (255 for 8-bit grey values, 1 for 0/1 pixels, floats and columns).
        image_shape: (height, width) with height * width = D; (1, D) for rows that are not images; (height, 3 * width)
            for colour images, the three colours of a pixel side by side.
        source: one line, the files or the package that the arrays come from.
        split: one line, how the three splits were made.
        columns: D columns of raw values; empty for pixels in [0, 1].
        ids: split -> names of its rows, [N] text or numbers; empty without an id column.
        labels: split -> known outcomes of its rows, [N] text or numbers; empty without a label column.
        colours: whether rows are images of three colours.
    """

    name: str
    x_train: np.ndarray
    x_valid: np.ndarray
    x_test: np.ndarray
    scale: float
    image_shape: tuple[int, int]
    source: str
    split: str
    columns: tuple[Column, ...] = ()
    ids: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    colours: bool = False

    @classmethod
    def from_arrays(cls, name: str, arrays: dict[str, np.ndarray], source: str, split: str) -> "Dataset":
        """Returns a data set of checked and flattened images; uint8 arrays are not copied.

        Args:
            name: see `Dataset`.
            arrays: "x_train", "x_test" and optionally "x_valid"; each uint8, bool or float in [0, 1], of shape
                [N, D], [N, H, W] or [N, H, W, 1]. uint8 means 0/1 pixels if no value in any split is above 1, and
                grey values in 0 to 255 otherwise.
            source: see `Dataset`; errors begin with it.
            split: see `Dataset`.

        Raises:
            InputError: an array is empty, or has another shape, dtype or range of values, or the arrays differ.
        """
        shapes, formats, flat = {}, {}, {}
        for key, x in arrays.items():
            shapes[key], formats[key], flat[key] = _checked(x, f"{source}: {key}")
        for kind, values in (("images of (height, width)", shapes), ("numbers", formats)):
            if len(set(values.values())) > 1:
                found = ", ".join(f"{key} {value}" for key, value in values.items())
                raise InputError(f"{source}: the arrays hold different {kind}: {found}; expected the same in all")
        x_train, x_test = flat["x_train"], flat["x_test"]
        x_valid = flat.get("x_valid", x_train[:0])
        grey = x_train.dtype == np.uint8 and max(x.max() for x in flat.values()) > 1
        return cls(name, x_train, x_valid, x_test, 255.0 if grey else 1.0, shapes["x_train"], source, split)

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """(height, width) of an image to be drawn, or (height, width, 3)."""
        return picture_shape(self.image_shape, self.colours)

    @property
    def data_dim(self) -> int:
        """D, the number of pixels of an image."""
        return self.x_train.shape[1]

    @property
    def levels(self) -> int | None:
        """Number of equally spaced values of a pixel: scale + 1 for integers, None for floats."""
        return int(self.scale) + 1 if self.x_train.dtype == np.uint8 else None

    def intensities(self, split: str) -> np.ndarray:
        """Returns the images of "train", "valid" or "test" as float32 in [0, 1], [N, D]."""
        x = getattr(self, f"x_{split}")
        return x.astype(np.float32) / np.float32(self.scale)

    def binarized(self, split: str) -> np.ndarray:
        """Returns the images of a split as a Bernoulli likelihood is scored on them, float32 [N, D] of 0 and 1.

        Each pixel is drawn once from its intensity, the same in every program; `iwae_tf.data.training_batches` draws
        anew each time. Needs TensorFlow.
        """
        from iwae_tf.data.binarization import binarize_once  # lazy import: it needs TensorFlow (5 s)

        return binarize_once(self.intensities(split), split)

    def train_mean(self) -> np.ndarray:
        """Returns the mean intensity of every pixel over the training images, float32 [D]."""
        return (self.x_train.mean(axis=0, dtype=np.float64) / self.scale).astype(np.float32)


def picture_shape(image_shape: Sequence[int], colours: bool) -> tuple[int, ...]:
    """Returns the shape of an image, with the three colours of a pixel on an axis of their own."""
    height, width = image_shape
    return (height, width // 3, 3) if colours else (height, width)


def hold_out(data: Dataset, valid: int, of: int, order: str | None) -> Dataset:
    """Returns the data set with some of its training images as validation images.

    Args:
        data: a data set without validation images.
        valid: number of images held out of a full training split.
        of: number of images in a full training split. A smaller split gives the same share, rounded down, at least 1.
        order: the order that the training images are in; their last ones are held out, without a copy. None draws
            them, for files that may be sorted by class; the draw depends on the number of images alone.

    Raises:
        InputError: there are fewer than 2 training images.
    """
    images = len(data.x_train)
    if images < 2:
        raise InputError(f"{data.source}: the training split has 1 image; expected at least 2, one for validation")
    count = max(1, images * valid // of)
    if order is not None:
        kept, held_out = slice(-count), slice(-count, None)
        split = f"validation: the last {count} of the {images} training images in {order}"
    else:
        held_out = np.zeros(images, bool)
        # RandomState, because NumPy guarantees its numbers across versions; default_rng has no such guarantee.
        held_out[np.random.RandomState(_VALIDATION_SEED).permutation(images)[:count]] = True
        kept = ~held_out
        split = f"validation: {count} of the {images} training images, drawn once for all runs"
    return dataclasses.replace(data, x_train=data.x_train[kept], x_valid=data.x_train[held_out], split=split)


def _checked(x: np.ndarray, name: str) -> tuple[tuple[int, int], str, np.ndarray]:
    """Returns (height, width), the number format, and the pixels as uint8 or as float32 in [0, 1], [N, D]."""
    if x.ndim not in (2, 3) and not (x.ndim == 4 and x.shape[3] == 1):
        raise InputError(f"{name} has shape {x.shape}; expected [N, D], [N, H, W] or [N, H, W, 1]: reshape it")
    if x.size == 0:
        raise InputError(f"{name} is empty, shape {x.shape}; expected at least one image: fill it or leave it out")
    if x.dtype != np.uint8 and x.dtype.kind not in "bf":
        raise InputError(
            f"{name} has dtype {x.dtype}; expected uint8 (0 to 255, or 0 and 1), bool or float in [0, 1]: "
            "save it with .astype('uint8') if its values allow that"
        )
    pixels = x.reshape(len(x), -1)
    width = pixels.shape[1]
    side = math.isqrt(width)
    rows_shape = (side, side) if side * side == width else (1, width)
    shape = rows_shape if x.ndim == 2 else x.shape[1:3]
    if x.dtype.kind != "f":
        return shape, x.dtype.name, pixels.view(np.uint8)
    low, high = x.min(), x.max()
    if np.isnan(low):
        raise InputError(f"{name} holds NaN; expected values in [0, 1]: repair or remove those images")
    if low < 0 or high > 1:
        remedy = "divide by 255 or save as uint8" if low >= 0 and 1 < high <= 255 else "rescale them"
        raise InputError(f"{name} has values from {low:g} to {high:g}; floats must lie in [0, 1]: {remedy}")
    return shape, "float", pixels.astype(np.float32, copy=False)
