"""The documents build as a site that describes every public name and loads nothing from other hosts."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from test_documents import ROOT

import iwae_tf
from iwae_tf import declarations

pytest.importorskip("mkdocs", reason="requirements-docs.txt is not installed")
pytestmark = pytest.mark.slow
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "form": "action"}


class Page(HTMLParser):
    """The files that a page loads, its links and ids."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.loads, self.links, self.ids = text, [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.loads += [attributes[LOADED[tag]]] if LOADED.get(tag) in attributes else []
        self.links += [attributes["href"]] if tag == "a" and "href" in attributes else []
        self.ids.add(attributes.get("id"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built as a reader builds it, with every warning an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert "WARNING -" not in process.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {file.relative_to(site).as_posix(): Page(file.read_text()) for file in site.rglob("*.html")}


def test_every_document_is_a_page_with_a_title_of_its_own(pages):
    documents = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert documents | {"index.html", "GLOSSARY.html", "CHANGELOG.html", "export/index.html"} <= set(pages)
    titles = [re.search(r"<title>\s*(\S.*?)\s*</title>", page.text).group(1) for page in pages.values()]
    assert len(set(titles)) >= len(titles) - 1  # 404.html has that of the home
    assert [name for name, page in pages.items() if not re.search(r"<h1[^>]*>\s*\S", page.text)] == []


def test_loaded_files_links_and_anchors_exist_in_the_site(site, pages):
    for name, page in pages.items():
        assert not [target for target in page.loads if re.match(r"(\w+:)?//", target)], f"{name} loads from a host"
        for target in [*page.loads, *page.links] if name != "404.html" else []:  # whose links start at a server's root
            path, _, anchor = target.partition("#")
            file = (site / name).parent / path if path else site / name
            assert re.match(r"\w+:", target) or file.is_file(), f"{name}: {target}"
            if anchor and not anchor.startswith("__") and ":" not in path:  # __: the theme's own
                assert anchor in pages[file.resolve().relative_to(site).as_posix()].ids, f"{name}: {target}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text()), style


def test_formulas_are_mathml(pages):
    for name, page in pages.items():
        assert "arithmatex" not in page.text, name
        for formula in re.findall("<math.*?</math>", page.text, flags=re.DOTALL):
            assert not re.search(r"\\|<mi>&<|<merror", formula), formula  # TeX that was not converted
    assert pages["docs/theory.html"].text.count('display="block"') > 5


def test_every_public_name_has_its_docstring_on_a_page(pages):
    described = {
        str(anchor).rpartition(".")[2] for name in pages if name.startswith("api/") for anchor in pages[name].ids
    }
    public = {"IWAE", "InputError", "log_likelihood", "compile", "export_saved_model", "ScoringClient", "declare"}
    public.add("IWAEDensity")
    public |= {objective.attribute for objective in declarations.declared("objective").values()}
    for package in (iwae_tf.data, iwae_tf.layers, iwae_tf.objectives, iwae_tf.evaluation):
        public |= {name for name in package.__all__ if not name.isupper()}
    assert public - described == set()
