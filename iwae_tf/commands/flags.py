"""Command line flags made from the settings' dataclasses."""

import argparse
import dataclasses
import importlib
from typing import NoReturn

from iwae_tf.errors import InputError, nearest_name, unknown_name


class _Formatter(argparse.HelpFormatter):
    """Wraps help texts line by line, so that a list of names stays a list."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28, width=100)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return [part for line in text.splitlines() for part in super(_Formatter, self)._split_lines(line, width)]


class Parser(argparse.ArgumentParser):
    """An argument parser whose every error is an `InputError`, with the nearest name for an unknown flag."""

    def __init__(self, **kwargs):
        super().__init__(
            formatter_class=_Formatter,
            allow_abbrev=False,
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")

    def parse_args(self, args=None, namespace=None):
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            given = unknown[0].split("=")[0]
            nearest = nearest_name(given, flags)
            hint = f"; did you mean {nearest}?" if nearest else ""
            self.error(f"unknown argument {given}{hint}")
        return parsed


def flag_of(setting: str) -> str:
    """The flag of a setting: `learn_beta` to `--learn-beta`."""
    return "--" + setting.replace("_", "-")


def add_settings(parser: argparse.ArgumentParser, settings: type) -> None:
    """Adds a flag for every field of a settings dataclass, under the dataclass's docstring as a heading."""
    group = parser.add_argument_group(settings.__doc__.rstrip("."))
    for field in dataclasses.fields(settings):
        flag = flag_of(field.name)
        if isinstance(field.default, bool):
            group.add_argument(flag, action="store_true", help=field.metadata["help"])
        else:
            group.add_argument(flag, default=field.default, help=_help(field), **_options(field))


def settings_from(arguments: argparse.Namespace, settings: type):
    """The settings dataclass with the values of the parsed flags; raises `InputError` for values out of range."""
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(settings)}
    for field in dataclasses.fields(settings):
        value = values[field.name]
        if isinstance(value, list):
            values[field.name] = tuple(value)
        known = _known_names(field)
        if known and value not in known and not str(value).endswith(".npz"):
            kind = field.name
            raise unknown_name(kind, value, known)
    return settings(**values)


def _known_names(field: dataclasses.Field) -> dict:
    if "names" not in field.metadata:
        return {}
    module, name = field.metadata["names"].split(":")
    return getattr(importlib.import_module(module), name)


def _help(field: dataclasses.Field) -> str:
    text = field.metadata["help"]
    if field.default is not None:
        text += f" (default: {field.default})"
    for name, entry in _known_names(field).items():
        text += f"\n{name}: {entry[-1] if isinstance(entry, tuple) else entry}"
    return text.replace("%", "%%")


def _options(field: dataclasses.Field) -> dict:
    options = {name: field.metadata[name] for name in ("nargs", "metavar", "choices") if name in field.metadata}
    if "choices" not in options:
        options.setdefault("metavar", "NAME" if "names" in field.metadata else field.name.upper().split("_")[-1])
    if "parse" in field.metadata:
        options["type"] = _named_parser(field.metadata["parse"])
    elif isinstance(field.default, int):
        options["type"] = int
    return options


def _named_parser(parse):
    """Argparse puts the function's name into "invalid NAME value"; this gives it a readable one."""

    def parser(text: str):
        return parse(text)

    parser.__name__ = {int: "integer", float: "number"}.get(parse, "comma-separated list of integers (or none)")
    return parser
