"""The Python of the documents runs, and their links lead to files."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from iwae_tf import declarations

ROOT = Path(__file__).parents[2]
DOCUMENTS = [file for pattern in ("*.md", "docs/**/*.md", "[be]*/*.md") for file in ROOT.glob(pattern)]
WITH_PYTHON = (
    *("README.md", "docs/commands.md", "docs/data.md", "docs/networks.md", "docs/scaling.md", "docs/sklearn.md"),
    "docs/theory.md",
)


def blocks(document: Path, language: str) -> list[str]:
    """Returns the code blocks of a document in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def keep_declarations(monkeypatch) -> None:
    """Lets a test declare names that the tests after it do not see."""
    registered = {kind: dict(known) for kind, known in declarations._registered.items()}
    registered["likelihood"].pop("poisson", None)  # other tests declare this name too
    monkeypatch.setattr(declarations, "_registered", registered)


def check(name: str, page) -> None:
    """Checks the results of a page's code."""
    if name == "README.md":
        assert page.l_50.shape == (400,)
        assert -45 < np.mean(page.scores.log_likelihood) < -20
        # The saved model and the loaded one are two graphs of float32 arithmetic.
        np.testing.assert_allclose(page.same.log_likelihood(page.x_test, 5), page.l_50, rtol=1e-5)
    elif name == "docs/networks.md":
        assert np.isfinite(page.log_p).all()
        assert page.model.likelihood_name == "poisson"
    elif name == "docs/sklearn.md":
        malignant = (page.table.target == 0).to_numpy()
        assert page.outlier[malignant].mean() > 0.5 > 0.2 > page.outlier[~malignant].mean()
        scores = dict(zip([2, 5], page.search.cv_results_["mean_test_score"], strict=True))
        assert scores[2] != scores[5]
        assert page.search.best_estimator_[-1].model_.latent_units == (max(scores, key=scores.get),)
    elif name == "docs/theory.md":
        level = np.full(50, -104, np.float32)
        assert (page.naive(level), page.shifted(level)) == (-np.inf, -104)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_PYTHON)
def test_the_python_of_a_page_runs(name, tmp_path, monkeypatch):
    keep_declarations(monkeypatch)
    monkeypatch.chdir(tmp_path)
    page = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)
    code = "\n".join(blocks(ROOT / name, "python")).replace("epochs=10", "epochs=3")
    with np.errstate(all="ignore"):  # the theory shows how arithmetic fails
        exec(re.sub(r"\bnum_samples=\d+", "num_samples=5", code), vars(page))  # 5000 samples would cost 10 s
        check(name, page)


def test_no_other_page_has_python_but_that_of_the_recipes():
    found = {document.relative_to(ROOT).as_posix() for document in DOCUMENTS if blocks(document, "python")}
    assert found == {*WITH_PYTHON, "docs/design.md"}


@pytest.mark.parametrize("ending", [".txt && .venv/bin/python train.py", "-dev.txt && .venv/bin/python -m pytest"])
def test_the_readme_has_its_two_commands_on_one_line_each(ending):
    start = f"python3 -m venv .venv && .venv/bin/pip install -r requirements{ending} "
    assert [b for b in blocks(ROOT / "README.md", "sh") if b.startswith(start) and b.count("\n") == 1]


def test_every_file_that_the_documents_link_to_exists():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
