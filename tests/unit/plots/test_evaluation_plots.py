"""The plots of an evaluation: that all that is drawn comes from the arguments, and what cannot be drawn is counted."""

import itertools

import numpy as np
import pytest
from matplotlib.image import imread

from iwae_tf import plots
from iwae_tf.errors import InputError
from iwae_tf.plots import extremes as extremes_module
from iwae_tf.plots.activities import activities_figure
from iwae_tf.plots.differences import differences_figure
from iwae_tf.plots.distributions import distributions_figure
from iwae_tf.plots.extremes import extremes, save_extremes
from iwae_tf.plots.reliability import reliability_figure
from iwae_tf.plots.scores import scores_figure

INF, NAN = float("inf"), float("nan")


def digits(n=400):
    """Scores as the digits have them."""
    return -22 + 4 * np.random.default_rng(0).standard_normal(n)


def mnist(n=10_000):
    """Scores as MNIST has them."""
    return -90 + 25 * np.random.default_rng(1).standard_normal(n)


def shapes(n):
    """Pareto k as a good model has it."""
    return 0.3 + 0.15 * np.random.default_rng(2).standard_normal(n)


def all_shapes(n):
    """The same with all that is not finite."""
    values = shapes(n)
    values[:7], values[7:9], values[9] = INF, NAN, -INF
    return values


def activities(*sizes):
    """Falling over eight orders of magnitude, in no order, the last estimates below 0 in the second layer."""
    rng = np.random.default_rng(3)
    layers = [rng.permutation(np.geomspace(2.0, 1e-8, size)) for size in sizes]
    layers[1:] = [np.where(layer < 1e-6, -layer, layer) for layer in layers[1:]]
    return layers


def heading(figure):
    return " ".join(text.get_text() for text in figure.texts)


LONG = "a-name-of-a-run-" * 12
FIGURES = {
    "scores, digits": lambda: scores_figure(digits(), "title"),
    "scores, mnist": lambda: scores_figure(np.append(mnist(), [-900.0, -INF, NAN]), LONG),
    "scores, one": lambda: scores_figure([-22.0], "title"),
    "scores, equal": lambda: scores_figure(np.full(30, -22.0), "title"),
    "reliability, digits": lambda: reliability_figure(digits(), shapes(400), "title"),
    "reliability, borders": lambda: reliability_figure(digits(), all_shapes(400), "title"),
    "reliability, mnist": lambda: reliability_figure(np.append(mnist(), [-INF, NAN]), all_shapes(10_002), LONG),
    "reliability, one": lambda: reliability_figure([-22.0], [0.1], "title"),
    "reliability, nothing finite": lambda: reliability_figure([-INF, NAN], [INF, NAN], "title"),
    "activities, one layer": lambda: activities_figure(activities(50), "title"),
    "activities, two": lambda: activities_figure(activities(100, 50), LONG),
    "activities, three": lambda: activities_figure(activities(50, 20, 1), "title"),
    "activities, none": lambda: activities_figure([np.zeros(5)], "title"),
    "differences, digits": lambda: differences_figure(
        digits(), digits()[::-1], (LONG, "b"), (-0.6, 0.6), "title", "FORCED: " + "0123456789abcdef" * 20
    ),
    "differences, mnist": lambda: differences_figure(mnist(), mnist() + 1.0, ("a", "b"), (-1.0, -1.0), "title"),
    "differences, one": lambda: differences_figure([-22.0], [-21.0], ("a", "b"), (NAN, NAN), "title"),
    "distributions": lambda: distributions_figure(digits(), [*mnist(), NAN], ("a", LONG), "title", "FORCED"),
}


@pytest.fixture(params=FIGURES)
def figure(request):
    return FIGURES[request.param]()


def test_no_two_words_overlap_and_all_are_on_the_page(figure):
    figure.draw_without_rendering()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            places = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)  # labels may be turned off
            texts += [label for place, label in places if min(limits) <= place <= max(limits)]
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    width, height = figure.get_size_inches() * 100
    assert not [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


def test_every_word_of_the_heading_stands_above_all_axes(figure):
    top = max(axes.get_tightbbox().y1 for axes in figure.axes)
    assert all(text.get_window_extent().y0 >= top for text in figure.texts)


def test_the_same_figure_gives_the_same_bytes_and_other_data_do_not(tmp_path):
    for name, values in (("a", digits()), ("b", digits()), ("c", digits() + 0.3)):
        plots.save_scores(tmp_path / f"{name}.png", values, "runs/$HOME_$1")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a[:8] == b"\x89PNG\r\n\x1a\n"
    assert a == b
    assert b"Software" not in a  # the version of matplotlib would make other bytes
    assert a != c


def test_every_plot_is_written_where_it_is_asked_for(tmp_path):
    plots.save_scores(tmp_path / "1.png", digits(), "title")
    plots.save_reliability(tmp_path / "2.png", digits(), shapes(400), "title")
    plots.save_activities(tmp_path / "3.png", activities(50, 20), "title")
    plots.save_differences(tmp_path / "4.png", digits(), digits() - 1, ("a", "b"), (0.5, 1.5), "title")
    plots.save_distributions(tmp_path / "5.png", digits(), mnist(), ("a", "b"), "title")
    for number in range(1, 6):
        height, width = imread(tmp_path / f"{number}.png").shape[:2]
        assert width == 1000
        assert 450 < height < 700


# ---------------------------------------------------------------------------------------------- scores


def test_the_bars_count_every_image_and_the_line_is_at_the_mean():
    axes = scores_figure(digits(), "title").axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 400
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xdata(), digits().mean())


def test_the_box_above_the_bars_is_at_the_quantiles():
    (strip,) = scores_figure(digits(), "title").axes[0].child_axes
    q5, q25, median, q75, q95 = np.quantile(digits(), [0.05, 0.25, 0.5, 0.75, 0.95])
    found = [line.get_xdata().tolist() for line in strip.lines]
    expected = [[digits().min(), digits().max()], [q5, q95], [q5, q5], [q95, q95], [median, median], [digits().mean()]]
    assert found == expected
    box = strip.collections[0].get_paths()[0].get_extents()
    np.testing.assert_allclose([box.x0, box.x1], [q25, q75])


def test_the_heading_of_the_scores_says_the_numbers_and_what_is_left_out():
    text = heading(scores_figure([-1.0, -2.0, -6.0, -INF, NAN], "title"))
    assert "3 images; mean −3.00 ± 1.53" in text  # sd 2.6458 / sqrt(3)
    assert "median −2.00" in text
    assert "all from −6.00 to −1.00" in text
    assert "not finite: 2" in text
    assert "NOT SHOWN" not in heading(scores_figure([-1.0, -2.0], "title"))


def test_one_image_far_out_leaves_the_others_more_than_a_few_bars():
    axes = scores_figure(np.append(mnist(), -900.0), "title").axes[0]
    assert sum(bar.get_height() > 0 for bar in axes.patches) > 15


# ---------------------------------------------------------------------------------------------- reliability


def points(axes):
    """Marker outline's number of corners -> points, float [n, 2]: 26 of a circle."""
    return [(len(part.get_paths()[0].vertices), part.get_offsets()) for part in axes.collections]


def test_every_finite_point_stands_at_its_score_and_its_shape():
    (axes,) = reliability_figure(digits(), shapes(400), "title").axes
    ((_, drawn),) = points(axes)
    np.testing.assert_array_equal(drawn, np.stack([digits(), shapes(400)], axis=1))
    assert [line.get_ydata()[0] for line in axes.lines] == [0.5, 0.7]
    assert sorted(text.get_text() for text in axes.texts) == ["0.5", "0.7"]


def test_what_is_not_finite_is_drawn_at_the_border_and_counted():
    scores = np.append(digits(), [-INF, NAN])
    (axes,) = reliability_figure(scores, all_shapes(402), "title").axes
    drawn = np.concatenate([offsets for _, offsets in points(axes)])
    assert len(drawn) == 402
    names = {label.get_text(): place for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    finite = shapes(402)[10:]
    for name, count in (("inf: 7", 7), ("NaN: 2", 2), ("−inf: 1", 1)):
        assert (drawn[:, 1] == names[name]).sum() == count
        assert not finite.min() <= names[name] <= finite.max()
    assert names["−inf: 1"] < finite.min()
    names = {label.get_text(): place for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    assert (drawn[:, 0] == names["not finite: 2"]).sum() == 2
    assert names["not finite: 2"] < digits().min()
    low, high = axes.get_ylim()
    assert low < drawn[:, 1].min() < drawn[:, 1].max() < high
    assert axes.get_xlim()[0] < drawn[:, 0].min() < drawn[:, 0].max() < axes.get_xlim()[1]


def test_the_heading_of_the_shapes_says_the_shares_above_both_lines():
    text = heading(reliability_figure(np.zeros(10), [0.5, 0.6, 0.7, 0.71, INF, NAN, -INF, 0, 0, 0], "title"))
    assert "above 0.7: 2 of 10 images (20.0%)" in text
    assert "above 0.5: 4 of 10 images (40.0%)" in text
    assert "not known: 1" in text
    assert "not known" not in heading(reliability_figure(np.zeros(2), [0.5, 0.6], "title"))
    rare = heading(reliability_figure(np.zeros(10_000), np.append(np.zeros(9_999), 1.0), "title"))
    assert "above 0.7: 1 of 10,000 images (0.1%)" in rare  # not 0.0%


# ---------------------------------------------------------------------------------------------- extremes


def test_the_ten_best_and_the_ten_worst_come_in_order():
    best, worst = extremes(digits())
    order = np.argsort(digits())
    np.testing.assert_array_equal(best, order[::-1][:10])
    np.testing.assert_array_equal(worst, order[:10])


@pytest.mark.parametrize(("n", "best", "worst"), [(1, 1, 0), (2, 1, 1), (7, 4, 3), (19, 10, 9), (20, 10, 10)])
def test_of_few_images_none_is_among_both(n, best, worst):
    found = extremes(digits(n))
    assert [len(rows) for rows in found] == [best, worst]
    assert len(set(np.concatenate(found))) == best + worst


def test_no_score_is_worse_than_the_lowest_score():
    best, worst = extremes(np.array([-1.0, -INF, NAN, -2.0, -3.0]))
    assert worst.tolist() == [2, 1]
    assert best.tolist() == [0, 3, 4]


@pytest.mark.parametrize("image_shape", [(8, 8), (28, 28), (4, 10), (1, 64), (64, 1), (1, 3)])
@pytest.mark.parametrize("n", [1, 7, 30])
def test_every_image_stands_above_its_score(tmp_path, monkeypatch, image_shape, n):
    written = []
    monkeypatch.setattr(extremes_module, "write_page", lambda path, page, texts: written.append((page, texts)))
    pasted = []
    monkeypatch.setattr(extremes_module, "paste", lambda page, image, *where: pasted.append((image, where)))
    images = np.random.default_rng(0).random((n, image_shape[0] * image_shape[1]))
    save_extremes(tmp_path / "extremes.png", images, digits(n), image_shape, "title")
    ((page, texts),) = written
    rows = np.concatenate(extremes(digits(n)))
    assert len(pasted) == len(rows)
    for row, (image, (top, left, height, width)) in zip(rows, pasted, strict=True):
        np.testing.assert_array_equal(image, images[row].reshape(image_shape))
        score = f"{digits(n)[row]:.2f}".replace("-", "−")
        beneath = [text for x, y, text, *_ in texts if x == left and top + height < y < top + height + 8]
        assert beneath == [score]
        assert left >= 10
        assert left + width <= page.shape[1] - 10
        assert top + height + 18 <= page.shape[0]
    for (_, (top, left, height, width)), (_, (other_top, other_left, *_)) in itertools.combinations(pasted, 2):
        assert (
            other_top >= top + height + 16 or other_left >= left + max(width + 2, 60) or other_top + height + 16 <= top
        )


def test_the_extremes_are_a_picture_and_rows_that_are_no_images_are_not_drawn(tmp_path):
    save_extremes(tmp_path / "images.png", np.zeros((30, 64)), digits(30), (8, 8), "title")
    assert imread(tmp_path / "images.png").shape[1] > 700
    save_extremes(tmp_path / "rows.png", np.full((30, 64), 7.0), digits(30), None, "title")
    assert not (tmp_path / "rows.png").exists()


# ---------------------------------------------------------------------------------------------- activities


def test_every_unit_is_drawn_once_in_falling_order_and_those_above_the_line_are_filled():
    layers = [np.array([0.5, 0.01, 0.011, 1e-4, 2.0]), np.array([1e-12, 0.02, -1e-3, 0.0])]
    figure = activities_figure(layers, "title")
    assert "title: 3 of 5 + 1 of 4 units active" in heading(figure)
    assert "units: 3" in heading(figure)
    (line, filled, open_, low), (_, filled_2, open_2, low_2) = (axes.lines for axes in figure.axes)
    assert line.get_ydata()[0] == 0.01
    assert filled.get_xydata().tolist() == [[1, 2.0], [2, 0.5], [3, 0.011]]
    assert open_.get_xydata().tolist() == [[4, 0.01], [5, 1e-4]]
    assert filled_2.get_xydata().tolist() == [[1, 0.02]]
    assert [len(part.get_xdata()) for part in (low, open_2, low_2)] == [0, 0, 3]
    for axes in figure.axes:
        assert axes.get_yscale() == "log"
        assert axes.get_ylim() == figure.axes[0].get_ylim()
        assert axes.get_ylim()[0] < 1e-4
    assert [axes.yaxis.get_tick_params()["labelleft"] for axes in figure.axes] == [True, False]
    assert "layer 2, 1 of 4 active" in figure.axes[1].get_xlabel()


def test_the_threshold_of_the_activities_can_be_moved():
    figure = activities_figure([np.array([0.5, 0.2, 0.1])], "title", threshold=0.15)
    assert "2 of 3 units active" in heading(figure)
    assert "above 0.15" in heading(figure)


# ---------------------------------------------------------------------------------------------- two runs


def test_differences_are_a_minus_b_and_a_stands_upright():
    a, b = digits(), digits() - 1 + 0.1 * shapes(400)
    figure = differences_figure(a, b, ("new", "old"), (0.8, 1.1), "title")
    left, right = figure.axes
    zero, mean = left.lines
    assert zero.get_xdata() == [0.0, 0.0]
    np.testing.assert_allclose(mean.get_xdata(), (a - b).mean())
    *bars, band = left.patches
    assert sum(bar.get_height() for bar in bars) == 400
    np.testing.assert_allclose([band.get_x(), band.get_x() + band.get_width()], [0.8, 1.1])
    np.testing.assert_array_equal(right.collections[0].get_offsets(), np.stack([b, a], axis=1))
    assert ("under A" in right.get_ylabel(), "under B" in right.get_xlabel()) == (True, True)
    diagonal = right.lines[0].get_xydata().T
    assert right.get_xlim() == right.get_ylim() == tuple(diagonal[0]) == tuple(diagonal[1])
    assert "A: new" in heading(figure)
    assert "400 of 400 images (100.0%)" in heading(figure)


def test_a_difference_without_an_interval_has_no_band():
    left, _ = differences_figure([-20.0, -21.0], [-20.5, -21.0], ("a", "b"), (NAN, NAN), "title").axes
    assert len(left.patches) == 8
    assert "1 of 2 images (50.0%)" in heading(left.figure)


def test_the_warning_stands_above_all_and_is_bold():
    for figure in (
        differences_figure(digits(), digits(), ("a", "b"), (0, 0), "title", "FORCED"),
        distributions_figure(digits(), digits(), ("a", "b"), "title", "FORCED"),
    ):
        assert max(figure.texts, key=lambda text: text.get_window_extent().y1).get_text() == "FORCED"
        assert figure.texts[0].get_fontweight() == "bold"
        assert figure.texts[1].get_fontweight() == "normal"


def test_distributions_are_shares_of_each_sets_own_images():
    figure = distributions_figure(digits(), [*mnist(1000), NAN], ("new", "old"), "title")
    (axes,) = figure.axes
    for part in axes.patches:
        values, _, _ = part.get_data()
        assert values.sum() == pytest.approx(1.0)
    assert [line.get_xdata()[0] for line in axes.lines] == [digits().mean(), mnist(1000).mean()]
    assert "A (filled): new; 400 images" in heading(figure)
    assert "B (dashed): old; 1,000 images" in heading(figure)
    assert heading(figure).count("NOT SHOWN: 1 that are not finite") == 1


# ---------------------------------------------------------------------------------------------- refusals

ONE = np.zeros(1)
REFUSED = {
    "no score": (lambda: scores_figure([], "t"), "at least one finite value, got 0"),
    "no finite score": (lambda: scores_figure([NAN, INF], "t"), r"got 0 in \(2,\)"),
    "scores of two axes": (lambda: scores_figure(np.zeros((2, 2)), "t"), r"must be \[N\]"),
    "shapes of others": (lambda: reliability_figure(ONE, np.zeros(2), "t"), r"got \(1,\) and \(2,\)"),
    "no shapes": (lambda: reliability_figure([], [], "t"), "N >= 1"),
    "no layer": (lambda: activities_figure([], "t"), "one array"),
    "no unit": (lambda: activities_figure([np.zeros(0)], "t"), "one array"),
    "no activity": (lambda: activities_figure([np.array([NAN])], "t"), "finite"),
    "no pairs": (lambda: differences_figure(ONE, np.zeros(2), "ab", (0, 0), "t"), r"got \(1,\) and \(2,\)"),
    "no images": (lambda: differences_figure([], [], "ab", (0, 0), "t"), r"got \(0,\)"),
    "not finite": (lambda: differences_figure([NAN], ONE, "ab", (0, 0), "t"), "not finite have no difference"),
    "B not finite": (lambda: differences_figure(ONE, [INF], "ab", (0, 0), "t"), "not finite have no difference"),
    "no B": (lambda: distributions_figure(ONE, [NAN], "ab", "t"), "log_likelihood of b"),
    "scores of others": (lambda: save_extremes("x.png", np.zeros((2, 4)), ONE, (2, 2), "t"), "2 images and scores"),
    "other size": (lambda: save_extremes("x.png", np.zeros((1, 5)), ONE, (2, 2), "t"), "cannot be drawn"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_drawn_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        draw()
    assert not list(tmp_path.iterdir())
