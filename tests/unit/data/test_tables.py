"""Tables of a user, CSV and Parquet: kinds of columns, ids, labels, splits, rows to be scored, and bad input."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iwae_tf.data import Column, load
from iwae_tf.data.dataset import SPLITS
from iwae_tf.data.tables import read_rows
from iwae_tf.errors import InputError

ROWS = 200
GENERATOR = np.random.default_rng(0)
VALUES = {
    "id": [f"{i:03d}" for i in range(ROWS)],
    "age": [f"{v:.3f}" for v in GENERATOR.normal(40, 9, ROWS)],
    "sex": ["mf"[i % 2] for i in range(ROWS)],
    "visits": [i % 7 for i in range(ROWS)],
    "smokes": [i % 2 for i in range(ROWS)],
    "cost": [i * 100 for i in range(ROWS)],
    "ill": ["yes" if i % 3 else "no" for i in range(ROWS)],
}


@pytest.fixture(autouse=True)
def numbers_that_do_not_depend_on_other_tests():
    GENERATOR.bit_generator.state = np.random.default_rng(100).bit_generator.state


def csv_text(values):
    lines = [",".join(values), *(",".join(map(str, row)) for row in zip(*values.values(), strict=True))]
    return "\n".join(lines) + "\n"


def parquet(path, values):
    pq.write_table(pa.table(values), path)
    return str(path)


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="table.csv", encoding="utf-8"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(csv_text(text) if isinstance(text, dict) else text, encoding=encoding)
        return str(path)

    return write_file


def refused(words, dataset, *arguments, **settings):
    with pytest.raises(InputError, match=words) as error:
        load(dataset, *arguments, **settings)
    assert "\n" not in str(error.value)


def all_rows(data):
    return np.concatenate([getattr(data, f"x_{split}") for split in SPLITS])


def test_a_table_has_kinds_of_columns_ids_labels_and_three_splits(write):
    path = write(VALUES)
    data = load(path, id_column="id", label_column="ill")
    assert data.columns == (
        Column("age", "real"),
        Column("sex", "category", ("f", "m")),
        Column("visits", "count"),
        Column("smokes", "binary"),
        Column("cost", "real"),
    )
    assert (data.name, data.scale, data.image_shape, data.source) == ("table", 1, (1, 5), path)
    assert data.split == "0.8 / 0.1 / 0.1 by the sha256 of each row's 'id'"
    assert {x.dtype for x in (data.x_train, data.x_valid, data.x_test)} == {np.dtype(np.float32)}
    for split in SPLITS:
        rows = data.ids[split].astype(int)
        assert (np.diff(rows) > 0).all()
        expected = [[float(VALUES["age"][i]), 1 - i % 2, i % 7, i % 2, i * 100] for i in rows]
        np.testing.assert_array_equal(getattr(data, f"x_{split}"), np.float32(expected))
        assert data.labels[split].tolist() == [VALUES["ill"][i] for i in rows]
    assert sorted(np.concatenate([data.ids[split] for split in SPLITS])) == VALUES["id"]


def test_parquet_gives_the_same_data_set_as_csv(write, tmp_path):
    values = VALUES | {"age": [float(value) for value in VALUES["age"]]}
    values["sex"] = pa.array(values["sex"]).dictionary_encode()
    values["smokes"] = [value == 1 for value in values["smokes"]]
    values["cost"] = [decimal.Decimal(value) for value in values["cost"]]
    data = load(parquet(tmp_path / "table.parquet", values), id_column="id", label_column="ill")
    other = load(write(VALUES), id_column="id", label_column="ill")
    assert data.columns == other.columns
    for split in SPLITS:
        np.testing.assert_array_equal(getattr(data, f"x_{split}"), getattr(other, f"x_{split}"))
        np.testing.assert_array_equal(data.ids[split], other.ids[split])


def test_columns_are_chosen_in_order_or_dropped_and_lists_are_taken_as_from_json(write):
    path = write(VALUES)
    chosen = load(path, columns=["cost", "age"], split=[0.5, 0.2, 0.3])
    assert [column.name for column in chosen.columns] == ["cost", "age"]
    assert (chosen.ids, chosen.labels) == ({}, {})
    assert 80 < len(chosen.x_train) < 120
    dropped = load(path, drop=["id", "sex"], label_column="ill")
    assert [column.name for column in dropped.columns] == ["age", "visits", "smokes", "cost"]


def test_missing_values_are_nan_in_every_kind_of_column(write):
    rows = ["1.5,x,,1", ",y,2,", "2.5,,3,0", "NA,x,5,1"]
    lines = [f"{i},{row}" for i in range(50) for row in rows]
    data = load(write("\n".join(["id,a,b,c,d", *lines])), split=(0.5, 0, 0.5), id_column="id")
    assert [column.kind for column in data.columns] == ["real", "category", "count", "binary"]
    assert len(data.x_valid) == 0
    found = {tuple(row) for row in np.nan_to_num(all_rows(data), nan=-9)}
    assert found == {(1.5, 0, -9, 1), (-9, 1, 2, -9), (2.5, -9, 3, 0), (-9, 0, 5, 1)}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1, 1], "binary"),
        ([0.0, 1.0, None], "binary"),
        ([True, False, None], "binary"),
        ([0, 2, 1], "count"),
        ([1000, 3, None], "count"),
        ([1.0, 2.0, 7.0], "count"),
        ([1, 2, 1001], "real"),
        ([-1, 0, 1], "real"),
        ([0, 0.5, 1], "real"),
        (["0", "1", "2"], "category"),
    ],
)
def test_the_kind_of_a_column_is_decided_on_all_of_its_values(tmp_path, values, kind):
    path = parquet(tmp_path / "t.parquet", {"v": pa.array(values * 20), "w": GENERATOR.normal(size=60)})
    assert load(path).columns[0].kind == kind


def test_rows_stay_in_their_split_when_rows_and_categories_are_added(write):
    few = load(write(VALUES, "few.csv"), drop=("id",))
    more = VALUES | {"sex": [*VALUES["sex"], *["d"] * ROWS]}  # sorts before the others, so that their index changes
    more = {name: values if name == "sex" else values * 2 for name, values in more.items()}
    many = load(write(more, "many.csv"), drop=("id",))
    assert many.columns[1].categories == ("d", "f", "m")
    for split in SPLITS:
        ages = {row[0] for row in getattr(few, f"x_{split}")}
        assert ages <= {row[0] for row in getattr(many, f"x_{split}")}


def test_equal_rows_and_rows_of_one_id_share_a_split(write):
    values = {"id": [i // 4 for i in range(400)], "a": GENERATOR.normal(size=400).round(3)}
    data = load(write(values), id_column="id")
    ids = [set(data.ids[split].tolist()) for split in SPLITS]
    assert ids[0].isdisjoint(ids[1] | ids[2])
    assert ids[1].isdisjoint(ids[2])
    assert data.ids["train"].dtype == np.int64


def test_a_folder_of_tables_keeps_its_splits_and_has_one_set_of_categories(write, tmp_path):
    write("code,v\n1,1.5\n2,2.5\n2,3.5\n", "own/train.csv")
    write("v,code\n1.0,b\n2.0,1\n", "own/test.csv")
    data = load(str(tmp_path / "own"))
    assert (data.name, data.split, len(data.x_valid)) == ("own", "as in the files", 0)
    assert data.columns == (Column("code", "category", ("1", "2", "b")), Column("v", "real"))
    assert data.x_test.tolist() == [[2, 1], [0, 2]]
    write("code,v\na,1\na,2\n", "own/valid.csv")
    assert load(str(tmp_path / "own")).x_valid[:, 0].tolist() == [2, 2]
    refused(
        "own: --split cannot be used, because the folder has a file for each",
        str(tmp_path / "own"),
        split=[0.5, 0, 0.5],
    )


def test_a_header_may_be_quoted_padded_counted_or_marked_and_values_may_hold_commas_and_lines(write):
    text = '"a, b", c\n' + "".join(f'"x,\ny",{i}\nz,{i}.5\n' for i in range(40))
    data = load(write(text, encoding="utf-8-sig"))
    assert data.columns == (Column("a, b", "category", ("x,\ny", "z")), Column("c", "real"))
    counted = "0,1\n" + "".join(f"{i}.5,{i % 2}\n" for i in range(40))
    assert [column.name for column in load(write(counted)).columns] == ["0", "1"]


FEW = "a,b\n1.5,x\n2.5,y\n0.5,x\n"
BAD = [
    ("a,b\n1,2\n3\n", {}, r"table.csv: row 2 has 1 values and the header 2 \('3'\): correct"),
    ("a,b\n1,2\n3,4,5\n", {}, "table.csv: row 2 has 3 values and the header 2"),
    ("a;b\n1,5;2\n", {}, "table.csv: the header is one column, 'a;b'; expected commas .* and not ';'"),
    ("a\tb\n1\t2\n", {}, "table.csv: the header is one column, 'a.*b'; expected commas"),
    ("a,b,a\n1,2,3\n", {}, "table.csv has more than one column a: rename"),
    (",b\n0,2\n", {}, r"table.csv: column 1 has no name; .*index=False"),
    ("", {}, "table.csv has no header: its first line is empty"),
    ("\na,b\n1,2\n", {}, "table.csv has no header: its first line is empty"),
    ("a,b\n", {}, "table.csv has column names and no rows"),
    ("5.1,3.5,setosa\n4.9,3.0,setosa\n", {}, "table.csv has no header: its first row holds the number '5.1'"),
    ("17,3\n4,5\n", {}, "table.csv has no header: its first row holds the number '17'"),
    (FEW, {"columns": ["a", "c"]}, "table.csv: --columns c: no such column; it has a, b"),
    (FEW, {"drop": ["aa"]}, "--drop aa: no such column; did you mean 'a'"),
    (FEW, {"id_column": "key"}, "--id-column key: no such column"),
    (FEW, {"label_column": "class"}, "--label-column class: no such column"),
    (FEW, {"columns": ["a"], "id_column": "a"}, "a is in both --columns and --id-column"),
    (FEW, {"columns": ["a", "a"]}, "--columns names a twice"),
    (FEW, {"drop": ["a", "b"]}, "no column is left to model of a, b"),
    (FEW, {"split": [0.5, 0.6, 0.1]}, r"split \(--split\) must be .*, got 0.5,0.6,0.1"),
    (FEW, {"split": [1.2, -0.3, 0.1]}, r"split \(--split\) must be .*, got 1.2,-0.3,0.1"),
    (
        FEW,
        {"split": [0.98, 0.01, 0.01]},
        "table.csv: no row of 3 falls into valid.* with the shares 0.98 / 0.01 / 0.01",
    ),
    ("a,b\n1,\n2,\n", {}, "table.csv: column 'b' has no values in any row; .*--drop b"),
    ("a,b\n1,7\n2,7\n3,\n", {}, "table.csv: column 'b' is constant, 7 in every row; .*--drop b"),
    ("a,b\n1,x\n2,x\n", {}, "table.csv: column 'b' is constant, 'x' in every row; .*--drop b"),
    (
        "a\n" + "".join(f"t{i}\n" for i in range(101)),
        {},
        "column 'a' has 101 different texts, .*--id-column, or --drop a",
    ),
    ("a,b\n1,2\n-inf,3\n", {}, "table.csv: row 2, column 'a' is infinite; .*--drop a"),
    ("a\n1.5\n2.5\n?\n3.5\n4\n", {}, r"table.csv: row 3, column 'a' is '\?', and most other values are numbers"),
    (
        "a\n" + "0\n1\n" * 99 + "x\n",
        {},
        "row 199, column 'a' is 'x', and most other values .*dictionary declares categories",
    ),
    ('a\n"12,5"\n7\n"0,25"\n', {}, "table.csv: row [13], column 'a' is '(0,25|12,5)'; expected numbers .* point"),
    ('a\n"1.234,5"\n"2,5"\n', {}, "column 'a' is '1.234,5'; expected .* categories with a letter, or --drop a"),
    ('a\n"-1,234.5"\n"1,000"\n', {}, "column 'a' is '-1,234.5'; expected numbers"),
    ("a\n5%\n 7.5 %\n10%\n", {}, "column 'a' is ' 7.5 %'; expected numbers .* and no unit"),
    ("a\n$5\n€ 7\n-3.5£\n", {}, "column 'a' is .*; expected numbers"),
    ("a\n31.12.2024\n1.2.2025\n", {}, "column 'a' is .*; expected .* dates as days since the first one"),
    ("a\n2024/12/31\n12/31/2024\nunknown\n2024.1.2\n1-2-2024\n", {}, "column 'a' is .*; expected"),
    ("a\n2024-01-01\n2024-01-02\nlater\n2024-1-3\n2024-01-04 10:30\n2024-01-05\n", {}, "column 'a' is .*; expected"),
    ("a\n2024-01-01\n2024-01-02\n", {}, r"column 'a' holds dates or times \(date32.*--drop a"),
    ("a\n10:30:00\n10:31:00\n", {}, "column 'a' holds dates or times"),
    (
        "a\n1600000000.5\n1600000100\n",
        {},
        "column 'a' runs from 1600000000 to 1600000100, .*subtract a constant, such as its median, or --drop",
    ),
    ("a\n1e39\n2\n", {}, r"column 'a' reaches 1e\+39, beyond float32"),
    ("a,b\n1,u\n2,u\n", {"label_column": "b"}, "every row of the label column 'b' is 'u'; expected at least two"),
    (
        "a,b\n1,u\n2,\n",
        {"label_column": "b"},
        "table.csv: row 2 has no value in column 'b', which --label-column names",
    ),
    ("a,b\n1,u\n2,\n", {"id_column": "b"}, "table.csv: row 2 has no value in column 'b', which --id-column names"),
]


@pytest.mark.parametrize(("text", "settings", "words"), BAD)
def test_an_unusable_table_is_one_line_that_names_file_column_and_remedy(write, text, settings, words):
    refused(words, write(text), **settings)


def test_a_file_that_is_no_table_is_one_line(write, tmp_path):
    refused("table.parquet cannot be read .*; expected a Parquet file", write("a,b\n1,2\n", "table.parquet"))
    refused("table.csv cannot be read .*; expected a CSV file .* in UTF-8", write("a,b\né,2\n", encoding="latin-1"))
    refused(
        "table.xlsx has an unknown ending; expected .csv, .parquet, .npy, .npz or a folder", write("", "table.xlsx")
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[1, 2], [3, 4]], "column 'v' holds values of type list<.*column of its own, or --drop v"),
        ([{"a": 1}, {"a": 2}], "column 'v' holds values of type struct<.*--drop v"),
        ([b"a", b"b"], "column 'v' holds values of type binary.*: turn them into text, or --drop v"),
        (
            [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 2)],
            r"column 'v' holds dates or times \(timestamp",
        ),
    ],
)
def test_types_of_parquet_that_are_no_numbers_or_text_are_refused_unless_dropped(tmp_path, values, words):
    path = parquet(tmp_path / "t.parquet", {"v": values * 20, "w": GENERATOR.normal(size=40)})
    refused(words, path)
    assert load(path, drop=("v",)).data_dim == 1


@pytest.mark.parametrize(
    "values",
    [
        ["ward 3", "ward 4"],
        ["1.2.3", "1.2.4"],
        ["18-25", "26-35"],
        ["2024-01", "2024-02"],
        ["a,1", "b,2"],
        ["5%", "low"],
    ],
)
def test_texts_with_digits_that_are_no_numbers_are_categories(tmp_path, values):
    path = parquet(tmp_path / "t.parquet", {"v": values * 20, "w": range(40)})
    assert load(path, id_column="w").columns == (Column("v", "category", tuple(sorted(values))),)


@pytest.mark.parametrize(
    ("values", "categories"),
    [
        ([3, 1, 20], ("1", "20", "3")),
        ([True, False], ("false", "true")),
        ([0.5, 1.0], ("0.5", "1")),
        ([*"12345678", "9+"], (*"12345678", "9+")),
    ],
)
def test_a_dictionary_in_a_parquet_file_is_a_category_whatever_its_values(tmp_path, values, categories):
    values = values * 20
    path = parquet(tmp_path / "t.parquet", {"w": range(len(values)), "v": pa.array(values).dictionary_encode()})
    assert load(path, id_column="w").columns == (Column("v", "category", categories),)
    plain = parquet(tmp_path / "plain.parquet", {"v": values})
    columns = [Column("v", "category", categories)]
    np.testing.assert_array_equal(read_rows(path, columns)[0], read_rows(plain, columns)[0])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_text_of_every_type_is_text(tmp_path, kind):
    path = parquet(tmp_path / "t.parquet", {"v": pa.array(["a", "b"] * 20, kind), "w": range(40)})
    assert load(path, id_column="w").columns == (Column("v", "category", ("a", "b")),)


@pytest.mark.parametrize(
    ("first", "kind", "dtype"),
    [
        (10**17, pa.int64(), "i"),
        (2**64 - 300, pa.uint64(), "U"),
        (10**17, pa.decimal128(20, 0), "i"),
        (10**19, pa.decimal128(20, 0), "U"),
        (2**52, pa.float64(), "f"),
    ],
)
def test_ids_are_never_rounded(tmp_path, first, kind, dtype):
    ids = [first + 2 * i for i in range(100)]
    written = [decimal.Decimal(i) for i in ids] if pa.types.is_decimal(kind) else ids
    path = parquet(tmp_path / "t.parquet", {"v": GENERATOR.normal(size=100), "id": pa.array(written, kind)})
    found = np.concatenate([load(path, id_column="id").ids[split] for split in SPLITS])
    assert found.dtype.kind == dtype
    assert sorted(int(i) for i in found) == ids
    assert read_rows(path, [Column("v", "real")], "id")[1].tolist() == (list(map(str, ids)) if dtype == "U" else ids)


def test_an_empty_line_of_a_single_column_is_a_missing_value_and_else_no_row(write):
    for ending in ("", "\n", "\n\n\n", "\r\n\r\n"):  # where an editor may leave empty lines
        x, _ = read_rows(write(f"v\n1.5\n\n2.5{ending}"), [Column("v", "real")])
        np.testing.assert_array_equal(x[:, 0], np.float32([1.5, np.nan, 2.5]))
    x, _ = read_rows(write('v\n1.5\n""\n'), [Column("v", "real")])
    np.testing.assert_array_equal(x[:, 0], np.float32([1.5, np.nan]))
    x, _ = read_rows(write("v,w\n1.5,1\n\n2.5,1\n\n"), [Column("v", "real")])
    np.testing.assert_array_equal(x[:, 0], np.float32([1.5, 2.5]))


def test_the_index_of_a_pandas_table_is_not_modelled_unnoticed(tmp_path):
    path = parquet(tmp_path / "t.parquet", {"w": GENERATOR.normal(size=40), "__index_level_0__": range(40)})
    refused("is the index of a pandas table: name it as --id-column, or --drop __index_level_0__", path)
    assert load(path, id_column="__index_level_0__").ids["train"].dtype == np.int64


def test_files_of_splits_must_have_the_same_columns_and_training_rows_that_vary(write, tmp_path):
    write("a,b\n1.5,2\n2.5,3\n", "own/train.csv")
    write("a,c\n1,2\n2,3\n", "own/test.csv")
    refused("test.csv has no column b, and .*train.csv has it", str(tmp_path / "own"))
    write("a,b\n1.5,2\n1.5,3\n", "own/train.csv")
    write("a,b\n2.5,2\n2.5,3\n", "own/test.csv")
    refused("column 'a' is constant, 1.5 in every row of the training split; .*--drop a", str(tmp_path / "own"))


COLUMNS = (Column("age", "real"), Column("sex", "category", ("f", "m")), Column("n", "count"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rows_to_be_scored_are_read_by_name_with_unknown_categories_as_minus_1(write, tmp_path, ending):
    values = {"n": [1, None, 3, 4], "id": ["a", "b", "c", "d"], "age": [1.5, 2.0, None, 7.0], "more": [1, 1, 1, 1]}
    values["sex"] = ["m", "x", None, "f"]
    path = parquet(tmp_path / "t.parquet", values)
    if ending == "csv":
        path = write(csv_text(values).replace("None", ""))
    x, ids = read_rows(path, COLUMNS, "id")
    assert (x.dtype, ids.tolist()) == (np.float32, ["a", "b", "c", "d"])
    nan = np.nan
    np.testing.assert_array_equal(x, np.float32([[1.5, 1, 1], [2, -1, nan], [nan, nan, 3], [7, 0, 4]]))
    assert read_rows(path, COLUMNS)[1] is None


def test_a_category_that_csv_files_have_for_missing_is_found_in_them(write, tmp_path):
    columns = (Column("area", "category", ("AS", "EU", "NA")), Column("n", "count"))
    path = write("area,n\nNA,1\nnull,null\nEU,2\n")
    np.testing.assert_array_equal(read_rows(path, columns)[0], np.float32([[2, 1], [np.nan, np.nan], [1, 2]]))
    with pytest.raises(InputError, match="row 1, column 'n' is 'NA'; expected a number"):
        read_rows(write("area,n\nNA,NA\n"), columns)


@pytest.mark.parametrize("flag", ["id_column", "label_column"])
def test_an_empty_text_is_no_id_and_no_label(tmp_path, flag):
    path = parquet(tmp_path / "t.parquet", {"v": GENERATOR.normal(size=40), "w": ["a", ""] + ["b"] * 38})
    refused("row 2 has no value in column 'w', which --" + flag.replace("_", "-"), path, **{flag: "w"})


def test_categories_that_look_like_numbers_are_found_when_all_scored_values_do(write):
    columns = (Column("code", "category", ("01", "2", "b")),)
    assert read_rows(write("code\n01\n2\n1\n"), columns)[0].tolist() == [[0], [1], [-1]]


def test_true_and_false_are_1_and_0_beside_a_value_that_is_neither(write):
    columns = [Column("b", "binary")]
    with pytest.raises(InputError, match="row 2, column 'b' is 'yes'; expected a number"):
        read_rows(write("b\nTrue\nyes\n"), columns)
    np.testing.assert_array_equal(
        read_rows(write("b,c\nTrue,1\n,1\n0,1\nfalse,1\n"), columns)[0][:, 0], [1, np.nan, 0, 0]
    )


def test_rows_that_cannot_be_scored_name_the_column(write):
    for text, words in (
        ("age,n\n1,2\n", "table.csv has no column sex, which the model was trained on; it has age, n: add it"),
        ("age,sex,n\n1,m,2\nold,m,2\n", "table.csv: row 2, column 'age' is 'old'; expected a number"),
        ("age,sex,n\n2024-01-01,m,2\n", "column 'age' holds dates or times"),
        ("age,sex,n\n", "no rows"),
    ):
        with pytest.raises(InputError, match=words):
            read_rows(write(text), COLUMNS)
    with pytest.raises(InputError, match="--id-column key: no such column"):
        read_rows(write("age,sex,n\n1,m,2\n"), COLUMNS, "key")
