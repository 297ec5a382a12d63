import numpy as np
import pytest
from scipy import io

from iwae_tf.data import load
from iwae_tf.errors import InputError


def images(count, seed=0):
    return np.random.default_rng(seed).random((count, 28, 28))


def by_columns(x):
    """As MATLAB stores them: one image a column of the matrix, the pixels of an image column by column."""
    return np.stack([image.flatten(order="F") for image in x], axis=1)


def rows(x):
    return sorted(x.reshape(len(x), -1).astype(np.float32).tolist())


def test_the_images_of_chardata_come_out_upright(tmp_path):
    io.savemat(tmp_path / "chardata.mat", {"data": by_columns(images(40)), "testdata": by_columns(images(6, 1))})
    data = load("omniglot", tmp_path)
    assert (data.name, data.scale, data.image_shape) == ("omniglot", 1, (28, 28))
    assert data.x_test.dtype == np.float32
    np.testing.assert_array_equal(data.x_test, images(6, 1).reshape(6, 784).astype(np.float32))


def test_the_validation_images_are_drawn_from_the_training_images(tmp_path):
    io.savemat(tmp_path / "chardata.mat", {"data": by_columns(images(40)), "testdata": by_columns(images(6, 1))})
    data = load("omniglot", tmp_path)
    assert (len(data.x_train), len(data.x_valid)) == (38, 2)
    assert rows(np.concatenate([data.x_train, data.x_valid])) == rows(images(40))
    assert rows(data.x_valid) != rows(images(40)[-2:])
    assert data.split == "validation: 2 of the 40 training images, drawn once for all runs"


def test_the_full_training_set_gives_1345_images_for_validation(tmp_path):
    io.savemat(
        tmp_path / "chardata.mat",
        {"data": np.zeros((784, 24_345), np.uint8), "testdata": np.ones((784, 8_070), np.uint8)},
        do_compression=True,
    )
    data = load("omniglot", tmp_path)
    assert [len(part) for part in (data.x_train, data.x_valid, data.x_test)] == [23_000, 1_345, 8_070]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"data": np.zeros((784, 3))}, "testdata is missing; expected 784 x N"),
        ({"data": np.zeros((3, 784)), "testdata": np.zeros((784, 3))}, r"data has shape \(3, 784\); expected 784 x N"),
        ({"data": np.full((784, 3), 2.0), "testdata": np.zeros((784, 3))}, "x_train has values from 2 to 2"),
        ({"data": np.zeros((784, 1)), "testdata": np.zeros((784, 3))}, "1 image; expected at least 2"),
    ],
)
def test_another_content_is_refused(tmp_path, content, words):
    io.savemat(tmp_path / "chardata.mat", content)
    with pytest.raises(InputError, match=f"chardata.mat: .*{words}"):
        load("omniglot", tmp_path)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "chardata.mat"
    io.savemat(path, {"data": np.zeros((784, 3)), "testdata": np.zeros((784, 3))})
    for content in (path.read_bytes()[:-300], b"\x89HDF\r\n\x1a\n" + bytes(600), b"text", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"chardata\.mat cannot be read .*; expected a MATLAB file") as error:
            load("omniglot", tmp_path)
        assert "\n" not in str(error.value)
