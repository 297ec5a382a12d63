"""Scores the rows of a file by an exported model, on a server or in a folder.

Estimates log p(x) of every row in a file by an exported model, in nats, and writes the scores of each. A large
file is sent in many small requests, all to one version of the model. With --out, the same command resumes a job that
was stopped. The exit code is 1 if no row can be scored.
"""

import hashlib
import os
import shlex
import sys
from pathlib import Path

from iwae_tf.commands import flags
from iwae_tf.commands.quiet import import_tensorflow
from iwae_tf.errors import InputError, exit_code

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
    with client.ScoringClient(arguments.url, timeout=arguments.timeout) as connected:
        return (_to_stdout if arguments.out is None else _to_file)(connected, x, ids, arguments)


def _to_stdout(client, x, ids, arguments) -> int:
    from iwae_tf.serving.scores import concatenate, csv_header, csv_lines

    finished = []
    for first, scores in _score(client, x, arguments, 0):
        if first == 0:
            print(csv_header(ids))
        print("\n".join(csv_lines(first, scores, ids)), flush=True)
        finished.append(scores)
    return _ended(concatenate(finished))


def _to_file(client, x, ids, arguments) -> int:
    from iwae_tf.serving.client import signature_of
    from iwae_tf.serving.scores import ScoreFile

    job = {
        "content": "sha256:" + hashlib.sha256(x.tobytes()).hexdigest(),
        "rows": len(x),
        "url": client.url,
        "version": client.version,
        "model": client.checksum,
        "signature": signature_of(arguments.num_samples),
        "num_samples": arguments.num_samples,
        "seed": None if arguments.num_samples is None else arguments.seed,
    }
    file = ScoreFile(arguments.out, job, ids)
    if client.version is None and file.version is not None:
        client.pin(file.version)
    try:
        for _, scores in _score(client, x, arguments, file.rows):
            file.append(scores, client.version)
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
    file.finish()
    return _ended(file.scores)


def _ended(scores) -> int:
    """Prints the summary; returns the exit code, 1 if no row has a score."""
    from iwae_tf.serving.scores import OK, summary

    print(summary(scores), file=sys.stderr)
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
