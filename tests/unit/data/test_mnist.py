import gzip

import numpy as np
import pytest

from iwae_tf.data import load
from iwae_tf.errors import InputError

TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"


def idx(images):
    return b"\0\0\x08\x03" + np.array(images.shape, ">u4").tobytes() + images.tobytes()


def check(data, train, test):
    assert (data.name, data.scale, data.image_shape) == ("mnist", 255, (28, 28))
    assert data.x_train.dtype == np.uint8
    np.testing.assert_array_equal(data.x_train, train[:-1].reshape(-1, 784))
    np.testing.assert_array_equal(data.x_valid, train[-1:].reshape(-1, 784))
    np.testing.assert_array_equal(data.x_test, test.reshape(-1, 784))
    x = data.intensities("train")
    assert (x.min(), x.max()) == (0, 1)


def test_idx_files_are_read_plain_and_gzipped(grey, tmp_path):
    (tmp_path / TRAIN).write_bytes(idx(grey(20)))
    (tmp_path / f"{TEST}.gz").write_bytes(gzip.compress(idx(grey(5, seed=1))))
    data = load("mnist", tmp_path)
    check(data, grey(20), grey(5, seed=1))
    assert str(tmp_path / TRAIN) in data.source
    assert data.split == "validation: the last 1 of the 20 training images in file order"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_npz_file_of_keras_is_read(grey, save, tmp_path, name):
    save(f"{name}.npz", x_train=grey(20), y_train=np.arange(20), x_test=grey(5, seed=1), y_test=np.arange(5))
    data = load(name, tmp_path)
    assert data.name == name
    np.testing.assert_array_equal(data.x_valid, grey(20)[-1:].reshape(-1, 784))
    np.testing.assert_array_equal(data.x_test, grey(5, seed=1).reshape(-1, 784))


def test_the_full_training_set_gives_400_images_for_validation(save, tmp_path):
    x = np.zeros((60_000, 2, 2), np.uint8)
    x[:, 0, 0] = np.arange(60_000) % 251
    save("mnist.npz", x_train=x, x_test=x[:10_000])
    data = load("mnist", tmp_path)
    assert [len(part) for part in (data.x_train, data.x_valid, data.x_test)] == [59_600, 400, 10_000]
    np.testing.assert_array_equal(data.x_valid, x[59_600:].reshape(-1, 4))


def test_one_of_the_two_idx_files_is_not_enough(grey, save, tmp_path):
    (tmp_path / TRAIN).write_bytes(idx(grey(20)))
    save("mnist.npz", x_train=grey(20), x_test=grey(5))
    with pytest.raises(InputError, match=f"holds {TRAIN} but not {TEST}"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        (TEST, lambda b: b"\0\0\x08\x01" + b[4:], "the first .*; expected an IDX file"),
        (TEST, lambda b: b"<html>", "has 6 bytes, the first b'<htm'; expected an IDX file"),
        (TEST, lambda b: b[:10], "has 10 bytes.*; expected an IDX file"),
        (TEST, lambda b: b[:-1], "has 3919 pixels; expected 3920"),
        (TEST, lambda b: b + b"0", "has 3921 pixels; expected 3920"),
        (f"{TEST}.gz", lambda b: b, "cannot be read .*gzip"),
        (f"{TEST}.gz", lambda b: gzip.compress(b)[:-20], "cannot be read"),
    ],
)
def test_a_damaged_idx_file_is_named(grey, tmp_path, name, damage, words):
    (tmp_path / TRAIN).write_bytes(idx(grey(20)))
    (tmp_path / name).write_bytes(damage(idx(grey(5))))
    with pytest.raises(InputError, match=f"{name}.* {words}") as error:
        load("mnist", tmp_path)
    assert "\n" not in str(error.value)
