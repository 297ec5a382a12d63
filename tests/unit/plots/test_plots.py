"""Figures: all that is drawn comes from the arguments, what cannot be drawn is counted, and no words collide."""

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from iwae_tf import plots
from iwae_tf.data.dataset import Column
from iwae_tf.errors import InputError
from iwae_tf.plots import columns, comparisons, curves, image_grid, scores, style
from iwae_tf.words import percent

INF, NAN = float("inf"), float("nan")
LONG = "a-name-of-a-run-" * 8
KS, BOUNDS = [1, 5, 50, 500, 5000], [-89.9, -87.4, -85.62, -85.05, -84.78]


def normal(n, mean=-22.0, spread=4.0, seed=0):
    return mean + spread * np.random.default_rng(seed).standard_normal(n)


def shapes(n):
    """Pareto k as a good model has it, and every value that is not finite."""
    values = 0.3 + 0.15 * np.random.default_rng(2).standard_normal(n)
    values[:7], values[7:9], values[9] = INF, NAN, -INF
    return values


def curve(ks=KS, means=BOUNDS, error=0.24):
    return {"": (dict(zip(ks, means, strict=True)), dict.fromkeys(ks, error))}


def history(epochs, start=None, validated=True):
    bound = -40.0 + 2 * np.arange(1, epochs + 1)
    if start is not None:
        bound[0] = start
    return {"epoch": np.arange(1.0, epochs + 1), "bound": bound, "val_bound": bound - 0.5 if validated else NAN * bound}


def activities(*sizes):
    layers = [np.random.default_rng(3).permutation(np.geomspace(2.0, 1e-8, size)) for size in sizes]
    return [layers[0], *(np.where(layer < 1e-6, -layer, layer) for layer in layers[1:])]


DIGITS, MNIST = normal(400), normal(10_000, -90, 25, 1)
FIGURES = {
    "bounds": lambda: curves.bounds_figure(curve()),
    "bounds, wide": lambda: curves.bounds_figure(curve(means=[40 * mean for mean in BOUNDS], error=20), LONG),
    "bounds, flat": lambda: curves.bounds_figure(curve(means=[-85.1, -85.09, -85.1, -85.08, -85.09], error=0.004)),
    "bounds, neighbours": lambda: curves.bounds_figure(curve(range(1, 21), np.linspace(-90, -85, 20))),
    "bounds, close": lambda: curves.bounds_figure(curve([1, 4990, 5000], [-90.0, -85.0, -84.9])),
    "bounds, one": lambda: curves.bounds_figure(curve([1], [-30.1])),
    "bounds, runs": lambda: curves.bounds_figure(dict.fromkeys("ABCDEFGH", curve()[""])),
    "learning": lambda: curves.learning_figure({"": history(40, -900)}),
    "learning, runs": lambda: curves.learning_figure({"A": history(2), "B": history(8)}),
    "scores": lambda: scores.scores_figure(np.append(MNIST, [-900.0, -INF, NAN]), LONG),
    "scores, one": lambda: scores.scores_figure([-22.0]),
    "scores, equal": lambda: scores.scores_figure(np.full(30, -22.0)),
    "reliability": lambda: scores.reliability_figure(np.append(MNIST, [-INF, NAN]), shapes(10_002), LONG),
    "reliability, one": lambda: scores.reliability_figure([-22.0], [0.1]),
    "reliability, nothing finite": lambda: scores.reliability_figure([-INF, NAN], [INF, NAN]),
    "activities": lambda: curves.activities_figure({"": activities(100, 50, 1)}, LONG),
    "activities, all active": lambda: curves.activities_figure({"": [np.ones(3)]}),
    "activities, none": lambda: curves.activities_figure({name: [np.zeros(5)] for name in "ABC"}),
    "differences": lambda: comparisons.differences_figure(
        [DIGITS, DIGITS[::-1], MNIST[:400]], [LONG, "b", "c"], [(-0.6, 0.6), (60, 70)], ["A is better"], "FORCED" * 20
    ),
    "differences, one": lambda: comparisons.differences_figure([[-22.0], [-21.0]], "ab", [(NAN, NAN)]),
    "distributions": lambda: comparisons.distributions_figure([DIGITS, [*MNIST, NAN]], ["a", LONG], [], "FORCED"),
    "reproduction": lambda: comparisons.reproduction_figure(
        {f"table-1-vae-k{k}": (86.3, 0.2, 86.0 - k / 50) for k in (1, 5, 50)}, LONG, "scale 0.01 " * 20
    ),
    "sweep": lambda: comparisons.sweep_figure(
        {f"objective iwae, k {k}, learning rate 0.001": [-86.3, -86.0 - k] for k in (1, 5)}, [0.2, 0.3], LONG, LONG
    ),
    "samples": lambda: image_grid.samples_figure(np.zeros((1, 64)), (8, 8), LONG),
    "reconstructions": lambda: image_grid.reconstructions_figure(np.zeros((12, 64)), np.zeros((12, 64)), (8, 8)),
    "extremes": lambda: image_grid.extremes_figure(np.zeros((30, 784)), 1000 * DIGITS[:30], (28, 28)),
}


@pytest.fixture(params=FIGURES)
def figure(request):
    return FIGURES[request.param]()


def heading(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_no_two_words_overlap_and_all_are_on_the_page(figure):
    figure.draw_without_rendering()  # warns, which is an error here, if the axes have no room
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [*axes.texts, axes.xaxis.label, axes.title, axes._left_title]
        texts += axes.get_legend().get_texts() if axes.get_legend() else []
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            places = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False) if axes.axison else ()
            texts += [label for place, label in places if min(limits) <= place <= max(limits)]
    boxes = [text.get_window_extent() for text in texts if text.get_text().strip()]
    width, height = figure.get_size_inches() * style.UNIT
    assert not [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    top = max(axes.get_tightbbox().y1 for axes in figure.axes)
    assert all(text.get_window_extent().y1 > top for text in figure.texts)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG\r\n\x1a\n"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_suffix_chooses_the_format_and_the_same_figure_gives_the_same_bytes(tmp_path, suffix, start):
    for name, shift in (("a", 0.0), ("b", 0.0), ("c", 0.3)):
        plots.save_scores(tmp_path / f"{name}.{suffix}", DIGITS + shift, "runs/$HOME_$1")
    a, b, c = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "abc")
    assert a.startswith(start)
    assert a == b != c
    assert b"atplotlib v" not in a  # a version would give other bytes


def test_png_files_have_200_dots_an_inch_and_other_formats_are_refused(tmp_path):
    plots.save_bounds(tmp_path / "bounds.png", curve())
    height, width = imread(tmp_path / "bounds.png").shape[:2]
    assert (width, style.DPI) == (2 * style.WIDTH, 200)
    assert 700 < height < 900
    with pytest.raises(InputError, match=r"unknown suffix '\.jpg' of a figure; expected \.png, \.pdf, \.svg"):
        plots.save_bounds(tmp_path / "bounds.jpg", curve())


def test_every_function_of_the_package_writes_its_figure(tmp_path):
    plots.save_reliability(tmp_path / "1.svg", DIGITS, shapes(400))
    plots.save_activities(tmp_path / "2.svg", {"": activities(50, 20)})
    plots.save_differences(tmp_path / "3.svg", [DIGITS, DIGITS - 1], "ab", [(0.5, 1.5)])
    plots.save_distributions(tmp_path / "4.svg", [DIGITS, MNIST], "ab")
    plots.save_reproduction(tmp_path / "5.svg", {"a": (86.3, 0.2, 86.0)}, "title", "protocol")
    plots.save_samples(tmp_path / "6.svg", np.zeros((3, 4)), (2, 2))
    plots.save_reconstructions(tmp_path / "7.svg", np.zeros((3, 4)), np.zeros((3, 4)), (2, 2))
    plots.save_extremes(tmp_path / "8.svg", np.zeros((3, 4)), np.zeros(3), (2, 2))
    plots.save_rows(tmp_path / "9.svg", [np.zeros((3, 2, 2))], "title")
    plots.save_sweep(tmp_path / "10.svg", {"k 1": [-3.0]}, [0.1], "title", "60 epochs")
    assert len(list(tmp_path.iterdir())) == 10
    plots.save_extremes(tmp_path / "rows.svg", np.full((30, 64), 7.0), DIGITS[:30], None)  # rows that are no images
    assert not (tmp_path / "rows.svg").exists()


# ---------------------------------------------------------------------------------------------- curves


def test_bounds_stand_at_their_k_with_one_standard_error_either_way_and_their_values():
    (axes,) = curves.bounds_figure(curve(), "400 test images").axes
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), np.stack([KS, BOUNDS], axis=1))
    ends = np.array([segment[:, 1] for segment in axes.collections[0].get_segments()])
    np.testing.assert_allclose(ends, np.array(BOUNDS)[:, None] + [-0.24, 0.24])
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["1\n−89.90", "5\n−87.40", "50\n−85.62", "500\n−85.05", "5000\n−84.78"]
    assert (axes.get_xscale(), axes.get_xticks().tolist()) == ("log", KS)
    assert "Mean L_k over 400 test images" in heading(axes.figure)
    flat = curves.bounds_figure(curve([1, 5], [-30.0, -30.0], NAN)).axes[0]
    assert np.ptp(flat.get_ylim()) == pytest.approx(0.3)
    assert not flat.collections


def test_the_line_of_log_p_has_the_name_that_it_is_given():
    figure = curves.bounds_figure(curve(), log_p=("lower bound on log p(x) by more samples of q(h | x)", -84.5))
    assert "line: lower bound on log p(x) by more samples of q(h | x), -84.50" in heading(figure)


def test_a_run_has_the_colour_of_its_letter_whichever_others_are_drawn():
    for figure in (
        curves.bounds_figure({"B": curve()[""]}),
        curves.learning_figure({"B": history(8)}),
        curves.activities_figure({"B": [np.array([0.5, 0.1])]}),
    ):
        axes = figure.axes[0]
        assert {line.get_color() for line in axes.lines if len(line.get_xdata()) > 2 or line.get_label() == "B"} == {
            style.SERIES[1]
        }
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["B"]
    assert curves.bounds_figure(curve()).axes[0].get_legend() is None


# ---------------------------------------------------------------------------------------------- columns


def test_a_rare_category_has_a_bin_of_its_own_and_its_name_is_no_formula(tmp_path):
    names = (">$50", "$10_$50", "c")
    kinds = [Column("price", "category", names), Column("fraud", "binary"), Column("height", "real")]
    x = np.zeros((1000, 3))
    x[:3, 0], x[3:400, 0], x[:3, 1], x[:, 2] = 2, 1, 1, np.arange(1000)
    figure = columns.columns_figure(kinds, x, x)
    price, fraud, height = figure.axes
    assert [text.get_text() for text in price.get_xticklabels()] == list(names)
    for axes, shares in ((price, [0.6, 0.397, 0.003]), (fraud, [0.997, 0.003])):
        edges = np.unique(axes.patches[0].get_xy()[:, 0])
        np.testing.assert_allclose(edges, np.arange(len(shares) + 1) - 0.5)
        found = np.unique(np.round(axes.patches[0].get_xy()[:, 1], 6))
        np.testing.assert_allclose(found, sorted([0.0, *shares]), atol=1e-6)
    assert height.patches[0].get_xy()[:, 0].max() < 999  # outliers are counted at the ends
    plots.save_columns(tmp_path / "columns.png", kinds, x, x)


def test_many_categories_are_named_at_both_ends_and_unknown_ones_are_counted_as_none():
    kinds = [Column("town", "category", tuple("abcdefg"))]
    x, drawn = np.repeat([[0.0], [6.0], [-1.0]], 10, axis=0), np.zeros((4, 1))
    (axes,) = columns.columns_figure(kinds, x, drawn).axes
    assert [(tick, text.get_text()) for tick, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)] == [
        (0, "a"),
        (6, "g"),
    ]
    heights = np.unique(np.round(axes.patches[0].get_xy()[:, 1], 6))
    np.testing.assert_allclose(heights, [0.0, 1 / 3], atol=1e-6)


def test_labels_of_bounds_with_many_digits_do_not_touch():
    wide = {k: -10_234.56 - 1 / k for k in (50, 2500, 5000)}
    (axes,) = curves.bounds_figure({"": (wide, dict.fromkeys(wide, 0.1))}).axes
    assert [text.get_text().split("\n")[0] for text in axes.get_xticklabels()] == ["50", "", "5000"]


def test_labels_that_would_touch_are_left_out_and_the_ends_stay():
    places = np.array([0.0, 0.05, 0.3, 0.35, 0.5, 0.95, 1.0])
    assert style.spaced(places, 0.1).tolist() == [True, False, True, False, True, False, True]
    assert style.spaced(places[:1], 0.1).tolist() == [True]


def test_learning_curves_are_those_of_the_history_and_a_low_start_does_not_flatten_them():
    (axes,) = curves.learning_figure({"": history(40, start=-900.0)}).axes
    training, validation = axes.lines
    np.testing.assert_array_equal(training.get_xydata().T, [history(40)["epoch"], history(40, -900.0)["bound"]])
    np.testing.assert_array_equal(validation.get_ydata(), history(40, -900.0)["val_bound"])
    assert (training.get_linestyle(), validation.get_linestyle()) == ("-", "--")
    assert -40 < axes.get_ylim()[0] < -34.5
    assert "below the figure: the first epoch" in heading(axes.figure)
    assert "no validation data" in heading(curves.learning_figure({"": history(8, validated=False)}))
    short = history(4) | {"bound": np.array([-38.0, NAN, INF, -32.0])}
    assert curves.learning_figure({"": short}).axes[0].lines[0].get_xdata().tolist() == [1, 4]


def test_every_unit_is_drawn_once_in_falling_order_and_those_above_the_line_are_filled():
    layers = [np.array([0.5, 0.01, 0.011, 1e-4, 2.0]), np.array([1e-12, 0.02, -1e-3, 0.0])]
    figure = curves.activities_figure({"": layers})
    assert "active: 3 of 5 + 1 of 4" in heading(figure)
    assert "at the lower border: 3 units" in heading(figure)
    (_, filled, open_, line), (_, filled_2, open_2, _) = (axes.lines for axes in figure.axes)
    assert line.get_ydata()[0] == 0.01
    assert filled.get_xydata().tolist() == [[1, 2.0], [2, 0.5], [3, 0.011]]
    assert open_.get_xydata().tolist() == [[4, 0.01], [5, 1e-4]]
    assert filled_2.get_xydata().tolist() == [[1, 0.02]]
    low, _ = figure.axes[1].get_ylim()
    assert (open_2.get_ydata() > low).all()
    assert (open_2.get_ydata() < 1e-4).all()
    assert open_.get_markerfacecolor() == style.PAPER != filled.get_markerfacecolor()
    assert "2 of 3" in heading(curves.activities_figure({"": [np.array([0.5, 0.2, 0.1])]}, threshold=0.15))


# ---------------------------------------------------------------------------------------------- scores


def test_the_histogram_counts_every_image_and_its_lines_are_mean_and_median():
    figure = scores.scores_figure(np.append(DIGITS, [-INF, NAN]), "400 test images")
    (axes,) = figure.axes
    bars = [patch for patch in axes.patches if patch.get_zorder() == 2]
    assert sum(bar.get_height() for bar in bars) == 400
    assert [line.get_xdata()[0] for line in axes.lines] == [np.median(DIGITS), DIGITS.mean()]
    bands = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches if patch.get_zorder() == 0]
    np.testing.assert_allclose(bands, [np.quantile(DIGITS, q) for q in ((0.05, 0.95), (0.25, 0.75))])
    assert "not finite: 2" in heading(figure)
    text = heading(scores.scores_figure([-1.0, -2.0, -6.0]))
    assert "mean −3.00 ± 1.53; dashed: median −2.00" in text  # sd 2.6458 / sqrt(3)
    assert "all from −6.00 to −1.00" in text
    assert "NOT SHOWN" not in text
    far = scores.scores_figure(np.append(MNIST, -900.0)).axes[0]
    assert sum(bar.get_height() > 0 for bar in far.patches) > 15


def test_points_stand_at_their_score_and_shape_and_others_at_the_border_with_their_count():
    values, k = np.append(DIGITS, [-INF, NAN]), shapes(402)
    figure = scores.reliability_figure(values, k)
    (axes,) = figure.axes
    drawn = {len(c.get_offsets()): np.asarray(c.get_offsets()) for c in axes.collections}
    assert sum(len(c.get_offsets()) for c in axes.collections) == 402
    finite = np.isfinite(values) & np.isfinite(k)
    np.testing.assert_array_equal(drawn[finite.sum()], np.stack([values, k], axis=1)[finite])
    assert (drawn[7][:, 1] > k[finite].max()).all()
    assert (drawn[1][:, 1] < k[finite].min()).all()
    assert all(np.asarray(c.get_offsets())[:, 0].min() > axes.get_xlim()[0] for c in axes.collections)
    assert [line.get_ydata()[0] for line in axes.lines] == [0.5, 0.7]
    for words in ("unknown, 2", "top: k-hat is inf, 7", "bottom: k-hat is −inf, 1", "score not finite, 2"):
        assert words in heading(figure)


def test_the_heading_of_the_shapes_has_the_shares_above_both_lines():
    text = heading(scores.reliability_figure(np.zeros(10), [0.5, 0.6, 0.7, 0.71, INF, NAN, -INF, 0, 0, 0]))
    assert "above 0.7: 2 of 10 scores (20.0%)" in text
    assert "above 0.5: 4 of 10 scores (40.0%)" in text
    rare = heading(scores.reliability_figure(np.zeros(10_000), np.append(np.zeros(9_999), 1.0)))
    assert "above 0.7: 1 of 10,000 scores (0.1%)" in rare  # not 0.0%
    assert percent(9_999 / 10_000) == "99.9%"


# ---------------------------------------------------------------------------------------------- comparisons


def test_differences_are_a_minus_the_others_and_a_stands_upright():
    b, c = DIGITS - 1 + 0.1 * normal(400, 0, 1, 5), DIGITS + 2
    figure = comparisons.differences_figure([DIGITS, b, c], ["new", "old", "last"], [(0.8, 1.1), (NAN, NAN)])
    left, right, left_2, right_2 = figure.axes
    zero, mean = left.lines
    assert zero.get_xdata() == [0.0, 0.0]
    np.testing.assert_allclose(mean.get_xdata(), (DIGITS - b).mean())
    np.testing.assert_allclose(left_2.lines[1].get_xdata(), -2.0)
    *bars, band = left.patches
    assert sum(bar.get_height() for bar in bars) == sum(bar.get_height() for bar in left_2.patches) == 400  # no band
    np.testing.assert_allclose([band.get_x(), band.get_x() + band.get_width()], [0.8, 1.1])
    np.testing.assert_array_equal(right.collections[0].get_offsets(), np.stack([b, DIGITS], axis=1))
    np.testing.assert_array_equal(right_2.collections[0].get_offsets(), np.stack([c, DIGITS], axis=1))
    assert ("under A" in right.get_title("left"), "under B" in right.get_xlabel()) == (True, True)
    assert right.get_xlim() == right.get_ylim() == tuple(right.lines[0].get_xdata())
    for words in ("A: new B: old C: last", "better than B on 400 of 400 rows (100.0%)", "than C on 0 of 400"):
        assert words in heading(figure)


def test_distributions_are_shares_of_each_models_own_images():
    figure = comparisons.distributions_figure([DIGITS, [*MNIST[:1000], NAN]], ["new", "old"], ["a note"], "FORCED")
    (axes,) = figure.axes
    assert [patch.get_data()[0].sum() for patch in axes.patches] == pytest.approx([1.0, 1.0])
    assert [line.get_xdata()[0] for line in axes.lines] == [DIGITS.mean(), MNIST[:1000].mean()]
    for words in ("A: new; 400 rows", "B: old; 1,000 rows", "NOT SHOWN: 1 that are not finite", "a note"):
        assert words in heading(figure)
    assert figure.texts[0].get_text() == "FORCED"
    assert [text.get_fontweight() for text in figure.texts[:2]] == ["bold", "normal"]


def test_the_papers_figures_are_open_and_ours_have_their_errors():
    pairs = {"vae": (86.3, 0.2, 86.5), "iwae": (85.0, 0.1, 84.8)}
    (axes,) = comparisons.reproduction_figure(pairs, "title", "protocol").axes
    ours, papers = axes.lines[0], axes.lines[-1]
    assert (ours.get_xdata().tolist(), papers.get_xdata().tolist()) == ([86.3, 85.0], [86.5, 84.8])
    assert papers.get_markerfacecolor() == style.PAPER
    np.testing.assert_allclose(axes.collections[1].get_segments()[0][:, 0], [86.1, 86.5])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["vae", "iwae"]


def test_errors_of_refits_are_called_so_and_a_missing_one_is_not_drawn():
    figure = comparisons.reproduction_figure({"vae": (86.3, None, 86.5)}, "title", "protocol", refits=True)
    assert "with the standard deviation over refits" in heading(figure)
    assert "over the test images" not in heading(figure)
    assert not len(figure.axes[0].collections[1].get_segments()[0])


def test_settings_of_a_sweep_have_their_refits_means_and_spreads_and_the_error_over_rows_is_in_words():
    found = {"k 1": [-30.0, -31.0, -29.0], "k 5": [-20.0]}
    figure = comparisons.sweep_figure(found, [0.3, 0.25], "log p(x) on digits", "60 epochs")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["k 1", "k 5"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top
    refits, means, *_ = axes.lines
    assert refits.get_xydata().tolist() == [[-30.0, 0.0], [-31.0, 0.0], [-29.0, 0.0]]
    assert means.get_xydata().tolist() == [[-30.0, 0.0]]
    (bar,) = axes.collections
    assert bar.get_segments()[0].tolist() == [[-31.0, 0.0], [-29.0, 0.0]]  # the standard deviation is 1
    assert "rows, which the runs share and the bars lack: 0.25 to 0.30 nats" in heading(figure)


# ---------------------------------------------------------------------------------------------- refusals

ONE = np.zeros(1)
REFUSED = [
    (lambda: curves.bounds_figure({"": ({}, {})}), "at least one"),
    (lambda: curves.bounds_figure({"": ({1: -3.0, 5: -2.0}, {1: 0.1})}), r"k = \[1, 5\] and .* k = \[1\]"),
    (lambda: curves.bounds_figure({"": ({0: -30.0}, {0: 0.1})}), "at least 1"),
    (lambda: curves.bounds_figure({"": ({1: -INF}, {1: 0.1})}), "bound finite"),
    (lambda: comparisons.sweep_figure({}, [], "", ""), "at least one setting"),
    (lambda: scores.scores_figure([]), "at least one finite value, got 0"),
    (lambda: scores.scores_figure([NAN, INF]), r"got 0 in \(2,\)"),
    (lambda: scores.scores_figure(np.zeros((2, 2))), r"must be \[N\]"),
    (lambda: scores.reliability_figure(ONE, np.zeros(2)), r"got \(1,\) and \(2,\)"),
    (lambda: scores.reliability_figure([], []), "N >= 1"),
    (lambda: curves.activities_figure({"": []}), "one array"),
    (lambda: curves.activities_figure({"": [np.zeros(0)]}), "one array"),
    (lambda: curves.activities_figure({"": [np.array([NAN])]}), "finite"),
    (lambda: comparisons.differences_figure([ONE, np.zeros(2)], "ab", [(0, 0)]), r"\[\(1,\), \(2,\)\]"),
    (lambda: comparisons.differences_figure([[], []], "ab", [(0, 0)]), r"got shapes"),
    (lambda: comparisons.differences_figure([ONE, [INF]], "ab", [(0, 0)]), "have no difference"),
    (lambda: comparisons.distributions_figure([ONE, [NAN]], "ab"), "log_likelihood of b"),
    (lambda: comparisons.reproduction_figure({}, "t", "p"), "at least one model"),
]


def test_what_cannot_be_drawn_is_refused():
    for draw, message in REFUSED:
        with pytest.raises(InputError, match=message):
            draw()


def test_figures_do_not_depend_on_the_users_settings_of_matplotlib(tmp_path):
    arguments = {"": ({1: -3.0, 5: -2.0}, {1: 0.1, 5: 0.1})}, "4 test images"
    plots.save_bounds(tmp_path / "a.png", *arguments)
    with matplotlib.rc_context({"text.usetex": True, "savefig.bbox": "tight", "font.size": 30, "lines.linewidth": 9}):
        plots.save_bounds(tmp_path / "b.png", *arguments)
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
