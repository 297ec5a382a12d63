"""The documents build as a site that says all that is public and asks nobody for anything."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import iwae_tf

pytest.importorskip("mkdocs", reason="requirements-docs.txt is not installed")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href"), ("form", "action")}


class Page(HTMLParser):
    """What a page loads and links to, the ids in it, and the text of its title and of its first headings."""

    def __init__(self, file: Path):
        super().__init__()
        self.loads, self.links, self.ids, self.words, self._inside = [], [], set(), {}, None
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if (tag, name) in LOADED:
                self.loads.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)
            elif name == "id":
                self.ids.add(value)
        self._inside = tag if tag in ("title", "h1") else self._inside

    def handle_endtag(self, tag):
        self._inside = None if tag == self._inside else self._inside

    def handle_data(self, data):
        if self._inside:
            self.words[self._inside] = self.words.get(self._inside, "") + data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built as a reader builds it but with every warning an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert "WARNING -" not in process.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {file.relative_to(site).as_posix(): Page(file) for file in site.rglob("*.html")}


def test_every_document_is_a_page_with_a_title_of_its_own(pages):
    documents = [path.relative_to(ROOT).with_suffix(".html").as_posix() for path in (ROOT / "docs").glob("*.md")]
    assert {"index.html", "GLOSSARY.html", "CHANGELOG.html", "export/index.html", *documents} <= set(pages)
    titles = [page.words["title"] for page in pages.values()]
    assert len(set(titles)) >= len(titles) - 1  # the home and the page for what is not found
    for name, page in pages.items():
        assert page.words["title"].strip() and page.words["h1"].strip(), name  # noqa: PT018


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for name, page in pages.items():
        assert page.loads, name
        assert not [target for target in page.loads if re.match(r"(\w+:)?//", target)], name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text()), style


def test_what_a_page_loads_and_links_to_is_there(site, pages):
    for name, page in pages.items():
        if name == "404.html":  # its links begin at the root of a server
            continue
        for target in [*page.loads, *page.links]:
            path, _, anchor = target.partition("#")
            if re.match(r"\w+:", target):
                continue
            file = (site / name).parent / path if path else site / name
            assert file.is_file(), f"{name}: {target}"
            if anchor and not anchor.startswith("__"):  # the theme's own
                assert anchor in pages[file.resolve().relative_to(site).as_posix()].ids, f"{name}: {target}"


def test_formulas_are_drawn_by_the_browser(site, pages):
    for name in pages:
        text = (site / name).read_text()
        assert "arithmatex" not in text, name
        for formula in re.findall("<math.*?</math>", text, flags=re.DOTALL):
            assert not re.search(r"\\|<mi>&<|<merror", formula), formula  # TeX that was not understood
    assert (site / "docs/theory.html").read_text().count('display="block"') > 10


def test_every_public_name_has_its_docstring_on_a_page(pages):
    described = {
        anchor.rpartition(".")[2] for name, page in pages.items() if name.startswith("api/") for anchor in page.ids
    }
    public = {"IWAE", "InputError", "log_likelihood", "compile", "Likelihood", "ConvEncoder", "ConvDecoder"}
    public |= {"export_saved_model", "ScoringClient", *iwae_tf.data.__all__}
    public |= {name for name in iwae_tf.evaluation.__all__ if name[1].islower()}
    public |= {name for name in iwae_tf.objectives.__all__ if name != "OBJECTIVES"}
    assert public - described == set()
