""".npz files: a user's own images, and the parts of one that other readers need."""

import os
import pathlib
import zipfile

import numpy as np

from iwae_tf.data import arrays, files
from iwae_tf.data.dataset import Dataset
from iwae_tf.errors import InputError


def load_npz(path: str | os.PathLike, data_dir: str | os.PathLike | None = None) -> Dataset:
    """A user's file with x_train, x_test and, if there is one, x_valid; see `arrays.make_dataset` for their form.

    Args:
        path: the file; a relative one that does not exist is looked for in `data_dir` as well.
        data_dir: a folder, or None.

    Returns:
        A `Dataset` named like the file, without ".npz".

    Raises:
        InputError: the file is not there, cannot be read, or holds something else.
    """
    path = _existing(pathlib.Path(path), data_dir)
    parts = read_npz(path, ["x_train", "x_test"], ["x_valid"])
    split = "as in the file" if "x_valid" in parts else "as in the file, without a validation part"
    return arrays.make_dataset(path.stem, parts, str(path), str(path), split)


def read_npz(path: pathlib.Path, required: list[str], optional: list[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a .npz file under the names in `required` and, as far as they are there, in `optional`.

    Raises:
        InputError: the file is no .npz, is damaged, lacks a name, or holds pickled objects under one.
    """
    form = "an .npz file as np.savez writes it"
    with files.reading(path, form):
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise InputError(f"{path} is not a zip archive, or was cut short; expected {form}: save it again")
        # Pickled objects can run code when they are loaded, so they are never allowed.
        with np.load(path, allow_pickle=False) as npz:
            missing = [key for key in required if key not in npz.files]
            if missing:
                raise InputError(
                    f"{path} has no array {' and no '.join(missing)}, it has {', '.join(npz.files) or 'none at all'}; "
                    f"expected {', '.join(required)}: save it with np.savez(path, {'=..., '.join(required)}=...)"
                )
            return {key: _array(npz, key, path) for key in [*required, *(optional or [])] if key in npz.files}


def _existing(path: pathlib.Path, data_dir: str | os.PathLike | None) -> pathlib.Path:
    places = [path] if data_dir is None else [path, pathlib.Path(data_dir) / path]
    place = next((place for place in places if os.path.exists(place)), None)
    if place is None:
        looked = " or ".join(str(place) for place in dict.fromkeys(places))
        raise InputError(f"there is no file {looked}: correct the path of the data set, or --data-dir")
    if os.path.isdir(place):
        raise InputError(f"{place} is a folder; expected an .npz file: give the path of the file in it")
    return place


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
