"""Data sets through TensorFlow Datasets (TFDS): prepared folders, and downloads if there is a network.

TFDS stores images in an order of its own, shuffled by a hash that is the same on every machine.
"""

import contextlib
import dataclasses
import http.client
import io
import pathlib
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np

from iwae_tf.data import files
from iwae_tf.data.dataset import Dataset, hold_out
from iwae_tf.declarations import Declaration
from iwae_tf.errors import InputError, nearest_name

_TIMEOUT = 5.0  # seconds


def from_tfds(declaration: Declaration, folder: pathlib.Path | None) -> Dataset | None:
    """Returns a declared data set as TFDS prepared it; None if `folder` has no prepared folder of it.

    Args:
        declaration: of the data set, see `iwae_tf.data.sources`.
        folder: contains the prepared folder; nothing is downloaded. None means TFDS's own folder, and a download if
            the data set is not in it.

    Raises:
        InputError: the prepared folder cannot be read, or the download failed.
    """
    with prepared(declaration, folder) as builder:
        if builder is None:
            return None
        splits = {"x_train": "train", "x_valid": "validation", "x_test": "test"}
        arrays = {key: _images(builder, split) for key, split in splits.items() if split in builder.info.splits}
    source = source_of(builder)
    data = Dataset.from_arrays(declaration.name, arrays, source, "as in TFDS")
    if "x_valid" not in arrays and "held_out" in declaration.facts:
        data = hold_out(data, *declaration.facts["held_out"], "TFDS's order")
    note = declaration.facts["tfds"].get("note")
    return dataclasses.replace(data, split=f"{data.split}; {note}") if note else data


@contextlib.contextmanager
def prepared(declaration: Declaration, folder: pathlib.Path | None) -> Iterator[Any]:
    """Gives the builder of a prepared data set, downloaded if no folder is given, or None; reads in silence."""
    import tensorflow_datasets

    tensorflow_datasets.disable_progress_bar()
    name = declaration.facts["tfds"]["name"]
    parent = pathlib.Path(folder or tensorflow_datasets.core.constants.DATA_DIR)
    with files.reading(parent / name, "a folder that TFDS prepared"), _quiet():
        try:
            builder = tensorflow_datasets.builder(name, data_dir=folder)
        except tensorflow_datasets.core.DatasetNotFoundError:
            known = tensorflow_datasets.list_builders(with_community_datasets=False)
            nearest = nearest_name(name, known)
            hint = f"did you mean {nearest!r}? " if nearest else ""
            raise InputError(
                f"unknown data set {name!r} of TFDS: {hint}neither TFDS nor {parent} has it: see "
                "https://www.tensorflow.org/datasets/catalog/overview for the names, or give --data-dir"
            ) from None
        if not builder.is_prepared():
            if folder is None:
                _download(declaration, builder)
            else:
                builder = None
        yield builder


def source_of(builder) -> str:
    """Returns the line for `Dataset.source`."""
    return f"TFDS {builder.info.full_name} in {builder.data_dir}"


def missing_data(declaration: Declaration, tried: str) -> InputError:
    """Returns the error for a data set that is not on this machine, with the ways to get it."""
    remedy = f"give --data-dir with a folder that holds {declaration.facts['files']}"
    if "tfds" in declaration.facts:
        remedy = (
            "either connect to the network and run again without --data-dir, so that TensorFlow Datasets (TFDS) "
            f"downloads it, or {remedy}"
        )
    return InputError(f"no data for {declaration.name!r}: {tried}; {remedy}")


def has_network(url: str) -> bool:
    """Returns whether the host of `url` answers within seconds, through the proxy if one is set.

    Any answer counts except a server error: a proxy sends one if it cannot reach the host, and TFDS would then retry
    for minutes.
    """
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, http.client.HTTPException):
        return False
    return True


def _download(declaration: Declaration, builder) -> None:
    host = declaration.facts["tfds"]["host"]
    # Offline, TFDS retries for 205 s before it fails, so the network is checked first.
    if not has_network(host):
        raise missing_data(declaration, f"TFDS has none prepared in {builder.data_dir}, and {host} does not answer")
    print(f"downloading {declaration.name} to {builder.data_dir}", file=sys.stderr)
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise missing_data(declaration, f"the download by TFDS failed ({files.one_line(error)})") from error


def _images(builder, split: str) -> np.ndarray:
    """Returns the images of a split: uint8 [N, 28, 28, 1], or larger ones resized to float32 in [0, 1] with ink = 1."""
    import tensorflow as tf
    from tensorflow_datasets import decode

    @tf.autograph.experimental.do_not_convert
    def to_28x28(example):
        image = example["image"]
        if image.shape[:2] == (28, 28):
            return image
        paper = tf.image.resize(tf.cast(image[..., :1], tf.float32), (28, 28), method="area") / 255.0
        return tf.clip_by_value(1.0 - paper, 0.0, 1.0)  # the mean of equal numbers can round to above them

    images = builder.as_dataset(split=split, decoders=decode.PartialDecoding({"image": True}))
    return np.concatenate([batch.numpy() for batch in images.map(to_28x28).batch(1024)])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS from logging and printing; its exceptions pass through."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
