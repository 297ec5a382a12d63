"""Any data set of TensorFlow Datasets by its name, `tfds:NAME[/CONFIG]`: its images, or its features as columns."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from iwae_tf.data import arrays, own, tfds
from iwae_tf.data.dataset import Dataset
from iwae_tf.data.splits import WHOLE
from iwae_tf.declarations import Declaration
from iwae_tf.errors import InputError

PREFIX = "tfds:"
_HOST = "https://storage.googleapis.com/"  # TFDS asks it for each data set, whatever the host of the data
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


def load_tfds(
    name: str, folder: pathlib.Path | None, chosen: Mapping[str, Any], split: tuple[float, ...] | None
) -> Dataset:
    """Returns a data set as TFDS prepared it.

    A data set with an image feature gives its images alone. Otherwise its features are columns: numbers, vectors as
    one column for each entry, and text and class labels as categories. The target of a supervised data set is left out.

    Args:
        name: "tfds:NAME" or "tfds:NAME/CONFIG".
        folder: contains the prepared folder; nothing is downloaded. None means TFDS's own folder, and a download if
            the data set is not in it.
        chosen: "columns", "drop", "id_column" and "label_column", of a data set without images.
        split: shares of train, valid and test, where TFDS has the split "train" alone.

    Raises:
        InputError: the data set is unknown, not on this machine, or cannot be used.
    """
    own_name = name.removeprefix(PREFIX)
    facts = {"files": f"TFDS's prepared folder {own_name}/", "tfds": {"name": own_name, "host": _HOST}}
    declaration = Declaration("dataset", name, "", __name__, "load_tfds", {}, facts)
    with tfds.prepared(declaration, folder) as builder:
        if builder is None:
            raise tfds.missing_data(declaration, f"{folder} holds no prepared folder of it")
        source, short = tfds.source_of(builder), own_name.replace("/", "-").replace(":", "-")
        splits = _splits(builder, source)
        if WHOLE not in splits:
            own.refuse(source, {"split": split}, "the data set has its own splits")
        image = _image_feature(builder)
        if image is None:
            return _columns(builder, short, splits, source, chosen, split)
        own.refuse(source, chosen, "images have no named columns")
        images = {key and f"x_{key}": _images(builder, image, name, source) for key, name in splits.items()}
        return arrays.from_arrays(short, images, source, split)


def _splits(builder, source: str) -> dict[str, str]:
    """Returns our name of each split -> that of TFDS."""
    known = list(builder.info.splits)
    if known == ["train"]:
        return {WHOLE: "train"}
    if "train" not in known or "test" not in known:
        raise InputError(
            f"{source} has the splits {', '.join(known)}; expected train and test, or train alone: save its rows as a "
            "table or an .npz file"
        )
    return {key: name for key, name in _SPLITS.items() if name in known}


def _image_feature(builder) -> str | None:
    """Returns the name of the image to model: "image", or the first by name; None if there is none."""
    from tensorflow_datasets import features

    names = sorted(name for name, feature in builder.info.features.items() if isinstance(feature, features.Image))
    return "image" if "image" in names else names[0] if names else None


def _images(builder, key: str, split: str, source: str) -> np.ndarray:
    """Returns the images of a split, [N, H, W, C]."""
    import tensorflow_datasets
    from tensorflow_datasets import decode

    examples = builder.as_dataset(split=split, decoders=decode.PartialDecoding({key: True}))
    if None not in builder.info.features[key].shape:
        return np.concatenate([batch[key].numpy() for batch in examples.batch(1024)])
    images = [example[key] for example in tensorflow_datasets.as_numpy(examples)]
    sizes = sorted({image.shape for image in images})
    if len(sizes) > 1:
        raise InputError(
            f"{source}: the images have different shapes, for example {sizes[0]} and {sizes[-1]}; expected one: resize "
            "them and save them as an .npz file"
        )
    return np.stack(images)


def _columns(
    builder,
    name: str,
    splits: Mapping[str, str],
    source: str,
    chosen: Mapping[str, Any],
    split: tuple[float, ...] | None,
) -> Dataset:
    """Returns the data set of the features of a data set without images."""
    import pyarrow as pa
    import tensorflow_datasets

    from iwae_tf.data import tables

    left_out = {*chosen["drop"], *_target(builder)}
    named = {chosen["id_column"], chosen["label_column"]}
    known = sorted(builder.info.features.items())  # sorted, because TFDS reads them in no fixed order
    features = {key: feature for key, feature in known if key not in left_out or key in named}
    read = {}
    for key, split_name in splits.items():
        examples = list(tensorflow_datasets.as_numpy(builder.as_dataset(split=split_name)))
        columns = {}
        for feature_name, feature in features.items():
            values = [example[feature_name] for example in examples]
            columns |= dict(_feature_columns(feature_name, feature, values, source))
        read[key] = pa.table(columns)
    still = [drop for drop in chosen["drop"] if drop not in builder.info.features]  # entries of vectors
    return tables.from_tables(name, read, dict.fromkeys(read, source), source, **dict(chosen, drop=still), split=split)


def _target(builder) -> tuple[str, ...]:
    keys = builder.info.supervised_keys
    return (keys[1],) if keys and isinstance(keys[1], str) else ()


def _feature_columns(name: str, feature, values: list, source: str) -> Iterator[tuple[str, Any]]:
    """Returns the columns of a feature: name and values."""
    from tensorflow_datasets import features

    numeric = getattr(feature, "np_dtype", None) is not None and np.dtype(feature.np_dtype).kind in "biuf"
    if isinstance(feature, features.ClassLabel):
        yield name, [feature.int2str(int(value)) if value >= 0 else None for value in values]
    elif numeric and feature.shape == ():
        yield name, np.array(values)
    elif numeric and len(feature.shape) == 1 and feature.shape[0]:
        for i, column in enumerate(np.stack(values).T):
            yield f"{name}_{i}", np.ascontiguousarray(column)
    elif feature.shape == () and values and isinstance(values[0], bytes):
        yield name, [value.decode(errors="replace") for value in values]
    else:
        raise InputError(
            f"{source}: the feature {name!r} is {type(feature).__name__} of shape {feature.shape}; expected a number, "
            f"a vector, a text or a class label: --drop {name}"
        )
