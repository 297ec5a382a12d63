"""A user's own data by path: a table, an array, a folder with a file for each split."""

import pathlib
from collections.abc import Mapping
from typing import Any

from iwae_tf.data import arrays, files
from iwae_tf.data.dataset import SPLITS, Dataset
from iwae_tf.data.splits import WHOLE
from iwae_tf.errors import InputError

TABLES = (".csv", ".parquet")
ARRAYS = (".npy", ".npz")


def load_path(path: pathlib.Path, chosen: Mapping[str, Any], split: tuple[float, ...] | None) -> Dataset:
    """Returns the data set at a path, named like it.

    Args:
        path: exists.
        chosen: "columns", "drop", "id_column" and "label_column", of tables.
        split: shares of train, valid and test, where the data are not split yet.

    Raises:
        InputError: the data cannot be used, or a setting does not fit them.
    """
    if path.is_dir():
        return _load_folder(path, chosen, split)
    return _load_files(path.stem, {WHOLE: path}, chosen, split)


def refuse(place: str, given: Mapping[str, Any], why: str) -> None:
    """Raises `InputError` if one of the settings is given."""
    flags = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if flags:
        raise InputError(f"{place}: {' and '.join(flags)} cannot be used, because {why}: leave it out")


def _load_files(
    name: str, paths: Mapping[str, pathlib.Path], chosen: Mapping[str, Any], split: tuple[float, ...] | None
) -> Dataset:
    """Returns the data set of one file, or of one for each split; all have the same ending."""
    ending = next(iter(paths.values())).suffix.lower()
    if ending in TABLES:
        from iwae_tf.data import tables  # pyarrow takes 0.3 s to import

        return tables.load_tables(name, paths, **chosen, split=split)
    if ending not in ARRAYS:
        raise InputError(
            f"{next(iter(paths.values()))} has an unknown ending; expected {', '.join((*TABLES, *ARRAYS))} or a "
            "folder: save it in one of these formats"
        )
    source = ", ".join(str(path) for path in paths.values())
    refuse(source, chosen, "an array has no named columns")
    if WHOLE not in paths:
        read = {f"x_{key}": _only_array(path) for key, path in paths.items()}
    elif ending == ".npy":
        read = {WHOLE: files.read_npy(paths[WHOLE])}
    else:
        read = files.read_npz(paths[WHOLE], ["x_train", "x_test"], ("x_valid",), whole=True)
    if WHOLE not in read:
        refuse(source, {"split": split}, "the data have their own splits")
    return arrays.from_arrays(name, read, source, split)


def _only_array(path: pathlib.Path):
    if path.suffix.lower() == ".npy":
        return files.read_npy(path)
    return next(iter(files.read_npz(path, ["x"], whole=True).values()))


def _load_folder(path: pathlib.Path, chosen: Mapping[str, Any], split: tuple[float, ...] | None) -> Dataset:
    """Returns the data set of a folder with a file for each split."""
    endings = (*TABLES, *ARRAYS)
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in endings and file.is_file())
    paths: dict[str, pathlib.Path] = {}
    for key in SPLITS:
        own = [file for file in found if file.stem == key]
        if len(own) > 1:
            raise InputError(f"{path} holds {' and '.join(file.name for file in own)}: keep one file for a split")
        if own:
            paths[key] = own[0]
    if "train" not in paths or "test" not in paths:
        raise InputError(
            f"{path} is a folder with {', '.join(file.name for file in found[:5]) or 'no data'}; expected train and "
            f"test, and if wanted valid, each {', '.join(endings)}, or images: name its files so, or give the path of "
            "one of them"
        )
    if len({file.suffix.lower() for file in paths.values()}) > 1:
        raise InputError(f"{path} holds {', '.join(f.name for f in paths.values())}; expected files of one kind")
    refuse(str(path), {"split": split}, "the folder has a file for each split")
    return _load_files(path.name, paths, chosen, split)
