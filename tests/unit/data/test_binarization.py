import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.data.binarization import binarize, binarize_once

# One graph for all tests: drawn eagerly, an image takes a millisecond.
binarize_in_graph = tf.function(binarize, reduce_retracing=True)


def training_keys(images, seed=3, epoch=5):
    return seeds.key(seed, seeds.Purpose.BINARIZE_TRAIN, epoch, tf.constant(images, tf.int64))


def intensities(n, dim=30, seed=0):
    return np.random.default_rng(seed).random((n, dim)).astype(np.float32)


# ---------------------------------------------------------------------------------------------- in training


def test_an_image_gets_the_same_pixels_whatever_batch_it_is_in():
    x = intensities(10)
    together = binarize(x, training_keys(range(10))).numpy()
    backwards = binarize(x[::-1], training_keys(range(10)[::-1])).numpy()
    np.testing.assert_array_equal(backwards, together[::-1])
    for i in (0, 4, 9):
        np.testing.assert_array_equal(binarize(x[i : i + 1], training_keys([i])), together[i : i + 1])


def test_the_pixels_drawn_in_a_graph_are_those_drawn_eagerly():
    x = intensities(10)
    np.testing.assert_array_equal(binarize_in_graph(x, training_keys(range(10))), binarize(x, training_keys(range(10))))


@pytest.mark.parametrize("other", [{"epoch": 6}, {"seed": 4}])
def test_pixels_are_drawn_anew_in_every_epoch_and_run(other):
    x = np.full((10, 1000), 0.5, np.float32)
    first, second = (binarize(x, training_keys(range(10), **change)).numpy() for change in ({}, other))
    # two independent fair draws differ half the time: 4 standard errors of 10,000
    assert abs(np.mean(first != second) - 0.5) < 4.0 * 0.5 / 100.0


def test_two_images_of_a_batch_are_drawn_independently():
    x = np.full((2, 10_000), 0.5, np.float32)
    first, second = binarize(x, training_keys([0, 1])).numpy()
    assert abs(np.mean(first != second) - 0.5) < 4.0 * 0.5 / 100.0  # as above


def test_every_pixel_is_1_as_often_as_its_intensity_says():
    n, p = 10_000, np.array([1 / 255, 0.05, 0.3, 0.5, 0.7, 0.95, 254 / 255])
    draws = binarize_in_graph(np.tile(p, (n, 1)).astype(np.float32), training_keys(range(n))).numpy()
    assert draws.dtype == np.float32
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert (np.abs(draws.mean(axis=0) - p) < 4.0 * np.sqrt(p * (1.0 - p) / n)).all()  # 4 standard errors


def test_black_and_white_pixels_stay_as_they_are():
    x = np.tile([0.0, 1.0], (2_000, 100)).astype(np.float32)
    np.testing.assert_array_equal(binarize_in_graph(x, training_keys(range(2_000))), x)


@pytest.mark.parametrize("draw", [0.0, 1.0 - 2.0**-23])
def test_black_and_white_pixels_stay_even_at_the_ends_of_the_generators_range(monkeypatch, draw):
    monkeypatch.setattr("iwae_tf.seeds.uniform", lambda shape, key: tf.fill(shape, draw))  # one draw in 8 million
    np.testing.assert_array_equal(binarize(np.array([[0.0, 1.0]], np.float32), training_keys([0])), [[0.0, 1.0]])


# ---------------------------------------------------------------------------------------------- in evaluation


def test_the_binarization_used_in_evaluation_never_changes():
    x = np.full((20, 50), 0.5, np.float32)
    keras.utils.set_random_seed(1)
    first = binarize_once(x, "test")
    keras.utils.set_random_seed(2)
    second = binarize_once(x, "test")
    np.testing.assert_array_equal(first, second)
    assert (first.dtype, set(np.unique(first))) == (np.float32, {0.0, 1.0})
    # Scores of recorded runs were made with these very pixels.
    assert hashlib.sha256(np.packbits(first.astype(bool)).tobytes()).hexdigest()[:16] == "4806410fb2bfbcd2"


def test_the_validation_and_the_test_images_have_draws_of_their_own():
    x = np.full((10, 1000), 0.5, np.float32)
    valid, test = binarize_once(x, "valid"), binarize_once(x, "test")
    assert abs(np.mean(valid != test) - 0.5) < 4.0 * 0.5 / 100.0  # 4 standard errors of 10,000 fair draws


def test_evaluation_shares_no_draws_with_training():
    x = np.full((10, 1000), 0.5, np.float32)
    for number, part in enumerate(("train", "valid", "test")):
        trained_on = binarize(x, training_keys(range(10), seed=0, epoch=number)).numpy()
        assert abs(np.mean(binarize_once(x, part) != trained_on) - 0.5) < 4.0 * 0.5 / 100.0  # as above


def test_the_pixels_of_an_image_do_not_depend_on_how_many_follow():
    x = intensities(10)
    np.testing.assert_array_equal(binarize_once(x[:4], "test"), binarize_once(x, "test")[:4])


def test_images_that_are_binary_come_through_evaluation_unchanged():
    x = (intensities(10) < 0.5).astype(np.float32)
    np.testing.assert_array_equal(binarize_once(x, "test"), x)


def test_a_part_without_images_stays_without():
    assert binarize_once(np.zeros((0, 30), np.float32), "valid").shape == (0, 30)
