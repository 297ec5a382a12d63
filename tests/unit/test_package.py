"""What an installation consists of: console script, completion, extras, and texts that hold without the repository."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

import iwae_tf
from iwae_tf.commands import main, settings_file

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "iwae_tf"
PYPROJECT = settings_file._toml((ROOT / "pyproject.toml").read_text())
# Files that a wheel lacks
ABSENT = (
    r"(train|export_model|score|serve_local)\.py|requirements[\w-]*\.txt|\b(docs|examples|benchmarks|tests)/|README"
)


def texts(path: Path) -> list[str]:
    """Returns the texts of a module that a user can read: all but the docstrings of its definitions."""
    tree, hidden = ast.parse(path.read_text()), set()
    for node in ast.walk(tree):
        shown = isinstance(node, ast.Module) and path.parent.name == "commands"  # the help of a command
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and not shown and ast.get_docstring(node):
            hidden.add(id(node.body[0].value))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in found if id(node) not in hidden]


def test_no_message_names_a_file_that_only_the_repository_has():
    sources = [*PACKAGE.rglob("*.py")]
    assert len([text for path in sources for text in texts(path)]) > 2000
    named = {(path.name, text) for path in sources for text in texts(path) if re.search(ABSENT, text)}
    assert named == set()
    for path in PACKAGE.rglob("*.j2"):
        assert not re.search(ABSENT, path.read_text())


def test_the_console_script_prints_the_version(monkeypatch, capsys):
    module, _, name = PYPROJECT["project"]["scripts"]["iwae-tf"].partition(":")
    monkeypatch.setattr("sys.argv", ["iwae-tf", "--version"])
    assert getattr(importlib.import_module(module), name)() == 0
    assert capsys.readouterr().out == f"iwae-tf {iwae_tf.__version__}\n"
    monkeypatch.setattr("sys.argv", ["iwae-tf", "export"])
    assert getattr(importlib.import_module(module), name)() == 2
    assert "(see iwae-tf export --help)" in capsys.readouterr().err


def test_the_completion_of_bash_has_every_command_and_its_flags(capsys):
    pytest.importorskip("shtab")
    assert main.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    (commands,) = re.findall(r"^_shtab_iwae_tf_subparsers=\((.*)\)$", script, re.MULTILINE)
    assert shlex.split(commands) == list(main.COMMANDS)
    (flags,) = re.findall(r"^_shtab_iwae_tf_train_option_strings=\((.*)\)$", script, re.MULTILINE)
    assert {"--hidden-units", "--callback", "--config"} <= set(shlex.split(flags))
    assert main.main(["completion", "bsh"]) == 2
    assert "unknown shell 'bsh': did you mean 'bash'" in capsys.readouterr().err


def test_the_extra_for_a_server_is_its_requirements_file():
    lines = (ROOT / "requirements-serving.txt").read_text().splitlines()
    assert PYPROJECT["project"]["optional-dependencies"]["serving"] == [line for line in lines if re.match(r"\w", line)]
    assert any(f'pip install "{lines[-1]}"' in text for text in texts(PACKAGE / "commands" / "serve.py"))


def test_files_that_are_no_python_are_part_of_the_package():
    listed = PYPROJECT["tool"]["setuptools"]["package-data"]
    found = {path for package, names in listed.items() for name in names for path in _folder(package).glob(name)}
    others = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert found == others
    assert PACKAGE / "py.typed" in found


def _folder(package: str) -> Path:
    return ROOT / package.replace(".", "/")


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (iwae_tf.__version__, PYPROJECT["project"]["license"])
    (paper,) = citation["references"]
    assert (paper["title"], paper["year"]) == ("Importance Weighted Autoencoders", 2016)
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
