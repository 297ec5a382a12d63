import http.client
import shutil
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow_datasets
from absl import logging
from tensorflow_datasets.core.utils import tqdm_utils

from iwae_tf.data import load, tfds
from iwae_tf.data.dataset import SPLITS
from iwae_tf.declarations import declared
from iwae_tf.errors import InputError

NAMES = [name for name, declaration in declared("dataset").items() if "tfds" in declaration.facts]
GREY = np.random.default_rng(0).integers(0, 256, (25, 28, 28, 1), dtype=np.uint8)
BINARY = GREY % 2
PAPER = np.full((4, 105, 105, 3), 255, np.uint8)
PAPER[:, 0:15, 30:45] = 0  # 4x4 pixels of the small image
PAPER[1:, 104, 104] = 0  # one of 3.75**2 pixels


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder as TFDS prepares it, with a few images of each data set in their order."""
    features, folder = tensorflow_datasets.features, tmp_path_factory.mktemp("tfds")
    for name, version, splits in (
        ("mnist", "3.0.1", {"train": GREY[:20], "test": GREY[20:]}),
        ("binarized_mnist", "1.0.0", {"train": BINARY[:4], "validation": BINARY[4:7], "test": BINARY[7:9]}),
        ("omniglot", "3.0.0", {"train": PAPER, "test": PAPER[:1]}),
    ):
        image = features.Image(shape=splits["train"].shape[1:])
        tensorflow_datasets.dataset_builders.store_as_tfds_dataset(
            name=name,
            version=version,
            features=features.FeaturesDict({"image": image, "label": features.ClassLabel(num_classes=10)}),
            split_datasets={
                split: [(i, {"image": x, "label": i % 10}) for i, x in enumerate(images)]
                for split, images in splits.items()
            },
            data_dir=folder,
            disable_shuffling=True,
        )
    return folder


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """TFDS's own folder, not made yet, in place of the user's, which may hold data and must not be written to."""
    folder = tmp_path / "tensorflow_datasets"
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(folder))
    return folder


@pytest.fixture
def network(monkeypatch):
    """Sets the answer of the network, and how TFDS downloads; returns the list of calls."""
    calls = []

    def set_network(answer, download=None):
        def download_and_prepare(builder):
            calls.append(builder.name)
            if download is None:
                raise OSError("connection\nlost")
            download(builder)

        monkeypatch.setattr(tfds, "has_network", lambda url: calls.append(url) or answer)
        monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, "download_and_prepare", download_and_prepare)
        return calls

    return set_network


def test_a_prepared_folder_is_read_in_its_order_and_in_silence(prepared, caplog):
    caplog.clear()
    verbosity = logging.get_verbosity()
    data = load("mnist", prepared)
    assert (data.name, data.scale, data.image_shape, data.x_train.dtype) == ("mnist", 255, (28, 28), np.uint8)
    for split, images in zip(SPLITS, (GREY[:19], GREY[19:20], GREY[20:]), strict=True):
        np.testing.assert_array_equal(getattr(data, f"x_{split}"), images.reshape(-1, 784))
    assert data.source == f"TFDS mnist/3.0.1 in {prepared}/mnist/3.0.1"
    assert data.split == "validation: the last 1 of the 20 training images in TFDS's order"
    assert (caplog.records, logging.get_verbosity()) == ([], verbosity)


def test_a_prepared_binarized_mnist_keeps_its_validation_split(prepared):
    data = load("binarized_mnist", prepared)
    assert (data.scale, data.image_shape, data.split) == (1, (28, 28), "as in TFDS")
    for split, images in zip(SPLITS, (BINARY[:4], BINARY[4:7], BINARY[7:9]), strict=True):
        np.testing.assert_array_equal(getattr(data, f"x_{split}"), images.reshape(-1, 784))


def test_a_prepared_omniglot_becomes_28x28_with_ink_1_by_area_means(prepared):
    data = load("omniglot", prepared)
    assert (data.scale, data.image_shape, data.x_train.dtype) == (1, (28, 28), np.float32)
    assert [len(data.intensities(split)) for split in SPLITS] == [3, 1, 1]
    small = np.zeros((28, 28), np.float32)
    small[0:4, 8:12] = 1
    np.testing.assert_allclose(data.x_test[0].reshape(28, 28), small, atol=1e-5)
    small[27, 27] = 1 / 3.75**2
    np.testing.assert_allclose(data.x_valid[0].reshape(28, 28), small, atol=1e-5)
    assert data.split.startswith("validation: the last 1 of the 4 training images in TFDS's order; not the 28x28")


def test_the_full_training_set_gives_its_share_for_validation():
    shares = {name: declared("dataset")[name].facts.get("held_out") for name in NAMES}
    own_split = {"binarized_mnist": None}
    assert shares == own_split | {"mnist": (400, 60_000), "omniglot": (1_280, 19_280), "fashion_mnist": (400, 60_000)}


def test_a_damaged_prepared_folder_is_one_error(prepared, tmp_path):
    shutil.copytree(prepared / "mnist", tmp_path / "mnist")
    (record,) = tmp_path.glob("mnist/*/mnist-train.tfrecord*")
    record.write_bytes(record.read_bytes()[:500])
    with pytest.raises(InputError, match=r"cannot be read .*; expected a folder that TFDS prepared") as error:
        load("mnist", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_downloaded_into_a_given_folder_or_without_network(tmp_path, own_folder, network, name):
    host, calls = declared("dataset")[name].facts["tfds"]["host"], network(False)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"no data for '{name}': {tmp_path} holds none of its files; .*--data-dir"):
        load(name, tmp_path)
    assert calls == []
    with pytest.raises(InputError, match=f"no data for '{name}': .*{host} does not answer; either connect") as error:
        load(name)
    assert "\n" not in str(error.value)
    assert calls == [host]
    assert list(tmp_path.rglob("*")) == [tmp_path / name]


def test_with_a_network_the_data_set_is_downloaded_once_and_read(prepared, own_folder, network, capsys):
    def download(builder):
        shutil.copytree(prepared, own_folder)
        builder.info.read_from_directory(builder.data_dir)
        print("progress of TFDS")
        list(tqdm_utils.tqdm(range(2)))

    calls = network(True, download)
    tensorflow_datasets.enable_progress_bar()
    capsys.readouterr()
    assert len(load("mnist").x_train) == 19
    assert calls == ["https://storage.googleapis.com/", "mnist"]
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"downloading mnist to {own_folder}/mnist/3.0.1\n")
    assert len(load("mnist").x_train) == 19
    assert len(calls) == 2
    network(True)
    with pytest.raises(InputError, match=r"download by TFDS failed \(connection lost\); either connect"):
        load("fashion_mnist")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (urllib.error.HTTPError("url", 404, "Not Found", {}, None), True),
        (urllib.error.HTTPError("url", 503, "no such host, says the proxy", {}, None), False),
        (urllib.error.URLError("no such host"), False),
        (TimeoutError("timed out"), False),
        (ConnectionResetError("reset"), False),
        (http.client.BadStatusLine("no HTTP"), False),
    ],
)
def test_a_network_exists_if_the_host_answers(monkeypatch, answer, expected):
    asked = []

    def urlopen(request, timeout):
        asked.append((request.get_method(), request.full_url, timeout <= 5))
        raise answer

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert tfds.has_network("https://example.org/") is expected
    assert asked == [("HEAD", "https://example.org/", True)]


def test_every_host_is_that_of_the_download():
    from tensorflow_datasets.datasets.binarized_mnist import binarized_mnist_dataset_builder
    from tensorflow_datasets.image_classification import mnist, omniglot

    urls = (mnist.MNIST.URL, binarized_mnist_dataset_builder._URL, omniglot._DL_URL, mnist.FashionMNIST.URL)
    for name, url in zip(("mnist", "binarized_mnist", "omniglot", "fashion_mnist"), urls, strict=True):
        assert url.startswith(declared("dataset")[name].facts["tfds"]["host"])
