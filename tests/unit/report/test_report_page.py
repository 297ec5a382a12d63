import itertools
import re
from html.parser import HTMLParser

import pytest
from run_files import config_of, history_of, metrics_of, record_of, write_run

from iwae_tf import InputError
from iwae_tf.report.page import page, write_report
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


@pytest.fixture(params=["one", "several", "begun", "begun and finished"])
def text(request, tmp_path):
    begun = read_record(write_run(tmp_path / "begun"))
    one = record_of(tmp_path / "one")
    records = {
        "one": [one],
        "several": [
            record_of(tmp_path / name, config=config_of(training={"k": 5 + len(name)})) for name in ("a", "bb")
        ],
        "begun": [begun],
        "begun and finished": [begun, one],
    }
    return page(records[request.param])


def test_the_page_is_well_formed_and_says_its_language_and_title(text):
    tags = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert tags.all("html") == [("html", {"lang": "en"})]
    assert len(tags.all("title")) == len(tags.all("h1")) == len(tags.all("main")) == 1
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags.tags


def test_headings_go_down_one_level_at_a_time(text):
    levels = [int(tag[1]) for tag, _ in Page(text).all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert levels.count(1) == 1


def test_figures_have_words_and_tables_have_heads(text):
    tags = Page(text)
    assert all(attributes.get("alt") for _, attributes in tags.all("img"))
    drawings = [attributes for tag, attributes in tags.all("svg")]
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    assert len(tags.all("thead")) == len(tags.all("caption")) == len(tags.all("table")) > 0
    assert all("scope" in attributes for _, attributes in tags.all("th"))


def test_ids_are_unique_and_those_that_are_named_exist(text):
    tags = Page(text)
    ids = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["aria-labelledby"] for _, attributes in tags.all("section")} <= set(ids)


def test_the_page_needs_nothing_else(text):
    tags = Page(text)
    assert tags.all("script", "iframe", "object", "embed") == []
    links = [value for _, attributes in tags.tags for name, value in attributes.items() if name in ("src", "href")]
    links += [attributes["xlink:href"] for _, attributes in tags.tags if "xlink:href" in attributes]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"@import|url\((?!#)", text)


def test_what_files_say_is_text_and_nothing_else(tmp_path):
    config = config_of(
        data={"dataset": EVIL, "source": EVIL, EVIL: EVIL, "image_shape": [EVIL]},
        training={"optimizer": {EVIL: EVIL}},
        **{EVIL: {EVIL: EVIL}},
    )
    one = record_of(tmp_path / "a <script>b", config=config)
    two = record_of(tmp_path / "two", config=config_of(**{EVIL: {EVIL: "other"}}))
    for records in ([one], [one, two]):
        text = page(records)
        assert "<script" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;" in text
        assert Page(text).all("script") == []


def test_one_run_shows_its_result_settings_and_commands(tmp_path):
    text = page([record_of(tmp_path / "my-run")])
    for words in ("Run my-run", "−27.12 ± 0.25 nats", "k = 50", "drawn once", "−28.250 ± 0.375"):
        assert words in text
    for heading in ("Result", "Latent units", "Settings and protocol", "Timing", "Repeat it"):
        assert f">{heading}</h2>" in text
    assert f"python -m iwae_tf report {tmp_path / 'my-run'}" in text
    assert "unit 1</span> 0.5<" in text
    assert "unit 2</span> 0.009 inactive" in text


def test_several_runs_show_what_differs_and_fold_what_is_common(tmp_path):
    records = [
        record_of(tmp_path / "a" / "run"),
        record_of(tmp_path / "b" / "run", config=config_of(training={"k": 7})),
    ]
    text = page(records)
    assert "2 runs side by side" in text
    differing = text.split("What differs")[1].split("</table>")[0]
    assert re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', differing) == [("k", "50", "7")]
    assert "What the runs share" in text.split("<details>")[-1]
    assert str(tmp_path / "a" / "run") in text  # two folders of one name go by their paths
    assert "do not compare: they differ" not in text


def test_runs_under_other_protocols_are_shown_with_a_warning(tmp_path):
    records = [record_of(tmp_path / "a"), record_of(tmp_path / "b", config=config_of(data={"dataset": "mnist"}))]
    assert "do not compare: they differ in dataset." in page(records)


def test_a_run_that_was_stopped_says_so_and_shows_what_there_is(tmp_path):
    text = page([read_record(write_run(tmp_path / "run", history=history_of(2)))])
    assert "not finished: its history has 6 of 12 steps (50%)" in text
    assert "Learning curves" in text
    assert "nothing to draw" in text
    assert "not evaluated yet" in text
    assert "L_k against k" not in text


def test_a_run_without_scores_of_images_says_what_leaves_them(tmp_path):
    assert "the command Evaluate below leaves them" in page([record_of(tmp_path / "run", scores=None)])


def test_a_metric_that_is_not_finite_is_not_drawn_as_a_number(tmp_path):
    metrics = metrics_of(standard_error=float("nan"), train_seconds=float("nan"))
    text = page([record_of(tmp_path / "run", metrics=metrics)])
    assert "−27.12 ± not known nats" in text
    assert ">not known<" in text


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    record = record_of(tmp_path / "run")
    write_report([record], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page([record])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "run"]
    with pytest.raises(InputError, match="cannot be written"):
        write_report([record], tmp_path / "missing" / "page.html")
