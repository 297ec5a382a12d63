"""Splits of rows that come in one table, array or folder: the split of a row depends on its content or its id alone."""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from iwae_tf.config import checked_shares
from iwae_tf.data.dataset import SPLITS
from iwae_tf.errors import InputError

DEFAULT_SHARES = (0.8, 0.1, 0.1)
WHOLE = ""  # name of the one table or array of a source without splits of its own

_ROWS_AT_ONCE = 4096


def split_rows(keys: Iterable[bytes], shares: tuple[float, ...] | None, source: str) -> dict[str, np.ndarray]:
    """Returns the numbers of the rows of each split, in the order of the file.

    A row goes where sha256(key) / 2^256, a number in [0, 1), falls among the shares. Equal rows share a split, and rows
    that are added later move none.

    Args:
        keys: of each row its content or its id.
        shares: of train, valid and test; None means 0.8, 0.1, 0.1.
        source: the file, for errors.

    Raises:
        InputError: a split whose share is above 0 gets no rows.
    """
    shares = checked_shares(DEFAULT_SHARES if shares is None else shares)
    places = np.array([int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64 for key in keys])
    numbers = np.searchsorted(np.cumsum(shares)[:2], places, side="right")
    rows = {split: np.flatnonzero(numbers == i) for i, split in enumerate(SPLITS)}
    empty = [split for split, share in zip(SPLITS, shares, strict=True) if share and not len(rows[split])]
    if empty:
        raise InputError(
            f"{source}: no row of {len(places)} falls into {' or '.join(empty)} with the shares {_words(shares)}: give "
            "more rows, other shares by --split, or a folder with train, valid and test files"
        )
    return rows


def content_keys(x: np.ndarray) -> Iterator[bytes]:
    """Returns the float32 bytes of each row of [N, ...]; -0 counts as 0, and every NaN as the same."""
    for first in range(0, len(x), _ROWS_AT_ONCE):
        values = x[first : first + _ROWS_AT_ONCE].astype(np.float32) + np.float32(0)
        values[np.isnan(values)] = np.nan
        yield from (row.tobytes() for row in values)


def described(shares: tuple[float, ...] | None, key: str = "content") -> str:
    """Returns the line for `Dataset.split`."""
    return f"{_words(DEFAULT_SHARES if shares is None else shares)} by the sha256 of each row's {key}"


def _words(shares: Iterable[float]) -> str:
    return " / ".join(f"{share:g}" for share in shares)
