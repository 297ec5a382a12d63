"""Kinds of numeric columns and checks of their values, decided on every row that is read; location and scale."""

import numpy as np

from iwae_tf.errors import InputError

MOST_COUNT = 1000  # columns of larger integers are real
SMALLEST_SPREAD = 1e-4  # of the magnitude; float32 keeps 24 bits, a relative 6e-8
SMALLEST_MAGNITUDE = 1e-30  # float32 goes down to 1e-38
LARGEST_ROUNDING = 1e-3  # of the interquartile range, where the range is that of outliers


def number_kind(present: np.ndarray) -> str:
    """Returns "binary", "count" or "real" from all values of a column that are not missing."""
    whole = present.min() >= 0 and (present == np.floor(present)).all()
    if not whole or present.max() > MOST_COUNT:
        return "real"
    return "binary" if present.max() == 1 else "count"


def check_values(present: np.ndarray, place: str, remedy: str, rows: str = "row") -> None:
    """Raises `InputError` unless a column has at least two different values.

    Args:
        present: its values that are not missing.
        place: file and column.
        remedy: ends the message.
        rows: which rows these are, in words.
    """
    if not len(present):
        raise InputError(f"{place} has no values in any {rows}; expected at least two different ones: {remedy}")
    if present.min() == present.max():
        raise InputError(
            f"{place} is constant, {present[0]:g} in every {rows}; expected at least two different values: {remedy}"
        )


def check_precision(present: np.ndarray, place: str, remedy: str) -> None:
    """Raises `InputError` if float32 cannot hold the values of a real column, or would lose their differences."""
    low, high = present.min(), present.max()
    magnitude = max(abs(low), abs(high))
    if magnitude > np.finfo(np.float32).max:
        raise InputError(f"{place} reaches {magnitude:g}, beyond float32: divide it by a constant, or {remedy}")
    if magnitude < SMALLEST_MAGNITUDE:
        raise InputError(
            f"{place} reaches {magnitude:g}, too small for float32: multiply it by a constant, or {remedy}"
        )
    first, third = np.quantile(present, (0.25, 0.75))
    lost = np.median(np.abs(present - present.astype(np.float32))) > LARGEST_ROUNDING * (third - first) > 0.0
    if high - low < SMALLEST_SPREAD * magnitude or lost:
        half = f", half of it from {first:.10g} to {third:.10g}" if lost else ""
        raise InputError(
            f"{place} runs from {low:.10g} to {high:.10g}{half}, and float32 would lose these differences: subtract a "
            f"constant, such as its median, or {remedy}"
        )


def location_and_scale(present: np.ndarray, scaling: str = "standard") -> tuple[float, float]:
    """Returns mean and standard deviation, or with "robust" median and interquartile range / 1.349, of the values.

    The scale is 0 if there are no two different values.
    """
    loc, scale = (present.mean(), present.std()) if len(present) else (0.0, 0.0)
    if scaling == "robust" and len(present):
        low, loc, high = np.quantile(present, (0.25, 0.5, 0.75))
        scale = (high - low) / 1.349 or scale  # over half of the values may be the same
    return float(loc), float(scale)
