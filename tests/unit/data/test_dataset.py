import numpy as np
import pytest

from iwae_tf.data import Dataset
from iwae_tf.data.dataset import hold_out
from iwae_tf.errors import InputError


def make(x_train, x_test=None, **arrays):
    x_test = x_train if x_test is None else x_test
    return Dataset.from_arrays("own", {"x_train": x_train, "x_test": x_test, **arrays}, "a file", "as is")


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [((3, 16), (4, 4)), ((3, 15), (1, 15)), ((3, 2, 8), (2, 8)), ((3, 2, 8, 1), (2, 8))],
)
def test_every_allowed_shape_is_flattened_row_by_row(shape, image_shape):
    x = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    data = make(x)
    assert (data.image_shape, data.data_dim) == (image_shape, x[0].size)
    np.testing.assert_array_equal(data.x_train, x.reshape(3, -1))
    assert np.shares_memory(data.x_train, x)
    assert (data.x_valid.shape, data.intensities("valid").shape) == ((0, x[0].size), (0, x[0].size))


@pytest.mark.parametrize(
    ("values", "dtype", "scale", "levels"),
    [
        (np.uint8([[0, 1, 2, 3]]), np.uint8, 255, 256),
        (np.uint8([[0, 1, 1, 0]]), np.uint8, 1, 2),
        (np.array([[True, False, True, True]]), np.uint8, 1, 2),
        (np.float64([[0, 0.25, 0.5, 1]]), np.float32, 1, None),
        (np.float16([[0, 0.25, 0.5, 1]]), np.float32, 1, None),
    ],
)
def test_number_formats_are_read_as_intensities_in_0_to_1(values, dtype, scale, levels):
    data = make(values)
    assert (data.x_train.dtype, data.scale, data.levels) == (dtype, scale, levels)
    expected = values.astype(np.float64) / scale
    np.testing.assert_allclose(data.intensities("test"), expected, rtol=1e-6)
    np.testing.assert_allclose(data.train_mean(), expected[0], rtol=1e-6)
    assert (data.intensities("test").dtype, data.train_mean().dtype) == (np.float32, np.float32)


def test_one_grey_value_in_any_split_makes_all_splits_grey():
    black, dim = np.uint8([[0, 1, 1, 0]]), np.uint8([[0, 1, 2, 0]])
    assert make(black, x_valid=dim).scale == 255
    assert make(black, dim).scale == 255


good = np.full((2, 16), 0.5, np.float32)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_train": good.astype(np.int64)}, "x_train has dtype int64; expected uint8"),
        ({"x_test": good.astype(object)}, "x_test has dtype object; expected uint8"),
        ({"x_train": np.where(np.eye(2, 16), np.nan, good)}, "x_train holds NaN"),
        ({"x_test": good * 4}, "x_test has values from 2 to 2; .*divide by 255 or save as uint8"),
        ({"x_test": good - 1}, r"x_test has values from -0\.5 to -0\.5; .*rescale"),
        ({"x_test": good + np.inf}, "x_test has values from inf to inf; .*rescale"),
        ({"x_train": good[:0]}, r"x_train is empty, shape \(0, 16\)"),
        ({"x_valid": good[:0]}, "x_valid is empty.*leave it out"),
        ({"x_test": good[:, :0]}, r"x_test is empty, shape \(2, 0\)"),
        ({"x_test": good[0]}, r"x_test has shape \(16,\); expected \[N, D\]"),
        ({"x_test": np.zeros((2, 2, 2, 3))}, r"x_test has shape \(2, 2, 2, 3\); expected \[N, D\]"),
        ({"x_valid": good[:, :9]}, r"height, width\): x_train \(4, 4\), x_test \(4, 4\), x_valid \(3, 3\); expected"),
        ({"x_test": good.reshape(2, 2, 8)}, r"x_train \(4, 4\), x_test \(2, 8\); expected the same"),
        ({"x_test": np.ones((2, 16), np.uint8)}, "numbers: x_train float, x_test uint8; expected the same"),
    ],
)
def test_an_unusable_array_is_one_line_that_names_it(arrays, words):
    with pytest.raises(InputError, match=f"^a file: .*{words}") as error:
        make(**{"x_train": good, "x_test": good, **arrays})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("order", ["file order", None])
@pytest.mark.parametrize(("images", "held_out"), [(2, 1), (299, 1), (300, 2), (60_000, 400)])
def test_the_share_held_out_is_that_of_the_full_training_set(images, held_out, order):
    data = hold_out(make(np.zeros((images, 4), np.uint8)), 400, 60_000, order)
    assert (len(data.x_train), len(data.x_valid)) == (images - held_out, held_out)


def test_the_last_images_are_held_out_without_a_copy():
    x = np.arange(40, dtype=np.uint8).reshape(10, 4)
    data = hold_out(make(x), 3, 10, "file order")
    np.testing.assert_array_equal(data.x_train, x[:7])
    np.testing.assert_array_equal(data.x_valid, x[7:])
    assert np.shares_memory(data.x_train, x)
    assert np.shares_memory(data.x_valid, x)
    assert data.split == "validation: the last 3 of the 10 training images in file order"


def test_drawn_images_are_the_same_every_time_and_come_from_all_over_the_file():
    x = np.arange(1000).repeat(4).reshape(1000, 4) / 1000.0
    np.random.seed(1)
    first = hold_out(make(x), 100, 1000, None)
    np.random.seed(2)
    second = hold_out(make(x), 100, 1000, None)
    np.testing.assert_array_equal(first.x_valid, second.x_valid)
    # The images that runs on OMNIGLOT were trained on depend on this draw.
    assert np.round(first.x_valid[:5, 0] * 1000).tolist() == [12, 24, 26, 30, 32]
    together = np.concatenate([first.x_train, first.x_valid])
    np.testing.assert_array_equal(np.sort(together, axis=0), x.astype(np.float32))
    assert (np.diff(first.x_train[:, 0]) > 0).all()
    assert np.histogram(first.x_valid[:, 0], bins=4, range=(0, 1))[0].min() > 10
    assert first.split == "validation: 100 of the 1000 training images, drawn once for all runs"


def test_a_single_training_image_cannot_be_split():
    with pytest.raises(InputError, match="1 image; expected at least 2"):
        hold_out(make(good[:1]), 1, 2, None)
