"""Tables of a user, CSV or Parquet: their columns as float32, with the kind of each; NaN is a missing value."""

import collections
import contextlib
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iwae_tf.data import files
from iwae_tf.data.columns import check_precision, check_values, number_kind
from iwae_tf.data.dataset import SPLITS, UNSEEN, Column, Dataset
from iwae_tf.data.splits import WHOLE, content_keys, described, split_rows
from iwae_tf.data.table_files import NUMBER, check_names, is_text, listed, read_table
from iwae_tf.errors import InputError, nearest_name

MOST_CATEGORIES = 100
TRUTH = {"true": "1", "false": "0"}  # of a column of 0 and 1
# Words in a column that else holds numbers are taken for mistakes, if they are at most these shares
MOST_WORDS = 0.2  # of the different values
MOST_ROWS = 0.01  # of the rows
LOCAL_FORMS = re.compile(  # of numbers and dates
    r"[-+]?\d[\d.]*,\d+"  # 12,5 and 1.234,5
    r"|[-+]?\d[\d,]*,\d{3}(\.\d+)?"  # 1,234.5
    r"|[-+]?[\d.,]+ ?[%$€£]|[-+]?[$€£] ?[-+]?[\d.,]+"  # 5% and $ 3
    r"|(\d{1,2}([./-])\d{1,2}\3\d{4}|\d{4}([./-])\d{1,2}\4\d{1,2})([T ].*)?"  # 31.12.2024 and 2024-12-31 10:30
)


def load_tables(
    name: str, paths: Mapping[str, pathlib.Path], *, id_column: str | None = None, **chosen: Any
) -> Dataset:
    """Returns a user's table, or the tables of its splits, as a data set with columns.

    Args:
        name: of the data set.
        paths: split -> file; one entry `WHOLE` for a table that is split by its rows.
        id_column: names the rows.
        **chosen: the other settings of `from_tables`.

    Raises:
        InputError: a file, a column or a value cannot be used.
    """
    text = (id_column,) if id_column else ()
    tables = {key: read_table(path, text) for key, path in paths.items()}
    if len(tables) > 1:  # what is text in one file may look like numbers in another
        text += tuple(field.name for table in tables.values() for field in table.schema if is_text(field.type))
        tables = {key: read_table(path, text) for key, path in paths.items()}
    source = ", ".join(str(path) for path in paths.values())
    places = {key: str(path) for key, path in paths.items()}
    return from_tables(name, tables, places, source, id_column=id_column, **chosen)


def from_tables(
    name: str,
    tables: Mapping[str, pa.Table],
    places: Mapping[str, str],
    source: str,
    *,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    id_column: str | None = None,
    label_column: str | None = None,
    split: tuple[float, ...] | None = None,
) -> Dataset:
    """Returns tables in memory as a data set with columns.

    Args:
        name: of the data set.
        tables: split -> table, or one entry `WHOLE`.
        places: the same keys -> file, for errors.
        source: see `Dataset`.
        columns: names of the columns to model, in this order; None means all.
        drop: names of columns to leave out.
        id_column: names the rows.
        label_column: holds a known outcome of each row.
        split: shares of train, valid and test, of one table.

    Raises:
        InputError: a column or a value cannot be used.
    """
    rows = _Rows(tables, places)
    names = _chosen(rows, columns, drop, id_column, label_column)
    read = [_column(rows, column) for column in names]
    x = np.stack([values for _, values, _ in read], axis=1)  # [N, D]
    ids = None if id_column is None else _outcomes(rows, id_column, "--id-column")
    labels = None if label_column is None else _outcomes(rows, label_column, "--label-column")
    if labels is not None and len(np.unique(labels)) < 2:
        raise InputError(
            f"{rows.first}: every row of the label column {label_column!r} is {labels[0].item()!r}; expected at least "
            "two values: name another --label-column, or leave it out"
        )
    if WHOLE in tables:
        keys = _row_keys(x, [text for *_, text in read]) if ids is None else (str(i).encode() for i in ids.tolist())
        numbers = split_rows(keys, split, rows.first)
        how = described(split, "content" if ids is None else f"{id_column!r}")
    else:
        numbers, how = rows.of_splits(), "as in the files"
    _check_training(x[numbers["train"]], [column for column, *_ in read], rows.first)
    return Dataset(
        name,
        **{f"x_{split}": x[numbers[split]] for split in SPLITS},
        scale=1.0,
        image_shape=(1, x.shape[1]),
        source=source,
        split=how,
        columns=tuple(column for column, *_ in read),
        ids={} if ids is None else {split: ids[numbers[split]] for split in SPLITS},
        labels={} if labels is None else {split: labels[numbers[split]] for split in SPLITS},
    )


def read_rows(
    path: pathlib.Path | str, columns: Sequence[Column], id_column: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads a table to be scored by a model that was trained on `columns`.

    Args:
        path: a CSV or Parquet file; columns are found by name, and other columns are ignored.
        columns: of the model's data set, in their order.
        id_column: name of the column that names the rows.

    Returns:
        float32 [N, D], where NaN is a missing value and -1 an unknown category, and the ids [N] or None.

    Raises:
        InputError: a column is missing, or holds text where the model has numbers.
    """
    return rows_of_table(table_of_rows(path, columns, id_column), path, columns, id_column)


def table_of_rows(path: pathlib.Path | str, columns: Sequence[Column], id_column: str | None = None) -> pa.Table:
    """Returns the table that `read_rows` reads, in which categories and ids are text."""
    text = (*(column.name for column in columns if column.kind == "category"), *([id_column] if id_column else []))
    known = {category for column in columns for category in column.categories}
    return read_table(pathlib.Path(path), text, known)


def rows_of_table(
    table: pa.Table, place: pathlib.Path | str, columns: Sequence[Column], id_column: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns what `read_rows` returns, of a table in memory; `place` names it in errors."""
    names = [column.name for column in columns]
    check_names(table.column_names, place)
    rows = _Rows({WHOLE: table}, {WHOLE: str(place)})
    missing = [name for name in names if name not in rows.names]
    if missing:
        raise InputError(
            f"{place} has no column {listed(missing)}, which the model was trained on; it has {listed(rows.names)}: "
            "add it, empty where the value is missing"
        )
    x = np.empty((rows.count, len(names)), np.float32)
    for i, column in enumerate(columns):
        with np.errstate(over="ignore"):  # a number above 3.4e38 becomes inf, and its row gets a status
            x[:, i] = _codes(rows, column) if column.kind == "category" else _scored_numbers(rows, column)
    return x, None if id_column is None else _outcomes(rows, id_column, "--id-column")


class _Rows:
    """The rows of one or several tables, one after the other."""

    def __init__(self, tables: Mapping[str, pa.Table], places: Mapping[str, str]):
        self._tables, self._places = tables, places
        self.names = next(iter(tables.values())).column_names
        self.first = next(iter(places.values()))
        self.count = sum(table.num_rows for table in tables.values())
        for key, table in tables.items():
            missing = [name for name in self.names if name not in table.column_names]
            if missing:
                raise InputError(
                    f"{places[key]} has no column {listed(missing)}, and {self.first} has it: give all files the same "
                    "columns"
                )

    def arrays(self, name: str) -> list[pa.ChunkedArray]:
        """Returns a column, one array a table."""
        return [table[name] for table in self._tables.values()]

    def place(self, row: int) -> str:
        """Returns file and row, counted from 1 after the header, of a row of all tables together."""
        for key, table in self._tables.items():
            if row < table.num_rows:
                return f"{self._places[key]}: row {row + 1}"
            row -= table.num_rows
        raise IndexError(row)

    def of_splits(self) -> dict[str, np.ndarray]:
        """Returns the numbers of the rows of each split, where each has its table."""
        numbers, first = {split: np.arange(0) for split in SPLITS}, 0
        for split, table in self._tables.items():
            numbers[split] = np.arange(first, first + table.num_rows)
            first += table.num_rows
        return numbers


# Columns


def _chosen(
    rows: _Rows,
    columns: Sequence[str] | None,
    drop: Sequence[str],
    id_column: str | None,
    label_column: str | None,
) -> list[str]:
    """Returns the names of the columns to model."""
    kept_out = {"--id-column": id_column, "--label-column": label_column}
    asked = {"--columns": columns or (), "--drop": drop} | {k: (v,) for k, v in kept_out.items() if v is not None}
    for flag, names in asked.items():
        for name in names:
            if name not in rows.names:
                nearest = nearest_name(name, rows.names)
                hint = f"did you mean {nearest!r}? " if nearest else ""
                raise InputError(f"{rows.first}: {flag} {name}: no such column; {hint}it has {listed(rows.names)}")
    for flag in ("--drop", *kept_out):
        both = [name for name in asked.get(flag, ()) if name in asked["--columns"]]
        if both:
            raise InputError(f"{rows.first}: {listed(both)} is in both --columns and {flag}: leave it out of one")
    twice = [name for name, count in collections.Counter(columns or ()).items() if count > 1]
    if twice:
        raise InputError(f"{rows.first}: --columns names {listed(twice)} twice: name each column once")
    left_out = {*drop, *kept_out.values()}
    names = list(columns) if columns else [name for name in rows.names if name not in left_out]
    if not names:
        raise InputError(f"{rows.first}: no column is left to model of {listed(rows.names)}: drop fewer")
    return names


def _column(rows: _Rows, name: str) -> tuple[Column, np.ndarray, pa.ChunkedArray | None]:
    """Returns a column, its values as float32 [N], and the text of a category column."""
    arrays, place = rows.arrays(name), f"{rows.first}: column {name!r}"
    if name.startswith("__index_level_"):
        raise InputError(f"{place} is the index of a pandas table: name it as --id-column, or --drop {name}")
    for array in arrays:
        _check_type(array.type, place, name)
    if any(is_text(array.type) for array in arrays):
        text = _text(arrays)
        declared = any(pa.types.is_dictionary(array.type) for array in arrays)
        column = Column(name, "category", _categories(rows, name, text, declared))
        return column, _codes(rows, column), text
    values = np.concatenate([_numbers(array) for array in arrays])
    present = values[~np.isnan(values)]
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise InputError(
            f"{rows.place(infinite[0])}, column {name!r} is infinite; expected a number, or nothing where it is "
            f"missing: correct it, or --drop {name}"
        )
    check_values(present, place, f"--drop {name}")
    kind = number_kind(present)
    if kind == "real":
        check_precision(present, place, f"--drop {name}")
    return Column(name, kind), values.astype(np.float32), None


def _check_type(kind: pa.DataType, place: str, name: str) -> None:
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    if is_text(kind) or any(test(kind) for test in tests):
        return
    what, remedy = f"values of type {kind}", "turn them into text"
    if types.is_nested(kind):
        remedy = "put each value into a column of its own"
    if types.is_temporal(kind):
        what, remedy = f"dates or times ({kind})", "turn them into numbers, for example days since the first one"
    raise InputError(f"{place} holds {what}; expected numbers or text: {remedy}, or --drop {name}")


def _categories(rows: _Rows, name: str, text: pa.ChunkedArray, declared: bool) -> tuple[str, ...]:
    """Returns the different values of a text column, sorted; those of a dictionary are `declared` to be categories."""
    place = f"{rows.first}: column {name!r}"
    counts = {entry["values"]: entry["counts"] for entry in text.drop_null().value_counts().to_pylist()}
    values = sorted(counts)
    if len(values) < 2:
        found = f"is constant, {values[0]!r} in every row" if values else "has no values, all are missing"
        raise InputError(f"{place} {found}; expected at least two different values: --drop {name}")
    words = [value for value in values if not declared and not NUMBER.fullmatch(value.strip())]
    few = len(words) <= MOST_WORDS * len(values) or sum(map(counts.get, words)) <= MOST_ROWS * sum(counts.values())
    if words and few:
        row = pc.index(text, words[0]).as_py()
        raise InputError(
            f"{rows.place(row)}, column {name!r} is {words[0][:40]!r}, and most other values are numbers: correct it, "
            f"leave it empty where it is missing, or --drop {name}; a Parquet dictionary declares categories"
        )
    local = [value for value in words if LOCAL_FORMS.fullmatch(value.strip())]
    if local and len(words) - len(local) <= MOST_WORDS * len(values):
        row = pc.index(text, local[0]).as_py()
        raise InputError(
            f"{rows.place(row)}, column {name!r} is {local[0][:40]!r}; expected numbers with a decimal point and no "
            f"unit: write them so, dates as days since the first one, categories with a letter, or --drop {name}"
        )
    if len(values) > MOST_CATEGORIES:
        raise InputError(
            f"{place} has {len(values)} different texts, for example {values[0][:40]!r}; expected at most "
            f"{MOST_CATEGORIES} categories: it looks like an identifier or free text, so name it as --id-column, or "
            f"--drop {name}"
        )
    return tuple(values)


def _check_training(x: np.ndarray, columns: list[Column], place: str) -> None:
    """Raises `InputError` if a real column is constant in the training split, or any column has no values there."""
    for i, column in enumerate(columns):
        present = x[~np.isnan(x[:, i]), i]
        if column.kind == "real" or not len(present):
            remedy = f"give more rows, another --split, or --drop {column.name}"
            check_values(present, f"{place}: column {column.name!r}", remedy, "row of the training split")


# Values


def _text(arrays: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Returns columns as one column of text; an empty text is a missing value."""
    chunks = [chunk for array in arrays for chunk in array.chunks]
    plain = [chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk for chunk in chunks]
    text = pa.chunked_array([chunk.cast(pa.string()) for chunk in plain], pa.string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _numbers(array: pa.ChunkedArray) -> np.ndarray:
    """Returns a numeric column as float64 [N]; missing values are NaN."""
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    return array.cast(pa.float64(), safe=False).to_numpy()


def _codes(rows: _Rows, column: Column) -> np.ndarray:
    """Returns the values of a category column by the rule of `Column`, float32 [N]; exports have it in their graph."""
    text = _text(rows.arrays(column.name))
    found = pc.index_in(text, pa.array(column.categories, pa.string()))
    codes = pc.if_else(pc.is_null(found), UNSEEN, found).to_numpy().astype(np.float32)
    codes[pc.is_null(text).to_numpy()] = np.nan
    return codes


def _scored_numbers(rows: _Rows, column: Column) -> np.ndarray:
    (array,) = rows.arrays(column.name)
    if not is_text(array.type):
        _check_type(array.type, f"{rows.first}: column {column.name!r}", column.name)
        return _numbers(array)
    values = _text([array]).to_pylist()
    if column.kind == "binary":  # a CSV column of true and false is read as text beside a value that is neither
        values = [TRUTH.get(value.strip().lower(), value) if value else value for value in values]
    for row, value in enumerate(values):
        if value is not None and not NUMBER.fullmatch(value.strip()):
            raise InputError(
                f"{rows.place(row)}, column {column.name!r} is {value[:40]!r}; expected a number, or nothing where it "
                "is missing: correct it"
            )
    return np.array([np.nan if value is None else float(value) for value in values])


def _outcomes(rows: _Rows, name: str, flag: str) -> np.ndarray:
    """Returns the ids or labels of all rows: int64 or float64 if they fit in without rounding, else text; [N]."""
    if name not in rows.names:
        raise InputError(f"{rows.first}: {flag} {name}: no such column; it has {listed(rows.names)}")
    arrays = rows.arrays(name)
    types = [array.type for array in arrays]
    arrays = [_text([array]) if is_text(array.type) else array for array in arrays]  # where "" is null
    missing = np.flatnonzero(np.concatenate([pc.is_null(array, nan_is_null=True).to_numpy() for array in arrays]))
    if len(missing):
        raise InputError(
            f"{rows.place(missing[0])} has no value in column {name!r}, which {flag} names: fill it, or leave {flag} "
            "out"
        )
    for numeric, dtype in ((_is_whole, pa.int64()), (_is_number, pa.float64())):
        if all(numeric(kind) for kind in types):
            with contextlib.suppress(pa.ArrowInvalid):  # too large an integer
                return np.concatenate([array.cast(dtype).to_numpy() for array in arrays])
    with files.reading(pathlib.Path(rows.first), f"numbers or text in column {name!r}"):
        text = _text(arrays).to_pylist()
    return _integers(text) if flag == "--id-column" else np.array(text)


def _is_whole(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _is_number(kind: pa.DataType) -> bool:
    return _is_whole(kind) or pa.types.is_floating(kind)


def _integers(text: list[str]) -> np.ndarray:
    """Returns ids as int64 if each is written as an integer is, else as text: 007 stays text."""
    if all(re.fullmatch(r"0|-?[1-9]\d{0,17}", value) for value in text):
        return np.array(text).astype(np.int64)
    return np.array(text)


def _row_keys(x: np.ndarray, texts: list[pa.ChunkedArray | None]):
    """Returns of each row the bytes that decide its split: its numbers, and its categories as text.

    The index of a category is left out, because new categories change it.
    """
    numeric = [i for i, text in enumerate(texts) if text is None]
    words = [text.to_pylist() for text in texts if text is not None]
    for key, *own in zip(content_keys(x[:, numeric]), *words, strict=True):
        yield key + "\0".join("" if word is None else word for word in own).encode()
