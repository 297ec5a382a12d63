import numpy as np
import pytest

from iwae_tf.data import arrays
from iwae_tf.errors import InputError


def make(x_train, x_test=None, **parts):
    x_test = x_train if x_test is None else x_test
    return arrays.make_dataset("own", {"x_train": x_train, "x_test": x_test, **parts}, "here", "a file", "as is")


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [
        ((3, 16), (4, 4)),
        ((3, 15), (1, 15)),
        ((3, 2, 8), (2, 8)),
        ((3, 2, 8, 1), (2, 8)),
        ((3, 4, 4, 1), (4, 4)),
    ],
)
def test_every_allowed_shape_is_flattened_row_by_row(shape, image_shape):
    x = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    data = make(x)
    assert data.image_shape == image_shape
    np.testing.assert_array_equal(data.x_train, x.reshape(3, -1))


@pytest.mark.parametrize(
    ("values", "dtype", "scale"),
    [
        (np.uint8([[0, 1, 2, 3]]), np.uint8, 255),
        (np.uint8([[0, 1, 1, 0]]), np.uint8, 1),
        (np.array([[True, False, True, True]]), np.uint8, 1),
        (np.float64([[0, 0.25, 0.5, 1]]), np.float32, 1),
        (np.float16([[0, 0.25, 0.5, 1]]), np.float32, 1),
    ],
)
def test_number_formats_are_read_as_intensities_in_0_to_1(values, dtype, scale):
    data = make(values)
    assert data.x_train.dtype == dtype
    assert data.scale == scale
    np.testing.assert_allclose(data.intensities("test"), values.astype(np.float64) / scale, rtol=1e-6)


def test_one_grey_value_in_any_part_makes_all_parts_grey():
    black, dim = np.uint8([[0, 1, 1, 0]]), np.uint8([[0, 1, 2, 0]])
    assert make(black, x_valid=dim).scale == 255
    assert make(black, dim).scale == 255


def test_uint8_images_are_not_copied():
    x = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    data = arrays.hold_out_last(make(x), 1, 2, "order")
    assert np.shares_memory(data.x_train, x)
    assert np.shares_memory(data.x_valid, x)


def test_without_a_validation_part_it_has_no_rows():
    data = make(np.zeros((3, 16), np.uint8))
    assert data.x_valid.shape == (0, 16)
    assert data.intensities("valid").shape == (0, 16)


good = np.full((2, 16), 0.5, np.float32)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"x_train": good.astype(np.int64)}, "x_train has dtype int64; expected uint8"),
        ({"x_test": good.astype(complex)}, "x_test has dtype complex128; expected uint8"),
        ({"x_test": good.astype(object)}, "x_test has dtype object; expected uint8"),
        ({"x_test": good.astype(str)}, "x_test has dtype <U32; expected uint8"),
        ({"x_train": np.where(np.eye(2, 16), np.nan, good)}, "x_train holds NaN"),
        ({"x_test": good * 4}, "x_test has values from 2 to 2; .*divide by 255 or save as uint8"),
        ({"x_test": good - 1}, r"x_test has values from -0\.5 to -0\.5; .*rescale"),
        ({"x_test": good + np.inf}, "x_test has values from inf to inf; .*rescale"),
        ({"x_train": good[:0]}, r"x_train is empty, shape \(0, 16\)"),
        ({"x_valid": good[:0]}, "x_valid is empty.*leave it out"),
        ({"x_test": good[:, :0]}, r"x_test is empty, shape \(2, 0\)"),
        ({"x_test": good[0]}, r"x_test has shape \(16,\); expected \[N, D\]"),
        ({"x_test": good[0, 0]}, r"x_test has shape \(\); expected \[N, D\]"),
        ({"x_test": np.zeros((2, 2, 2, 3))}, r"x_test has shape \(2, 2, 2, 3\); expected \[N, D\]"),
        ({"x_valid": good[:, :9]}, r"x_train \(4, 4\), x_test \(4, 4\), x_valid \(3, 3\); expected the same"),
        ({"x_test": good.reshape(2, 2, 8)}, r"x_train \(4, 4\), x_test \(2, 8\); expected the same"),
        ({"x_test": np.ones((2, 16), np.uint8)}, "x_train float, x_test uint8; expected the same"),
    ],
)
def test_an_unusable_part_is_one_line_that_names_it(parts, words):
    with pytest.raises(InputError, match=f"^here: .*{words}") as error:
        make(**{"x_train": good, "x_test": good, **parts})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("images", "held_out"), [(2, 1), (299, 1), (300, 2), (60_000, 400)])
def test_the_share_held_out_is_that_of_the_full_training_set(images, held_out):
    data = arrays.hold_out_last(make(np.zeros((images, 4), np.uint8)), 400, 60_000, "order")
    assert (len(data.x_train), len(data.x_valid)) == (images - held_out, held_out)


def test_the_last_images_are_held_out():
    x = np.arange(40, dtype=np.uint8).reshape(10, 4)
    data = arrays.hold_out_last(make(x), 3, 10, "file order")
    np.testing.assert_array_equal(data.x_train, x[:7])
    np.testing.assert_array_equal(data.x_valid, x[7:])
    assert data.split == "validation: the last 3 of the 10 training images in file order"


def test_drawn_images_are_the_same_every_time_and_come_from_all_over_the_file():
    x = np.arange(1000, dtype=np.uint8).repeat(4).reshape(1000, 4)
    np.random.seed(1)
    first = arrays.hold_out_drawn(make(x), 100, 1000)
    np.random.seed(2)
    second = arrays.hold_out_drawn(make(x), 100, 1000)
    np.testing.assert_array_equal(first.x_valid, second.x_valid)
    assert (len(first.x_train), len(first.x_valid)) == (900, 100)
    together = np.concatenate([first.x_train, first.x_valid])
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(x, axis=0))
    quarters, _ = np.histogram(first.x_valid[:, 0], bins=4, range=(0, 255))
    assert quarters.min() > 10


@pytest.mark.parametrize(
    "hold_out", [lambda d: arrays.hold_out_last(d, 1, 2, ""), lambda d: arrays.hold_out_drawn(d, 1, 2)]
)
def test_a_single_training_image_cannot_be_cut(hold_out):
    with pytest.raises(InputError, match="1 image; expected at least 2"):
        hold_out(make(good[:1]))
