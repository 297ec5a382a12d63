import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.data.binarization import binarize_once, binarize_rows
from iwae_tf.data.dataset import SPLITS

HALF = np.full((10, 1000), 0.5, np.float32)


def training_pixels(x, first=0, seed=3, epoch=5):
    return binarize_rows(x, first, seeds.key(seed, seeds.Purpose.BINARIZE_TRAIN, epoch)).numpy()


def check_independent(one, other):
    # two independent fair draws differ half the time: 4 standard errors of 10,000
    assert abs(np.mean(one != other) - 0.5) < 4.0 * 0.5 / 100.0


def test_a_training_image_has_the_pixels_of_its_row_number_in_whatever_batch():
    x = np.random.default_rng(0).random((10, 30)).astype(np.float32)
    together = training_pixels(x)
    for rows in (slice(0, 1), slice(4, 7), slice(9, 10)):
        np.testing.assert_array_equal(training_pixels(x[rows], first=rows.start), together[rows])


def test_pixels_are_drawn_anew_for_every_row_epoch_seed_and_split():
    first = training_pixels(HALF)
    for other in (first[::-1], training_pixels(HALF, epoch=6), training_pixels(HALF, seed=4)):
        check_independent(first, other)
    evaluated = [binarize_once(HALF, split) for split in SPLITS]
    check_independent(evaluated[1], evaluated[2])
    check_independent(evaluated[2], evaluated[2][::-1])
    for number, pixels in enumerate(evaluated):
        check_independent(pixels, training_pixels(HALF, seed=0, epoch=number))


@pytest.mark.parametrize("draw", [training_pixels, lambda x: binarize_once(x, "test")])
def test_every_pixel_is_1_as_often_as_its_intensity_says(draw):
    n, p = 1_000, np.array([0.0, 1 / 255, 0.05, 0.3, 0.5, 0.7, 0.95, 254 / 255, 1.0])
    pixels = draw(np.tile(p, (n, 1)).astype(np.float32))
    assert pixels.dtype == np.float32
    assert set(np.unique(pixels)) == {0.0, 1.0}
    assert (np.abs(pixels.mean(axis=0) - p) <= 4.0 * np.sqrt(p * (1.0 - p) / n)).all()  # 4 standard errors


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-23])
def test_black_and_white_pixels_stay_even_at_the_ends_of_the_generators_range(monkeypatch, uniform):
    monkeypatch.setattr(seeds, "uniform", lambda shape, key: tf.fill(shape, uniform))  # one draw in 8 million
    monkeypatch.setattr(seeds, "row_uniforms", lambda first, count, width, key: tf.fill([count, width], uniform))
    x = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(training_pixels(x), x)
    tf.config.run_functions_eagerly(True)  # else a graph traced before would draw
    try:
        np.testing.assert_array_equal(binarize_once(x, "test"), x)
    finally:
        tf.config.run_functions_eagerly(False)


def test_the_binarization_used_in_evaluation_never_changes():
    x = np.full((20, 50), 0.5, np.float32)
    keras.utils.set_random_seed(1)
    first = binarize_once(x, "test")
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(first, binarize_once(x, "test"))
    np.testing.assert_array_equal(first[:4], binarize_once(x[:4], "test"))
    # Scores of recorded runs were made with these very pixels.
    assert hashlib.sha256(np.packbits(first.astype(bool)).tobytes()).hexdigest()[:16] == "4806410fb2bfbcd2"


def test_a_split_without_images_stays_empty():
    assert binarize_once(np.zeros((0, 30), np.float32), "valid").shape == (0, 30)
