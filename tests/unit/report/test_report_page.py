"""The page as text: well-formed, accessible, self-contained, escaped."""

import base64
import dataclasses
import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from linear_gaussian_models import linear_gaussian
from run_files import config_of, history_of, metrics_of, record_of, write_run
from small_models import binary_images, small_model

from iwae_tf import InputError
from iwae_tf.plots import curves, style
from iwae_tf.report.page import interpolations, page, write_report
from iwae_tf.report.record import read_record

EVIL = "<script>alert(1)</script>\"'&"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """The tags of a page in order, with attributes; complains of tags that are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, *names):
        return [(tag, attributes) for tag, attributes in self.tags if tag in names]


@pytest.mark.parametrize("kind", ["one", "several", "begun and finished"])
def test_the_page_is_well_formed_accessible_and_needs_nothing_else(tmp_path, kind):
    one, other = record_of(tmp_path / "a"), record_of(tmp_path / "bb", config=config_of(training={"k": 7}))
    begun = read_record(write_run(tmp_path / "begun"))
    text = page({"one": [one], "several": [one, other], "begun and finished": [begun, one]}[kind])
    tags = Page(text)  # closed in order
    assert text.startswith("<!DOCTYPE html>")
    assert tags.all("html") == [("html", {"lang": "en"})]
    assert len(tags.all("title")) == len(tags.all("h1")) == len(tags.all("main")) == 1
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags.tags
    levels = [int(tag[1]) for tag, _ in tags.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(attributes.get("alt") for _, attributes in tags.all("img"))
    assert len(tags.all("thead")) == len(tags.all("caption")) == len(tags.all("table")) > 0
    assert all("scope" in attributes for _, attributes in tags.all("th"))
    scrolling = [attributes for _, attributes in tags.all("div") if attributes.get("class") == "scroll"]
    assert [attributes["role"] for attributes in scrolling] == ["region"] * len(tags.all("table"))
    ids = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["aria-labelledby"] for _, attributes in tags.all("section")} <= set(ids)
    assert tags.all("script", "iframe", "object", "embed") == []
    links = [value for _, attributes in tags.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"@import|url\(", text)


def test_what_files_say_is_text_and_nothing_else(tmp_path):
    config = config_of(
        data={"dataset": EVIL, "source": EVIL, EVIL: EVIL, "image_shape": [EVIL]},
        training={"optimizer_config": {EVIL: EVIL}},
        **{EVIL: {EVIL: EVIL}},
    )
    one = record_of(tmp_path / "a <script>b", config=config)
    two = record_of(tmp_path / "two", config=config_of(**{EVIL: {EVIL: "other"}}))
    for records in ([one], [one, two]):
        text = page(records)
        assert "<script" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;" in text
        assert Page(text).all("script") == []


def figures(text):
    """The SVG files of the page and their descriptions."""
    found = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]+)">', text)
    return [(base64.b64decode(content), alt) for content, alt in found]


def test_one_run_shows_its_result_figures_settings_and_commands(tmp_path):
    record = record_of(tmp_path / "my-run")
    text = page([record])
    for words in ("Run my-run", "−27.12 ± 0.25 nats", "<td>50</td>", "drawn once", "−28.250 ± 0.375"):
        assert words in text
    for heading in ("Result", "Settings and protocol", "Timing", "Repeat it"):
        assert f">{heading}</h2>" in text
    assert f"python -m iwae_tf report {tmp_path / 'my-run'}" in text
    assert "unit 1: 0.5<" in text
    assert "unit 2: 0.009 inactive" in text
    assert "row 0: −30.00 ± 0.12" in text  # 0.125
    assert "row 19: −49.00 ± 0.12" in text
    (learning, alt), (bounds, _), (units, _) = figures(text)
    assert alt.startswith("Mean of the maximised bound by epoch solid: training")
    told = {"": (record.metrics["bounds"], record.metrics["bound_standard_errors"])}
    assert learning == style.encode(curves.learning_figure({"": record.history}), "svg")
    assert bounds == style.encode(curves.bounds_figure(told), "svg")
    assert units == style.encode(curves.activities_figure({"": record.scores.unit_activities}), "svg")


def test_several_runs_show_what_differs_and_fold_what_is_common(tmp_path):
    records = [
        record_of(tmp_path / "a" / "run"),
        record_of(tmp_path / "b" / "run", config=config_of(training={"k": 7})),
    ]
    text = page(records)
    assert "2 runs side by side" in text
    differing = text.split("<caption>Settings that differ")[1].split("</table>")[0]
    assert re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', differing) == [("k", "50", "7")]
    assert "Settings that the runs share" in text.split("<details>")[-1]
    assert str(tmp_path / "a" / "run") in text  # two folders of one name go by their paths
    assert "do not compare: they differ" not in text
    colors = re.findall(r'style="background: (#\w+)">([AB])<', text)
    assert set(colors) == {(style.SERIES[0], "A"), (style.SERIES[1], "B")}
    assert "active: A 2 of 4; B 2 of 4" in figures(text)[2][1]


def test_a_run_keeps_its_colour_beside_one_that_has_no_results(tmp_path):
    stopped = read_record(write_run(tmp_path / "a", history=history_of(2)))
    _, (bounds, _), (units, _) = figures(page([stopped, record_of(tmp_path / "b")]))
    for content in (bounds, units):
        assert style.SERIES[1].encode() in content
        assert style.SERIES[0].encode() not in content


def test_scores_of_an_evaluation_under_another_protocol_are_said_to_be(tmp_path):
    record = record_of(tmp_path / "a")
    told = "The scores of single rows are those of the command evaluate"
    assert told not in page([record])
    scores = dataclasses.replace(record.scores, protocol={"num_samples": 2000, "proposal": "q"})
    assert f"{told}, not of the results above: 2,000 samples, proposal q, 14 of 20 reliable." in page(
        [dataclasses.replace(record, scores=scores)]
    )


def test_what_is_missing_or_does_not_compare_is_said(tmp_path):
    one, mnist = record_of(tmp_path / "a"), record_of(tmp_path / "b", config=config_of(data={"dataset": "mnist"}))
    assert "do not compare: they differ in dataset." in page([one, mnist])
    text = page([read_record(write_run(tmp_path / "stopped", history=history_of(2)))])
    assert "not finished: its history has 6 of 12 steps (50%)" in text
    assert len(figures(text)) == 1
    assert "no pictures before" in text
    assert "not evaluated yet" in text
    metrics = metrics_of(standard_error=float("nan"), train_seconds=float("nan"))
    text = page([record_of(tmp_path / "run", metrics=metrics, scores=None)])
    assert "the command Evaluate below writes them" in text
    assert "−27.12 ± not known nats" in text
    assert ">not known<" in text


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    record = record_of(tmp_path / "run")
    write_report([record], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page([record])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "run"]
    with pytest.raises(InputError, match="cannot be written"):
        write_report([record], tmp_path / "missing" / "page.html")


@pytest.mark.parametrize("layers", [1, 2])
def test_between_two_images_lie_the_means_on_the_line_between_their_posterior_means(layers):
    model, exact = linear_gaussian(layers)
    x = np.random.default_rng(1).standard_normal((6, 6)).astype(np.float32)
    rows = interpolations(model, x)
    assert rows.shape == (3, 10, 6)
    a, b, posterior = (exact.a, exact.b, exact.posterior) if layers == 1 else (exact.a1, exact.b1, exact.posterior_h1)
    means, _ = posterior(x.astype(np.float64))  # [6, H]
    for pair, row in enumerate(rows):
        np.testing.assert_array_equal(row[[0, -1]], x[2 * pair : 2 * pair + 2])
        for t, image in zip(np.linspace(0, 1, 8), row[1:-1], strict=True):
            h = (1 - t) * means[2 * pair] + t * means[2 * pair + 1]
            np.testing.assert_allclose(image, a @ h + b, atol=1e-5)  # float32 networks


@pytest.mark.parametrize("latent", ["gaussian", "bernoulli"])
def test_the_ends_of_the_line_are_the_reconstructions_and_four_pairs_are_enough(latent):
    model, x = small_model(2, latent=latent), binary_images(40)
    rows = interpolations(model, x)
    assert rows.shape == (4, 10, 12)
    np.testing.assert_allclose(rows[:, [1, -2]].reshape(8, -1), model.reconstruct(x[:8]), atol=1e-6)  # float32
    assert interpolations(model, x[:3]).shape == (1, 10, 12)  # an odd image at the end has no pair
