"""The pictures: that they are PNG files of a sensible size, and that what stands in them comes from the arguments."""

import itertools

import numpy as np
import pytest
import scipy.ndimage
from matplotlib.image import imread

from iwae_tf.errors import InputError
from iwae_tf.plots import save_bounds, save_reconstructions, save_samples
from iwae_tf.plots.bounds import bounds_figure
from iwae_tf.plots.image_grid import FRAME, GAP, MARGIN

PAPER_KS = [1, 2, 5, 10, 50, 500, 5000]
PAPER_BOUNDS = [-89.9, -88.7, -87.4, -86.6, -85.62, -85.05, -84.78]


def read(path):
    """The picture as uint8 [height, width, 3]."""
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    return np.round(imread(path)[..., :3] * 255).astype(np.uint8)


def cells(path, image_shape):
    """What stands in every frame, in reading order: a list of (rectangle, image [height, width] as it was given)."""
    picture = read(path)
    inside = (picture != np.round(np.array(FRAME) * 255).astype(np.uint8)).any(axis=-1)
    found = []
    for rows, columns in scipy.ndimage.find_objects(scipy.ndimage.label(inside)[0]):
        if rows.start > 0:  # not the page around
            cell = picture[rows, columns, 0] / 255.0
            middle = [
                ((np.arange(n) + 0.5) * size / n).astype(int) for n, size in zip(image_shape, cell.shape, strict=True)
            ]
            found.append(((rows, columns), cell[np.ix_(*middle)]))
    return sorted(found, key=lambda item: (item[0][0].start, item[0][1].start))


def binary_images(count, size, seed=3):
    return np.random.default_rng(seed).integers(0, 2, (count, size)).astype(np.float32)


def test_a_hundred_samples_fill_ten_rows_of_ten_and_the_rest_is_left_out(tmp_path):
    images = binary_images(103, 64)
    save_samples(tmp_path / "samples.png", images, (8, 8), "samples")
    found = cells(tmp_path / "samples.png", (8, 8))
    np.testing.assert_array_equal([image.reshape(64) for _, image in found], images[:100])
    assert len({rows.start for (rows, _), _ in found}) == len({columns.start for (_, columns), _ in found}) == 10
    assert all(600 < side < 1200 for side in read(tmp_path / "samples.png").shape[:2])


def test_one_is_white_zero_is_black_and_every_pixel_is_a_sharp_rectangle(tmp_path):
    image = np.array([[1.0, 0.6], [0.0, 0.2]])
    save_samples(tmp_path / "one.png", image.reshape(1, 4), (2, 2), "one image")
    (((rows, columns), _),) = cells(tmp_path / "one.png", (2, 2))
    drawn = read(tmp_path / "one.png")[rows, columns]
    side = len(drawn) // 2
    expected = np.kron(255 * image, np.ones((side, side)))[..., None]
    np.testing.assert_array_equal(drawn, np.broadcast_to(expected, drawn.shape))


@pytest.mark.parametrize("image_shape", [(28, 28), (4, 10), (10, 4), (20, 5)])
@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_any_number_of_samples_of_any_shape_is_there_and_in_shape(tmp_path, count, image_shape):
    images = binary_images(count, image_shape[0] * image_shape[1])
    save_samples(tmp_path / "few.png", images, image_shape, "a title that is far longer than a small image is wide")
    found = cells(tmp_path / "few.png", image_shape)
    np.testing.assert_array_equal([image.reshape(-1) for _, image in found], images)
    for (rows, columns), _ in found:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        assert height * image_shape[1] == width * image_shape[0]
    assert all(100 < side < 1200 for side in read(tmp_path / "few.png").shape[:2])


@pytest.mark.parametrize("size", [5, 64, 784])
def test_images_of_one_row_become_bands_of_at_least_twenty_output_pixels(tmp_path, size):
    images = binary_images(40, size)
    save_samples(tmp_path / "rows.png", images, (1, size), "rows")
    found = cells(tmp_path / "rows.png", (1, size))
    np.testing.assert_array_equal([image.reshape(-1) for _, image in found], images)
    assert all(rows.stop - rows.start >= 20 for (rows, _), _ in found)
    assert all(100 < side < 1700 for side in read(tmp_path / "rows.png").shape[:2])


def test_a_row_of_twenty_thousand_values_still_fits_a_page(tmp_path):
    save_samples(tmp_path / "long.png", binary_images(3, 20_000), (1, 20_000), "long")
    assert read(tmp_path / "long.png").shape[1] < 2100


@pytest.mark.parametrize(("count", "image_shape", "columns"), [
    (23, (8, 8), 10), (12, (8, 8), 6), (13, (10, 4), 7), (1, (8, 8), 1), (3, (1, 30), 1), (20, (1, 784), 1),
])  # fmt: skip
def test_every_reconstruction_stands_beneath_its_original(tmp_path, count, image_shape, columns):
    size = image_shape[0] * image_shape[1]
    originals, reconstructions = binary_images(count, size, seed=1), binary_images(count, size, seed=2)
    save_reconstructions(tmp_path / "pairs.png", originals, reconstructions, image_shape, "pairs")
    found = cells(tmp_path / "pairs.png", image_shape)
    rows = [list(row) for _, row in itertools.groupby(found, key=lambda item: item[0][0].start)]
    assert len(rows[0]) == columns
    for pairs, drawn in ((rows[::2], originals), (rows[1::2], reconstructions)):
        np.testing.assert_array_equal([image.reshape(-1) for row in pairs for _, image in row], drawn[:20])
    for above, beneath in zip(rows[::2], rows[1::2], strict=True):
        for ((top, left), _), ((bottom, same), _) in zip(above, beneath, strict=True):
            assert same == left
            assert bottom.start - top.stop == GAP
    assert all(100 < side < 1300 for side in read(tmp_path / "pairs.png").shape[:2])


def test_reconstruction_rows_have_words_at_their_left_and_only_there(tmp_path):
    save_reconstructions(tmp_path / "pairs.png", np.zeros((3, 64)), np.zeros((3, 64)), (8, 8), "pairs")
    picture = read(tmp_path / "pairs.png")
    found = cells(tmp_path / "pairs.png", (8, 8))
    left = found[0][0][1].start
    for (rows, _), _ in (found[0], found[3]):
        band = picture[rows, : left - GAP]
        assert band[:, MARGIN:-4].min() < 150
        assert band[:, :MARGIN].min() == band[:, -4:].min() == 255  # clear of the page's edge and of the images


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
        save_samples(path, images, (8, 8), "samples")
    with pytest.raises(InputError, match="originals.*" + message):
        save_reconstructions(path, images, good, (8, 8), "pairs")
    with pytest.raises(InputError, match="reconstructions.*" + message):
        save_reconstructions(path, good, images, (8, 8), "pairs")
    assert not path.exists()


def test_as_many_reconstructions_as_originals_are_asked_for(tmp_path):
    with pytest.raises(InputError, match="3 originals and 2 reconstructions"):
        save_reconstructions(tmp_path / "none.png", np.zeros((3, 64)), np.zeros((2, 64)), (8, 8), "pairs")


# ---------------------------------------------------------------------------------------------- bounds

CURVES = {
    "paper": (PAPER_KS, PAPER_BOUNDS, 0.24),
    "small test set": (PAPER_KS, PAPER_BOUNDS, 1.4),
    "hundreds of nats": (PAPER_KS, [40.0 * value for value in PAPER_BOUNDS], 20.0),
    "flat": (PAPER_KS, [-85.1, -85.09, -85.1, -85.08, -85.09, -85.08, -85.085], 0.004),
    "neighbours": (range(1, 8), PAPER_BOUNDS, 0.3),
    "two": ([1, 5000], [-30.1, -27.4], 0.3),
    "no k = 1": ([5, 50, 500], [-30.1, -28.0, -27.4], 0.3),
    "one": ([1], [-30.1], 0.3),
}


def curve(name):
    ks, means, error = CURVES[name]
    return dict(zip(ks, means, strict=True)), dict.fromkeys(ks, error)


@pytest.mark.parametrize("name", CURVES)
def test_the_ticks_of_the_curve_are_the_ks_and_every_value_is_written_once(name):
    bounds, errors = curve(name)
    (axes,) = bounds_figure(bounds, errors, "title").axes
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [str(k) for k in bounds]
    assert axes.get_xticks().tolist() == list(bounds)
    assert len(axes.get_xticks(minor=True)) == 0
    written = sorted(text.get_text().split("\n")[0].replace("−", "-") for text in axes.texts)
    assert written == sorted(f"{value:.2f}" for value in bounds.values())
    assert "nats" in axes.get_ylabel()


@pytest.mark.parametrize("name", CURVES)
def test_no_two_words_of_the_curve_overlap_and_all_are_on_the_page(name):
    figure = bounds_figure(*curve(name), "title")
    (axes,) = figure.axes
    texts = [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels(), *figure.texts]
    texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    shown = [text for text in texts if text not in axes.get_yticklabels() or low <= text.get_position()[1] <= high]
    boxes = [text.get_window_extent() for text in shown if text.get_text()]
    assert not [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1000 and box.y1 <= 540 for box in boxes)


@pytest.mark.parametrize("name", CURVES)
def test_no_word_stands_on_the_curve_or_on_a_bar(name):
    bounds, errors = curve(name)
    figure = bounds_figure(bounds, errors, "title")
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    points = axes.transData.transform(list(bounds.items()))
    along = np.linspace(0, len(points) - 1, 2000)
    path = [np.interp(along, range(len(points)), points[:, axis]) for axis in (0, 1)]
    bars = [axes.transData.transform([(k, bounds[k] + t * errors[k]) for t in np.linspace(-1, 1, 200)]) for k in bounds]
    for x, y in np.concatenate([np.stack(path, axis=-1), *bars]):
        assert not any(box.contains(x, y) for box in boxes)


def test_the_two_ends_of_the_curve_say_what_they_are():
    texts = [text.get_text() for text in bounds_figure(*curve("paper"), "title").axes[0].texts]
    assert "−89.90\nVAE bound (ELBO)" in texts
    assert "−84.78\nestimate of log p(x)" in texts
    without = [text.get_text() for text in bounds_figure(*curve("no k = 1"), "title").axes[0].texts]
    assert not any("ELBO" in text for text in without)


def test_the_error_bars_are_one_standard_error_either_way():
    figure = bounds_figure({1: -30.0, 50: -28.0}, {1: 0.5, 50: 0.25}, "title")
    (bars,) = figure.axes[0].collections
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, [[-30.5, -29.5], [-28.25, -27.75]])
    unknown = bounds_figure({1: -30.0, 50: -28.0}, {1: float("nan"), 50: float("nan")}, "title")
    assert not unknown.axes[0].collections


def test_the_order_of_the_ks_does_not_matter_and_the_same_curve_gives_the_same_bytes(tmp_path):
    bounds, errors = curve("paper")
    save_bounds(tmp_path / "a.png", bounds, errors, "title")
    save_bounds(tmp_path / "b.png", dict(reversed(bounds.items())), errors, "title")
    assert read(tmp_path / "a.png").shape == (540, 1000, 3)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    save_bounds(tmp_path / "c.png", {**bounds, 5000: -84.0}, errors, "title")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


@pytest.mark.parametrize(
    ("bounds", "errors", "message"),
    [
        ({}, {}, "one k or more"),
        ({1: -30.0, 5: -29.0}, {1: 0.1}, r"bounds for k = \[1, 5\] and standard errors for k = \[1\]"),
        ({0: -30.0}, {0: 0.1}, "at least 1"),
        ({1: float("-inf")}, {1: 0.1}, "bound finite"),
    ],
)
def test_bounds_that_cannot_be_drawn_are_refused(tmp_path, bounds, errors, message):
    with pytest.raises(InputError, match=message):
        save_bounds(tmp_path / "none.png", bounds, errors, "title")


def test_a_title_with_dollar_signs_is_written_as_it_stands(tmp_path):
    bounds, errors = curve("two")
    save_bounds(tmp_path / "bounds.png", bounds, errors, "runs/$HOME_$1")
    save_samples(tmp_path / "samples.png", np.zeros((1, 4)), (2, 2), "runs/$HOME_$1")
    assert (tmp_path / "samples.png").exists()
