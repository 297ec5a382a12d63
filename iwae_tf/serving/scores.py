"""Scores of rows: the record of a row, its statuses, and the resumable file that scores are written to."""

import json
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iwae_tf.errors import InputError

SCORE_COLUMNS = "score_columns"  # the signature that takes the rows of a table by column

OK, BAD_X, BAD_NUM_SAMPLES, NOT_FINITE = range(4)
STATUSES = {
    OK: "ok",
    BAD_X: "x has values that the model does not take",
    BAD_NUM_SAMPLES: "num_samples is not in [1, max_samples]",
    NOT_FINITE: "the score is not finite",
}


class Scores(NamedTuple):
    """One entry for each row, [N]; NaN where the status is not 0.

    Attributes:
        log_prob: estimate of log p(x), float32, in nats.
        elbo: the mean of the log importance weights, float32, in nats.
        standard_error: of log_prob, float32, in nats; NaN for one sample.
        effective_sample_size: float32, between 1 and the number of samples.
        pareto_k: shape of the tail of the importance weights, float32; inf for fewer than 21 samples.
        p_value: float32, the share of held-out rows that score at most as high; NaN where the model knows none.
        reliable: int32, 1 if pilot runs call log_prob reliable; 0 from `log_prob_k`, which makes none.
        status: int32, a key of `STATUSES`; 0 is good.
    """

    log_prob: np.ndarray
    elbo: np.ndarray
    standard_error: np.ndarray
    effective_sample_size: np.ndarray
    pareto_k: np.ndarray
    p_value: np.ndarray
    reliable: np.ndarray
    status: np.ndarray


DTYPES = {name: np.int32 if name in ("reliable", "status") else np.float32 for name in Scores._fields}
COLUMNS = ("row", *Scores._fields)
_RECORD = np.dtype([("row", "<i8"), *((name, np.dtype(dtype).newbyteorder("<")) for name, dtype in DTYPES.items())])


def from_outputs(outputs: dict[str, np.ndarray], rows: int) -> Scores:
    """Returns the scores in a model's outputs, which are not believed before they are checked.

    Args:
        outputs: arrays by name, from any server.
        rows: the number of rows that were sent.

    Raises:
        InputError: an output is missing, is not of shape [rows] or of its type, or contradicts the status of its row.
    """
    outputs = {"p_value": np.full(rows, np.nan, np.float32), **outputs}
    missing = [name for name in Scores._fields if name not in outputs]
    if missing:
        raise InputError(
            f"the model answered without {', '.join(missing)} (it has {', '.join(sorted(outputs)) or 'no outputs'}); "
            "expected a model that export_saved_model wrote"
        )
    for name, dtype in DTYPES.items():
        values = outputs[name]
        if values.shape != (rows,):
            raise InputError(f"the model answered with {name} of shape {list(values.shape)} for {rows} rows")
        if values.dtype.kind not in ("iuf" if dtype == np.float32 else "iu"):
            raise InputError(f"the model answered with {name} of type {values.dtype}; expected {np.dtype(dtype)}")
        limits = np.iinfo(np.int32)
        if dtype == np.int32 and not limits.min <= values.min() <= values.max() <= limits.max:
            raise InputError(f"the model answered with {name} outside the range of int32")
    with np.errstate(over="ignore"):  # infinity is found below
        scores = Scores(*(outputs[name].astype(dtype, copy=False) for name, dtype in DTYPES.items()))
    good = scores.status == OK
    for name in ("log_prob", "elbo", "effective_sample_size"):
        _refuse(name, getattr(scores, name), np.isfinite(getattr(scores, name)) != good, scores.status)
    wrong = ~(np.isnan(scores.p_value) | (good & (scores.p_value > 0) & (scores.p_value <= 1)))
    _refuse("p_value", scores.p_value, wrong, scores.status)
    _refuse("reliable", scores.reliable, (scores.reliable != 0) & ~((scores.reliable == 1) & good), scores.status)
    return scores


def _refuse(name: str, values: np.ndarray, wrong: np.ndarray, status: np.ndarray) -> None:
    if wrong.any():
        row = wrong.argmax()
        raise InputError(
            f"the model answered with {name} {values[row]} and status {status[row]} for row {row} of the request, "
            "which contradict each other: it is no model of export_saved_model, or its server is broken"
        )


def concatenate(chunks: list[Scores]) -> Scores:
    """Returns the scores of consecutive rows as one; no rows for an empty list."""
    empty = Scores(*(np.empty(0, dtype) for dtype in DTYPES.values()))
    return Scores(*map(np.concatenate, zip(empty, *chunks, strict=True)))


def summary(scores: Scores) -> str:
    """Returns one line: the number of rows, the mean log p(x), and the numbers of reliable and of bad rows."""
    good = scores.status == OK
    facts = [f"{len(good)} rows"]
    if good.any():
        mean = scores.log_prob[good].mean(dtype=np.float64)
        facts.append(f"mean log_prob {mean:.3f} over {np.count_nonzero(good)} good rows")
        facts.append(f"{np.count_nonzero(scores.reliable[good])} of them reliable")
    for status in np.unique(scores.status[~good]):
        meaning = STATUSES.get(int(status), "unknown to this client")
        facts.append(f"{np.count_nonzero(scores.status == status)} with status {status} ({meaning})")
    return "; ".join(facts)


def columns_of(first_row: int, scores: Scores, ids: np.ndarray | None, added: dict[str, np.ndarray]) -> dict:
    """Returns the columns of a file of scores by name: row, the identifiers of rows if they have any, scores, added."""
    rows = len(scores.status)
    named = {} if ids is None else {"id": ids[first_row : first_row + rows]}
    return {"row": np.arange(first_row, first_row + rows), **named, **scores._asdict(), **added}


def csv_lines(columns: dict[str, np.ndarray]) -> list[str]:
    """Returns a line for each row, without line ends; floats have the digits that restore their float32."""
    texts = [[_quoted(str(value)) for value in values] for values in columns.values()]
    return [",".join(values) for values in zip(*texts, strict=True)]


def alarms(scores: Scores, false_alarm_rate: float) -> np.ndarray:
    """Returns 1 for every row whose p-value is at most the rate, -1 for rows without a score, else 0; int32 [N].

    Raises:
        InputError: the scores have no p-values.
    """
    good = scores.status == OK
    if good.any() and np.isnan(scores.p_value[good]).all():
        raise InputError(
            "the model gives no p_value: export it with its held-out rows; scores with num_samples have none either"
        )
    return np.where(good, scores.p_value <= np.float32(false_alarm_rate), -1).astype(np.int32)


def strangest(contributions: np.ndarray, names: np.ndarray, number: int) -> dict[str, np.ndarray]:
    """Returns the lowest contributions of each row, as columns.

    Args:
        contributions: [N, D], in nats; NaN in rows that have none.
        names: of the values, text [D].
        number: how many of each row.

    Returns:
        `strange_1`, the name of the value, and `strange_1_nats`, its contribution, up to `number`; [N] each. The names
        are empty in rows without contributions.
    """
    order = np.argsort(contributions, axis=1, kind="stable")[:, :number]
    found = {}
    for place in range(order.shape[1]):
        values = np.take_along_axis(contributions, order[:, place : place + 1], axis=1)[:, 0]
        found[f"strange_{place + 1}"] = np.where(np.isnan(values), "", names[order[:, place]])
        found[f"strange_{place + 1}_nats"] = values
    return found


def _quoted(text: str) -> str:
    """Returns a text as a CSV file has it."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text


def check_path(path: Path) -> None:
    """Raises `InputError` if a file of scores cannot be written to `path`; called before any request is sent."""
    if path.suffix not in _WRITERS:
        raise InputError(f"--out {path}: unknown ending {path.suffix!r}; expected {', '.join(_WRITERS)}")
    if path.exists():
        raise InputError(f"--out {path} exists and is never overwritten; delete it, or give another name")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"--out {path}: its folder cannot be written: {error.strerror}") from None


class ScoreFile:
    """A file of scores that is written row by row: rows are appended to FILE.part, FILE is made from it at the end.

    FILE.part is the job as a line of JSON, then one binary record for each row.

    Args:
        path: the file, which does not exist yet.
        job: everything that the scores depend on, as JSON values; "version" may be None for not known yet.
        ids: identifiers of all rows, [N], for a column of the file; or None.

    Attributes:
        part: the path of FILE.part.
        scores: the rows so far; those of FILE.part if it exists.

    Raises:
        InputError: FILE.part exists and is of another job, or cannot be read.
    """

    def __init__(self, path: Path, job: dict, ids: np.ndarray | None = None):
        self.path, self.part, self._job, self._ids = path, path.with_name(path.name + ".part"), job, ids
        self.scores = concatenate([])
        self._bytes = 0  # the length of FILE.part without an incomplete record at its end
        if self.part.exists():
            self._resume()

    @property
    def rows(self) -> int:
        """The number of rows so far."""
        return len(self.scores.status)

    @property
    def version(self) -> str | None:
        """The version of the model that scored the rows so far; None if not known yet."""
        return self._job["version"]

    def append(self, scores: Scores, version: str | None) -> None:
        """Appends the next rows, which a model of `version` scored; they are in FILE.part when this returns."""
        self._job = {**self._job, "version": version}
        header = b"" if self._bytes else f"{json.dumps(self._job)}\n".encode()
        rows = self.rows + np.arange(len(scores.status))
        added = header + np.rec.fromarrays([rows, *scores], _RECORD).tobytes()
        try:
            with self.part.open("ab") as file:
                if file.tell() < self._bytes:
                    raise InputError(
                        f"{self.part} was deleted or changed during the job, perhaps by another of the same; start it "
                        "anew"
                    )
                file.truncate(self._bytes)
                file.write(added)
        except OSError as error:
            raise InputError(f"{self.part} cannot be written: {error.strerror}") from None
        self._bytes += len(added)
        self.scores = concatenate([self.scores, scores])

    def finish(self, added: dict[str, np.ndarray] | None = None) -> None:
        """Writes FILE with added columns, [N] each, by an atomic rename and deletes FILE.part."""
        temporary = self.path.with_name(self.path.name + ".new")
        try:
            _WRITERS[self.path.suffix](temporary, columns_of(0, self.scores, self._ids, added or {}), self._job)
            os.replace(temporary, self.path)
        except OSError as error:
            raise InputError(
                f"--out {self.path} cannot be written: {error.strerror or error}; all rows are in {self.part}, give "
                "the same command to resume"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def _resume(self) -> None:
        try:
            header, end, content = self.part.read_bytes().partition(b"\n")
            if not end and header[:1] in (b"", b"{"):
                return  # stopped within the header
            found = json.loads(header)
            records = np.frombuffer(content[: len(content) // _RECORD.itemsize * _RECORD.itemsize], _RECORD)
            whole = found.keys() == self._job.keys() and len(records) <= found["rows"]
            whole = whole and bool((records["row"] == np.arange(len(records))).all())
        except OSError as error:
            raise InputError(f"{self.part} cannot be read: {error.strerror}") from None
        except (ValueError, AttributeError):
            whole = False
        if not whole:
            raise InputError(f"{self.part} is not a scoring job's, or damaged; move it away or delete it")
        if self.version is None:
            self._job = {**self._job, "version": found["version"]}
        differences = [
            f"{name} is {found[name]!r} in the file and {value!r} in this job"
            for name, value in self._job.items()
            if found[name] != value and name != "false_alarm_rate"  # on which no score depends
        ]
        if differences:
            raise InputError(
                f"{self.part} is of another job: {'; '.join(differences)}; resume that job (a version is chosen "
                "by /versions/N in the URL), give another --out, or delete it to start anew"
            )
        self.scores = Scores(*(records[name].astype(dtype) for name, dtype in DTYPES.items()))
        self._bytes = len(header) + 1 + records.nbytes


def _write_csv(path: Path, columns: dict[str, np.ndarray], _job: dict) -> None:
    path.write_text("".join(f"{line}\n" for line in [",".join(columns), *csv_lines(columns)]), encoding="utf-8")


def _write_npz(path: Path, columns: dict[str, np.ndarray], _job: dict) -> None:
    with path.open("wb") as file:  # np.savez adds an ending to a name
        np.savez(file, **columns)


def _write_parquet(path: Path, columns: dict[str, np.ndarray], job: dict) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table.replace_schema_metadata({"job": json.dumps(job)}), path)


_WRITERS = {".csv": _write_csv, ".npz": _write_npz, ".parquet": _write_parquet}
