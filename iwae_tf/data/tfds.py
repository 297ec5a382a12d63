"""The named data sets through TensorFlow Datasets (TFDS): prepared folders, and downloads when there is a network.

TFDS stores images in an order of its own, shuffled by a hash that is the same on every machine.
"""

import contextlib
import dataclasses
import http.client
import io
import os
import pathlib
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from iwae_tf.data import arrays, binarized_mnist, files, mnist
from iwae_tf.data.dataset import Dataset
from iwae_tf.data.registry import missing_data

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Where TFDS downloads each of them from.
HOSTS = {
    "mnist": "https://storage.googleapis.com/",
    "binarized_mnist": "http://www.cs.toronto.edu/",
    "omniglot": "https://github.com/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
_TIMEOUT = 5.0
# 1,280 of the 19,280 images of OMNIGLOT's background set are the validation part.
_OMNIGLOT_HELD_OUT, _OMNIGLOT_TRAINING_IMAGES = 1_280, 19_280


def from_folder(name: str, folder: pathlib.Path) -> Dataset | None:
    """The data set from TFDS's prepared folder in `folder`; None if there is none. Never downloads.

    Raises:
        InputError: the prepared folder cannot be read.
    """
    with files.reading(folder / name, "a folder that TFDS prepared"), _quiet():
        builder = _builder(name, folder)
        return _to_dataset(name, builder) if builder.is_prepared() else None


def from_tfds(name: str) -> Dataset:
    """The data set from TFDS's own folder, downloaded into it if it is not there and a network is.

    Raises:
        InputError: it is not there and cannot be downloaded.
    """
    with _quiet():
        builder = _builder(name)
        prepared = builder.is_prepared()
    if not prepared:
        _download(name, builder)
    with files.reading(pathlib.Path(builder.data_dir), "a folder that TFDS prepared"), _quiet():
        return _to_dataset(name, builder)


def has_network(url: str) -> bool:
    """Whether the host of `url` answers within seconds, through the proxy if one is set.

    Any answer counts but a server error: it is what a proxy says that cannot reach the host, and what TFDS would
    answer with minutes of retries.
    """
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, http.client.HTTPException):
        return False
    return True


def _builder(name: str, folder: os.PathLike | None = None) -> "tfds.core.DatasetBuilder":
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    return tfds.builder(name, data_dir=folder)


def _download(name: str, builder: "tfds.core.DatasetBuilder") -> None:
    # Offline, TFDS retries for minutes before it gives up; so nothing is asked of it without a network.
    if not has_network(HOSTS[name]):
        raise missing_data(name, f"TFDS has none prepared in {builder.data_dir}, and {HOSTS[name]} does not answer")
    print(f"downloading {name} to {builder.data_dir}", file=sys.stderr)
    try:
        with _quiet():
            builder.download_and_prepare()
    except Exception as error:
        raise missing_data(name, f"the download by TFDS failed ({files.one_line(error)})") from error


def _to_dataset(name: str, builder: "tfds.core.DatasetBuilder") -> Dataset:
    parts = {"x_train": _images(builder, "train"), "x_test": _images(builder, "test")}
    if name == "binarized_mnist":
        parts["x_valid"] = _images(builder, "validation")
    source = f"TFDS {builder.info.full_name} in {builder.data_dir}"
    data = arrays.make_dataset(name, parts, str(builder.data_dir), source, "as in TFDS")
    if name == "binarized_mnist":
        binarized_mnist.check_binary(data)
        return data
    if name == "omniglot":
        data = arrays.hold_out_last(data, _OMNIGLOT_HELD_OUT, _OMNIGLOT_TRAINING_IMAGES, "TFDS's order")
        caution = "not the 28x28 images and split of chardata.mat (Burda et al.), so figures do not compare with theirs"
        return dataclasses.replace(data, split=f"{data.split}; {caution}")
    return arrays.hold_out_last(data, mnist.HELD_OUT, mnist.TRAINING_IMAGES, "TFDS's order")


def _images(builder: "tfds.core.DatasetBuilder", split: str) -> np.ndarray:
    """A split's images as they are, uint8 [N, 28, 28, 1]; larger ones as float32 in [0, 1] with ink = 1."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    to_28x28 = tf.autograph.experimental.do_not_convert(lambda example: _to_28x28(example["image"]))
    images = builder.as_dataset(split=split, decoders=tfds.decode.PartialDecoding({"image": True}))
    return np.concatenate([batch.numpy() for batch in images.map(to_28x28).batch(1024)])


def _to_28x28(image):
    if image.shape[:2] == (28, 28):
        return image
    import tensorflow as tf

    paper = tf.image.resize(tf.cast(image[..., :1], tf.float32), (28, 28), method="area") / 255.0
    # A mean of equal numbers can come out a rounding error above them.
    return tf.clip_by_value(1.0 - paper, 0.0, 1.0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS from logging and printing; its errors still come through."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
