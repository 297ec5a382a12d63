"""A user's own data by path: a table, an array, a folder with a file for each split, a folder of images."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from iwae_tf.data import arrays, files, images
from iwae_tf.data.dataset import SPLITS, Dataset
from iwae_tf.data.splits import WHOLE
from iwae_tf.errors import InputError

TABLES = (".csv", ".parquet")
ARRAYS = (".npy", ".npz")
OTHER_SPLITS = ("training", "val", "validation", "dev", "testing")  # names that are taken for mistakes


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
    """Returns the data set of a folder: images, or a file for each split."""
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in TABLES + ARRAYS and file.is_file())
    groups = {key: images.image_paths(path / key) for key in SPLITS if (path / key).is_dir()}
    groups = {key: classes for key, classes in groups.items() if classes}
    if classes := images.image_paths(path, SPLITS):
        groups[WHOLE] = classes
    if found and groups:
        some = next(files for classes in groups.values() for files in classes.values())[0]
        raise InputError(
            f"{path} holds both {found[0].name} and images, {some.relative_to(path)}; expected one of them: move the "
            "others to another folder"
        )
    if groups:
        return _load_images(path, groups, chosen, split)
    paths = _split_files(path, found)
    refuse(str(path), {"split": split}, "the folder has a file for each split")
    return _load_files(path.resolve().name, paths, chosen, split)


def _split_files(path: pathlib.Path, found: list[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Returns the files of the splits among the tables and arrays of a folder."""
    paths: dict[str, pathlib.Path] = {}
    for key in SPLITS:
        named = [file for file in found if file.stem.lower() == key]
        if len(named) > 1:
            raise InputError(f"{path} holds {' and '.join(file.name for file in named)}: keep one file for each split")
        if named:
            paths[key] = named[0]
    other = [file.name for file in found if file.stem.lower() in OTHER_SPLITS]
    if "train" not in paths or "test" not in paths or (other and "valid" not in paths):
        names = ", ".join(file.name for file in found[:5]) or "no data"
        raise InputError(
            f"{path} is a folder with {names}; expected train and test, and if wanted valid, each with one of the "
            f"endings {', '.join(TABLES + ARRAYS)}, or PNG or JPEG images, in it or in folders train, valid and test: "
            "rename its files, or give the path of one of them"
        )
    if len({file.suffix.lower() for file in paths.values()}) > 1:
        raise InputError(
            f"{path} holds {', '.join(file.name for file in paths.values())}; expected files of one kind: save all in "
            "the same format"
        )
    return paths


def _load_images(
    path: pathlib.Path,
    groups: dict[str, dict[str, list[pathlib.Path]]],
    chosen: Mapping[str, Any],
    split: tuple[float, ...] | None,
) -> Dataset:
    """Returns the data set of the images of a folder: split, or `WHOLE` -> class, or "" -> files."""
    why = "images have no named columns; a subfolder for each class gives the labels, and file names the ids"
    refuse(str(path), chosen, why)
    other = [name for name in groups.get(WHOLE, ()) if name.lower() in (*SPLITS, *OTHER_SPLITS)]
    if WHOLE not in groups:
        refuse(str(path), {"split": split}, "the images have a folder for each split")
        if "train" not in groups or "test" not in groups:
            raise InputError(
                f"{path} has images in {' and '.join(groups)} alone; expected folders train and test, and if wanted "
                "valid: add the other one, or put all images into one folder"
            )
    elif len(groups) > 1 or other:
        beside = [key for key in groups if key] + other
        raise InputError(
            f"{path} has images in {', '.join(beside)} and elsewhere, in {next(iter(groups[WHOLE])) or 'itself'}; "
            "expected folders train, test and if wanted valid, or one for each class: rename or move them"
        )
    named = [(key, name, file) for key, classes in groups.items() for name, paths in classes.items() for file in paths]
    # Read together, so that one colour image makes all of them colour images.
    read = images.read_images([file for *_, file in named])
    keys = np.array([key for key, *_ in named])
    ids = np.array([file.relative_to(path).as_posix() for *_, file in named])
    labels = np.array([name for _, name, _ in named])
    fields = {"ids": ids} | ({"labels": labels} if len(set(labels)) > 1 else {})
    return arrays.from_arrays(
        path.resolve().name,
        {key and f"x_{key}": read[keys == key] for key in groups},
        str(path),
        split,
        {field: {key: values[keys == key] for key in groups} for field, values in fields.items()},
    )
