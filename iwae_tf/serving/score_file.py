"""The file of scores, and the part of it that a job that was stopped goes on from."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from iwae_tf.errors import InputError
from iwae_tf.serving.scores import DTYPES, Scores, concatenate

COLUMNS = ("row", *Scores._fields)
ENDINGS = (".csv", ".npz", ".parquet")


def csv_lines(first_row: int, scores: Scores) -> list[str]:
    """A line for each row, without its end; floats have the digits that their float32 needs, NaN is nan."""
    columns = [[str(value) for value in column] for column in scores]
    return [f"{row},{','.join(values)}" for row, values in enumerate(zip(*columns, strict=True), first_row)]


def check_path(path: Path) -> None:
    """Raises `InputError` if a file of scores cannot be written to `path`: before anything is sent."""
    if path.suffix not in ENDINGS:
        raise InputError(f"--out {path}: unknown ending {path.suffix!r}; expected {', '.join(ENDINGS)}")
    if path.exists():
        raise InputError(f"--out {path} is there already and is never overwritten; delete it, or give another name")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"--out {path}: its folder cannot be written: {error.strerror}") from None


class ScoreFile:
    """Scores on their way into a file: rows are appended to FILE.part as they come, and FILE is made of it at the end.

    Args:
        path: the file, which is not there yet.
        identity: what the scores depend on, as JSON takes it; "version" may be None for not known yet.

    Attributes:
        part: FILE.part.
        scores: the rows so far.
        version: the version that a part that was found was scored by, or that of `identity`.

    Raises:
        InputError: there is a part of another job, or one that cannot be read.
    """

    def __init__(self, path: Path, identity: dict):
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.identity = identity
        self.scores: list[Scores] = []
        self._file = None
        self._found_bytes = 0
        if self.part.exists():
            self._read_part()
        self.version = self.identity["version"]

    @property
    def rows(self) -> int:
        """How many rows there are so far."""
        return sum(len(chunk.status) for chunk in self.scores)

    def append(self, scores: Scores, version: str | None) -> None:
        """Appends the scores of the next rows; they are in the file when this returns."""
        try:
            if self._file is None:
                self._open({**self.identity, "version": version})
            self._file.write("".join(f"{line}\n" for line in csv_lines(self.rows, scores)).encode())
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self.part} cannot be written: {error.strerror}") from None
        self.scores.append(scores)

    def finish(self) -> None:
        """Makes the file beside, renames it in and deletes the part."""
        self.close()
        beside = self.path.with_name(self.path.name + ".new")
        try:
            _WRITERS[self.path.suffix](beside, concatenate(self.scores), self.identity)
            os.replace(beside, self.path)
        except OSError as error:
            raise InputError(
                f"--out {self.path} cannot be written: {error.strerror or error}; all rows are in {self.part}, and the "
                "same command goes on from there"
            ) from None
        finally:
            beside.unlink(missing_ok=True)
        self.part.unlink()

    def close(self) -> None:
        """Closes the part."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _open(self, identity: dict) -> None:
        self.identity = identity
        self._file = open(self.part, "r+b" if self._found_bytes else "wb")  # noqa: SIM115
        self._file.truncate(self._found_bytes)  # a line that was cut short goes
        self._file.seek(self._found_bytes)
        if not self._found_bytes:
            self._file.write(f"{json.dumps(identity)}\n".encode())

    def _read_part(self) -> None:
        try:
            content = self.part.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if not whole and content[:1] in (b"", b"{"):
                return  # cut short in its first line
            first, *lines = whole.decode().splitlines()
            found = json.loads(first)
            self.scores = [_parse(lines)] if lines else []
            known = found.keys() == self.identity.keys() and self.rows <= found["rows"]
        except OSError as error:
            raise InputError(f"{self.part} cannot be read: {error.strerror}") from None
        except (ValueError, AttributeError):
            known = False
        if not known:
            raise InputError(f"{self.part} is not the part of a scoring job, or damaged; move it away or delete it")
        if self.identity["version"] is None:
            self.identity = {**self.identity, "version": found["version"]}
        self._check_same(found)
        self._found_bytes = len(whole)

    def _check_same(self, found: dict) -> None:
        differences = [
            f"{name} is {found[name]!r} there and {value!r} here"
            for name, value in self.identity.items()
            if found[name] != value
        ]
        if differences:
            raise InputError(
                f"{self.part} is of another job: {'; '.join(differences)}; go on with that job (a version is chosen "
                "by /versions/N in the URL), give another --out, or delete it to start anew"
            )


def _parse(lines: list[str]) -> Scores:
    """The rows of a part; raises `ValueError` for lines that are none or not in order."""
    columns = list(zip(*(line.split(",") for line in lines), strict=True))
    if len(columns) != len(COLUMNS) or list(columns[0]) != [str(row) for row in range(len(lines))]:
        raise ValueError
    # Read as float64 and rounded: the digits that a float32 was written with give it back.
    return Scores(*(np.array(list(map(float, c))).astype(d) for c, d in zip(columns[1:], DTYPES.values(), strict=True)))


def _table(scores: Scores) -> dict[str, np.ndarray]:
    return {"row": np.arange(len(scores.status), dtype=np.int64), **scores._asdict()}


def _write_csv(path: Path, scores: Scores, _identity: dict) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in [",".join(COLUMNS), *csv_lines(0, scores)])


def _write_npz(path: Path, scores: Scores, _identity: dict) -> None:
    with path.open("wb") as file:  # given a name instead, NumPy would add an ending
        np.savez(file, **_table(scores))


def _write_parquet(path: Path, scores: Scores, identity: dict) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(_table(scores)).replace_schema_metadata({"job": json.dumps(identity)})
    pyarrow.parquet.write_table(table, path)


_WRITERS = {".csv": _write_csv, ".npz": _write_npz, ".parquet": _write_parquet}
