"""MNIST and Fashion-MNIST from a folder: the original IDX files, or the .npz file that Keras keeps."""

import math
import pathlib

import numpy as np

from iwae_tf.data import arrays, files, npz
from iwae_tf.data.dataset import Dataset
from iwae_tf.errors import InputError

# The last 400 of the 60,000 training images are the validation part.
HELD_OUT, TRAINING_IMAGES = 400, 60_000

_IDX_MAGIC = 0x00000803  # unsigned bytes in three dimensions
_IDX_HEADER = 16


def from_folder(name: str, folder: pathlib.Path) -> Dataset | None:
    """The data set from the IDX files or the .npz file in `folder`; None if neither is there.

    Raises:
        InputError: one of the files is damaged, or only one of the two IDX files is there.
    """
    paths = files.find_all(folder, ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"])
    if paths:
        parts = {"x_train": read_idx(paths[0]), "x_test": read_idx(paths[1])}
        source = " and ".join(str(path) for path in paths)
    elif (path := folder / f"{name}.npz").is_file():
        parts = npz.read_npz(path, ["x_train", "x_test"])
        source = str(path)
    else:
        return None
    data = arrays.make_dataset(name, parts, source, source, "")
    return arrays.hold_out_last(data, HELD_OUT, TRAINING_IMAGES, "file order")


def read_idx(path: pathlib.Path) -> np.ndarray:
    """The images of an IDX file, gzipped or not, as uint8 [N, H, W].

    Raises:
        InputError: the file holds something else, or is damaged.
    """
    form = "an IDX file of images"
    content = files.read_bytes(path, form)
    if len(content) < _IDX_HEADER or int.from_bytes(content[:4], "big") != _IDX_MAGIC:
        raise InputError(
            f"{path} has {len(content)} bytes, the first {content[:4]!r}; expected {form}: get the file again"
        )
    shape = np.frombuffer(content, ">u4", count=3, offset=4).tolist()
    pixels = np.frombuffer(content, np.uint8, offset=_IDX_HEADER)
    if len(pixels) != math.prod(shape):
        raise InputError(
            f"{path} has {len(pixels)} pixels; expected {math.prod(shape)}, as its header says: get the file again"
        )
    return pixels.reshape(shape)
