"""Command line flags, made from the settings' dataclasses and from declarations."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from iwae_tf.config import FIGURE_FORMATS, DataConfig, name_list, share_list
from iwae_tf.data.sources import find_source
from iwae_tf.declarations import declared, load_plugins
from iwae_tf.errors import InputError, check_seed, nearest_name, unknown_name


class _Formatter(argparse.HelpFormatter):
    """Wraps help texts line by line, so that a list of names stays a list."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28, width=100)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return [wrapped for line in text.splitlines() for wrapped in super(_Formatter, self)._split_lines(line, width)]


class Parser(argparse.ArgumentParser):
    """An argument parser whose every error is an `InputError`, with the nearest name for an unknown flag."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **kwargs)

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
    """Returns the flag of a setting: `--learn-beta` for `learn_beta`."""
    return "--" + setting.replace("_", "-")


def read_ahead(words: list[str], *add_flags: Callable[[argparse.ArgumentParser], None]) -> argparse.Namespace:
    """Returns some flags of a command line before its own parser exists; the defaults if one is malformed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for add in add_flags:
        add(parser)
    try:
        return parser.parse_known_args(words)[0]
    except argparse.ArgumentError:  # the command's own parser says so
        return parser.parse_args([])


# Flags that several commands share


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """Adds `--plugin`."""
    text = "module that declares further objectives, likelihoods or data sets; imported first, may be given repeatedly"
    parser.add_argument("--plugin", dest="plugins", action="append", default=[], metavar="MODULE", help=text)


def add_callback(parser: argparse.ArgumentParser) -> None:
    """Adds `--callback`."""
    text = "call FACTORY() of a module and add the Keras callback that it returns to training; may be given repeatedly"
    parser.add_argument(
        "--callback", dest="callbacks", action="append", default=[], metavar="MODULE:FACTORY", help=text
    )


def import_given_plugins(words: list[str]) -> tuple[str, ...]:
    """Imports the plugins of a command line, whose names its flags need, and with --resume those of the run.

    Returns:
        Their names.
    """

    def add_run(parser):
        parser.add_argument("--output-dir")
        parser.add_argument("--resume", action="store_true")

    given = read_ahead(words, add_plugin, add_run)
    plugins = list(given.plugins)
    if given.resume and given.output_dir and (Path(given.output_dir) / "config.json").is_file():
        from iwae_tf.training.run_folder import recorded  # lazy import: `score` needs no filelock

        plugins += recorded(Path(given.output_dir), "plugins")
    plugins = tuple(dict.fromkeys(plugins))
    load_plugins(plugins)
    return plugins


def add_figure_format(parser: argparse.ArgumentParser) -> None:
    """Adds `--figure-format`."""
    text = "file format of the figures (default: png)"
    parser.add_argument("--figure-format", choices=FIGURE_FORMATS, default="png", help=text)


MOST_SEEDS = 1000


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """Adds `--seeds`."""
    text = "train and score with each of these seeds; N alone: with N seeds, from --seed on"
    parser.add_argument("--seeds", type=_seeds, metavar="N|A,B,C", help=text)


def _seeds(text: str) -> int | list[int]:
    if "," in text:
        return unrepeated(int)(text.removesuffix(","))  # "5," is a list of one seed, as [5] in a settings file
    if not 1 <= int(text) <= MOST_SEEDS:
        raise argparse.ArgumentTypeError(
            f"{text} must be a number of seeds from 1 to {MOST_SEEDS}, or seeds with commas; --seed takes a single one"
        )
    return int(text)


_seeds.__name__ = "number or list of integers"  # argparse puts it into "invalid NAME value"


def unrepeated(parse):
    """Returns a parser of "A,B,C" that refuses a value given twice; `parse` takes a value from its text."""

    def parser(text: str) -> list:
        values = [parse(word.strip()) for word in text.split(",")]
        for number, value in enumerate(values):
            if value in values[:number]:
                raise argparse.ArgumentTypeError(f"{value} is given twice in {text}")
        return values

    parser.__name__ = f"list of {getattr(parse, '__name__', 'value')}s"
    return parser


def seeds_of(arguments: argparse.Namespace) -> list[int]:
    """Returns the seeds of `--seeds`, or that of `--seed` without it; raises `InputError` for one out of range."""
    first, given = arguments.seed, arguments.seeds
    if isinstance(given, list) and first:
        raise InputError(f"--seed {first} and --seeds {','.join(map(str, given))}: give one of them")
    return [check_seed(seed) for seed in (given if isinstance(given, list) else range(first, first + (given or 1)))]


# Flags of settings


def add_settings(parser: argparse.ArgumentParser, settings: type) -> None:
    """Adds a flag for every field of a settings dataclass, under the dataclass's docstring as a heading.

    Args:
        parser: the parser.
        settings: the dataclass; metadata `flag` of a field names the flag if it is not the field's name.
    """
    group = parser.add_argument_group(settings.__doc__.rstrip("."))
    for field in dataclasses.fields(settings):
        names = {"dest": field.name, "help": _help(field)}
        flag = flag_of(field.metadata.get("flag", field.name))
        options = {"action": "store_true"} if isinstance(field.default, bool) else _options(field)
        try:
            group.add_argument(flag, **{"default": field.default} | names | options)
        except argparse.ArgumentError:  # of a plugin's objective
            raise InputError(
                f"an objective declares the setting {field.name!r}, and {flag} exists: rename it"
            ) from None


def settings_from(arguments: argparse.Namespace, settings: type):
    """Returns the settings dataclass of the parsed flags; raises `InputError` for values out of range."""
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(settings)}
    for field in dataclasses.fields(settings):
        value = values[field.name]
        if isinstance(value, list):
            values[field.name] = tuple(value)
        known = _known_names(field)
        if known and value not in (None, field.default, *known) and field.name != "dataset":
            raise unknown_name(field.name, value, known)
    if settings is DataConfig:
        find_source(values["dataset"], values["data_dir"])  # a wrong path is an error before TensorFlow is imported
    return settings(**values)


def _is_given(value) -> bool:
    return value is not None and value is not False and value != ()  # 0 is a value


def _known_names(field: dataclasses.Field) -> dict[str, str]:
    """Returns the names that a field takes, each with a line of help; empty if it takes no names."""
    if "declared" in field.metadata:
        return {name: declaration.help for name, declaration in declared(field.metadata["declared"]).items()}
    return {}


def _help(field: dataclasses.Field) -> str:
    text = field.metadata["help"]
    if _is_given(field.default):
        text += f" (default: {field.default})"
    lines = [text, *(f"{name}: {line}" for name, line in _known_names(field).items())]
    return "\n".join(lines).replace("%", "%%")


def _options(field: dataclasses.Field) -> dict:
    options = {name: field.metadata[name] for name in ("nargs", "metavar", "choices") if name in field.metadata}
    if "choices" not in options:
        options.setdefault("metavar", "NAME" if _known_names(field) else field.name.upper().split("_")[-1])
    if "parse" in field.metadata:
        options["type"] = _named_parser(field.metadata["parse"])
    elif isinstance(field.default, int):
        options["type"] = int
    return options


def _named_parser(parse):
    """Returns `parse` under a readable name, which argparse puts into "invalid NAME value"."""

    def parser(text: str):
        return parse(text)

    names = {int: "integer", float: "number", share_list: "comma-separated list of numbers", name_list: "list of names"}
    parser.__name__ = names.get(parse, "comma-separated list of integers (or none)")
    return parser
