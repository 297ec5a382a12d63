"""Scores the rows of a file by an exported model, on a server or in a folder.

Estimates log p(x) of every row in a file by an exported model, in nats, and writes the scores of each. A large
file is sent in many small requests, all to one version of the model. With --out, the same command resumes a job that
was stopped. The exit code is 1 if no row can be scored.
"""

import hashlib
import math
import os
import shlex
import sys
from pathlib import Path

from iwae_tf.commands import flags
from iwae_tf.commands.quiet import import_tensorflow
from iwae_tf.data.dataset import picture_shape
from iwae_tf.errors import InputError, exit_code, positive_integer

_LONGEST_TIMEOUT = 24 * 3600


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "rows",
        metavar="ROWS",
        type=Path,
        help="array, .npy or .npz, [N, D] or [N, H, W]; table, .csv or .parquet; or folder of PNG or JPEG images",
    )
    parser.add_argument(
        "--url",
        required=True,
        help="http://HOST:8501/v1/models/NAME or grpc://HOST:8500/NAME, optionally followed by /versions/N or "
        "/labels/L; or a folder such as export/models/NAME, which needs no server",
    )
    parser.add_argument("--num-samples", type=int, metavar="K", help="importance samples (default: the model's own)")
    parser.add_argument("--seed", type=int, help="seed of the samples, with --num-samples (default: 0)")
    parser.add_argument("--array", metavar="NAME", help="the array of an .npz (default: x, or the only one)")
    parser.add_argument("--id-column", metavar="NAME", help="column of a table that names its rows, for the scores")
    parser.add_argument(
        "--data-of",
        type=Path,
        metavar="FOLDER",
        help="the run or the exported model, which records the columns of a table; needed for a table with a server "
        "(default: --url, if that is a folder)",
    )
    parser.add_argument(
        "--false-alarm-rate",
        type=float,
        metavar="RATE",
        help="adds a column alarm, 1 where p_value is at most this, in (0, 1): the share of normal rows that alarm; "
        "-1 for a row without a score, whose status says why",
    )
    parser.add_argument(
        "--explain",
        type=int,
        metavar="N",
        help="adds the N values of each row that are strangest by comparison with held-out rows, strangest first",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help=".csv, .npz or .parquet (default: CSV on stdout)")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="seconds to wait for an answer (default: 30)"
    )


def run(arguments) -> int:
    """Scores the rows and writes the scores; returns the exit code."""
    from iwae_tf.serving import client, scores
    from iwae_tf.serving.backends import parse_model_url
    from iwae_tf.serving.model_folder import trained_data

    if arguments.seed is not None and arguments.num_samples is None:
        raise InputError("--seed without --num-samples: give both, or neither for the model's own")
    arguments.seed = arguments.seed or 0
    client.check_samples(arguments.num_samples, arguments.seed)
    if not 0 < arguments.timeout <= _LONGEST_TIMEOUT:
        raise InputError(f"--timeout must be above 0 and at most {_LONGEST_TIMEOUT} s, got {arguments.timeout:g}")
    if arguments.false_alarm_rate is not None and not 0.0 < arguments.false_alarm_rate < 1.0:
        raise InputError(f"--false-alarm-rate must be above 0 and below 1, got {arguments.false_alarm_rate:g}")
    if arguments.false_alarm_rate is not None and arguments.num_samples is not None:
        raise InputError("--false-alarm-rate needs the model's own number of samples: leave --num-samples out")
    if arguments.explain is not None:
        positive_integer("--explain", arguments.explain)
    url = parse_model_url(arguments.url)
    if arguments.out is not None:
        scores.check_path(arguments.out)
    folder = arguments.data_of or (Path(url.base) if url.scheme == "folder" else None)
    data = None if folder is None else trained_data(folder)
    x, ids = client.read_rows(arguments.rows, data, arguments.array, arguments.id_column)
    if url.scheme != "http":
        # Failures come as exceptions; lines of the log would break the progress bar.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import_tensorflow()
    names = value_names(data, x.shape[1])
    with client.ScoringClient(arguments.url, timeout=arguments.timeout) as connected:
        return (_to_stdout if arguments.out is None else _to_file)(connected, x, ids, names, arguments)


def value_names(data, dim: int):
    """Returns the names of the values of a row: columns, or row, column and colour of a pixel; numbers if unknown."""
    import numpy as np

    columns, shape = ((data or {}).get(name) for name in ("table_columns", "image_shape"))
    if columns and len(columns) == dim:
        return np.array([column["name"] for column in columns])
    if shape and shape[0] > 1 and math.prod(shape) == dim:
        places = np.ndindex(picture_shape(shape, bool(data.get("colours"))))
        return np.array([f"pixel {' '.join(map(str, place))}" for place in places])
    return np.arange(dim).astype(str)


def added_columns(client, x, scores, names, arguments) -> dict:
    """Returns the columns that flags ask for beside the scores, of rows x."""
    import numpy as np

    from iwae_tf.serving.scores import alarms, strangest

    found = {}
    if arguments.false_alarm_rate is not None:
        found["alarm"] = alarms(scores, arguments.false_alarm_rate)
    if arguments.explain is not None:
        contributions = client.explain(x)
        contributions[np.isnan(x)] = np.nan  # a missing value is not strange
        found |= strangest(contributions, names, arguments.explain)
    return found


def _to_stdout(client, x, ids, names, arguments) -> int:
    from iwae_tf.serving.scores import columns_of, concatenate, csv_lines

    finished = []
    for first, scores in _score(client, x, arguments, 0):
        added = added_columns(client, x[first : first + len(scores.status)], scores, names, arguments)
        columns = columns_of(first, scores, ids, added)
        if first == 0:
            print(",".join(columns))
        print("\n".join(csv_lines(columns)), flush=True)
        finished.append(scores)
    return _ended(concatenate(finished), arguments.false_alarm_rate)


def _to_file(client, x, ids, names, arguments) -> int:
    import numpy as np

    from iwae_tf.serving.client import signature_of
    from iwae_tf.serving.scores import ScoreFile, alarms

    job = {
        "content": "sha256:" + hashlib.sha256(np.ascontiguousarray(x)).hexdigest(),
        "rows": len(x),
        "url": client.url,
        "version": client.version,
        "model": client.checksum,
        "signature": signature_of(arguments.num_samples),
        "num_samples": arguments.num_samples,
        "seed": None if arguments.num_samples is None else arguments.seed,
        "false_alarm_rate": arguments.false_alarm_rate,
    }
    file = ScoreFile(arguments.out, job, ids)
    if client.version is None and file.version is not None:
        client.pin(file.version)
    if arguments.explain is not None:
        client.explain(x[:1])  # a model without it is refused before the work
    try:
        for _, scores in _score(client, x, arguments, file.rows):
            if arguments.false_alarm_rate is not None:
                alarms(scores, arguments.false_alarm_rate)  # likewise
            file.append(scores, client.version)
        added = added_columns(client, x, file.scores, names, arguments)
    except InputError as error:
        if not file.rows:
            raise
        raise InputError(
            f"{error}; {file.rows} of {len(x)} rows are in {file.part}, the same command resumes after them"
        ) from error
    except KeyboardInterrupt as stop:
        command = shlex.join(sys.orig_argv)
        print(f"\nstopped after {file.rows} of {len(x)} rows; resume with: {command}", file=sys.stderr)
        return exit_code(stop)
    file.finish(added)
    return _ended(file.scores, arguments.false_alarm_rate)


def _ended(scores, false_alarm_rate: float | None) -> int:
    """Prints the summary and the alarms; returns the exit code, 1 if no row has a score."""
    from iwae_tf.serving.scores import OK, alarms, summary

    print(summary(scores), file=sys.stderr)
    if false_alarm_rate is not None:
        given = alarms(scores, false_alarm_rate)
        alarm, unknown = given == 1, (given == -1).sum()
        highest = f", log_prob up to {scores.log_prob[alarm].max():.3f}" if alarm.any() else ""
        number = len(alarm)
        without = f"; {unknown} of {number} cannot alarm, since they have no score (alarm -1)" if unknown else ""
        rows = f"{alarm.sum()} of {number - unknown} rows"
        print(f"{rows} alarm: p_value at most {false_alarm_rate:g}{highest}{without}", file=sys.stderr)
    return 0 if (scores.status == OK).any() else 1


def _score(client, x, arguments, done: int):
    """Scores the rows of x from number `done`, with a progress bar; yields the first row and scores of each request."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10.0
    bar = tqdm(desc="scoring", total=len(x), initial=done, unit="row", mininterval=interval, dynamic_ncols=True)
    with bar:
        for scores in client.score_chunks(x[done:], arguments.num_samples, arguments.seed) if done < len(x) else ():
            yield bar.n, scores
            bar.update(len(scores.status))
