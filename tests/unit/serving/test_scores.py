"""The file of scores, its resumable part, and the summary."""

import csv
import json
import re

import numpy as np
import pyarrow.parquet
import pytest

from iwae_tf.errors import InputError
from iwae_tf.serving import scores as scores_module
from iwae_tf.serving.scores import (
    COLUMNS,
    ScoreFile,
    Scores,
    alarms,
    check_path,
    columns_of,
    concatenate,
    csv_lines,
    from_outputs,
    strangest,
    summary,
)

JOB = {
    "content": "sha256:0",
    "rows": 6,
    "url": "http://h/v1/models/m",
    "version": "1",
    "signature": "serving_default",
    "num_samples": None,
    "seed": None,
}


def _scores(rows):
    """Any bits that float32 has, NaN and infinities included."""
    floats = np.random.default_rng(0).integers(0, 2**32, (6, rows), dtype=np.uint32).view(np.float32)
    floats[:, 0] = np.nan, np.inf, -np.inf, np.float32(1e-45), -0.0, 0.5
    return Scores(*floats, np.arange(rows, dtype=np.int32) % 2, np.arange(rows, dtype=np.int32) % 4)


def _rows(scores, start, stop):
    return Scores(*(column[start:stop] for column in scores))


def _same_bits(one, other):
    for name in Scores._fields:
        left, right = np.asarray(one[name]), np.asarray(other[name])
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
        np.testing.assert_array_equal(np.signbit(left[~np.isnan(left)]), np.signbit(right[~np.isnan(right)]))


def _read(path):
    """The columns of a file of scores, by its ending."""
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        assert json.loads(table.schema.metadata[b"job"]) == {**JOB, "rows": table.num_rows}
        return {name: table[name].to_numpy() for name in table.column_names}
    if path.suffix == ".npz":
        return dict(np.load(path))
    with path.open(newline="") as file:
        names, *rows = csv.reader(file)
    dtypes = {"row": np.int64, "reliable": np.int32, "status": np.int32}
    return {
        n: np.array(c).astype(dtypes.get(n, np.float32)) for n, c in zip(names, zip(*rows, strict=True), strict=True)
    }


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet"])
def test_every_format_holds_the_same_bits_and_nothing_else_is_left(tmp_path, ending):
    scores, path = _scores(2000), tmp_path / f"scores{ending}"
    file = ScoreFile(path, {**JOB, "rows": 2000})
    for start in range(0, 2000, 700):
        file.append(_rows(scores, start, start + 700), "1")
    file.finish()
    assert list(tmp_path.iterdir()) == [path]
    found = _read(path)
    assert tuple(found) == COLUMNS
    np.testing.assert_array_equal(found["row"], np.arange(2000))
    _same_bits(scores._asdict(), found)
    added = {"strange_1": np.array(['a, "b"'])}
    assert csv_lines(columns_of(7, _rows(scores, 0, 1), np.array(["x,y"] * 8), added)) == [
        '7,"x,y",nan,inf,-inf,1e-45,-0.0,0.5,0,0,"a, ""b"""'
    ]


def test_a_stopped_job_resumes_after_its_last_whole_record(tmp_path):
    scores, path = _scores(6), tmp_path / "scores.csv"
    for start in range(4):  # stopped four times, each time within a record
        file = ScoreFile(path, JOB)
        assert file.rows == start
        assert file.part.exists() == (start > 0)
        file.append(_rows(scores, start, start + 1), "1")
        _same_bits(_rows(scores, 0, start + 1)._asdict(), ScoreFile(path, JOB).scores._asdict())  # on disk at once
        with file.part.open("ab") as part:
            part.write(b"x" * (3 + 7 * start))
    file = ScoreFile(path, JOB)
    file.append(_rows(scores, 4, 6), "1")
    assert list(tmp_path.iterdir()) == [file.part]
    ScoreFile(path, JOB).finish()  # a job with all its rows
    assert list(tmp_path.iterdir()) == [path]
    _same_bits(scores._asdict(), _read(path))


def test_a_part_that_ends_in_its_first_line_is_started_anew(tmp_path):
    path = tmp_path / "scores.csv"
    for content in (b"", b'{"content": "sha'):
        path.with_name("scores.csv.part").write_bytes(content)
        file = ScoreFile(path, JOB)
        assert file.rows == 0
        file.append(_scores(6), "1")
        file.finish()
        _same_bits(_scores(6)._asdict(), _read(path))


def test_the_part_of_another_job_is_refused_and_kept(tmp_path):
    path = tmp_path / "scores.csv"
    file = ScoreFile(path, JOB)
    file.append(_rows(_scores(6), 0, 2), "1")
    before = file.part.read_bytes()
    for change, message in [
        ({"content": "sha256:1"}, "content is 'sha256:0' in the file and 'sha256:1' in this job"),
        ({"num_samples": 50, "seed": 0}, "num_samples is None in the file and 50 in this job; seed is None in the"),
        ({"version": "2"}, "version is '1' in the file and '2' in this job"),
        ({"url": "elsewhere"}, "url is"),
        ({"rows": 7}, "rows is 6 in the file and 7 in this job"),
    ]:
        with pytest.raises(InputError, match=rf"{re.escape(message)}.*delete it to start anew"):
            ScoreFile(path, {**JOB, **change})
    assert file.part.read_bytes() == before
    assert ScoreFile(path, {**JOB, "version": None}).version == "1"  # not known yet: that of the part
    file = ScoreFile(tmp_path / "other.csv", JOB | {"false_alarm_rate": 0.05})
    file.append(_rows(_scores(6), 0, 2), "1")
    assert ScoreFile(tmp_path / "other.csv", JOB | {"false_alarm_rate": 0.01}).rows == 2  # no score depends on it


def test_a_file_that_is_no_part_of_a_job_is_refused_and_kept(tmp_path):
    file = ScoreFile(tmp_path / "scores.csv", JOB)
    file.append(_scores(6), "1")
    header, record = file.part.read_bytes().split(b"\n", 1)
    for content in [
        b"my notes\n",
        b"[1]\n",
        b'{"a": 1}\n' + record,  # other keys
        header + b"\n" + record[: len(record) // 6] * 2,  # a row twice
        header.replace(b'"rows": 6', b'"rows": 5') + b"\n" + record,  # too many rows
    ]:
        file.part.write_bytes(content)
        with pytest.raises(InputError, match="not a scoring job's, or damaged"):
            ScoreFile(tmp_path / "scores.csv", JOB)
        assert file.part.read_bytes() == content


def test_a_file_that_cannot_be_written_is_found_at_once(tmp_path):
    (tmp_path / "there.csv").touch()
    for name, message in [
        ("scores.txt", "unknown ending '.txt'; expected .csv, .npz, .parquet"),
        ("scores", "unknown ending ''"),
        ("there.csv", "exists and is never overwritten"),
        ("none/scores.csv", "its folder cannot be written: No such file"),
        ("there.csv/scores.csv", "its folder cannot be written: Not a directory"),
    ]:
        with pytest.raises(InputError, match=message):
            check_path(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]


def test_a_full_disk_at_the_end_leaves_the_part_alone(tmp_path, monkeypatch):
    def full(path, columns, job):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    file = ScoreFile(tmp_path / "scores.csv", JOB)
    file.append(_scores(6), "1")
    monkeypatch.setitem(scores_module._WRITERS, ".csv", full)
    with pytest.raises(InputError, match="No space left on device"):
        file.finish()
    assert list(tmp_path.iterdir()) == [file.part]


def test_chunks_are_concatenated_in_order():
    scores = _scores(6)
    whole = concatenate([_rows(scores, 0, 4), _rows(scores, 4, 6)])
    _same_bits(scores._asdict(), whole._asdict())
    good = Scores(*np.ones([6, 6], np.float32), *np.zeros([2, 6], np.int32))
    _same_bits(good._asdict(), from_outputs(good._asdict(), 6)._asdict())
    assert concatenate([]).status.shape == (0,)


def test_the_summary_counts_unreliable_and_bad_rows():
    values = np.array([-1.0, -3.0, np.nan, np.nan, -5.0], np.float32)
    reliable, status = np.array([1, 0, 0, 1, 0], np.int32), np.array([0, 0, 1, 3, 0], np.int32)
    line = summary(Scores(*[values] * 6, reliable, status))
    assert line == (
        "5 rows; mean log_prob -3.000 over 3 good rows; 1 of them reliable; 1 with status 1 (x has "
        "values that the model does not take); 1 with status 3 (the score is not finite)"
    )


def test_a_part_that_is_deleted_during_the_job_is_said_and_at_its_end_not_missed(tmp_path):
    path = tmp_path / "scores.csv"
    file = ScoreFile(path, JOB)
    file.append(_rows(_scores(6), 0, 2), "1")
    file.part.unlink()
    with pytest.raises(InputError, match="deleted or changed during the job"):
        file.append(_rows(_scores(6), 2, 6), "1")
    file = ScoreFile(path, JOB)  # anew
    file.append(_scores(6), "1")
    file.part.unlink()
    file.finish()
    _same_bits(_scores(6)._asdict(), _read(path))


def test_rows_alarm_up_to_the_rate_and_bad_ones_have_minus_1():
    p_value = np.float32([0.01, 0.05, 0.051, np.nan, 1.0])
    values, reliable, status = np.ones(5, np.float32), np.ones(5, np.int32), np.int32([0, 0, 0, 1, 0])
    scores = Scores(*[values] * 5, p_value, reliable, status)
    np.testing.assert_array_equal(alarms(scores, 0.05), [1, 1, 0, -1, 0])
    with pytest.raises(InputError, match="the model gives no p_value"):
        alarms(scores._replace(p_value=np.full(5, np.nan, np.float32)), 0.05)
    none_good = scores._replace(p_value=np.full(5, np.nan, np.float32), status=np.ones(5, np.int32))
    assert (alarms(none_good, 0.05) == -1).all()


def test_the_lowest_contributions_come_first_with_their_names():
    contributions = np.float32([[3, -1, -2], [np.nan] * 3, [0, 0, 5]])
    found = strangest(contributions, np.array(["a", "b", "c"]), 2)
    assert {name: values.tolist() for name, values in found.items() if not name.endswith("nats")} == {
        "strange_1": ["c", "", "a"],
        "strange_2": ["b", "", "b"],
    }
    np.testing.assert_array_equal(found["strange_1_nats"], np.float32([-2, np.nan, 0]))
    np.testing.assert_array_equal(found["strange_2_nats"], np.float32([-1, np.nan, 0]))
    assert len(strangest(contributions, np.array(["a", "b", "c"]), 9)) == 6  # there are three
