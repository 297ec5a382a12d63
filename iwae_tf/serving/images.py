"""Images to score: from a file or an array to the rows that are sent."""

import pathlib

import numpy as np

from iwae_tf.data import files
from iwae_tf.errors import InputError


def read_images(path: str | pathlib.Path, array: str | None = None) -> np.ndarray:
    """The images of a file as rows.

    Args:
        path: `.npy`, or `.npz` that holds `x`, a single array, or the one named by `array`.
        array: a name in an `.npz`.

    Returns:
        float32 [N, D], see `as_rows`.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    path = pathlib.Path(path)
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: unknown ending {path.suffix!r} of the images; expected .npy or .npz")
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected images as .npy or .npz")
    if path.suffix == ".npy" and array is not None:
        raise InputError(f"--array {array}: {path} holds one array without a name; leave --array out")
    # Pickled objects can run code when they are loaded, so they are never allowed.
    with files.reading(path, "a file as np.save or np.savez writes it"):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return as_rows(loaded, str(path))
        with loaded:
            name = _name(loaded.files, array, path)
            return as_rows(loaded[name], f"{path}: {name}")


def as_rows(x: np.ndarray, what: str = "x") -> np.ndarray:
    """Images as they are sent.

    Args:
        x: [N, D] or [N, H, W]. uint8 is divided by 255, unless no value is above 1: then it is 0/1 pixels, as in the
            data that models are trained on. bool is 0/1. Floats are taken as they are.
        what: the array, for error messages.

    Returns:
        float32 [N, D].

    Raises:
        InputError: another shape or dtype, or no images.
    """
    if x.ndim not in (2, 3):
        raise InputError(f"{what} has shape {list(x.shape)}; expected [N, D] or [N, H, W]: reshape it")
    if x.size == 0:
        raise InputError(f"{what} is empty, shape {list(x.shape)}; expected at least one image")
    if x.dtype != np.uint8 and x.dtype.kind not in "bf":
        raise InputError(f"{what} has dtype {x.dtype}; expected uint8, bool or float: convert it with .astype")
    scale = np.float32(255 if x.dtype == np.uint8 and x.max() > 1 else 1)
    with np.errstate(over="ignore"):  # a float64 that is too large becomes inf, which is its row's own problem
        rows = x.reshape(len(x), -1).astype(np.float32)
    return np.ascontiguousarray(rows / scale if scale != 1 else rows)


def _name(names: list[str], array: str | None, path: pathlib.Path) -> str:
    if array is not None:
        if array in names:
            return array
        raise InputError(f"{path} has no array {array!r}; it has {', '.join(names) or 'none at all'}")
    if "x" in names:
        return "x"
    if len(names) == 1:
        return names[0]
    raise InputError(f"{path} has the arrays {', '.join(names) or '(none)'}; name the images' one by --array")
