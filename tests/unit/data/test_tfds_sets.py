"""Any data set of TFDS by its name: images, features as columns, splits, and what cannot be used."""

import numpy as np
import pytest
import tensorflow_datasets
from tensorflow_datasets import features

from iwae_tf.data import Column, load, tfds
from iwae_tf.data.dataset import SPLITS
from iwae_tf.errors import InputError

GENERATOR = np.random.default_rng(2)
COLOUR = GENERATOR.integers(0, 256, (20, 4, 5, 3), dtype=np.uint8)
PEOPLE = [
    {"age": np.float32(i / 3), "body": np.float32([i, -i]), "class": i % 3, "name": f"person {i}", "sex": i % 2}
    for i in range(200)
]


@pytest.fixture(autouse=True)
def numbers_that_do_not_depend_on_other_tests():
    GENERATOR.bit_generator.state = np.random.default_rng(100).bit_generator.state


def store(folder, name, columns, splits, version="1.0.0"):
    tensorflow_datasets.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        features=features.FeaturesDict(columns),
        split_datasets={split: list(enumerate(examples)) for split, examples in splits.items()},
        data_dir=folder,
        disable_shuffling=True,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    images = [{"image": image, "label": i % 2} for i, image in enumerate(COLOUR)]
    label = features.ClassLabel(num_classes=2)
    store(
        folder,
        "small_photos",
        {"image": features.Image(shape=(4, 5, 3)), "label": label},
        {"train": images[:9], "validation": images[9:12], "test": images[12:]},
    )
    many = [{"picture": GENERATOR.integers(0, 256, (3, 3, 1), dtype=np.uint8)} for _ in range(100)]
    store(folder, "unsplit", {"picture": features.Image(shape=(3, 3, 1))}, {"train": many})
    sizes = [{"image": COLOUR[0]}, {"image": COLOUR[1, :3]}]
    store(folder, "sizes", {"image": features.Image(shape=(None, None, 3))}, {"train": sizes, "test": sizes})
    store(folder, "untested", {"sex": np.int64}, {"train": [{"sex": 1}], "dev": [{"sex": 0}]})
    people = {
        "age": np.float32,
        "body": features.Tensor(shape=(2,), dtype=np.float32),
        "class": features.ClassLabel(names=["first", "second", "third"]),
        "name": features.Text(),
        "sex": np.int64,
    }
    store(folder, "people", people, {"train": PEOPLE})
    flower = {"features": features.Tensor(shape=(4,), dtype=np.float32), "label": features.ClassLabel(num_classes=3)}
    rows = GENERATOR.normal(size=(150, 4)).astype(np.float32)
    flowers = [{"features": row, "label": i % 3} for i, row in enumerate(rows)]
    store(folder, "iris", flower, {"train": flowers}, version="2.1.0")  # TFDS knows its target
    grid = [{"grid": np.zeros((2, 2), np.float32), "v": np.float32(i)} for i in range(99)]
    store(folder, "grids", {"grid": features.Tensor(shape=(2, 2), dtype=np.float32), "v": np.float32}, {"train": grid})
    return folder


def refused(words, dataset, *arguments, **settings):
    with pytest.raises(InputError, match=words) as error:
        load(dataset, *arguments, **settings)
    assert "\n" not in str(error.value)


def test_images_are_read_in_the_splits_of_tfds_with_colours_side_by_side(prepared):
    data = load("tfds:small_photos", prepared)
    assert (data.name, data.scale, data.image_shape, data.columns) == ("small_photos", 255, (4, 15), ())
    assert (data.source, data.split) == (f"TFDS small_photos/1.0.0 in {prepared}/small_photos/1.0.0", "as in the file")
    for split, images in zip(SPLITS, (COLOUR[:9], COLOUR[9:12], COLOUR[12:]), strict=True):
        np.testing.assert_array_equal(getattr(data, f"x_{split}"), images.reshape(-1, 60))


def test_a_data_set_with_one_split_is_split_by_content(prepared):
    data = load("tfds:unsplit", prepared, split=[0.5, 0.2, 0.3])
    assert data.split == "0.5 / 0.2 / 0.3 by the sha256 of each row's content"
    assert sum(len(getattr(data, f"x_{split}")) for split in SPLITS) == 100


def test_features_without_an_image_are_columns(prepared):
    data = load("tfds:people", prepared, drop=["name"], label_column="class")
    kinds = {"age": "real", "body_0": "count", "body_1": "real", "sex": "binary"}
    assert data.columns == tuple(Column(name, kind) for name, kind in kinds.items())
    assert set(data.labels["train"]) == {"first", "second", "third"}
    with_class = load("tfds:people", prepared, columns=["class", "age"], id_column="name")
    assert with_class.columns[0] == Column("class", "category", ("first", "second", "third"))
    assert with_class.ids["test"][0].startswith("person ")


def test_the_target_of_a_supervised_data_set_is_left_out(prepared):
    data = load("tfds:iris", prepared, drop=["features_3"])
    assert ([column.name for column in data.columns], data.labels) == (["features_0", "features_1", "features_2"], {})
    labelled = load("tfds:iris", prepared, label_column="label")
    assert (labelled.data_dim, set(labelled.labels["train"])) == (
        4,
        {"Iris-setosa", "Iris-versicolor", "Iris-virginica"},
    )


def test_a_data_set_that_cannot_be_used_is_one_line(prepared, tmp_path):
    refused("--columns cannot be used, because images have no named", "tfds:small_photos", prepared, columns=["image"])
    refused(
        "--split cannot be used, because the data set has its own", "tfds:small_photos", prepared, split=[0.5, 0, 0.5]
    )
    refused(r"images have different shapes, for example \(3, 5, 3\) and \(4, 5, 3\)", "tfds:sizes", prepared)
    refused("has the splits train, dev; expected train and test, or train alone", "tfds:untested", prepared)
    refused("column 'name' has 200 different texts, .*--drop name", "tfds:people", prepared)
    refused(r"the feature 'grid' is Tensor of shape \(2, 2\); expected .*--drop grid", "tfds:grids", prepared)
    assert load("tfds:grids", prepared, drop=["grid"]).data_dim == 1
    refused("unknown data set 'mnits' of TFDS: did you mean 'mnist'", "tfds:mnits", tmp_path)
    refused(
        f"no data for 'tfds:mnist': {tmp_path} holds no prepared folder of it; .*--data-dir", "tfds:mnist", tmp_path
    )


def test_without_network_nothing_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds, "has_network", lambda url: False)
    refused("no data for 'tfds:cifar10': .*does not answer; either connect", "tfds:cifar10")
