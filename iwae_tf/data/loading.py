"""`load`: from a data set's name, or the path of a .npz file, to arrays."""

import os
import pathlib

from iwae_tf.data import binarized_mnist, mnist, npz, omniglot, tfds
from iwae_tf.data.dataset import Dataset
from iwae_tf.data.digits import load_digits
from iwae_tf.data.registry import DATASETS, missing_data
from iwae_tf.errors import InputError, unknown_name

_READERS = {
    "mnist": mnist.from_folder,
    "fashion_mnist": mnist.from_folder,
    "binarized_mnist": binarized_mnist.from_folder,
    "omniglot": omniglot.from_folder,
}


def load(dataset: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Loads a data set. With `data_dir`, from there and nowhere else; without, by TensorFlow Datasets (TFDS).

    Args:
        dataset: a name in `registry.DATASETS`, or the path of a .npz file with x_train, x_test and maybe x_valid.
        data_dir: a folder with the data set's original files, a .npz file, or what TFDS prepared. None means the
            folder of TFDS, which downloads what is not in it. "digits" needs neither.

    Returns:
        A `Dataset`.

    Raises:
        InputError: the name is unknown, the data are not there, or they cannot be used. Nothing else is loaded in
            their place.
    """
    dataset = str(dataset)
    if dataset.lower().endswith(".npz"):
        return npz.load_npz(dataset, data_dir)
    if dataset not in DATASETS:
        raise InputError(f"{unknown_name('dataset', dataset, DATASETS)}; or the path of a .npz file")
    if dataset == "digits":
        return load_digits()
    if data_dir is None:
        return tfds.from_tfds(dataset)
    return _from_folder(dataset, pathlib.Path(data_dir))


def _from_folder(name: str, folder: pathlib.Path) -> Dataset:
    if not folder.is_dir():
        raise missing_data(name, f"{folder} is not a folder")
    data = _READERS[name](name, folder) or tfds.from_folder(name, folder)
    if data is None:
        raise missing_data(name, f"{folder} holds none of its files")
    return data
