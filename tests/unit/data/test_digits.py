import hashlib

import numpy as np
from sklearn import datasets

from iwae_tf.data import load


def test_the_three_parts_hold_every_digit_once():
    data = load("digits")
    assert [len(x) for x in (data.x_train, data.x_valid, data.x_test)] == [1297, 100, 400]
    together = np.concatenate([data.x_train, data.x_valid, data.x_test])
    original = datasets.load_digits().images.reshape(-1, 64)
    np.testing.assert_array_equal(sorted(together.tolist()), sorted(original.tolist()))


def test_the_values_are_grey_levels_in_sixteenths():
    data = load("digits")
    assert data.x_train.dtype == np.uint8
    assert (data.scale, data.image_shape, data.data_dim) == (16, (8, 8), 64)
    for part in ("train", "valid", "test"):
        x = data.intensities(part)
        assert (x.dtype, x.min(), x.max()) == (np.float32, 0, 1)
    np.testing.assert_allclose(data.train_mean(), data.intensities("train").mean(axis=0), rtol=1e-5)


def test_the_split_is_the_same_on_every_machine_and_for_every_seed():
    np.random.seed(5)
    data = load("digits")
    assert hashlib.sha256(data.x_test.tobytes()).hexdigest()[:16] == "c22cc5a16b41c684"


def test_every_part_has_every_digit_in_like_numbers():
    data = load("digits")
    images, labels = datasets.load_digits(return_X_y=True)
    label_of = {image.astype(np.uint8).tobytes(): label for image, label in zip(images, labels, strict=True)}
    for part, low, high in ((data.x_train, 110, 150), (data.x_valid, 3, 20), (data.x_test, 25, 55)):
        counts = np.bincount([label_of[image.tobytes()] for image in part], minlength=10)
        assert low < counts.min()
        assert counts.max() < high
