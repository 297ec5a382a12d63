"""The file of scores and the part that a stopped job leaves."""

import csv
import json

import numpy as np
import pyarrow.parquet
import pytest

from iwae_tf.errors import InputError
from iwae_tf.serving import score_file
from iwae_tf.serving.score_file import COLUMNS, ScoreFile, check_path
from iwae_tf.serving.scores import Scores, concatenate

IDENTITY = {
    "images": "sha256:0",
    "rows": 6,
    "url": "http://h/v1/models/m",
    "version": "1",
    "signature": "serving_default",
    "num_samples": None,
    "seed": None,
}


def _scores(rows, seed=0):
    """Any bits that float32 has, NaN and infinities included."""
    bits = np.random.default_rng(seed).integers(0, 2**32, (5, rows), dtype=np.uint32)
    floats = bits.view(np.float32)
    floats[:, 0] = np.nan, np.inf, -np.inf, np.float32(1e-45), -0.0
    return Scores(*floats, np.arange(rows, dtype=np.int32) % 4)


def _part_of(scores, start, stop):
    return Scores(*(column[start:stop] for column in scores))


def _same_bits(one, other):
    for name in Scores._fields:
        left, right = np.asarray(one[name]), np.asarray(other[name])
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
        np.testing.assert_array_equal(np.signbit(left[~np.isnan(left)]), np.signbit(right[~np.isnan(right)]))


def _read_csv(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["row"]) for row in rows] == list(range(len(rows)))
    return {
        name: np.array([row[name] for row in rows]).astype(np.int32 if name == "status" else np.float32)
        for name in Scores._fields
    }


@pytest.mark.parametrize("ending", score_file.ENDINGS)
def test_every_format_holds_the_same_bits_and_nothing_else_is_left(tmp_path, ending):
    scores = _scores(2000)
    path = tmp_path / f"scores{ending}"
    file = ScoreFile(path, {**IDENTITY, "rows": 2000})
    for start in range(0, 2000, 700):
        file.append(_part_of(scores, start, start + 700), "1")
    file.finish()
    assert list(tmp_path.iterdir()) == [path]
    if ending == ".csv":
        found = _read_csv(path)
    elif ending == ".npz":
        found = dict(np.load(path))
        assert tuple(found) == COLUMNS
        np.testing.assert_array_equal(found["row"], np.arange(2000))
    else:
        table = pyarrow.parquet.read_table(path)
        assert json.loads(table.schema.metadata[b"job"]) == {**IDENTITY, "rows": 2000}
        assert table.column_names == list(COLUMNS)
        found = {name: table[name].to_numpy() for name in COLUMNS}
    _same_bits(scores._asdict(), found)


def test_nan_is_written_as_nan(tmp_path):
    assert score_file.csv_lines(7, _part_of(_scores(6), 0, 1)) == ["7,nan,inf,-inf,1e-45,-0.0,0"]


def test_a_stopped_job_goes_on_after_its_last_whole_line(tmp_path):
    scores, path = _scores(6), tmp_path / "scores.csv"
    first = ScoreFile(path, IDENTITY)
    first.append(_part_of(scores, 0, 2), "1")
    first.append(_part_of(scores, 2, 4), "1")
    first.close()
    assert list(tmp_path.iterdir()) == [first.part]
    first.part.write_bytes(first.part.read_bytes()[:-3])  # the last line is cut short

    second = ScoreFile(path, IDENTITY)
    assert second.rows == 3
    second.append(_part_of(scores, 3, 6), "1")
    second.finish()
    assert list(tmp_path.iterdir()) == [path]
    _same_bits(scores._asdict(), _read_csv(path))


def test_nothing_of_a_line_cut_short_stays_behind_the_rows_that_follow(tmp_path):
    scores, path = _scores(6), tmp_path / "scores.csv"
    for start in range(3):  # stopped three times, each time within a line that is longer than those to come
        file = ScoreFile(path, IDENTITY)
        assert file.rows == start
        file.append(_part_of(scores, start, start + 1), "1")
        file.close()
        with file.part.open("a") as part:
            part.write(f"{start + 1},0.{'1' * 200}")
    assert file.part.read_text().splitlines()[1:4] == score_file.csv_lines(0, _part_of(scores, 0, 3))


def test_rows_are_on_disk_as_soon_as_they_are_appended(tmp_path):
    file = ScoreFile(tmp_path / "scores.npz", IDENTITY)
    assert not file.part.exists()
    file.append(_scores(2), "1")
    first, *rows = file.part.read_text().splitlines()
    assert json.loads(first) == IDENTITY
    assert len(rows) == 2
    file.close()


def test_a_job_with_all_rows_only_needs_to_be_finished(tmp_path):
    path = tmp_path / "scores.csv"
    file = ScoreFile(path, IDENTITY)
    file.append(_scores(6), "1")
    file.close()
    again = ScoreFile(path, IDENTITY)
    assert again.rows == 6
    again.finish()
    _same_bits(_scores(6)._asdict(), _read_csv(path))


@pytest.mark.parametrize("content", [b"", b'{"images": "sha'])
def test_a_part_cut_short_in_its_first_line_is_started_anew(tmp_path, content):
    file = ScoreFile(tmp_path / "scores.csv", IDENTITY)
    file.part.write_bytes(content)
    again = ScoreFile(tmp_path / "scores.csv", IDENTITY)
    assert again.rows == 0
    again.append(_scores(6), "1")
    again.finish()
    _same_bits(_scores(6)._asdict(), _read_csv(tmp_path / "scores.csv"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": "sha256:1"}, "images is 'sha256:0' there and 'sha256:1' here"),
        ({"num_samples": 50, "seed": 0}, "num_samples is None there and 50 here; seed is None there and 0 here"),
        ({"version": "2"}, "version is '1' there and '2' here"),
        ({"url": "elsewhere"}, "url is"),
        ({"rows": 7}, "rows is 6 there and 7 here"),
    ],
)
def test_the_part_of_another_job_is_refused_and_kept(tmp_path, change, message):
    path = tmp_path / "scores.csv"
    file = ScoreFile(path, IDENTITY)
    file.append(_scores(2), "1")
    file.close()
    before = file.part.read_bytes()
    with pytest.raises(InputError) as raised:
        ScoreFile(path, {**IDENTITY, **change})
    assert message in str(raised.value)
    assert "delete it to start anew" in str(raised.value)
    assert file.part.read_bytes() == before


def test_a_version_that_is_not_known_yet_is_the_one_of_the_part(tmp_path):
    path = tmp_path / "scores.csv"
    file = ScoreFile(path, {**IDENTITY, "version": None})
    file.append(_scores(2), "7")  # the server told with its first answer
    file.close()
    assert ScoreFile(path, {**IDENTITY, "version": None}).version == "7"


HEAD = json.dumps(IDENTITY) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        "my notes\n",
        "[1]\n",
        '{"a": 1}\n',
        HEAD + "0,1,2\n",
        HEAD + "1,1,1,1,1,1,0\n",
        HEAD + "0,1,1,1,1,x,0\n",
        HEAD + "".join(f"{row},1,1,1,1,1,0\n" for row in range(7)),
    ],
)
def test_a_file_that_is_no_part_of_a_job_is_refused_and_kept(tmp_path, content):
    part = tmp_path / "scores.csv.part"
    part.write_text(content)
    with pytest.raises(InputError, match="not the part of a scoring job, or damaged"):
        ScoreFile(tmp_path / "scores.csv", IDENTITY)
    assert part.read_text() == content


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scores.txt", "unknown ending '.txt'; expected .csv, .npz, .parquet"),
        ("scores", "unknown ending ''"),
        ("there.csv", "is there already"),
        ("none/scores.csv", "its folder cannot be written: No such file"),
        ("there.csv/scores.csv", "its folder cannot be written: Not a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_found_at_once(tmp_path, name, message):
    (tmp_path / "there.csv").touch()
    with pytest.raises(InputError) as raised:
        check_path(tmp_path / name)
    assert message in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]


def test_a_file_that_fails_to_be_written_leaves_the_part_alone(tmp_path, monkeypatch):
    file = ScoreFile(tmp_path / "scores.csv", IDENTITY)
    file.append(_scores(6), "1")

    def full(path, scores, identity):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(score_file._WRITERS, ".csv", full)
    with pytest.raises(InputError, match="No space left on device"):
        file.finish()
    assert list(tmp_path.iterdir()) == [file.part]


def test_chunks_are_put_together_in_order():
    scores = _scores(6)
    whole = concatenate([_part_of(scores, 0, 4), _part_of(scores, 4, 6)])
    _same_bits(scores._asdict(), whole._asdict())
    assert concatenate([]).status.shape == (0,)
