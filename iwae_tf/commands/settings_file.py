"""`--config FILE` and `--recipe NAME`: settings of a command from a file, or those of training under one name.

A file is TOML, YAML or JSON, or the `config.json` of a run; a setting is named like its flag, with dashes or
underscores, at the top or in a section. Settings become the words that a user would have typed, so that all are checked
alike.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from iwae_tf.commands.flags import add_seeds, read_ahead
from iwae_tf.config import RECIPES, RECORDED, word_of
from iwae_tf.data.files import one_line
from iwae_tf.errors import InputError, nearest_name

SECTIONS = ("data", "model", "training", "objective", "evaluation", "workers", "output")  # a file may have none


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds `--config`."""
    text = "settings by the names of the flags, .toml, .yaml or .json, or the config.json of a run; flags override them"
    parser.add_argument("--config", type=Path, metavar="FILE", help=text)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Adds `--recipe`."""
    lines = ["settings of training under one name, which other flags override"]
    for name, settings in RECIPES.items():
        lines.append(f"{name}: " + " ".join(f"--{key.replace('_', '-')} {value}" for key, value in settings.items()))
    parser.add_argument("--recipe", choices=RECIPES, help="\n".join(lines))


def read_given(words: list[str]) -> tuple[Path, dict[str, Any]] | None:
    """Returns the file that a command line names by `--config` and its settings by name; None without it.

    Raises:
        InputError: the file cannot be read, or names a setting twice.
    """
    path = read_ahead(words, add_config).config
    return None if path is None else (path, _flat(path, _read(path)))


def words_of(path: Path, settings: dict[str, Any], parser: argparse.ArgumentParser, given: list[str]) -> list[str]:
    """Returns the words of a command line for settings, without those that it has already.

    Args:
        path: the file, for messages.
        settings: by name.
        parser: of the command.
        given: the words of the command line.

    Raises:
        InputError: the command has no such setting, or takes no value of that type.
    """
    flags = {}
    for action in parser._actions:
        if action.option_strings and action.dest not in ("help", "config"):
            flags |= dict.fromkeys([action.dest, *(_plain(flag) for flag in action.option_strings)], action)
    typed, words = {word.partition("=")[0] for word in given}, []
    if isinstance(read_ahead(given, add_seeds).seeds, list):  # which leaves none to --seed
        typed.add("--seed")
    if "--seed" in typed and isinstance(settings.get("seeds"), list):
        typed.add("--seeds")
    for name, value in settings.items():
        if name not in flags:
            nearest = nearest_name(name, flags)
            hint = f"did you mean {nearest}? " if nearest else ""
            raise InputError(f"{path}: unknown setting {name}; {hint}(see {parser.prog} --help)")
        if name == "overwrite" and "--resume" in typed:  # the typed word wins
            continue
        twice = [other for other in settings if other != name and flags.get(other) is flags[name]]
        if twice:
            raise InputError(f"{path} has the setting {name} twice, also as {twice[0]}; give it once")
        if value is not None and not typed & set(flags[name].option_strings):
            words += _words(path, name, value, flags[name])
    return words


def recipe_words(parser: argparse.ArgumentParser, given: list[str]) -> list[str]:
    """Returns the words for the recipe that a command line names by `--recipe`, without those that it has already."""
    name = read_ahead(given, add_recipe).recipe
    known = any("--recipe" in action.option_strings for action in parser._actions)
    return words_of(Path("--recipe"), RECIPES.get(name, {}), parser, given) if known else []


def _read(path: Path) -> dict:
    readers = {".toml": _toml, ".json": json.loads, ".yaml": _yaml, ".yml": _yaml}
    if path.suffix not in readers:
        raise InputError(f"--config {path}: unknown ending {path.suffix!r}; expected {', '.join(readers)}")
    try:
        content = readers[path.suffix](path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--config {path} cannot be read as {path.suffix[1:].upper()} ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"--config {path} holds no settings; expected names and values")
    return content


def _toml(text: str) -> dict:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _yaml(text: str):
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from None


def _flat(path: Path, content: dict) -> dict[str, Any]:
    """Returns the settings of all sections by name; those of a run without what it records besides settings."""
    is_run, settings = "versions" in content, {}
    for name, value in content.items():
        section = name if name in SECTIONS and isinstance(value, dict) else None
        for key, item in value.items() if section else [(name, value)]:
            plain = _plain(str(key))
            if is_run and plain in RECORDED.get(section, ()):
                continue
            if plain in settings:
                raise InputError(f"{path} has the setting {plain} twice; give it once")
            settings[plain] = item
    return settings


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _words(path: Path, name: str, value: Any, action: argparse.Action) -> list[str]:
    flag = action.option_strings[-1]
    if action.nargs == 0:  # a switch
        if not isinstance(value, bool):
            raise InputError(f"{path}: {name} must be true or false, got {value!r}")
        return [flag] if value else []
    entries = value if isinstance(value, list) else [value]
    if any(not isinstance(item, (str, int, float, list)) for item in entries):
        raise InputError(f"{path}: {name} must be a text, a number or a list of them, got {value!r}")
    if action.nargs and isinstance(action.default, list):  # a flag that may be repeated, each time with a list
        groups = entries if any(isinstance(item, list) for item in entries) else [entries]
        return [
            word for group in groups for word in (flag, *map(word_of, group if isinstance(group, list) else [group]))
        ]
    if action.nargs:
        return [flag, *map(word_of, entries)]
    if action.dest == "seeds" and isinstance(value, list):
        return [f"{flag}={word_of(value)},"]
    if isinstance(action.default, list):  # a flag that may be repeated
        return [f"{flag}={word_of(item)}" for item in entries]
    return [f"{flag}={word_of(value) if value != [] else ''}"]
