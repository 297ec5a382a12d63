"""The README keeps its word: its commands stand there as promised and its Python runs as it is."""

import re
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize(
    "command",
    [
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python train.py --k 50",
        "python3 -m venv .venv && .venv/bin/pip install -r requirements-dev.txt && "
        ".venv/bin/python -m pytest -n 2 --dist loadfile",
    ],
)
def test_the_two_commands_stand_in_the_readme_each_on_a_line(command):
    assert f"```sh\n{command}\n```" in README


@pytest.mark.slow
def test_the_python_of_the_readme_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    exec(code, names)
    assert names["log_p"].shape == (100,)
    assert -30 < np.mean(names["log_p"]) < -20  # grey digits, ten epochs
    x = names["x_valid"][:5]
    # Two processes of float32 arithmetic on the same weights.
    np.testing.assert_allclose(names["same"].log_likelihood(x, 50), names["model"].log_likelihood(x, 50), rtol=1e-5)


@pytest.mark.slow
def test_the_python_of_the_page_on_networks_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(code, names)
    assert np.isfinite(names["log_p"]).all()
    assert names["model"].likelihood_name == "mine>Poisson"


def test_every_file_that_the_documents_link_to_exists():
    root = Path(__file__).parents[2]
    for document in [*root.glob("*.md"), root / "export" / "README.md", *(root / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
