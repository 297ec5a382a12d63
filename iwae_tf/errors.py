"""The one exception for what a user can put right, and the nearest-name hint that goes with it."""

import difflib
import math
import numbers
import operator
import signal
from collections.abc import Iterable

MAX_SEED = 2**31 - 1
MAX_SAMPLES = 500_000_000  # four times as many are an int32
# package -> what pip installs, where the names differ
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "google": "tensorflow",
    "grpc": "grpcio",
    "keras": "tensorflow",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_probability": "tensorflow-probability",
    "tensorflow_serving": "tensorflow-serving-api",
    "tf_keras": "tf-keras",
}


class InputError(ValueError):
    """A setting, file or array that cannot be used; the message says what came, what was expected, what to do.

    The command line prints the message as one line on stderr and ends with exit code 2.
    """


class WorkerLostError(Exception):
    """Another worker of a distributed run has gone; all have to be started again. Exit code 75, "try again"."""


class Stopped(KeyboardInterrupt):
    """The process was asked to stop by a signal; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def missing_package(error: ModuleNotFoundError) -> InputError:
    """Returns the error for a package that is not installed, with the command that installs it."""
    package = (error.name or "").partition(".")[0]
    package = _DISTRIBUTIONS.get(package, package)
    return InputError(
        f"this needs {package}, which is not installed: run pip install {package}, or install iwae-tf with all that it "
        "requires"
    )


def exit_code(stop: KeyboardInterrupt) -> int:
    """Returns the exit code of a process that a signal stopped: 130 after Ctrl-C."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Returns the first known name that starts with `name`, else the most similar one, or None."""
    known = list(known)
    longer = [other for other in known if len(name) > 2 and other.startswith(name)]
    return next(iter(longer or difflib.get_close_matches(name, known, n=1)), None)


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Returns the error for a name of some kind, e.g. "objective", that is not a known one, with the nearest one."""
    known = sorted(known)
    nearest = nearest_name(str(name), known)
    hint = f"did you mean {nearest!r}? " if nearest else ""
    return InputError(f"unknown {kind} {name!r}: {hint}known: {', '.join(known)}")


def _is_integer_from(smallest: int, value: object) -> bool:
    try:
        return not isinstance(value, bool) and operator.index(value) >= smallest
    except TypeError:
        return False


def positive_integer(name: str, value: object) -> int:
    """Returns `value` as an int; raises `InputError` naming `name` if it is no integer >= 1."""
    return integer_from(1, name, value)


def integer_from(least: int, name: str, value: object) -> int:
    """Returns `value` as an int; raises `InputError` naming `name` if it is no integer >= `least`."""
    if not _is_integer_from(least, value):
        raise InputError(f"{name} must be an integer >= {least}, got {value!r}")
    return operator.index(value)


def checked_samples(num_samples: object, name: str = "num_samples") -> int:
    """Returns a number of samples as an int; raises `InputError` if it is no integer in [1, 500,000,000]."""
    number = positive_integer(name, num_samples)
    if number > MAX_SAMPLES:
        raise InputError(f"{name} must be at most {MAX_SAMPLES}, got {num_samples}")
    return number


def finite_number(name: str, value: object) -> float:
    """Returns `value` as a float; raises `InputError` naming `name` if it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InputError(f"{name} must be a number, got {value!r}")
    return float(value)


def check_seed(seed: object) -> int:
    """Returns `seed` as an int; raises `InputError` if it is no integer in [0, 2**31 - 1]."""
    if not _is_integer_from(0, seed) or seed > MAX_SEED:
        raise InputError(f"seed must be an integer in [0, {MAX_SEED}], got {seed!r}")
    return operator.index(seed)
