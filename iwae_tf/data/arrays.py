"""From arrays as a file holds them to a `Dataset`: checks of form and values, and the cut of a validation part."""

import dataclasses
import math

import numpy as np

from iwae_tf.data.dataset import Dataset
from iwae_tf.errors import InputError

# Seeds the one draw of validation images; a constant, so that no run's seed ever changes what is trained on.
_DRAW = 20160501


def make_dataset(name: str, parts: dict[str, np.ndarray], where: str, source: str, split: str) -> Dataset:
    """Checks the parts and flattens their images, keeping the file's number format where it is usable.

    Args:
        name: the data set's short name.
        parts: "x_train", "x_test" and, if there is one, "x_valid"; each uint8, bool or float in [0, 1] of shape
            [N, D], [N, H, W] or [N, H, W, 1]. uint8 with no value above 1 in any part is read as 0/1 pixels.
        where: the file or folder they came from, for error messages.
        source: see `Dataset`.
        split: see `Dataset`.

    Returns:
        A `Dataset`; without "x_valid" its x_valid has shape [0, D].

    Raises:
        InputError: a part is empty, or has another shape, number format or range of values than the above, or the
            parts do not fit each other.
    """
    shapes = {key: _image_shape(x, f"{where}: {key}") for key, x in parts.items()}
    _check_same(shapes, "images of (height, width)", where)
    _check_same({key: _number_format(x, f"{where}: {key}") for key, x in parts.items()}, "numbers of kind", where)
    flat = {key: _usable(x, f"{where}: {key}").reshape(len(x), -1) for key, x in parts.items()}
    x_train = flat["x_train"]
    grey = x_train.dtype == np.uint8 and max(x.max() for x in flat.values()) > 1
    return Dataset(
        name=name,
        x_train=x_train,
        x_valid=flat.get("x_valid", x_train[:0]),
        x_test=flat["x_test"],
        scale=255.0 if grey else 1.0,
        image_shape=shapes["x_train"],
        source=source,
        split=split,
    )


def hold_out_last(data: Dataset, valid: int, of: int, order: str) -> Dataset:
    """Moves the last `valid` out of every `of` training images to the validation part; no copy is made.

    The full training set has `of` images and gives `valid`; a smaller one gives its share, rounded down, but at
    least 1.

    Raises:
        InputError: there are fewer than 2 training images.
    """
    count = _held_out(data, valid, of)
    split = f"validation: the last {count} of the {len(data.x_train)} training images in {order}"
    return dataclasses.replace(data, x_train=data.x_train[:-count], x_valid=data.x_train[-count:], split=split)


def hold_out_drawn(data: Dataset, valid: int, of: int) -> Dataset:
    """Like `hold_out_last`, but the validation images are drawn, for files that may group their classes.

    The draw depends on the number of images alone, never on a seed of a run; both parts keep the file's order.

    Raises:
        InputError: there are fewer than 2 training images.
    """
    count = _held_out(data, valid, of)
    # NumPy keeps the numbers of RandomState as they are for good, those of its newer generators it does not.
    drawn = np.zeros(len(data.x_train), bool)
    drawn[np.random.RandomState(_DRAW).permutation(len(drawn))[:count]] = True
    split = f"validation: {count} of the {len(drawn)} training images, drawn once for all runs"
    return dataclasses.replace(data, x_train=data.x_train[~drawn], x_valid=data.x_train[drawn], split=split)


def _held_out(data: Dataset, valid: int, of: int) -> int:
    images = len(data.x_train)
    if images < 2:
        raise InputError(f"{data.source}: the training part has 1 image; expected at least 2, one for validation")
    return max(1, images * valid // of)


def _image_shape(x: np.ndarray, what: str) -> tuple[int, int]:
    if x.ndim not in (2, 3) and not (x.ndim == 4 and x.shape[3] == 1):
        raise InputError(f"{what} has shape {x.shape}; expected [N, D], [N, H, W] or [N, H, W, 1]: reshape it")
    if x.size == 0:
        raise InputError(f"{what} is empty, shape {x.shape}; expected at least one image: fill it or leave it out")
    if x.ndim > 2:
        return x.shape[1], x.shape[2]
    side = math.isqrt(x.shape[1])
    return (side, side) if side * side == x.shape[1] else (1, x.shape[1])


def _number_format(x: np.ndarray, what: str) -> str:
    if x.dtype == np.uint8 or x.dtype.kind in "bf":
        return {"u": "uint8", "b": "bool", "f": "float"}[x.dtype.kind]
    raise InputError(
        f"{what} has dtype {x.dtype}; expected uint8 (0 to 255, or 0 and 1), bool or float in [0, 1]: "
        "save it with .astype('uint8') if its values allow that"
    )


def _usable(x: np.ndarray, what: str) -> np.ndarray:
    if x.dtype.kind != "f":
        return x.view(np.uint8)
    low, high = x.min(), x.max()
    if np.isnan(low):
        raise InputError(f"{what} holds NaN; expected values in [0, 1]: repair or remove those images")
    if low < 0 or high > 1:
        remedy = "divide by 255 or save as uint8" if low >= 0 and 1 < high <= 255 else "rescale them"
        raise InputError(f"{what} has values from {low:g} to {high:g}; floats must lie in [0, 1]: {remedy}")
    return x.astype(np.float32, copy=False)


def _check_same(forms: dict[str, object], of_what: str, where: str) -> None:
    if len(set(forms.values())) > 1:
        found = ", ".join(f"{key} {form}" for key, form in forms.items())
        raise InputError(f"{where}: the parts differ, {of_what}: {found}; expected the same in all: save them alike")
