"""The Python of the documents runs, and their links lead to files."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from iwae_tf import declarations

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *ROOT.glob("export/*.md"),
    *ROOT.glob("benchmarks/*.md"),
]


def blocks(document: Path, language: str) -> list[str]:
    """Returns the code blocks of a document in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def keep_declarations(monkeypatch) -> None:
    """Lets a test declare names that the tests after it do not see."""
    registered = {kind: dict(known) for kind, known in declarations._registered.items()}
    monkeypatch.setattr(declarations, "_registered", registered)


def check_readme(page) -> None:
    assert page.log_p.shape == (100,)
    assert -45 < np.mean(page.log_p) < -20  # grey digits; -39 after three epochs
    # The saved model and the loaded one are two graphs of float32 arithmetic.
    np.testing.assert_allclose(page.same.log_likelihood(page.x_valid, 5), page.log_p, rtol=1e-5)


def check_networks(page) -> None:
    assert np.isfinite(page.log_p).all()
    assert page.model.likelihood_name == "poisson"


def check_theory(page) -> None:
    level = np.full(50, -104, np.float32)
    assert (page.naive(level), page.shifted(level)) == (-np.inf, -104)


CHECKS = {"README.md": check_readme, "docs/networks.md": check_networks, "docs/theory.md": check_theory}
WITH_PYTHON = {document.relative_to(ROOT).as_posix() for document in DOCUMENTS if blocks(document, "python")}
RECIPES = {"docs/design.md"}  # modules, which test_recipes.py runs


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WITH_PYTHON - RECIPES | set(CHECKS)))
def test_the_python_of_a_page_runs(name, tmp_path, monkeypatch):
    keep_declarations(monkeypatch)
    monkeypatch.chdir(tmp_path)
    page = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)
    code = "\n".join(blocks(ROOT / name, "python")).replace("epochs=10", "epochs=3")
    with np.errstate(all="ignore"):  # the theory shows how arithmetic fails
        exec(re.sub(r"\bnum_samples=\d+", "num_samples=5", code), vars(page))  # 5000 samples would cost 10 s
        CHECKS.get(name, lambda page: None)(page)


@pytest.mark.parametrize(
    "ending", [".txt && .venv/bin/python train.py --k 50", "-dev.txt && .venv/bin/python -m pytest "]
)
def test_the_readme_has_its_two_commands_on_one_line_each(ending):
    commands = [block for block in blocks(ROOT / "README.md", "sh") if block.count("\n") == 1]
    start = f"python3 -m venv .venv && .venv/bin/pip install -r requirements{ending}"
    assert [command for command in commands if command.startswith(start)]


def test_every_file_that_the_documents_link_to_exists():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
