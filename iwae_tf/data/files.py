"""Readers of the files that data sets come in: IDX, .npz, .amat and chardata.mat.

All of them raise an `InputError` that names the file if it is damaged or has another format.
"""

import contextlib
import gzip
import math
import pathlib
import warnings
import zipfile
from collections.abc import Iterator

import numpy as np

from iwae_tf.data.splits import WHOLE
from iwae_tf.errors import InputError

_IDX_MAGIC = b"\0\0\x08\x03"  # unsigned bytes in three dimensions
_PIXELS = 784


def one_line(error: Exception) -> str:
    """Returns the text of an exception as one short line, or its class name if it has no text."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def reading(path: pathlib.Path, form: str) -> Iterator[None]:
    """Turns any exception raised while `path` is read into an `InputError` that names the file.

    Catches every type, because damaged gzip, zip and MATLAB files raise errors of a dozen types.

    Args:
        path: the file.
        form: the expected format, e.g. "a gzip file".
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be read ({one_line(error)}); expected {form}: get the file again or correct the path"
        ) from error


def find_all(folder: pathlib.Path, names: list[str]) -> list[pathlib.Path] | None:
    """Returns the paths of files that belong together, each plain or with ".gz" appended; None if all are missing.

    The plain file is read if both are there; `Dataset.source` names it.

    Raises:
        InputError: only some of the files exist, or a plain file and its ".gz" differ.
    """
    found = {name: path for name in names for path in (folder / f"{name}.gz", folder / name) if path.is_file()}
    missing = [name for name in names if name not in found]
    if found and missing:
        raise InputError(f"{folder} holds {', '.join(found)} but not {', '.join(missing)}: put all {len(names)} in it")
    for path in found.values():
        packed = path.with_name(f"{path.name}.gz")
        if packed.is_file() and _read_bytes(packed, "a gzip file") != path.read_bytes():
            raise InputError(f"{path} and {packed.name} beside it have different content: remove one of them")
    return list(found.values()) or None


def _read_bytes(path: pathlib.Path, form: str) -> bytes:
    with reading(path, form), gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        return file.read()


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Returns the images of an IDX file, gzipped or not, as uint8 [N, H, W]."""
    form = "an IDX file of images"
    content = _read_bytes(path, form)
    if len(content) < 16 or content[:4] != _IDX_MAGIC:
        found, first = len(content), content[:4]
        raise InputError(f"{path} has {found} bytes, the first {first!r}; expected {form}: get the file again")
    shape = np.frombuffer(content, ">u4", count=3, offset=4).tolist()
    pixels, expected = np.frombuffer(content, np.uint8, offset=16), math.prod(shape)
    if len(pixels) != expected:
        raise InputError(f"{path} has {len(pixels)} pixels, expected {expected} by its header: get the file again")
    return pixels.reshape(shape)


def read_amat(path: pathlib.Path) -> np.ndarray:
    """Returns the images of a text file with 784 times "0" or "1" in each line, as uint8 0/1 [N, 784]."""
    content = _read_bytes(path, "a text file of 0 and 1")
    # Without its blanks a line is the image, one byte a pixel; far faster than parsing numbers.
    rows = [row for row in content.translate(None, b" \t\r").split(b"\n") if row]
    pixels = np.frombuffer(b"".join(rows), np.uint8) - ord("0")
    wrong = next((i for i, row in enumerate(rows, 1) if len(row) != _PIXELS), None)
    if wrong or (pixels.size and pixels.max() > 1):
        found = f"row {wrong} has another number of values" if wrong else "the file has other characters"
        raise InputError(f"{path}: {found}; expected {_PIXELS} times 0 or 1 in each row: get the file again")
    return pixels.reshape(-1, _PIXELS)


def read_chardata(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the training and test images of a chardata.mat, [N, 28, 28] row by row; the file stores columns."""
    from scipy import io

    keys = {"x_train": "data", "x_test": "testdata"}
    with reading(path, "a MATLAB file (version 4 to 7.2) with data and testdata"), warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)  # SciPy would drop the imaginary parts
        content = io.loadmat(path, variable_names=list(keys.values()), mat_dtype=True)
    arrays = {}
    for name, key in keys.items():
        x = content.get(key)
        if x is not None and not isinstance(x, np.ndarray):
            raise InputError(f"{path}: {key} is a sparse matrix; expected a full one: save it by full({key})")
        if x is None or x.ndim != 2 or x.shape[0] != _PIXELS:
            found = "is missing" if x is None else f"has shape {x.shape}"
            raise InputError(f"{path}: {key} {found}; expected {_PIXELS} x N, an image a column: get it again")
        arrays[name] = x.T.reshape(-1, 28, 28).transpose(0, 2, 1)
    return arrays


def read_npz(
    path: pathlib.Path, required: list[str], optional: tuple[str, ...] = (), whole: bool = False
) -> dict[str, np.ndarray]:
    """Returns the arrays of an .npz file with the names in `required` and, if the file has them, in `optional`.

    Args:
        path: the file.
        required: names of arrays.
        optional: names of arrays that may be missing.
        whole: a file with one array, or with an array `x`, gives it under the name `WHOLE`.
    """
    form = "an .npz file as np.savez writes it"
    with reading(path, form):
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise InputError(f"{path} is not a zip archive, or was cut short; expected {form}: save it again")
        with np.load(path, allow_pickle=False) as npz:  # pickled objects can run code when they are loaded
            if {"format", "shape", "data"} <= set(npz.files):
                raise InputError(
                    f"{path} holds a sparse matrix; expected full arrays: save it with np.savez(path, x.toarray())"
                )
            parts = [key for key in npz.files if key.startswith("x_")]
            unknown = set(parts) - {*required, *optional}
            if whole and len(npz.files) > 1 and (unknown or (parts and _only_array(npz.files))):
                raise InputError(
                    f"{path} has the arrays {', '.join(npz.files)}; expected {', '.join([*required, *optional])}, or "
                    "one array x: rename or leave out the others"
                )
            if whole and (key := _only_array(npz.files)):
                return {WHOLE: _array(npz, key, path)}
            missing = [key for key in required if key not in npz.files]
            if missing:
                raise InputError(
                    f"{path} has no array {' and no '.join(missing)}, it has {', '.join(npz.files) or 'no arrays'}; "
                    f"expected {', '.join(required)}{', or one array x' if whole else ''}: save it with "
                    f"np.savez(path, {'=..., '.join(required)}=...)"
                )
            return {key: _array(npz, key, path) for key in [*required, *optional] if key in npz.files}


def read_npy(path: pathlib.Path) -> np.ndarray:
    """Returns the array of an .npy file."""
    with reading(path, "an .npy file of numbers as np.save writes it"):
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("it is an archive of arrays, whose ending is .npz")
        return found


def _only_array(names: list[str]) -> str | None:
    """Returns the name of the array of an .npz file that is not split: `x`, or the only one."""
    if "x_train" in names and "x_test" in names:
        return None
    return "x" if "x" in names else names[0] if len(names) == 1 else None


def _array(npz: np.lib.npyio.NpzFile, key: str, path: pathlib.Path) -> np.ndarray:
    try:
        x = npz[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise InputError(
            f"{path}: {key} holds pickled Python objects; expected numbers (uint8, bool or float in [0, 1]): "
            f"save it as one array with np.stack and .astype('uint8')"
        ) from error
    if not isinstance(x, np.ndarray):
        raise InputError(f"{path}: {key} is no NumPy array; expected a file that np.savez wrote: save it again")
    return x
