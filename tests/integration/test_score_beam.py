"""`export/score_beam.py`: shards scored by Apache Beam have the bits of `score`; bad input is one line."""

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from shared_runs import skip_refinement
from test_own_tables import SMALL, table, write_csv

from iwae_tf.commands.main import main
from iwae_tf.data import Column
from iwae_tf.data.tables import read_rows

pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install -r requirements-beam.txt")
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "export" / "score_beam.py"
SIZES = (1, 59, 100)  # of the shards of 160 rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with shards `rows-N.parquet` and `rows-N.csv`, `all.parquet` with all rows, and an exported model `m`.

    The shards have an unseen category in row 5 and a missing height, which the model does not take, in row 70.
    """
    folder, columns = tmp_path_factory.mktemp("beam"), table()
    write_csv(folder / "training.csv", columns)
    own = ["--dataset", str(folder / "training.csv"), "--id-column", "name", "--label-column", "ill"]
    with pytest.MonkeyPatch.context() as patch:
        skip_refinement(patch)
        assert main(["train", *own, *SMALL, "--verbose", "0", "--output-dir", str(folder / "run")]) == 0
    export = ["export", str(folder / "run"), "--num-samples", "100", "--refine", "off", "--name", "m"]
    assert main([*export, "--output-dir", str(folder)]) == 0
    columns["town"][5], columns["height"][70] = "Rome", None
    rows = pyarrow.table(columns)
    pyarrow.parquet.write_table(rows, folder / "all.parquet")
    for number, size in enumerate(SIZES):
        part = rows.slice(sum(SIZES[:number]), size)
        pyarrow.parquet.write_table(part, folder / f"rows-{number}.parquet", row_group_size=37)
        write_csv(folder / f"rows-{number}.csv", part.to_pydict())
    return folder


@pytest.fixture(scope="module")
def score_beam():
    """The script as a module; what it changes in this process is set back."""
    spec = importlib.util.spec_from_file_location("score_beam", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger(), "level", logging.getLogger().level)
        patch.setenv("PYTHONPATH", "")
        spec.loader.exec_module(module)
        yield module


def scores_in(folder: Path, name: str = "part") -> pyarrow.Table:
    """Returns the scores in PREFIX-* files of a folder, which has no other files, in the order of the input."""
    files = sorted(folder.iterdir())
    assert all(re.fullmatch(rf"{name}-\d{{5}}-of-\d{{5}}\.parquet", file.name) for file in files)
    scores = pyarrow.concat_tables(map(pyarrow.parquet.read_table, files))
    return scores.sort_by([("file", "ascending"), ("row", "ascending")])


def check_bits(scores: pyarrow.Table, reference: pyarrow.Table) -> None:
    assert scores.column_names == ["file", *reference.column_names]
    assert scores.num_rows == reference.num_rows
    for name in reference.column_names[1:]:
        found, expected = scores[name].to_numpy(), reference[name].to_numpy()
        if name != "id":
            assert found.dtype.itemsize == expected.dtype.itemsize == 4
            found, expected = found.view(np.int32), expected.view(np.int32)
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def reference(trained):
    """What `score` writes for all rows."""
    out = trained / "reference.parquet"
    model = ["--url", str(trained / "m"), "--id-column", "name", "--out", str(out)]
    assert main(["score", str(trained / "all.parquet"), *model]) == 0
    return pyarrow.parquet.read_table(out)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_the_rows_of_shards_have_the_bits_of_score(ending, trained, reference, score_beam, tmp_path, capfd):
    words = ["--input", f"{trained}/rows-*.{ending}", "--model", f"{trained}/m", "--output", f"{tmp_path}/out/part"]
    assert score_beam.main([*words, "--id-column", "name"]) == 0
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "158 rows with status 0 (ok)",
        "2 rows with status 1 (x has values that the model does not take)",
    ]
    scores = scores_in(tmp_path / "out")
    check_bits(scores, reference)
    assert np.flatnonzero(scores["status"]).tolist() == [5, 70]
    assert scores["file"].to_pylist() == [
        f"{trained}/rows-{n}.{ending}" for n, size in enumerate(SIZES) for _ in range(size)
    ]
    assert scores["row"].to_pylist() == [row for size in SIZES for row in range(size)]


@pytest.mark.slow
def test_a_category_that_csv_files_have_for_missing_is_read_as_by_score(score_beam, tmp_path):
    columns = [Column("area", "category", ("AS", "NA")), Column("n", "count")]
    (tmp_path / "rows.csv").write_text("area,n\nNA,1\nAS,\n")
    ((_, x),) = score_beam.Reader(columns, None).chunks((str(tmp_path / "rows.csv"), None, 0))
    np.testing.assert_array_equal(x, read_rows(tmp_path / "rows.csv", columns)[0])
    np.testing.assert_array_equal(x, np.float32([[1, 1], [0, np.nan]]))


def test_the_command_takes_flags_of_beam_and_scores_in_two_processes(trained, reference, tmp_path):
    command = [sys.executable, SCRIPT, "--input", "rows-*.parquet", "--model", "m", "--output", tmp_path / "part"]
    command += ["--id-column", "name", "--direct_running_mode", "multi_processing", "--direct_num_workers", "2"]
    process = subprocess.run(command, cwd=trained, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr
    assert len(list(tmp_path.iterdir())) == 2
    check_bits(scores_in(tmp_path), reference)


def test_rows_of_a_model_of_arrays_are_lists(exports, score_beam, tmp_path):
    folder = exports("bernoulli")[1]
    x = (np.random.default_rng(0).random((20, 12)) < 0.4).astype(np.float64)
    x[7, 3] = np.nan
    np.save(tmp_path / "x.npy", x)
    large = pyarrow.array(list(x), pyarrow.large_list(pyarrow.float64()))
    lists = pyarrow.table({"x": large, "other": np.arange(20)})
    pyarrow.parquet.write_table(lists, tmp_path / "x.parquet", row_group_size=9)
    assert main(["score", f"{tmp_path}/x.npy", "--url", str(folder), "--out", f"{tmp_path}/x-score.parquet"]) == 0
    words = ["--input", f"{tmp_path}/x.parquet", "--model", str(folder), "--output"]
    assert score_beam.main([*words, f"{tmp_path}/out/part"]) == 0
    scores = scores_in(tmp_path / "out")
    check_bits(scores, pyarrow.parquet.read_table(tmp_path / "x-score.parquet"))
    assert np.flatnonzero(scores["status"]).tolist() == [7]


def test_input_and_output_may_be_in_different_file_systems(trained, score_beam, tmp_path, monkeypatch, capfd):
    """Beam looks for all patterns of one call in the file system of the first."""
    calls, match = [], score_beam.FileSystems.match
    monkeypatch.setattr(score_beam.FileSystems, "match", lambda patterns: calls.append(patterns) or match(patterns))
    (tmp_path / "part-0.parquet").touch()
    words = ["--input", f"{trained}/rows-*.csv", "--model", f"{trained}/m", "--output", f"{tmp_path}/part"]
    assert score_beam.main(words) == 2
    assert "part-0.parquet exists and is never overwritten" in capfd.readouterr().err
    assert calls == [[f"{trained}/rows-*.csv"], [f"{tmp_path}/part-*"]]


def test_exit_code_1_if_no_row_has_a_score(trained, score_beam, tmp_path):
    rows = pyarrow.parquet.read_table(trained / "rows-1.parquet").slice(4, 1)  # the unseen category
    pyarrow.parquet.write_table(rows, tmp_path / "one.parquet")
    words = ["--input", f"{tmp_path}/one.parquet", "--model", f"{trained}/m", "--output", f"{tmp_path}/out/part"]
    assert score_beam.main(words) == 1
    assert scores_in(tmp_path / "out")["status"].to_pylist() == [1]


def test_bad_input_is_one_line_and_leaves_no_file(trained, exports, score_beam, tmp_path, monkeypatch, capfd):
    rows = pyarrow.parquet.read_table(trained / "all.parquet")
    text = rows["visits"].cast(pyarrow.string()).to_pylist()
    text[50] = "many"
    late = rows.set_column(rows.column_names.index("visits"), "visits", [text])
    for name, columns in {
        "narrow/1": rows.drop_columns(["income"]),
        "late/0": rows,
        "late/1": rows.drop_columns(["income"]),
        "text/0": late,
        "uneven/0": pyarrow.table({"x": [[0.0] * 12, [0.0] * 11]}),
        "short/0": pyarrow.table({"x": [[0.0] * 11]}),
        "words/0": pyarrow.table({"x": [["a"] * 12]}),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(columns, tmp_path / f"{name}.parquet", row_group_size=40)
    (tmp_path / "broken.parquet").write_bytes(os.urandom(100))
    (tmp_path / "ragged.csv").write_text("height,income\n1,2\n1\n")
    shutil.copytree(trained / "m", tmp_path / "damaged")
    with (tmp_path / "damaged" / "1" / "saved_model.pb").open("ab") as file:
        file.write(b"x")
    shutil.copytree(exports("bernoulli")[1], tmp_path / "pixels" / "1")
    (tmp_path / "taken-00000-of-00001.parquet").touch()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    given = {"--input": f"{trained}/rows-*.parquet", "--model": f"{trained}/m", "--output": "out/part"}
    lists = {"--model": "pixels"}
    for changes, message in [
        ({"--input": "none-*.parquet"}, "--input none-*.parquet: there is no such file"),
        ({"--input": "taken-*"}, "taken-00000-of-00001.parquet cannot be read"),
        ({"--input": "broken.parquet"}, "broken.parquet cannot be read"),
        ({"--input": "ragged.csv"}, f"{tmp_path}/ragged.csv: row 2 has 1 values and the header 2"),
        ({"--input": f"{trained}/m/*/saved_model.pb"}, "expected .parquet, or .csv"),
        ({"--input": "narrow/*"}, "has no column income, which the model was trained on; it has name, height, smokes"),
        ({"--input": "late/*"}, "late/1.parquet has no column income"),  # found by a worker
        ({"--input": "text/*"}, "text/0.parquet, after row 40: row 11, column 'visits' is 'many'; expected a number"),
        ({"--input": "gs://bucket/rows-*"}, "gs://bucket/rows-* and"),
        ({"--id-column": "nam"}, "--id-column nam: no such column; it has name, height, income"),
        ({"--model": "none"}, "there is no folder none"),
        ({"--model": "late"}, "late holds no version"),
        ({"--model": "damaged"}, "damaged/1 is damaged: its files have changed since the export"),
        ({"--output": "taken"}, "taken-00000-of-00001.parquet exists and is never overwritten"),
        ({"--output": "ragged.csv/part"}, "Not a directory"),
        (lists, "rows-0.parquet has no column x of lists"),
        (lists | {"--input": f"{trained}/rows-*.csv"}, "rows-0.csv: expected .parquet"),
        (lists | {"--input": "uneven/*"}, "the lists in column x differ in length"),
        (lists | {"--input": "short/*"}, "short/0.parquet: the rows have 11 values each, the model takes 12"),
        (lists | {"--input": "words/*"}, "column x has dtype object; expected numbers"),
        ({"--runer": "x"}, "unknown argument --runer"),
        ({"--runner": "x"}, "Unexpected pipeline runner: x. Valid values are"),
        ({"--direct_num_workers": "x"}, "argument --direct_num_workers: invalid int value: 'x'"),
        ({"--output": None}, "arguments are required: --output"),
    ]:
        words = [word for flag, value in (given | changes).items() if value for word in (flag, value)]
        assert score_beam.main(words) == 2, message
        output = capfd.readouterr()
        assert output.out == ""
        assert re.fullmatch("error: .*\n", output.err), output.err
        assert message in output.err
        assert "[while running" not in output.err
        assert not list(tmp_path.glob("out/*")), message
        assert not list(tmp_path.rglob("beam-*")), message
    assert (
        score_beam.main(
            ["--input", "late/0.parquet", "late/1.parquet", "--model", f"{trained}/m", "--output", "out/part"]
        )
        == 2
    )
    assert "unknown argument late/1.parquet: quote patterns" in capfd.readouterr().err


def test_bad_input_is_found_without_tensorflow(tmp_path):
    command = [sys.executable, "-X", "importtime", SCRIPT, "--input", "rows", "--model", "none", "--output", "out"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert process.returncode == 2
    assert "error: there is no folder none" in process.stderr
    assert re.search(r"\| +apache_beam\b", process.stderr)  # the list of imports is complete
    assert not re.search(r"\| +(tensorflow|keras)\b", process.stderr)
    lines = [line for line in process.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 1


def test_without_beam_the_script_says_how_to_install_it(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.setattr(logging.getLogger(), "level", logging.getLogger().level)
    spec = importlib.util.spec_from_file_location("score_beam", SCRIPT)
    with pytest.raises(SystemExit) as ended:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert ended.value.code == 2
    assert capfd.readouterr().err == (
        "error: Apache Beam is not installed; run: pip install -r requirements-beam.txt\n"
    )
