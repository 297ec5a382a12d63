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
from iwae_tf.errors import InputError

VERSIONS = {"mnist": "3.0.1", "fashion_mnist": "3.0.1", "binarized_mnist": "1.0.0", "omniglot": "3.0.0"}


def prepare(name, folder, **splits):
    """Writes a folder as TFDS prepares it, with the images of `splits` in their order."""
    features = tensorflow_datasets.features
    image_shape = next(iter(splits.values())).shape[1:]
    tensorflow_datasets.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=VERSIONS[name],
        features=features.FeaturesDict(
            {"image": features.Image(shape=image_shape), "label": features.ClassLabel(num_classes=10)}
        ),
        split_datasets={
            split: [(i, {"image": image, "label": i % 10}) for i, image in enumerate(images)]
            for split, images in splits.items()
        },
        data_dir=folder,
        disable_shuffling=True,
    )


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A folder for TFDS in place of the user's, which may hold data and must not be written to. Not made yet."""
    folder = tmp_path / "tensorflow_datasets"
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(folder))
    return folder


@pytest.fixture
def downloads(monkeypatch):
    """The list of downloads TFDS was asked for; each of them fails."""
    asked = []

    def download_and_prepare(builder):
        asked.append(builder.name)
        raise OSError("connection\nlost")

    monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, "download_and_prepare", download_and_prepare)
    return asked


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_a_prepared_folder_is_read_in_its_order(grey, tmp_path, name, caplog):
    prepare(name, tmp_path, train=grey(20)[..., None], test=grey(5, seed=1)[..., None])
    caplog.clear()
    verbosity = logging.get_verbosity()
    data = load(name, tmp_path)
    assert (data.name, data.scale, data.image_shape, data.x_train.dtype) == (name, 255, (28, 28), np.uint8)
    np.testing.assert_array_equal(data.x_train, grey(20)[:-1].reshape(-1, 784))
    np.testing.assert_array_equal(data.x_valid, grey(20)[-1:].reshape(-1, 784))
    np.testing.assert_array_equal(data.x_test, grey(5, seed=1).reshape(-1, 784))
    assert "TFDS" in data.source
    assert "TFDS's order" in data.split
    assert caplog.records == []
    assert logging.get_verbosity() == verbosity


def test_a_prepared_binarized_mnist_keeps_its_validation_part(tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (9, 28, 28, 1), dtype=np.uint8)
    prepare("binarized_mnist", tmp_path, train=x[:4], validation=x[4:7], test=x[7:])
    data = load("binarized_mnist", tmp_path)
    assert (data.scale, data.image_shape) == (1, (28, 28))
    np.testing.assert_array_equal(data.x_valid, x[4:7].reshape(3, 784))
    np.testing.assert_array_equal(data.x_test, x[7:].reshape(2, 784))


def test_a_prepared_omniglot_becomes_28x28_with_ink_1_by_area_means(tmp_path):
    paper = np.full((4, 105, 105, 3), 255, np.uint8)
    paper[:, 0:15, 30:45] = 0  # 4x4 pixels of the small image
    paper[1:, 104, 104] = 0  # one of 3.75**2 pixels
    prepare("omniglot", tmp_path, train=paper, test=paper[:1])
    data = load("omniglot", tmp_path)
    assert (data.scale, data.image_shape, data.x_train.dtype) == (1, (28, 28), np.float32)
    assert [len(part) for part in (data.x_train, data.x_valid, data.x_test)] == [3, 1, 1]
    small = np.zeros((28, 28), np.float32)
    small[0:4, 8:12] = 1
    np.testing.assert_allclose(data.x_test[0].reshape(28, 28), small, atol=1e-5)
    small[27, 27] = 1 / 3.75**2
    np.testing.assert_allclose(data.x_valid[0].reshape(28, 28), small, atol=1e-5)
    assert "figures do not compare" in data.split


def test_a_damaged_prepared_folder_is_one_error(grey, tmp_path):
    prepare("mnist", tmp_path, train=grey(20)[..., None], test=grey(5)[..., None])
    (record,) = tmp_path.glob("mnist/*/mnist-train.tfrecord*")
    record.write_bytes(record.read_bytes()[:500])
    with pytest.raises(InputError, match=r"cannot be read .*; expected a folder that TFDS prepared") as error:
        load("mnist", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", VERSIONS)
def test_a_folder_without_the_data_set_never_goes_to_the_network(tmp_path, monkeypatch, downloads, name):
    monkeypatch.setattr(tfds, "has_network", lambda url: pytest.fail("looked for a network"))
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"no data for '{name}': {tmp_path} holds none of its files; .*--data-dir"):
        load(name, tmp_path)
    assert downloads == []
    assert list(tmp_path.rglob("*")) == [tmp_path / name]


@pytest.mark.parametrize("name", VERSIONS)
def test_without_network_nothing_is_downloaded_or_written(own_folder, monkeypatch, downloads, name):
    monkeypatch.setattr(tfds, "has_network", lambda url: False)
    with pytest.raises(
        InputError, match=f"no data for '{name}': .*does not answer; either connect .*--data-dir"
    ) as error:
        load(name)
    assert "\n" not in str(error.value)
    assert downloads == []
    assert not own_folder.exists()


def test_a_download_that_fails_is_one_line(own_folder, monkeypatch, downloads):
    monkeypatch.setattr(tfds, "has_network", lambda url: True)
    with pytest.raises(InputError, match=r"download by TFDS failed \(connection lost\); either connect"):
        load("omniglot")
    assert downloads == ["omniglot"]


def test_what_is_prepared_in_tfds_own_folder_needs_no_network(grey, own_folder, monkeypatch):
    prepare("mnist", own_folder, train=grey(20)[..., None], test=grey(5)[..., None])
    monkeypatch.setattr(tfds, "has_network", lambda url: pytest.fail("looked for a network"))
    assert len(load("mnist").x_train) == 19


def test_with_a_network_the_data_set_is_downloaded_and_read(grey, tmp_path, own_folder, monkeypatch, capsys):
    prepare("mnist", tmp_path / "far", train=grey(20)[..., None], test=grey(5)[..., None])

    def download_and_prepare(builder):
        shutil.copytree(tmp_path / "far", own_folder)
        builder.info.read_from_directory(builder.data_dir)
        print("what TFDS says")
        list(tqdm_utils.tqdm(range(2)))

    asked = []
    monkeypatch.setattr(tfds, "has_network", lambda url: asked.append(url) or True)
    monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, "download_and_prepare", download_and_prepare)
    tensorflow_datasets.enable_progress_bar()
    capsys.readouterr()
    assert len(load("mnist").x_train) == 19
    assert asked == ["https://storage.googleapis.com/"]
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"downloading mnist to {own_folder}/mnist/3.0.1\n")


@pytest.mark.parametrize(
    ("answer", "network"),
    [
        (urllib.error.HTTPError("url", 404, "Not Found", {}, None), True),
        (urllib.error.HTTPError("url", 503, "no such host, says the proxy", {}, None), False),
        (urllib.error.URLError("no such host"), False),
        (TimeoutError("timed out"), False),
        (ConnectionResetError("reset"), False),
        (http.client.BadStatusLine("no HTTP"), False),
    ],
)
def test_a_network_is_there_if_the_host_answers(monkeypatch, answer, network):
    asked = []

    def urlopen(request, timeout):
        asked.append((request.get_method(), request.full_url, timeout <= 5))
        raise answer

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert tfds.has_network("https://example.org/") is network
    assert asked == [("HEAD", "https://example.org/", True)]


def test_every_download_is_looked_for_at_the_host_it_comes_from():
    from tensorflow_datasets.datasets.binarized_mnist import binarized_mnist_dataset_builder
    from tensorflow_datasets.image_classification import mnist, omniglot

    assert mnist.MNIST.URL.startswith(tfds.HOSTS["mnist"])
    assert mnist.FashionMNIST.URL.startswith(tfds.HOSTS["fashion_mnist"])
    assert omniglot._DL_URL.startswith(tfds.HOSTS["omniglot"])
    assert binarized_mnist_dataset_builder._URL.startswith(tfds.HOSTS["binarized_mnist"])
