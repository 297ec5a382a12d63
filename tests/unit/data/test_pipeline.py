import itertools

import numpy as np
import pytest
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.data import Dataset, pipeline
from iwae_tf.data.pipeline import steps_per_epoch, training_batches

N, BITS, GREY = 23, 5, 40  # 23 images, told apart by 5 pixels that are black or white, and 40 grey pixels


def dataset(n=N):
    """Images whose first pixels spell their number in binary, so that they are known after binarisation too."""
    numbers = (np.arange(n)[:, None] >> np.arange(BITS)) % 2 * 255
    grey = np.random.default_rng(0).integers(1, 255, (n, GREY))
    x = np.concatenate([numbers, grey], axis=1).astype(np.uint8)
    return Dataset("made", x, x[:0], x[:0], 255.0, (1, BITS + GREY), "a test", "none")


def take(batches, count):
    return [batch.numpy() for batch in itertools.islice(batches, count)]


def numbers_of(batches):
    return (np.concatenate(batches)[:, :BITS] > 0) @ (1 << np.arange(BITS))


def epochs_of(count, batch_size, seed=0, n=N, first_epoch=0, **kwargs):
    """Returns a list of `count` epochs, each a list of batches."""
    steps = steps_per_epoch(n, batch_size)
    stream = training_batches(dataset(n), batch_size, seed, first_step=first_epoch * steps, **kwargs)
    batches = take(stream, count * steps)
    return [batches[first : first + steps] for first in range(0, count * steps, steps)]


@pytest.mark.parametrize(("n", "batch_size", "steps"), [(1, 2, 1), (4, 2, 2), (N, 1, N), (N, 5, 5), (N, 23, 1)])
def test_every_image_comes_once_in_every_epoch_which_has_a_step_for_every_batch_and_one_for_the_rest(
    n, batch_size, steps
):
    assert steps_per_epoch(n, batch_size) == steps
    for batches in epochs_of(2, batch_size, n=n):
        sizes = [len(batch) for batch in batches]
        assert sizes[:-1] == [batch_size] * (len(batches) - 1)
        assert sorted(numbers_of(batches)) == list(range(n))


def test_order_and_pixels_have_streams_of_their_own():
    seed, epoch = 7, 3
    order_key, pixel_key = (
        seeds.key(seed, purpose, epoch) for purpose in (seeds.Purpose.SHUFFLE, seeds.Purpose.BINARIZE_TRAIN)
    )
    assert order_key.numpy().tolist() != pixel_key.numpy().tolist()
    (batches,) = epochs_of(1, 5, seed, first_epoch=epoch)
    order = tf.random.experimental.stateless_shuffle(tf.range(N, dtype=tf.int64), order_key, alg="philox").numpy()
    np.testing.assert_array_equal(numbers_of(batches), order)
    uniforms = seeds.row_uniforms(0, N, BITS + GREY, pixel_key)
    np.testing.assert_array_equal(np.concatenate(batches), uniforms < dataset().intensities("train")[order])


@pytest.mark.parametrize("rows_at_once", [1, 10])
def test_the_rows_drawn_by_one_call_change_no_batch(monkeypatch, rows_at_once):
    (expected,) = epochs_of(1, 5, seed=9)
    monkeypatch.setattr(pipeline, "ROWS_AT_ONCE", rows_at_once)
    (batches,) = epochs_of(1, 5, seed=9)
    for one, other in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_order_is_new_in_every_epoch_and_for_every_seed():
    # index_shuffle reads as few as 8 bits of each half of its seed, so that epochs 0 and 256 would have one order
    orders = [
        tuple(numbers_of(batches))
        for seed, first_epoch in ((0, 0), (0, 256), (1, 65536), (256, 0))
        for batches in epochs_of(2, N, seed=seed, first_epoch=first_epoch)
    ]
    assert len({*orders, tuple(range(N))}) == 9


def test_the_order_does_not_depend_on_the_batch_size_or_the_global_seed():
    np.random.seed(1)
    first = [numbers_of(batches).tolist() for batches in epochs_of(2, 5)]
    np.random.seed(2)
    assert [numbers_of(batches).tolist() for batches in epochs_of(2, 7, binarized=False)] == first


def test_every_image_is_as_often_early_as_late_and_followed_by_every_other():
    n, epochs = 8, 400
    orders = np.array([numbers_of(batches) for batches in epochs_of(epochs, n, n=n, binarized=False)])
    counts = np.array([np.bincount(orders[:, position], minlength=n) for position in range(n)])
    # (8 - 1)^2 degrees of freedom, as rows and columns both have fixed sums: mean 49, variance 98
    assert np.sum((counts - epochs / n) ** 2) / (epochs / n) < 49 + 4 * np.sqrt(98)
    pairs = np.zeros((n, n))
    np.add.at(pairs, (orders[:, 0], orders[:, 1]), 1)
    expected = epochs / (n * (n - 1))
    chi_squared = np.sum((pairs[~np.eye(n, dtype=bool)] - expected) ** 2) / expected
    assert chi_squared < 55 + 4 * np.sqrt(110)  # 56 ordered pairs: mean 55, variance 110


def test_a_stream_that_starts_later_is_the_rest_of_the_uninterrupted_one():
    stream = training_batches(dataset(), 5, 0)
    assert stream.element_spec.shape.as_list() == [None, BITS + GREY]
    whole = take(stream, 15)
    for first_step in (1, 4, 5, 13):
        resumed = take(training_batches(dataset(), 5, 0, first_step=first_step), 15 - first_step)
        for one, other in zip(whole[first_step:], resumed, strict=True):
            np.testing.assert_array_equal(one, other)


def test_grey_values_come_as_intensities_and_intensities_as_they_are():
    (batches,) = epochs_of(1, 5, binarized=False)
    x = np.concatenate(batches)
    assert (x.dtype, x.min(), x.max()) == (np.float32, 0.0, 1.0)
    np.testing.assert_array_equal(x, dataset().intensities("train")[numbers_of(batches)])
    floats = Dataset.from_arrays("made", {"x_train": x, "x_test": x}, "a test", "none")
    (batch,) = take(training_batches(floats, N, 0, binarized=False), 1)
    assert sorted(batch.tolist()) == sorted(x.tolist())


def test_the_pixels_are_drawn_anew_in_every_epoch_and_average_to_the_intensities():
    epochs = 100
    by_number = [np.concatenate(batches)[np.argsort(numbers_of(batches))] for batches in epochs_of(epochs, N)]
    mean, p = np.mean(by_number, axis=0), dataset().x_train / 255.0
    grey = (p > 0) & (p < 1)
    np.testing.assert_array_equal(mean[~grey], p[~grey])
    z = (mean - p)[grey] / np.sqrt(p * (1 - p) / epochs)[grey]
    # 920 pixels, each a z of variance 1: their mean square has a standard error of sqrt((2 + kurtosis) / 920), and the
    # excess kurtosis of a mean of 100 draws is below (1 / p - 6) / 100 = 2.5 for p = 1 / 255
    assert abs(np.mean(z**2) - 1.0) < 4.0 * np.sqrt(4.5 / z.size)
    assert abs(np.mean(z)) < 4.0 / np.sqrt(z.size)
