"""Arrays of a user: pixels in [0, 1] or 8 bits stay pixels, all other numbers become real columns."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from iwae_tf.data.columns import check_precision, check_values
from iwae_tf.data.dataset import SPLITS, Column, Dataset
from iwae_tf.data.splits import WHOLE, content_keys, described, split_rows
from iwae_tf.errors import InputError


def from_arrays(
    name: str,
    arrays: Mapping[str, np.ndarray],
    source: str,
    split: tuple[float, ...] | None = None,
    named: Mapping[str, Mapping[str, np.ndarray]] = MappingProxyType({}),
) -> Dataset:
    """Returns a data set of a user's arrays.

    Args:
        name: of the data set.
        arrays: "x_train", "x_test" and optionally "x_valid", or one array `WHOLE` that is split by its rows; of shape
            [N, D], [N, H, W], [N, H, W, 1] or [N, H, W, 3].
        source: see `Dataset`; errors begin with it.
        split: shares of train, valid and test of one array.
        named: "ids" or "labels" -> split, or `WHOLE` -> of its rows.

    Raises:
        InputError: an array has a shape, dtype or values that cannot be used.
    """
    colours = any(_is_coloured(x) for x in arrays.values())
    arrays = {key: _flat_colours(x, f"{source}: {key or 'the array'}") for key, x in arrays.items()}
    pixels = all(_is_pixels(x) for x in arrays.values())
    if WHOLE in arrays:
        x = arrays[WHOLE]
        _check_shape(x, f"{source}: the array")
        rows = split_rows(content_keys(x), split, source)
        arrays = {f"x_{split}": x[rows[split]] for split in SPLITS if len(rows[split])}
        named = {field: {key: of[WHOLE][rows[key]] for key in SPLITS} for field, of in named.items()}
        how = described(split)
    else:
        how = "as in the file" if "x_valid" in arrays else "as in the file, without a validation part"
    data = (Dataset.from_arrays if pixels else _real)(name, arrays, source, how)
    return dataclasses.replace(data, colours=colours, **named)


def _is_coloured(x: np.ndarray) -> bool:
    return x.ndim == 4 and x.shape[3] == 3


def _flat_colours(x: np.ndarray, place: str) -> np.ndarray:
    """Returns an array of numbers; colour images [N, H, W, 3] become [N, H, 3 W]."""
    if x.dtype.kind not in "biuf":
        what = {"c": "complex numbers", "O": "objects", "V": "records", "U": "text", "S": "text"}
        raise InputError(
            f"{place} holds {what.get(x.dtype.kind, 'dates or times')} (dtype {x.dtype}); expected one array of real "
            "numbers: save its numbers as a plain array"
        )
    return x.reshape(*x.shape[:2], -1) if _is_coloured(x) else x


def _is_pixels(x: np.ndarray) -> bool:
    """Returns whether an array is bool, uint8, or float in [0, 1] without NaN."""
    if x.dtype.kind == "f":
        return x.size == 0 or bool(x.min() >= 0 and x.max() <= 1)
    return x.dtype == np.uint8 or x.dtype.kind == "b"


def _check_shape(x: np.ndarray, place: str) -> None:
    if x.ndim not in (2, 3) and not (x.ndim == 4 and x.shape[3] == 1):
        raise InputError(
            f"{place} has shape {x.shape}; expected [N, D], [N, H, W], [N, H, W, 1] or [N, H, W, 3]: reshape it"
        )
    if x.size == 0:
        raise InputError(f"{place} is empty, shape {x.shape}; expected at least one row: fill it or leave it out")


def _real(name: str, arrays: Mapping[str, np.ndarray], source: str, how: str) -> Dataset:
    """Returns a data set with real columns named "0", "1", ..."""
    for key, x in arrays.items():
        _check_shape(x, f"{source}: {key}")
        with np.errstate(over="ignore"):
            infinite = np.isinf(x.astype(np.float32, copy=False))
        if infinite.any():
            row, *_ = index = [int(i[0]) for i in np.nonzero(infinite)]
            raise InputError(
                f"{source}: {key}, row {row + 1}, value {tuple(index[1:])} is infinite or beyond float32; expected "
                "numbers, or NaN where one is missing: correct it"
            )
    shapes = {key: x.shape[1:3] for key, x in arrays.items()}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise InputError(f"{source}: the rows of the arrays have different shapes: {found}; expected the same in all")
    kinds = {key: "uint8 or bool" if _is_pixels(x) and x.dtype.kind != "f" else "real" for key, x in arrays.items()}
    if len(set(kinds.values())) > 1:
        found = ", ".join(f"{key} {x.dtype}" for key, x in arrays.items())
        raise InputError(f"{source}: the arrays hold different numbers: {found}; expected the same dtype in all")
    _check_columns(arrays["x_train"], source)
    flat = {key: x.reshape(len(x), -1) for key, x in arrays.items()}
    first = next(iter(arrays.values()))
    width = flat["x_train"].shape[1]
    x_train, x_test = (flat[key].astype(np.float32, copy=False) for key in ("x_train", "x_test"))
    return Dataset(
        name,
        x_train,
        flat.get("x_valid", x_train[:0]).astype(np.float32, copy=False),
        x_test,
        scale=1.0,
        image_shape=(1, width) if first.ndim == 2 else tuple(first.shape[1:3]),
        source=source,
        split=how,
        columns=tuple(Column(str(i), "real") for i in range(width)),
    )


def _check_columns(x: np.ndarray, source: str) -> None:
    """Raises `InputError` for a column without two different values in the training split, or beyond float32."""
    shape, remedy = x.shape[1:3], "remove it from the array"
    pixels = "save uint8 or floats in [0, 1], whose likelihoods take pixels that never change"
    remedies = f"{remedy}, or, if these are pixels, {pixels}" if x.ndim == 2 else f"crop the images, or {pixels}"
    for i, column in enumerate(x.reshape(len(x), -1).T):
        present = column[~np.isnan(column)].astype(np.float64)
        place = f"column {i}" if x.ndim == 2 else f"pixel {i // shape[1], i % shape[1]}"
        check_values(present, f"{source}: {place}", remedies, "row of the training split")
        check_precision(present, f"{source}: {place}", remedy)
