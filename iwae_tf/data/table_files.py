"""Files of tables: CSV and Parquet, with checks of their form and of the names of their columns."""

import base64
import collections
import csv
import pathlib
import re
from collections.abc import Collection, Sequence

import pyarrow as pa

from iwae_tf.data import files
from iwae_tf.errors import InputError

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

_BLOCK = 1 << 24  # bytes; a row of a CSV file must fit into one


def read_table(path: pathlib.Path, text: tuple[str, ...], known: Collection[str] = ()) -> pa.Table:
    """Returns the table of a file after checks of its column names.

    The columns `text` of a CSV file are read as text, and texts that are `known` are values, also NA and the like.
    """
    table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path, text, known)
    check_names(table.column_names, path)
    if not table.num_rows:
        raise InputError(f"{path} has column names and no rows; expected at least one row: fill it")
    return table


def _read_parquet(path: pathlib.Path) -> pa.Table:
    import pyarrow.parquet as pq

    with files.reading(path, "a Parquet file"), pq.ParquetFile(path) as file:
        table, stored = file.read(), (file.metadata.metadata or {}).get(b"ARROW:schema")
        schema = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(stored))) if stored else table.schema
    # A dictionary of other values than text is read as these values; its type is in the stored schema alone.
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(schema.types[number]) and not is_text(field.type):
            table = table.set_column(number, field.name, table.column(number).cast(pa.string()))
    return table


def _read_csv(path: pathlib.Path, text: tuple[str, ...], known: Collection[str]) -> pa.Table:
    from pyarrow import csv as arrow_csv

    form = "a CSV file with commas and a header, in UTF-8"
    with files.reading(path, form), open(path, encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    _check_header(header, path)
    names, ragged = [name.strip() for name in header], []
    check_names(names, path)

    def keep(row):
        ragged.append(row)
        return "error"

    try:
        with files.reading(path, form):
            table = arrow_csv.read_csv(
                path,
                # One thread, because only then a ragged row has a number.
                read_options=arrow_csv.ReadOptions(
                    use_threads=False, block_size=_BLOCK, column_names=names, skip_rows_after_names=1
                ),
                parse_options=arrow_csv.ParseOptions(
                    newlines_in_values=True,
                    ignore_empty_lines=len(names) > 1,  # an empty line of one column is a missing value
                    invalid_row_handler=keep,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    strings_can_be_null=True,
                    null_values=[word for word in arrow_csv.ConvertOptions().null_values if word not in known],
                    column_types={name: pa.string() for name in text if name in names},
                ),
            )
            return table if len(names) > 1 else table.slice(0, max(0, table.num_rows - _empty_at_end(path)))
    except InputError:
        if not ragged:
            raise
        row = ragged[0]
        raise InputError(
            f"{path}: row {row.number - 1} has {row.actual_columns} values and the header {row.expected_columns} "
            f"({row.text[:60]!r}): correct that row; put text with a comma in quotation marks"
        ) from None


def _empty_at_end(path: pathlib.Path) -> int:
    """Returns the number of empty lines at the end of a file."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _BLOCK))
        ending = file.read().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return max(0, len(ending) - len(ending.rstrip(b"\n")) - 1)


def _check_header(header: list[str], path: pathlib.Path) -> None:
    """Raises `InputError` if the first row of a CSV file is missing, has another delimiter or is one of numbers."""
    if not any(header):
        raise InputError(
            f"{path} has no header: its first line is empty; expected names of the columns: add a row of names at its "
            "top"
        )
    other = next((mark for mark in ";\t|" if mark in header[0]), None)
    if len(header) == 1 and other:
        raise InputError(
            f"{path}: the header is one column, {header[0][:60]!r}; expected commas between the columns and not "
            f"{other!r}: save it with commas"
        )
    numeric = [name for name in header if NUMBER.fullmatch(name.strip())]
    counted = header == [str(i) for i in range(len(header))]
    if not counted and (len(numeric) == len(header) or any("." in name or "e" in name.lower() for name in numeric)):
        raise InputError(
            f"{path} has no header: its first row holds the number {numeric[0]!r}; expected names of the columns: add "
            "a row of names at its top"
        )


def check_names(names: Sequence[str], path: pathlib.Path | str) -> None:
    """Raises `InputError` if a column has no name, or two have the same."""
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if "" in names:
        raise InputError(
            f"{path}: column {names.index('') + 1} has no name; expected a name for each: name it, or leave it out "
            "(pandas: to_csv(..., index=False))"
        )
    if twice:
        raise InputError(f"{path} has more than one column {listed(twice)}: rename them so that they differ")


def is_text(kind: pa.DataType) -> bool:
    """Returns whether a column is text or a dictionary."""
    return pa.types.is_dictionary(kind) or str(kind) in ("string", "large_string", "string_view")


def listed(names: Sequence[str], most: int = 12) -> str:
    """Returns the names with commas, the first ones of many."""
    rest = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
