"""The command line: finds the command, parses its flags, and turns errors that a user can fix into one line."""

import ast
import contextlib
import importlib
import os
import signal
import sys
from pathlib import Path

from iwae_tf.commands import settings_file
from iwae_tf.commands.flags import Parser, import_given_plugins
from iwae_tf.errors import InputError, Stopped, WorkerLostError, exit_code, missing_package, unknown_name
from iwae_tf.version import __version__

# Modules of this package with `add_flags` and `run`; their docstrings are the help.
COMMANDS = (
    *("train", "sweep", "objectives", "reproduce", "runs", "evaluate", "compare", "report", "export", "serve"),
    *("score", "completion"),
)

LONGEST_ERROR = 1000


def main(arguments: list[str], program: str = "python -m iwae_tf") -> int:
    """Runs a command and returns the exit code.

    Exit codes: 0; 2 for bad input, or a file that cannot be read or written; 75 after the loss of another worker; 130
    after Ctrl-C; 141 where the reader of the output has closed it; 143 after SIGTERM.

    Args:
        arguments: the command's name and its flags.
        program: the program as the user called it, for messages.
    """
    _prepare_streams()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with it ignored
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _run(arguments, program)
        sys.stdout.flush()  # here, where its error is caught
        return code
    except InputError as error:
        _say(f"error: {' '.join(str(error).split())}")
        return 2
    except ModuleNotFoundError as error:  # e.g. with the requirements of a client alone
        if (error.name or "").startswith("iwae_tf"):
            raise
        _say(f"error: {missing_package(error)}")
        return 2
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except OSError as error:  # a full disk, or a folder that is gone, wherever it shows
        where = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error
        _say(f"error: a file cannot be read or written: {where}")
        return 2
    except WorkerLostError as error:
        _say(f"error: {error}")
        return 75
    except KeyboardInterrupt as stop:
        _say("\nstopped")
        return exit_code(stop)
    finally:
        _drop_unwritable_output()


def _prepare_streams() -> None:
    """Opens the null device for the streams that the caller has closed; other files would get their descriptors."""
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, mode))
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files that the encoding of the output lacks


def _say(text: str) -> None:
    if len(text) > LONGEST_ERROR:  # of a name of thousands of letters
        text = f"{text[: LONGEST_ERROR // 2]} ... {text[-LONGEST_ERROR // 2 :]}"
    with contextlib.suppress(OSError):  # the exit code says it as well
        print(text, file=sys.stderr)


def _drop_unwritable_output() -> None:
    """Sends what cannot be written to the null device: Python flushes at its end, and exits with 120 if it fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _terminate(number, frame):
    raise Stopped(number)


def run_script(command: str) -> int:
    """Runs a command for a script such as `train.py`; returns the exit code."""
    return main([command, *sys.argv[1:]], program=f"python {sys.argv[0]}")


def run_console() -> int:
    """Runs the command line of the console script `iwae-tf`; returns the exit code."""
    return main(sys.argv[1:], program="iwae-tf")


def _run(arguments: list[str], program: str) -> int:
    _check_words(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        all_commands(program).print_help()
        return 0
    if arguments[0] == "--version":
        print(f"iwae-tf {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        raise unknown_name("command", arguments[0], COMMANDS)
    name, *rest = arguments
    words = program if program.endswith(".py") else f"{program} {name}"
    path, settings = settings_file.read_given(rest) or (None, {})
    plugins = import_given_plugins([*_plugin_words(settings), *rest])
    module = importlib.import_module(f"iwae_tf.commands.{name}")  # of this command alone: others need more packages
    command = Parser(prog=words, description=module.__doc__)
    add_flags(module, command)
    typed = [*rest, *settings_file.recipe_words(command, rest)]
    from_file = settings_file.words_of(path, settings, command, typed)
    _check_words(from_file)
    given = [*typed, *from_file]  # the file may name a recipe, which comes last
    parsed = command.parse_args([*given, *settings_file.recipe_words(command, given)])
    parsed.plugins = plugins
    return module.run(parsed)


def _check_words(words: list[str]) -> None:
    for word in words:
        if "\0" in word or word.partition("=")[2] == "--":  # argparse takes "--" out, and leaves an empty list
            raise InputError(f"{word!r} is no argument with a value")


def _plugin_words(settings: dict) -> list[str]:
    given = [settings[name] for name in ("plugin", "plugins") if name in settings]
    return [f"--plugin={module}" for value in given for module in (value if isinstance(value, list) else [value])]


def add_flags(module, parser: Parser) -> None:
    """Adds the flags of a command's module, and `--config` where it has any."""
    module.add_flags(parser)
    if any(action.option_strings and action.dest != "help" for action in parser._actions):
        settings_file.add_config(parser)


def all_commands(program: str, whole: bool = False) -> Parser:
    """Returns a parser with all commands, with the flags of each if `whole`."""
    parser = Parser(prog=program, description="Importance weighted autoencoders: train them, and know log p(x).")
    parser.add_argument("--version", action="version", version=__version__, help="print the version")
    subparsers = parser.add_subparsers(title="commands", metavar="NAME")
    for name in COMMANDS:
        command = subparsers.add_parser(name, help=_first_line(name))
        if whole:
            add_flags(importlib.import_module(f"iwae_tf.commands.{name}"), command)
    return parser


def _first_line(command: str) -> str:
    """Returns the first line of a command's docstring, which is read from its source without an import."""
    source = Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
