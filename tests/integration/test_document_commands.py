"""Every command in the documents exists: its flags are parsed by the program that would get them."""

import argparse
import functools
import importlib
import logging
import re
import runpy
import shlex
import sys

import pytest
from test_documents import DOCUMENTS, ROOT, blocks

from iwae_tf.commands import main

PLACEHOLDERS = {"K": "50", "NAME": "dreg"}  # a reader puts a value in; DIR and RUN may be any path
OTHERS = {"docker", "curl", "export", ".venv/bin/mkdocs", ".venv/bin/tensorboard"}  # programs that are not ours
OTHERS |= {"kubectl", ".venv/bin/ruff", ".venv/bin/lint-imports"}
SCRIPTS = {"train.py": "train", "export/export_model.py": "export", "export/score.py": "score"}
SCRIPTS["export/serve_local.py"] = "serve"


class Parsed(BaseException):
    """Ends a program once its flags are parsed."""


def commands(block: str, outputs: bool = False) -> list[list[str]]:
    """Returns the words of each command of a shell block, without substitutions, and `> FILE` only with `outputs`."""
    lines = re.sub(r"\$\(.*?\)", "", block).replace("\n", "\n\n")  # a comment takes the end of its line with it
    lexer = shlex.shlex(lines, posix=True, punctuation_chars="&|;<>\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, "#"
    found = [[]]
    for word in lexer:
        if set(word) <= set("&|;\n"):
            found.append([])
        else:
            found[-1].append(PLACEHOLDERS.get(word, word))
    return [words[: words.index(">")] if ">" in words and not outputs else words for words in found if words]


SHELL = {
    " ".join(words): words
    for document in DOCUMENTS
    for block in blocks(document, "sh")
    for words in commands(block)
    # test_recipes.py runs the plugins, and test_document_runs.py the lines of Python
    if "--plugin" not in words and "-c" not in words and words[0] not in OTHERS
}


@pytest.fixture
def parse(monkeypatch, tmp_path):
    """Gives a function that parses the flags of the package's command line, of a module or of a script."""

    def stop(*arguments):
        raise Parsed

    def parse(program: str, arguments: list[str]) -> None:
        if program in SCRIPTS:
            program, arguments = "iwae_tf", [SCRIPTS[program], *arguments]
        if program == "iwae_tf":
            command = importlib.import_module(f"iwae_tf.commands.{arguments[0]}")
            # `train` ends once the flags have become settings, which are checked too.
            monkeypatch.setattr(command, "path_of" if arguments[0] == "train" else "run", stop)
            run = functools.partial(main.main, arguments)
        else:
            read = argparse.ArgumentParser.parse_args
            monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda self, args=None: stop(read(self, args)))
            monkeypatch.setattr(sys, "argv", [program, *arguments])
            for name in (program, f"{program}.__main__"):
                monkeypatch.delitem(sys.modules, name, raising=False)  # runpy warns of a module that was imported
            if program == "export/score_beam.py":  # its other flags are Beam's
                pytest.importorskip("apache_beam", reason="Apache Beam is not installed")
                known = argparse.ArgumentParser.parse_known_args
                monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", lambda *words: stop(known(*words)))
                monkeypatch.setattr(logging.getLogger(), "level", logging.getLogger().level)  # which it changes
            run = functools.partial(runpy.run_module, program, run_name="__main__")
            if program.endswith(".py"):
                run = functools.partial(runpy.run_path, str(ROOT / program), run_name="__main__")
        with pytest.raises(Parsed):
            run()

    monkeypatch.chdir(tmp_path)
    # Files that are looked for before TensorFlow is imported:
    for name in ("cells.csv", "runs/anomalies/benign.csv", "runs/unseen-digit/digits-0-to-8.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "runs/digits-iwae-k50-l1-seed0").mkdir()
    (tmp_path / "runs/digits-iwae-k50-l1-seed0/config.json").write_text("{}")
    return parse


@pytest.mark.parametrize("words", SHELL.values(), ids=lambda words: " ".join(words)[:80])
def test_a_command_of_the_documents_exists(words, parse, capsys):
    program, first, *rest = words
    if program == ".venv/bin/pip":
        assert rest[0] != "-r" or (ROOT / rest[1]).is_file()
        assert (first, rest[0]) in {("install", word) for word in ("-r", "-e", "--no-deps", "tensorboard")}
        return
    if program == ".venv/bin/iwae-tf":
        if first != "--version":
            parse("iwae_tf", [first, *rest])
        return
    assert program in (".venv/bin/python", "python", "python3")
    if first == "-c":
        exec(rest[0], {})
    elif first == "-m":
        if rest[0] not in ("venv", "pytest", "mkdocs"):
            parse(rest[0], rest[1:])
    elif first in SCRIPTS or "argparse" in (ROOT / first).read_text():
        parse(first, rest)
    else:
        assert not rest, f"{first} takes no arguments"


def test_the_commands_of_a_block_are_separated():
    block = 'a -c "\nimport x" > out.json && run --k K  # why\nsh $([ -e R ] && echo y) --z'
    python, *others = [["a", "-c", "\n\nimport x"], ["run", "--k", "50"], ["sh", "--z"]]
    assert commands(block) == [python, *others]
    assert commands(block, outputs=True) == [[*python, ">", "out.json"], *others]
    assert len(SHELL) > 20


@pytest.mark.parametrize("words", ["train.py --k 5 --no-such-flag", "train.py --k 0", "benchmarks --no-such-flag"])
def test_a_flag_or_a_value_that_does_not_exist_is_found(words, parse):
    program, *arguments = words.split()
    with pytest.raises((pytest.fail.Exception, SystemExit)):
        parse(program, arguments)
