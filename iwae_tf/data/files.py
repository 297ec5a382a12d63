"""Finding files in a folder, and one kind of error for files that cannot be read."""

import contextlib
import gzip
import pathlib
from collections.abc import Iterator

from iwae_tf.errors import InputError


def one_line(error: Exception) -> str:
    """The text of an exception, or its name if it has none, as one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def reading(path: pathlib.Path, form: str) -> Iterator[None]:
    """Turns whatever goes wrong while `path` is read into an `InputError` that names it.

    Any exception is caught: damaged gzip, zip and MATLAB files raise errors of a dozen types.

    Args:
        path: the file.
        form: what it should be, e.g. "a gzip file".

    Raises:
        InputError: instead of any other exception.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be read ({one_line(error)}); expected {form}: get the file again or correct the path"
        ) from error


def read_bytes(path: pathlib.Path, form: str) -> bytes:
    """The content of a file, unpacked if its name ends in ".gz"; `form` and Raises as for `reading`."""
    with reading(path, form), gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        return file.read()


def find_all(folder: pathlib.Path, names: list[str]) -> list[pathlib.Path] | None:
    """The paths of files that belong together, each plain or with ".gz" at its end; None if there is not one of them.

    Raises:
        InputError: some are there and some are not.
    """
    found = {name: _find(folder, name) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if len(missing) == len(names):
        return None
    if missing:
        there = ", ".join(name for name in names if name not in missing)
        raise InputError(f"{folder} holds {there} but not {', '.join(missing)}: put all {len(names)} files there")
    return [path for path in found.values() if path is not None]


def _find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
