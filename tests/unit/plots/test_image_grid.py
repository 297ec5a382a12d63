"""Grids of images: every pixel of every image is in the PNG file, in its place."""

import itertools

import numpy as np
import pytest
import scipy.ndimage
from matplotlib.image import imread

from iwae_tf.errors import InputError
from iwae_tf.plots import save_extremes, save_reconstructions, save_rows, save_samples
from iwae_tf.plots.image_grid import FRAME, GAP, MARGIN, extremes, extremes_figure, samples_figure


def read(path):
    """The picture as uint8 [height, width, 3]."""
    return np.round(imread(path)[..., :3] * 255).astype(np.uint8)


def cells(path, image_shape):
    """Every framed image in reading order: (rectangle, image [height, width] as it was given)."""
    picture = read(path)
    inside = (picture != np.array(FRAME)).any(axis=-1)
    found = []
    for rows, columns in scipy.ndimage.find_objects(scipy.ndimage.label(inside)[0]):
        if rows.start > 0:  # not the page around
            cell = picture[rows, columns, 0] / 255.0
            middle = [((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(image_shape, cell.shape)]  # noqa: B905
            found.append(((rows, columns), cell[np.ix_(*middle)]))
    return sorted(found, key=lambda item: (item[0][0].start, item[0][1].start))


def binary_images(count, size, seed=3):
    return np.random.default_rng(seed).integers(0, 2, (count, size)).astype(np.float32)


def normal(n):
    return -22 + 4 * np.random.default_rng(0).standard_normal(n)


def test_one_is_white_zero_is_black_and_every_pixel_is_a_sharp_rectangle(tmp_path):
    image = np.array([[1.0, 0.6], [0.0, 0.2]])
    save_samples(tmp_path / "one.png", image.reshape(1, 4), (2, 2))
    (((rows, columns), _),) = cells(tmp_path / "one.png", (2, 2))
    drawn = read(tmp_path / "one.png")[rows, columns]
    side = len(drawn) // 2
    np.testing.assert_array_equal(drawn, np.kron(255 * image, np.ones((side, side)))[..., None] * np.ones(3))


def test_colours_are_drawn_as_colours(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 3))
    save_samples(tmp_path / "one.png", image.reshape(1, 18) / 255, (2, 3, 3))
    (((rows, columns), _),) = cells(tmp_path / "one.png", (2, 3))
    drawn = read(tmp_path / "one.png")[rows, columns]
    side = len(drawn) // 2
    np.testing.assert_array_equal(drawn, image.repeat(side, axis=0).repeat(side, axis=1))
    with pytest.raises(InputError, match=r"as 2 x 3 pixels of 3 colours: expected \[N, 18\]"):
        samples_figure(image.reshape(1, 18)[:, :6] / 255, (2, 3, 3))


@pytest.mark.parametrize(
    ("count", "image_shape"), [(103, (8, 8)), (1, (28, 28)), (7, (4, 10)), (30, (20, 5)), (7, (1, 5)), (30, (1, 784))]
)
def test_up_to_a_hundred_samples_of_any_shape_are_drawn_in_shape(tmp_path, count, image_shape):
    images = binary_images(count, image_shape[0] * image_shape[1])
    save_samples(tmp_path / "few.png", images, image_shape, "a title that is far longer than a small image is wide")
    found = cells(tmp_path / "few.png", image_shape)
    np.testing.assert_array_equal([image.reshape(-1) for _, image in found], images[:100])
    for (rows, columns), _ in found:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        assert height * image_shape[1] == width * image_shape[0] or height == 40  # a band is 40 pixels high at least
    assert all(100 < side < 1700 for side in read(tmp_path / "few.png").shape[:2])
    if count == 103:
        assert len({rows.start for (rows, _), _ in found}) == len({columns.start for (_, columns), _ in found}) == 10
        assert all(900 < side < 1100 for side in read(tmp_path / "few.png").shape[:2])


def test_a_row_of_twenty_thousand_values_still_fits_a_page(tmp_path):
    save_samples(tmp_path / "long.png", binary_images(3, 20_000), (1, 20_000))
    assert read(tmp_path / "long.png").shape[1] < 2200


@pytest.mark.parametrize(
    ("count", "image_shape", "columns"),
    [(23, (8, 8), 10), (12, (8, 8), 6), (13, (10, 4), 7), (1, (8, 8), 1), (3, (1, 30), 1)],
)
def test_every_reconstruction_stands_below_its_original_with_words_at_the_left(tmp_path, count, image_shape, columns):
    size = image_shape[0] * image_shape[1]
    originals, reconstructions = binary_images(count, size, seed=1), binary_images(count, size, seed=2)
    save_reconstructions(tmp_path / "pairs.png", originals, reconstructions, image_shape)
    found = cells(tmp_path / "pairs.png", image_shape)
    rows = [list(row) for _, row in itertools.groupby(found, key=lambda item: item[0][0].start)]
    assert len(rows[0]) == columns
    for pairs, drawn in ((rows[::2], originals), (rows[1::2], reconstructions)):
        np.testing.assert_array_equal([image.reshape(-1) for row in pairs for _, image in row], drawn[:20])
    picture = read(tmp_path / "pairs.png")
    for above, below in zip(rows[::2], rows[1::2], strict=True):
        for ((top, left), _), ((bottom, same), _) in zip(above, below, strict=True):
            assert (same, bottom.start - top.stop) == (left, GAP)
        for (band, left), _ in (above[0], below[0]):
            assert picture[band, MARGIN : left.start - GAP].min() < 150
            assert picture[band, : MARGIN - 2].min() == 255


@pytest.mark.parametrize(("n", "image_shape"), [(1, (4, 10)), (7, (1, 64)), (30, (28, 28))])
def test_the_best_and_the_worst_images_stand_in_order_above_their_scores(tmp_path, image_shape, n):
    images, scores = binary_images(n, image_shape[0] * image_shape[1]), normal(n)
    save_extremes(tmp_path / "extremes.png", images, scores, image_shape)
    order = np.argsort(scores)
    rows = [*order[::-1][: min(10, n - n // 2)], *order[: min(10, n // 2)]]
    found = cells(tmp_path / "extremes.png", image_shape)
    np.testing.assert_array_equal([image.reshape(-1) for _, image in found], images[rows])
    (axes,) = extremes_figure(images, scores, image_shape).axes
    texts = [text for text in axes.texts if text.get_text() not in ("highest", "lowest")]
    assert [text.get_text() for text in texts] == [f"{scores[row]:.2f}".replace("-", "−") for row in rows]
    for text, ((rectangle, columns), _) in zip(texts, found, strict=True):
        x, y = text.get_position()
        assert x == columns.start
        assert rectangle.stop < y + read(tmp_path / "extremes.png").shape[0] - axes.get_ylim()[0] < rectangle.stop + 12


def test_of_few_images_none_is_among_both_and_no_score_is_worse_than_the_lowest():
    for n, best, worst in [(1, 1, 0), (2, 1, 1), (7, 4, 3), (19, 10, 9), (20, 10, 10)]:
        found = extremes(normal(n))
        assert [len(rows) for rows in found] == [best, worst]
        assert len(set(np.concatenate(found))) == best + worst
    best, worst = extremes(np.array([-1.0, -np.inf, np.nan, -2.0, -3.0]))
    assert (worst.tolist(), best.tolist()) == ([2, 1], [0, 3, 4])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 63)), r"shape \(2, 63\) cannot be drawn as 8 x 8 pixels: expected \[N, 64\]"),
        (np.zeros((0, 64)), "N >= 1"),
        (np.zeros((2, 8, 8)), "flatten every image"),
        (np.full((2, 64), 255.0), r"values in \[0, 1\], got 255 to 255"),
        (np.full((2, 64), -0.1), r"values in \[0, 1\]"),
        (np.full((2, 64), np.nan), r"values in \[0, 1\], got nan"),
    ],
)
def test_images_that_cannot_be_drawn_are_refused_and_nothing_is_written(tmp_path, images, message):
    path, good = tmp_path / "none.png", np.zeros((2, 64))
    with pytest.raises(InputError, match=message):
        save_samples(path, images, (8, 8))
    with pytest.raises(InputError, match="originals.*" + message):
        save_reconstructions(path, images, good, (8, 8))
    with pytest.raises(InputError, match="reconstructions.*" + message):
        save_reconstructions(path, good, images, (8, 8))
    with pytest.raises(InputError, match="3 originals and 2 reconstructions"):
        save_reconstructions(path, np.zeros((3, 64)), good, (8, 8))
    with pytest.raises(InputError, match="2 images and scores"):
        save_extremes(path, good, np.zeros(1), (8, 8))
    assert not path.exists()


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan])
def test_rows_outside_black_and_white_are_refused_and_do_not_wrap_around(tmp_path, value):
    with pytest.raises(InputError, match=r"^rows must have values in \[0, 1\], got "):
        save_rows(tmp_path / "rows.png", [np.zeros((3, 2, 2)), np.full((3, 2, 2), value)], "title")
    assert not list(tmp_path.iterdir())
