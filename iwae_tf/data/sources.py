"""The data sets by name, one declaration each, and `load`, which reads one of them or a user's own data.

A data set is a function decorated by `@declare("dataset", NAME, HELP, ...)`, in this file or in a module that
`--plugin` names:

    def letters(folder: pathlib.Path | None) -> Dataset | None

`folder` is the caller's `data_dir`. The decorator may also state:

    files     contents of the folder, for error messages. The function is then called with an existing folder only, and
              returns None if the folder holds none of the files.
    tfds      {"name": ..., "host": ...}: name in TensorFlow Datasets (TFDS) and URL of the download; needs `files` too.
              TFDS is read if no folder is given or the function returns None. A "note" is appended to `Dataset.split`.
    held_out  (images, of): number of last training images that become validation images, of a training split of `of`
              images, if the source has no validation split.
    binary    True if pixels must be 0 and 1, stored as integers.
"""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from iwae_tf.config import checked_shares
from iwae_tf.data import files, own, tfds, tfds_sets
from iwae_tf.data.dataset import SPLITS, Dataset, hold_out
from iwae_tf.declarations import Declaration, declare, declared, find
from iwae_tf.errors import InputError, unknown_name

_IDX_FILES = {"x_train": "train-images-idx3-ubyte", "x_test": "t10k-images-idx3-ubyte"}


def load(
    dataset: str,
    data_dir: str | os.PathLike | None = None,
    *,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    id_column: str | None = None,
    label_column: str | None = None,
    split: Sequence[float] | None = None,
) -> Dataset:
    """Loads a data set: from `data_dir` and nowhere else if it is given, else by TensorFlow Datasets (TFDS).

    Args:
        dataset: a declared name; "tfds:NAME" of TFDS; or the path of a user's data: a table, an array, a folder with a
            file for each split or a folder of images.
        data_dir: a folder with the data set's original files, an .npz file, or data that TFDS prepared. None means the
            folder of TFDS, which downloads missing data. "digits" needs no folder.
        columns: names of the columns of a table to model, in this order; None means all.
        drop: names of the columns of a table to leave out.
        id_column: column of a table that names its rows.
        label_column: column of a table that holds a known outcome of each row.
        split: shares of train, valid and test of data that are not split yet; None means 0.8, 0.1, 0.1.

    Raises:
        InputError: the name is unknown, or the data are missing or unusable. Nothing else is loaded instead.
    """
    name, folder = str(dataset), None if data_dir is None else pathlib.Path(data_dir)
    chosen = {"columns": columns, "drop": drop or (), "id_column": id_column, "label_column": label_column}
    split = None if split is None else checked_shares(split)
    path = find_source(name, folder)
    if name.startswith(tfds_sets.PREFIX):
        return tfds_sets.load_tfds(name, folder, chosen, split)
    if path is not None:
        return own.load_path(path, chosen, split)
    own.refuse(name, chosen | {"split": split}, "a declared data set has its own splits and no columns")
    return _load_declared(find("dataset", name), folder)


def find_source(dataset: str, data_dir: str | os.PathLike | None = None) -> pathlib.Path | None:
    """Returns the path of a user's data, in the working folder or else in `data_dir`; None for other kinds of names.

    Raises:
        InputError: there is neither a data set nor a file of that name.
    """
    name = str(dataset)
    if name in declared("dataset") or name.startswith(tfds_sets.PREFIX):
        return None
    candidates = list(dict.fromkeys([pathlib.Path(name), pathlib.Path(data_dir or "", name)]))
    found = next((path for path in candidates if name and os.path.exists(path)), None)
    if found is None:
        places = " or ".join(str(path) for path in candidates) if name else "without a name"
        error = unknown_name("dataset", name, declared("dataset"))
        raise InputError(f"{error}; and there is no file {places}: correct the name, the path, or --data-dir")
    return found


def _load_declared(declaration: Declaration, folder: pathlib.Path | None) -> Dataset:
    """Returns a declared data set."""
    name = declaration.name
    facts, data = declaration.facts, None
    if folder is not None or "tfds" not in facts:
        if "files" in facts and (folder is None or not folder.is_dir()):
            tried = "no folder is given" if folder is None else f"{folder} is not a folder"
            raise tfds.missing_data(declaration, tried)
        data = declaration.load()(folder)
    if data is None and "tfds" in facts:
        data = tfds.from_tfds(declaration, folder)
    if data is None and "files" in facts:
        raise tfds.missing_data(declaration, f"{folder} holds none of its files")
    if not isinstance(data, Dataset):
        raise InputError(
            f"dataset {name!r}: {declaration.module}.{declaration.attribute} returned {type(data).__name__}; expected "
            "a Dataset: return iwae_tf.data.Dataset.from_arrays(...)"
        )
    if "held_out" in facts and not len(data.x_valid):
        data = hold_out(data, *facts["held_out"], "file order")
    if facts.get("binary") and data.levels != 2:
        raise InputError(
            f"{data.source}: {data.name} holds grey values or floats; expected only 0 and 1 as uint8 or bool: save it "
            "with .astype('uint8'), or choose a data set of grey values"
        )
    return data


@declare(
    "dataset",
    "digits",
    "scikit-learn's handwritten digits, 1,797 images of 8x8 in 17 grey levels; comes with the installation",
)
def digits(folder: pathlib.Path | None) -> Dataset:
    """Returns the digits as uint8 in 0 to 16: 1,297 training, 100 validation and 400 test images of 8x8 pixels."""
    from sklearn import datasets

    images = datasets.load_digits().images.astype(np.uint8).reshape(-1, 64)
    # scikit-learn's file is sorted by writer, so it is permuted, by one constant seed. RandomState, because NumPy
    # guarantees its numbers across versions.
    images = images[np.random.RandomState(1797).permutation(len(images))]
    x_train, x_valid, x_test = np.split(images, [1297, 1397])
    source, split = "scikit-learn's load_digits", "1297 / 100 / 400 of one fixed permutation"
    return Dataset("digits", x_train, x_valid, x_test, scale=16.0, image_shape=(8, 8), source=source, split=split)


@declare(
    "dataset",
    "mnist",
    "handwritten digits, 70,000 images of 28x28 in 256 grey levels",
    files="train-images-idx3-ubyte[.gz] and t10k-images-idx3-ubyte[.gz], or mnist.npz (x_train, x_test), or TFDS's "
    "prepared folder mnist/",
    tfds={"name": "mnist", "host": "https://storage.googleapis.com/"},
    held_out=(400, 60_000),
)
def mnist(folder: pathlib.Path) -> Dataset | None:
    """Returns MNIST from its original IDX files or Keras' mnist.npz."""
    return _from_files("mnist", folder, _IDX_FILES, files.read_idx)


@declare(
    "dataset",
    "binarized_mnist",
    "the fixed binarization of MNIST, 70,000 images of 28x28 in black and white",
    files="binarized_mnist_train.amat, binarized_mnist_valid.amat and binarized_mnist_test.amat, or "
    "binarized_mnist.npz (x_train, x_valid, x_test), or TFDS's prepared folder binarized_mnist/",
    tfds={"name": "binarized_mnist", "host": "http://www.cs.toronto.edu/"},
    binary=True,
)
def binarized_mnist(folder: pathlib.Path) -> Dataset | None:
    """Returns binarized MNIST from the three original text files or one .npz file, with their own splits."""
    names = {f"x_{split}": f"binarized_mnist_{split}.amat" for split in SPLITS}
    return _from_files("binarized_mnist", folder, names, files.read_amat)


@declare(
    "dataset",
    "omniglot",
    "characters of 50 alphabets, 32,000 images of 28x28",
    files="chardata.mat (data, testdata), or TFDS's prepared folder omniglot/",
    tfds={
        "name": "omniglot",
        "host": "https://github.com/",
        "note": "not the 28x28 images and split of chardata.mat (Burda et al.), so figures do not compare with theirs",
    },
    held_out=(1_280, 19_280),  # of TFDS's training split
)
def omniglot(folder: pathlib.Path) -> Dataset | None:
    """Returns OMNIGLOT from chardata.mat, the file of Burda et al. (2016)."""
    path = folder / "chardata.mat"
    if not path.is_file():
        return None
    data = Dataset.from_arrays("omniglot", files.read_chardata(path), str(path), "as in the file")
    return hold_out(data, 1_345, 24_345, order=None)  # drawn, because the file may be sorted by class


@declare(
    "dataset",
    "fashion_mnist",
    "pieces of clothing, 70,000 images of 28x28 in 256 grey levels",
    files="train-images-idx3-ubyte[.gz] and t10k-images-idx3-ubyte[.gz], or fashion_mnist.npz (x_train, x_test), or "
    "TFDS's prepared folder fashion_mnist/",
    tfds={"name": "fashion_mnist", "host": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"},
    held_out=(400, 60_000),
)
def fashion_mnist(folder: pathlib.Path) -> Dataset | None:
    """Returns Fashion-MNIST from its original IDX files or Keras' fashion_mnist.npz."""
    return _from_files("fashion_mnist", folder, _IDX_FILES, files.read_idx)


def _from_files(name: str, folder: pathlib.Path, names: dict[str, str], read: Callable) -> Dataset | None:
    """Returns the data set from one file per array, or else from one .npz file with all of them."""
    paths = files.find_all(folder, list(names.values()))
    if paths:
        arrays = {key: read(path) for key, path in zip(names, paths, strict=True)}
        source = (" and " if len(paths) == 2 else ", ").join(str(path) for path in paths)
    elif (path := folder / f"{name}.npz").is_file():
        arrays, source = files.read_npz(path, list(names)), str(path)
    else:
        return None
    return Dataset.from_arrays(name, arrays, source, "as in the files")
