"""The documents keep their word: their Python runs as it stands, and their commands are ones that exist."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "export/README.md",
    ROOT / "benchmarks/README.md",
]


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of a document in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def the_readme(names: dict) -> None:
    assert names["log_p"].shape == (100,)
    assert -30 < np.mean(names["log_p"]) < -20  # grey digits, ten epochs
    x = names["x_valid"][:5]
    # Two processes of float32 arithmetic on the same weights.
    np.testing.assert_allclose(names["same"].log_likelihood(x, 50), names["model"].log_likelihood(x, 50), rtol=1e-5)


def the_page_on_networks(names: dict) -> None:
    assert np.isfinite(names["log_p"]).all()
    assert names["model"].likelihood_name == "mine>Poisson"


def the_theory(names: dict) -> None:
    level = np.full(50, -104, np.float32)
    assert names["naive"](level) == -np.inf
    assert names["shifted"](level) == -104


# What a page has left behind when its Python has run; pages that say nothing of it have only to run.
LEFT = {"README.md": the_readme, "docs/networks.md": the_page_on_networks, "docs/theory.md": the_theory}
WITH_PYTHON = [document.relative_to(ROOT).as_posix() for document in DOCUMENTS if blocks(document, "python")]


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(WITH_PYTHON))
def test_the_python_of_a_page_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    with np.errstate(all="ignore"):  # the theory shows how arithmetic fails
        for code in blocks(ROOT / page, "python"):
            exec(code, names)
        LEFT.get(page, lambda names: None)(names)


def test_the_pages_with_something_to_check_have_python():
    assert set(LEFT) <= set(WITH_PYTHON)


@pytest.mark.parametrize(
    "command",
    [
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python train.py --k 50",
        "python3 -m venv .venv && .venv/bin/pip install -r requirements-dev.txt && "
        ".venv/bin/python -m pytest -n 2 --dist loadfile",
    ],
)
def test_the_two_commands_stand_in_the_readme_each_on_a_line(command):
    assert f"{command}\n" in blocks(ROOT / "README.md", "sh")


def test_every_file_that_the_documents_link_to_exists():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
