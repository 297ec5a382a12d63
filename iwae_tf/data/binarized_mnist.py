"""The fixed binarization of MNIST from a folder: the three original text files, or one .npz file."""

import pathlib

import numpy as np

from iwae_tf.data import arrays, files, npz
from iwae_tf.data.dataset import Dataset
from iwae_tf.errors import InputError

_PIXELS = 784
_NAMES = {"x_train": "train", "x_valid": "valid", "x_test": "test"}


def from_folder(name: str, folder: pathlib.Path) -> Dataset | None:
    """The data set from the .amat files or the .npz file in `folder`, split as they are; None if neither is there.

    Raises:
        InputError: one of the files is damaged or missing, or holds other values than 0 and 1.
    """
    paths = files.find_all(folder, [f"{name}_{part}.amat" for part in _NAMES.values()])
    if paths:
        parts = {key: read_amat(path) for key, path in zip(_NAMES, paths, strict=True)}
        source = ", ".join(str(path) for path in paths)
    elif (path := folder / f"{name}.npz").is_file():
        parts = npz.read_npz(path, list(_NAMES))
        source = str(path)
    else:
        return None
    data = arrays.make_dataset(name, parts, source, source, "as in the files")
    check_binary(data)
    return data


def check_binary(data: Dataset) -> None:
    """Raises `InputError` unless the pixels are 0 and 1, stored as integers."""
    if data.x_train.dtype != np.uint8 or data.scale != 1:
        raise InputError(
            f"{data.source}: {data.name} holds grey values or floats; expected only 0 and 1 as uint8 or bool: "
            "save it with .astype('uint8'), or use mnist if it is not binarized"
        )


def read_amat(path: pathlib.Path) -> np.ndarray:
    """The images of a text file with 784 times "0" or "1" in each line, as uint8 0/1 [N, 784].

    Raises:
        InputError: the file holds something else.
    """
    content = files.read_bytes(path, "a text file of 0 and 1")
    # Far faster than parsing numbers: without its blanks, a line is the image, one byte a pixel.
    rows = content.translate(None, b" \t\r").split(b"\n")
    rows = [row for row in rows if row]
    pixels = np.frombuffer(b"".join(rows), np.uint8) - ord("0")
    wrong = next((i for i, row in enumerate(rows, 1) if len(row) != _PIXELS), None)
    if wrong or (pixels.size and pixels.max() > 1):
        where = f"row {wrong} has another number of them" if wrong else "there are other characters"
        raise InputError(f"{path}: {where}; expected {_PIXELS} times 0 or 1 in each row: get the file again")
    return pixels.reshape(-1, _PIXELS)
