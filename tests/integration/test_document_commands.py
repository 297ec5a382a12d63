"""The commands in the documents are ones that exist: each is given to the parser that would get it."""

import argparse
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from test_documents import DOCUMENTS, ROOT, blocks

from iwae_tf.commands import flags, train
from iwae_tf.config import RunConfig

PLACEHOLDERS = {"K": "50", "NAME": "dreg"}  # what a reader puts in; DIR and RUN are paths, of which any will do
PYTHONS = (".venv/bin/python", "python", "python3")


class Parsed(BaseException):
    """Ends a program at the point where its flags are read; the argument is what they said."""


def commands(block: str) -> list[list[str]]:
    """The words of each command of a shell block; what only the shell does is taken away."""
    lines = re.sub(r"\$\(.*?\)", "", block).replace("\n", "\n\n")  # a comment takes the end of its line with it
    lexer = shlex.shlex(lines, posix=True, punctuation_chars="&|;<>\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, "#"
    found = [[]]
    for word in lexer:
        if set(word) <= set("&|;\n"):
            found.append([])
        else:
            found[-1].append(PLACEHOLDERS.get(word, word))
    return [words[: words.index(">")] if ">" in words else words for words in found if words]


SHELL = [
    pytest.param(words, id=f"{document.relative_to(ROOT)}: {' '.join(words)[:80]}")
    for document in DOCUMENTS
    for block in blocks(document, "sh")
    for words in commands(block)
]


def run(program: Path | str) -> None:
    """Runs a script, or a module by its name, as Python would."""
    if isinstance(program, Path):
        runpy.run_path(str(program), run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__")


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """(program, flags) -> what the program's own parser makes of the flags."""
    read = argparse.ArgumentParser.parse_known_args

    def stop(self, args=None, namespace=None):
        values, unknown = read(self, args, namespace)
        assert not unknown, f"unknown: {unknown}"
        raise Parsed(values)

    def parse(program, arguments):
        monkeypatch.setattr(sys, "argv", [str(program), *arguments])
        monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        monkeypatch.delitem(sys.modules, f"{program}.__main__", raising=False)  # a module is run afresh, whoever had it
        with pytest.raises(Parsed) as end:
            run(program)
        return end.value.args[0]

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # as Python does for a script
    return parse


def check_python(arguments: list[str], parsed) -> None:
    """A script of the repository, a module, or a line of Python."""
    first, *rest = arguments
    if first == "-m" and rest[0] in ("venv", "pytest", "mkdocs"):
        return
    if first == "-m":
        assert rest[0] in ("iwae_tf", "benchmarks")
        parsed(rest[0], rest[1:])
    elif first == "-c":
        exec(rest[0], {})
    else:
        script = ROOT / first
        assert script.is_file()
        if "argparse" not in script.read_text() and "run_script" not in script.read_text():
            assert not rest, f"{first} takes no arguments"
            return
        values = parsed(script, rest)
        if first == "train.py":
            RunConfig(*(flags.settings_from(values, settings) for settings in train.SECTIONS))


def check_pip(arguments: list[str]) -> None:
    """A file of requirements, this package with one of its extras, or a program that only looks at what a run wrote."""
    first, *rest = arguments
    assert first == "install"
    if rest[0] == "-r":
        assert (ROOT / rest[1]).is_file()
    elif rest[0] == "-e":
        extra = re.fullmatch(r"\.\[(\w+)\]", rest[1]).group(1)
        assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    else:
        assert rest == ["tensorboard"]


@pytest.mark.parametrize("words", SHELL)
def test_a_command_of_the_documents_is_one_that_exists(words, parsed, capsys):
    program, *arguments = words
    if program in PYTHONS:
        check_python(arguments, parsed)
    elif program == "export":
        name, value = arguments[0].split("=", maxsplit=1)
        assert name == "TF_CONFIG"
        assert set(json.loads(value)) == {"cluster", "task"}
    elif program == ".venv/bin/pip":
        check_pip(arguments)
    elif program == "docker":
        assert (ROOT / arguments[arguments.index("-f") + 1]).is_file()
    elif program == ".venv/bin/mkdocs":
        assert (ROOT / "mkdocs.yml").is_file()
    elif program == ".venv/bin/tensorboard":
        assert arguments[0] == "--logdir"
    else:
        assert program == "curl"
        assert re.fullmatch(r"http://localhost:8501/v1/models/\w+:predict", arguments[-1])


def test_the_commands_of_a_block_are_told_apart():
    block = (
        'export A=\'{"b": [1]}\'\npython -c "\nimport x\nx()" > out.json && run --k K  # why\n'
        "sh $([ -e R ] && echo y) --z"
    )
    expected = [
        ["export", 'A={"b": [1]}'],
        ["python", "-c", "\n\nimport x\n\nx()"],
        ["run", "--k", "50"],
        ["sh", "--z"],
    ]
    assert commands(block) == expected


def test_a_flag_that_does_not_exist_is_found(parsed):
    with pytest.raises(Exception, match="--no-such-flag"):
        check_python(["train.py", "--k", "5", "--no-such-flag"], parsed)
