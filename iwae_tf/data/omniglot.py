"""OMNIGLOT in 28x28 pixels from chardata.mat, the file of Burda et al. (2016)."""

import pathlib

import numpy as np

from iwae_tf.data import arrays, files
from iwae_tf.data.dataset import Dataset
from iwae_tf.errors import InputError

# 1,345 of the 24,345 training images are the validation part.
HELD_OUT, TRAINING_IMAGES = 1_345, 24_345

_SIDE = 28
_KEYS = {"x_train": "data", "x_test": "testdata"}


def from_folder(name: str, folder: pathlib.Path) -> Dataset | None:
    """The data set from chardata.mat in `folder`; None if it is not there.

    The validation images are drawn instead of taken from the end, since nothing says that the file's order is free
    of classes.

    Raises:
        InputError: the file is damaged or holds something else.
    """
    path = folder / "chardata.mat"
    if not path.is_file():
        return None
    data = arrays.make_dataset(name, read_chardata(path), str(path), str(path), "")
    return arrays.hold_out_drawn(data, HELD_OUT, TRAINING_IMAGES)


def read_chardata(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The training and test images of a chardata.mat, [N, 28, 28] in rows; the file stores an image by columns.

    Raises:
        InputError: the file is no MATLAB file, or has no 784 x N arrays `data` and `testdata`.
    """
    from scipy import io

    with files.reading(path, "a MATLAB file (version 4 to 7.2) with data and testdata"):
        content = io.loadmat(path, variable_names=list(_KEYS.values()), mat_dtype=True)
    parts = {}
    for part, key in _KEYS.items():
        x = content.get(key)
        if x is None or x.ndim != 2 or x.shape[0] != _SIDE * _SIDE:
            found = "is missing" if x is None else f"has shape {x.shape}"
            raise InputError(f"{path}: {key} {found}; expected {_SIDE * _SIDE} x N, an image a column: get it again")
        parts[part] = x.T.reshape(-1, _SIDE, _SIDE).transpose(0, 2, 1)
    return parts
