"""Scores more rows than one machine holds, by Apache Beam's RunInference around an exported model.

Reads Parquet files, one row group at a time, or CSV files, one file at a time, and writes Parquet files. A row has the
scores that `export/score.py` gives it, however many workers there are. All other flags are Beam's, such as --runner;
without it the rows are scored in this process. Needs: pip install -r requirements-beam.txt.
"""

import contextlib
import glob
import io
import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from iwae_tf.commands.flags import Parser
from iwae_tf.commands.quiet import import_tensorflow
from iwae_tf.data.files import reading
from iwae_tf.data.tables import rows_of_table, table_of_rows
from iwae_tf.errors import InputError, exit_code
from iwae_tf.serving.backends import parse_model_url
from iwae_tf.serving.client import MAX_BYTES, MAX_ROWS, as_rows, recorded_columns
from iwae_tf.serving.model_folder import FolderBackend, find_version, trained_data
from iwae_tf.serving.scores import DTYPES, OK, STATUSES, from_outputs

logging.getLogger().setLevel(logging.CRITICAL)  # Beam warns on import, and logs errors before it raises them
try:
    import apache_beam as beam
    from apache_beam.io.fileio import MatchFiles
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.metrics import Metrics, MetricsFilter
    from apache_beam.ml.inference.base import ModelHandler, RunInference
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError:
    print("error: Apache Beam is not installed; run: pip install -r requirements-beam.txt", file=sys.stderr)
    sys.exit(2)


class Reader:
    """Reads files in tasks: path, row group (None for a CSV file) and the number of its first row in the file.

    Args:
        columns: of the model's training data; empty for files with a column x, the list of a row's values.
        id_column: names the rows, or None.
    """

    def __init__(self, columns, id_column):
        self.columns, self.id_column = columns, id_column
        self.names = [column.name for column in columns] or ["x"]

    def tasks(self, path: str):
        """Yields the tasks of a file."""
        if path.lower().endswith(".csv") and self.columns:
            yield path, None, 0
        elif path.lower().endswith(".parquet"):
            with _opened(path) as file:
                rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            yield from ((path, group, sum(rows[:group])) for group in range(len(rows)))
        else:
            raise InputError(f"{path}: expected .parquet" + ", or .csv" * bool(self.columns))

    def chunks(self, task):
        """Yields the rows of a task in chunks: the columns that name them, and x, float32 [N, D]."""
        path, group, first = task
        for table in self._csv(path) if group is None else self._batches(path, group):
            place = f"{path}, after row {first}" if first else path
            x, ids = rows_of_table(table, place, self.columns, self.id_column)
            x = x if self.columns else _lists(table, place)
            size = max(1, min(MAX_ROWS, MAX_BYTES // x[0].nbytes))  # as in a request of score.py
            for start in range(0, len(x), size):
                rows = np.arange(start, min(start + size, len(x)))
                names = {"file": [path] * len(rows), "row": first + rows}
                yield names if ids is None else names | {"id": ids[rows].astype(str)}, x[rows]
            first += len(x)

    def _batches(self, path, group):
        names = self.names + ([self.id_column] if self.id_column else [])
        with _opened(path) as file:
            known = set(names) <= set(file.schema_arrow.names)  # otherwise the error names all columns
            for batch in file.iter_batches(MAX_ROWS, [group], names if known else None):
                yield pa.Table.from_batches([batch])

    def _csv(self, path):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "rows.csv"
            with FileSystems.open(path) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target)
            try:
                yield table_of_rows(copy, self.columns, self.id_column)
            except InputError as error:
                raise InputError(str(error).replace(str(copy), path)) from None


@contextlib.contextmanager
def _opened(path):
    with reading(path, "a Parquet file"), FileSystems.open(path) as source:
        yield pq.ParquetFile(source)


def _lists(table, place):
    x = table["x"].combine_chunks() if "x" in table.column_names else None
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if x is None or not any(is_one(x.type) for is_one in lists):
        raise InputError(f"{place} has no column x of lists, with the values of a row; it has {table.schema.names}")
    if x.null_count or pc.count_distinct(pc.list_value_length(x)).as_py() != 1:
        raise InputError(f"{place}: the lists in column x differ in length; expected all values of a row in each")
    return as_rows(x.flatten().to_numpy(zero_copy_only=False).reshape(len(x), -1), f"{place}: column x")


class Scorer(ModelHandler):
    """Scores chunks of rows by the version of a model in a folder."""

    def __init__(self, version: str):
        self.version = version

    def batch_elements_kwargs(self):
        return {"min_batch_size": 1, "max_batch_size": 1}  # an element is a chunk of rows

    def load_model(self):
        import_tensorflow()
        return FolderBackend(parse_model_url(self.version))

    def run_inference(self, batch, model, inference_args=None):
        for names, x in batch:
            dim = model.data_dim("serving_default")
            if dim not in (None, x.shape[1]):
                raise InputError(f"{names['file'][0]}: the rows have {x.shape[1]} values each, the model takes {dim}")
            scores = from_outputs(model.predict("serving_default", {"x": x}), len(x))
            for status, count in zip(*np.unique(scores.status, return_counts=True), strict=True):
                Metrics.counter("status", str(status)).inc(int(count))
            yield pa.table({**names, **scores._asdict()})


def new_pipeline(words: list[str]):
    """Returns a pipeline with Beam's flags, on FnApiRunner if they name none: DirectRunner may download another one."""

    def check(parser):
        known, unknown = parser.parse_known_args(words)
        if unknown and known.runner in (None, "FnApiRunner", "DirectRunner"):  # the others may have flags of their own
            raise InputError(f"unknown argument {unknown[0]}: quote patterns; flags are those of --help, and Beam's")

    options, printed = PipelineOptions(["--runner=FnApiRunner", *words]), io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            options.get_all_options(add_extra_args_fn=check)
        return beam.Pipeline(options=options)
    except SystemExit:  # argparse
        raise InputError(printed.getvalue().strip().splitlines()[-1]) from None
    except (ValueError, ImportError) as error:
        raise InputError(str(error)) from None


def score(pipeline, pattern: str, reader: Reader, scorer: Scorer, output: str) -> dict[int, int]:
    """Scores the files; returns the number of rows by status."""
    names = {"file": pa.string(), "row": pa.int64()} | ({"id": pa.string()} if reader.id_column else {})
    schema = pa.schema(names | {name: pa.from_numpy_dtype(dtype) for name, dtype in DTYPES.items()})
    (
        pipeline
        | MatchFiles(pattern)
        | "Tasks" >> beam.FlatMap(lambda file: reader.tasks(file.path))
        | beam.Reshuffle()
        | "Read" >> beam.FlatMap(reader.chunks)
        | RunInference(scorer)
        | "Rows" >> beam.FlatMap(lambda table: table.to_pylist())
        | beam.io.WriteToParquet(output, schema, codec="snappy", file_name_suffix=".parquet")
    )
    folder, prefix = os.path.split(output)
    temporary = os.path.join(glob.escape(folder), f"beam-temp-{glob.escape(prefix)}-*")
    before = set(glob.glob(temporary))
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:  # Beam has it as text only where another process ran into it
        found = re.findall(r"\b(?:InputError|OSError|BeamIOError): (.+)", f"{type(error).__name__}: {error}")
        if not found:
            raise
        raise InputError(found[-1].split(" [while running ")[0]) from None
    finally:
        for path in set(glob.glob(temporary)) - before:
            shutil.rmtree(path, ignore_errors=True)  # Beam leaves it behind after an error
    counters = result.metrics().query(MetricsFilter().with_namespace("status"))["counters"]
    return {int(counter.key.metric.name): counter.result for counter in counters}


def run(arguments, words: list[str]) -> int:
    """Checks the arguments, scores the files and prints how many rows have which status; returns the exit code."""
    version = find_version(Path(arguments.model))[1]
    reader = Reader(recorded_columns(trained_data(version)), arguments.id_column)
    pattern, output = (path if "://" in path else os.path.abspath(path) for path in (arguments.input, arguments.output))
    try:
        # One by one: Beam looks for all patterns of a call in the file system of the first.
        files, existing = (FileSystems.match([each])[0].metadata_list for each in (pattern, f"{output}-*"))
    except Exception as error:  # a file system of Beam's raises its own
        raise InputError(f"{pattern} and {output} cannot be listed: {error}") from None
    if not files:
        raise InputError(f"--input {arguments.input}: there is no such file")
    if existing:
        raise InputError(f"--output {arguments.output}: {existing[0].path} exists and is never overwritten; delete it")
    for task in reader.tasks(min(file.path for file in files)):  # finds wrong columns before the work
        next(reader.chunks(task), None)
        break
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # of worker processes on this machine
    counts = score(new_pipeline(words), pattern, reader, Scorer(str(version)), output)
    for status, rows in sorted(counts.items()):
        print(f"{rows} rows with status {status} ({STATUSES.get(status, 'unknown')})", file=sys.stderr)
    return 0 if counts.get(OK) else 1


def main(words: list[str]) -> int:
    """Runs the script; returns the exit code: 1 if no row has a score, 2 for bad input."""
    parser = Parser(prog="score_beam.py", description=__doc__)
    parser.add_argument("--input", required=True, metavar="PATTERN", help="files, such as 'rows-*.parquet'")
    parser.add_argument("--model", required=True, metavar="FOLDER", help="exported model, at this path on each worker")
    parser.add_argument("--output", required=True, metavar="PREFIX", help="files PREFIX-00000-of-00001.parquet, ...")
    parser.add_argument("--id-column", metavar="NAME", help="column that names the rows, for the scores")
    try:
        return run(*parser.parse_known_args(words))
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("\nstopped", file=sys.stderr)
        return exit_code(stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
