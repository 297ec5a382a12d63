import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from run_files import BOUNDS, ERRORS, history_of, metrics_of, record_of, write_run

from iwae_tf.report import svg
from iwae_tf.report.bounds import bounds_figure
from iwae_tf.report.learning import learning_figure
from iwae_tf.report.record import read_record
from iwae_tf.report.units import unit_figures, unit_lists


def elements(figure):
    """Every element of the figure."""
    return list(ET.fromstring(str(figure).replace("xlink:", "")).iter())


def curves(figure, variable: str, least: int):
    """Points [n, 2] of every line in a colour with at least so many points, y upwards."""
    found = []
    for element in elements(figure):
        style = element.get("style", "")
        if element.tag.endswith("path") and f"stroke: var(--{variable})" in style and "fill: none" in style:
            points = re.findall(r"[ML] (\S+) (\S+)", element.get("d"))
            if len(points) >= least:
                found.append(np.array(points, np.float64) * [1, -1])
    return found


def assert_drawn_at(points, x, y):
    """The points are those of x and y up to the scale and place of the axes."""
    for drawn, values in zip(points.T, (x, y), strict=True):
        scale, place = np.polyfit(values, drawn, 1)
        assert scale > 0
        np.testing.assert_allclose(drawn, scale * values + place, atol=1e-3)  # the file has six decimals


def test_the_learning_curves_are_those_of_the_history(tmp_path):
    figure, caption = learning_figure([record_of(tmp_path / "run", epochs=8)], "A")
    training, validation = curves(figure, "series-1", least=8)
    epochs = np.arange(1.0, 9.0)
    assert_drawn_at(training, epochs, -40 + 2 * epochs)
    assert_drawn_at(validation, epochs, -40.5 + 2 * epochs)
    assert (training[:, 1] > validation[:, 1]).all()  # half a nat
    assert "dashed on the validation images" in caption
    assert "below the figure" not in caption


def test_without_validation_images_the_caption_says_so(tmp_path):
    run = write_run(tmp_path / "run", history=history_of(8, validated=False))
    figure, caption = learning_figure([read_record(run)], "A")
    assert len(curves(figure, "series-1", least=8)) == 1
    assert "no validation images" in caption


def test_a_start_far_below_does_not_flatten_the_rest_and_is_owned_up_to(tmp_path):
    lines = history_of(40).replace("-38.0,", "-900.0,").replace("1,3,-38,", "1,3,-900,")
    figure, caption = learning_figure([record_of(tmp_path / "run", history=lines)], "A")
    assert "The first epoch lies below the figure." in caption
    (training, _) = curves(figure, "series-1", least=30)
    assert np.ptp(training[5:, 1]) > 100  # of a height of 227 points


def test_before_the_first_epoch_there_is_no_figure(tmp_path):
    record = read_record(write_run(tmp_path / "run"))
    assert learning_figure([record], "A") is None
    assert bounds_figure([record], "A") is None


def test_the_bounds_are_drawn_at_their_k_and_height(tmp_path):
    figure = bounds_figure([record_of(tmp_path / "run")], "A")
    (line,) = curves(figure, "series-1", least=3)
    assert_drawn_at(line, np.log([1, 5, 50]), np.array(list(BOUNDS.values())))


def test_the_bars_are_one_standard_error_either_way(tmp_path):
    figure = bounds_figure([record_of(tmp_path / "run")], "A")
    (line,) = curves(figure, "series-1", least=3)
    scale, _ = np.polyfit(list(BOUNDS.values()), line[:, 1], 1)
    bars = [curve for curve in curves(figure, "series-1", least=2) if len(curve) == 2]
    for bar, point, error in zip(bars, line, ERRORS.values(), strict=True):
        np.testing.assert_allclose(bar[:, 0], point[0], atol=1e-3)
        np.testing.assert_allclose(np.sort(bar[:, 1]), point[1] + scale * error * np.array([-1, 1]), atol=1e-3)


def test_a_figure_says_in_words_what_it_shows(tmp_path):
    record = record_of(tmp_path / "run", epochs=8)
    label = elements(bounds_figure([record], "A"))[0].get("aria-label")
    assert label == "L_k against k. from −30.50 nats at k = 1 to −27.12 nats at k = 50."
    label = elements(learning_figure([record], "A")[0])[0].get("aria-label")
    assert "8 epochs, training from −38.00 to −24.00 nats, validation from −38.50 to −24.50 nats" in label


def test_several_runs_have_their_own_colours_and_letters(tmp_path):
    higher = metrics_of(bounds={str(k): value + 1 for k, value in BOUNDS.items()})
    records = [record_of(tmp_path / "low"), record_of(tmp_path / "high", metrics=higher)]
    figure = bounds_figure(records, "AB")
    (low,), (high,) = (curves(figure, f"series-{number}", least=3) for number in (1, 2))
    assert (high[:, 1] > low[:, 1]).all()
    letters = {e.text: e.get("style") for e in elements(figure) if e.tag.endswith("text") and e.text in ("A", "B")}
    assert "var(--series-1)" in letters["A"]
    assert "var(--series-2)" in letters["B"]


def test_letters_of_curves_that_end_together_do_not_cover_each_other(tmp_path):
    records = [record_of(tmp_path / name) for name in "abc"]
    texts = [e for e in elements(bounds_figure(records, "ABC")) if e.tag.endswith("text") and e.text in ("A", "B", "C")]
    heights = sorted(float(e.get("y")) for e in texts)
    assert (np.diff(heights) > svg.FONT).all()


ACTIVITIES = np.array([0.02, 0.5, 0.009, 0.01, 1e-12])


def test_active_units_are_filled_and_others_open():
    ((figure, caption),) = unit_figures([(ACTIVITIES,)], "A")
    styles = [e.get("style", "") for e in elements(figure) if e.tag.endswith("use")]
    assert sum("fill: var(--series-1)" in style for style in styles) == 2
    assert sum("fill: var(--paper)" in style for style in styles) == 3
    assert caption == "Latent units: 2 of 5 active."


def test_units_are_listed_from_the_most_active_with_their_numbers():
    assert unit_lists((ACTIVITIES,)) == [
        [(1, "0.5", True), (0, "0.02", True), (3, "0.01", False), (2, "0.009", False), (4, "1e−12", False)]
    ]


def test_layers_have_a_figure_each_and_name_the_runs_that_have_them():
    figures = unit_figures([(ACTIVITIES,), None, (ACTIVITIES, ACTIVITIES[:2])], "ABC")
    captions = [caption for _, caption in figures]
    assert captions == ["Layer 1, nearest x: A: 2 of 5 active; C: 2 of 5 active.", "Layer 2: C: 2 of 2 active."]
    assert unit_figures([None], "A") == []


def every_figure(tmp_path):
    records = [record_of(tmp_path / str(number)) for number in range(8)]
    letters = "ABCDEFGH"
    units = unit_figures([(ACTIVITIES, ACTIVITIES)] * 8, letters)
    return [learning_figure(records, letters)[0], bounds_figure(records, letters), *(figure for figure, _ in units)]


def test_every_colour_is_one_of_the_style_sheet(tmp_path):
    for figure in every_figure(tmp_path):
        colors = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", str(figure)))
        assert {color for color in colors if not color.startswith("var(--")} <= {"none"}
        assert not re.search(r"#0[0-9a-f]{5}\b", str(figure))
        assert "<style" not in str(figure)  # it would reach the whole page
        assert "http" not in str(figure).replace("http://www.w3.org", "")


def test_ids_of_figures_on_one_page_are_their_own_and_found(tmp_path):
    figures = [str(figure) for figure in every_figure(tmp_path)]
    ids = [name for figure in figures for name in re.findall(r'\bid="([^"]+)"', figure)]
    assert len(ids) == len(set(ids)) > 0
    for figure in figures:
        used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', figure)
        assert used
        assert {a or b for a, b in used} <= set(re.findall(r'\bid="([^"]+)"', figure))


def test_the_same_figure_is_the_same_text(tmp_path):
    record = record_of(tmp_path / "run")
    assert bounds_figure([record], "A") == bounds_figure([record], "A")


def test_words_about_a_figure_are_escaped():
    figure, _ = svg.panel("x", "y")
    assert 'aria-label="&lt;b&gt; &#34;x&#34;"' in svg.inline(figure, "name", '<b> "x"')


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bound_that_is_not_finite_is_left_out_of_the_curves(tmp_path, value):
    history = history_of(4).replace("-36,", f"{value},")
    figure, _ = learning_figure([record_of(tmp_path / "run", history=history)], "A")
    lengths = sorted(len(curve) for curve in curves(figure, "series-1", least=3))
    assert lengths == [3, 4]
