"""Files that are whole or absent: written under a temporary name, then renamed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: Path, reserve: int = 0) -> Iterator[Path]:
    """Yields a temporary path in the same folder and renames it to `path` once the context ends without an error.

    A reader finds the old file or the new one, never half of one. After an error the temporary file is deleted.

    Args:
        path: the file to write; the temporary name has the same ending.
        reserve: bytes that are written to the temporary file first, so that a full disk raises `OSError` here.
    """
    temporary = path.with_name(f".writing-{path.name}")
    try:
        if reserve:
            temporary.write_bytes(bytes(reserve))
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # otherwise a power failure may keep the name and lose the content
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
