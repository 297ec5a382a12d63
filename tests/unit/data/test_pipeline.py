import itertools

import numpy as np
import pytest

from iwae_tf import seeds
from iwae_tf.data import Dataset, pipeline
from iwae_tf.data.pipeline import steps_per_epoch, training_batches

N, BITS, GREY = 23, 5, 40  # 23 images, told apart by 5 pixels that are black or white, and 40 grey pixels


def dataset(n=N, scale=255):
    """Images whose first pixels spell their number in binary, so that they are known after binarisation too."""
    numbers = (np.arange(n)[:, None] >> np.arange(BITS)) % 2 * scale
    grey = np.random.default_rng(0).integers(1, scale, (n, GREY))
    x = np.concatenate([numbers, grey], axis=1).astype(np.uint8 if scale > 1 else np.float32)
    return Dataset("made", x, x[:0], x[:0], float(scale), (1, BITS + GREY), "a test", "none")


def take(batches, count):
    return [batch.numpy() for batch in itertools.islice(batches, count)]


def numbers_of(batch):
    return (batch[:, :BITS] > 0) @ (1 << np.arange(BITS))


def epochs_of(count, batch_size, seed=0, n=N, **kwargs):
    """A list of `count` epochs, each a list of batches."""
    steps = steps_per_epoch(n, batch_size)
    batches = take(training_batches(dataset(n), batch_size, seed, **kwargs), count * steps)
    return [batches[first : first + steps] for first in range(0, count * steps, steps)]


@pytest.mark.parametrize(
    ("num_images", "batch_size", "steps"), [(20, 5, 4), (23, 5, 5), (21, 20, 2), (3, 20, 1), (20, 20, 1), (1, 1, 1)]
)
def test_a_pass_has_a_step_for_every_batch_and_one_for_the_rest(num_images, batch_size, steps):
    assert steps_per_epoch(num_images, batch_size) == steps


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 100])
def test_every_image_comes_once_in_every_epoch(batch_size):
    for batches in epochs_of(3, batch_size):
        sizes = [len(batch) for batch in batches]
        assert sizes[:-1] == [batch_size] * (len(batches) - 1)
        assert sum(sizes) == N
        assert sorted(np.concatenate([numbers_of(batch) for batch in batches])) == list(range(N))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_smallest_data_sets_come_through_whole(n):
    for batches in epochs_of(4, 2, n=n):
        assert sorted(np.concatenate([numbers_of(batch) for batch in batches])) == list(range(n))


def order(batches):
    return tuple(np.concatenate([numbers_of(batch) for batch in batches]).tolist())


def test_the_order_is_new_in_every_epoch_and_for_every_seed():
    orders = {order(batches) for seed in (0, 1) for batches in epochs_of(5, 5, seed=seed)}
    assert len(orders) == 10
    assert tuple(range(N)) not in orders


def test_no_order_comes_back_after_hundreds_of_epochs_or_seeds():
    # index_shuffle reads as few as 8 bits of each half of its seed, so that epochs 0 and 256 would be one
    orders = {order(batches) for seed in (0, 256, 65536) for batches in epochs_of(300, N, seed=seed, binarized=False)}
    assert len(orders) == 900


def test_the_order_does_not_depend_on_the_batch_size_or_the_global_seed():
    np.random.seed(1)
    first = [order(batches) for batches in epochs_of(2, 5)]
    np.random.seed(2)
    assert [order(batches) for batches in epochs_of(2, 7)] == first


def test_every_image_is_as_often_early_as_late():
    n, epochs = 8, 400
    orders = np.array([order(batches) for batches in epochs_of(epochs, n, n=n, binarized=False)])
    counts = np.array([np.bincount(orders[:, position], minlength=n) for position in range(n)])
    expected = epochs / n
    chi_squared = np.sum((counts - expected) ** 2) / expected
    # (8 - 1)^2 degrees of freedom, as rows and columns both have fixed sums: mean 49, variance 98
    assert chi_squared < 49 + 4 * np.sqrt(98)


def test_which_image_follows_which_is_new_in_every_epoch():
    n, epochs = 8, 400
    orders = np.array([order(batches) for batches in epochs_of(epochs, n, n=n, binarized=False)])
    counts = np.zeros((n, n))
    np.add.at(counts, (orders[:, 0], orders[:, 1]), 1)
    expected = epochs / (n * (n - 1))
    chi_squared = np.sum((counts[~np.eye(n, dtype=bool)] - expected) ** 2) / expected
    assert chi_squared < 55 + 4 * np.sqrt(110)  # 56 ordered pairs: mean 55, variance 110


@pytest.mark.parametrize("first_step", [1, 4, 5, 7, 10, 13])
def test_a_stream_that_starts_later_is_the_rest_of_the_uninterrupted_one(first_step):
    whole = take(training_batches(dataset(), 5, 0), 15)
    resumed = take(training_batches(dataset(), 5, 0, first_step=first_step), 15 - first_step)
    assert len(resumed) == 15 - first_step
    for one, other in zip(whole[first_step:], resumed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_8_bit_grey_values_come_as_intensities_from_0_to_1():
    (batches,) = epochs_of(1, 5, binarized=False)
    for batch in batches:
        assert batch.dtype == np.float32
        expected = dataset().x_train[numbers_of(batch)] / 255.0
        np.testing.assert_allclose(batch, expected, rtol=1e-7)  # one float32 quotient
        assert (batch.min(), batch.max()) == (0.0, 1.0)


def test_values_that_are_intensities_already_stay_as_they_are():
    x = np.random.default_rng(0).random((6, 4)).astype(np.float32)
    data = Dataset("made", x, x[:0], x[:0], 1.0, (1, 4), "a test", "none")
    (batch,) = take(training_batches(data, 6, 0, binarized=False), 1)
    np.testing.assert_array_equal(batch[np.lexsort(batch.T)], x[np.lexsort(x.T)])


@pytest.mark.parametrize("rows_at_once", [1, 5, 10, 200])
def test_a_binarized_image_has_the_draws_of_its_seed_epoch_and_place(monkeypatch, rows_at_once):
    monkeypatch.setattr(pipeline, "ROWS_AT_ONCE", rows_at_once)
    for epoch, batches in enumerate(epochs_of(2, 5, seed=9)):
        images = np.concatenate(batches)
        key = seeds.key(9, seeds.Purpose.BINARIZE_TRAIN, epoch)
        draws = seeds.row_uniforms(0, *images.shape, key)
        intensities = dataset().x_train[numbers_of(images)].astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(images, draws < intensities)
        assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]


def by_number(batches):
    images = np.concatenate(batches)
    return images[np.argsort(numbers_of(images))]


def test_the_pixels_are_drawn_anew_in_every_epoch_and_average_to_the_intensities():
    epochs = 100
    images = np.array([by_number(batches) for batches in epochs_of(epochs, N)])  # [epochs, N, D]
    assert set(np.unique(images)) == {0.0, 1.0}
    p = dataset().x_train / 255.0
    grey = (p > 0) & (p < 1)
    np.testing.assert_array_equal(images.mean(axis=0)[~grey], p[~grey])
    errors = (images.mean(axis=0) - p)[grey] / np.sqrt(p * (1 - p) / epochs)[grey]
    # 920 pixels, each a z of variance 1: their mean square has a standard error of sqrt((2 + kurtosis) / 920), and the
    # excess kurtosis of a mean of 100 draws is below (1 / p - 6) / 100 = 2.5 for p = 1 / 255
    assert abs(np.mean(errors**2) - 1.0) < 4.0 * np.sqrt(4.5 / errors.size)
    assert abs(np.mean(errors)) < 4.0 / np.sqrt(errors.size)


def test_the_batches_tell_their_width_and_leave_their_length_open():
    spec = training_batches(dataset(), 5, 0).element_spec
    assert spec.shape.as_list() == [None, BITS + GREY]
