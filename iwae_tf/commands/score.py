"""`score`: log p(x) of the images in a file, from a server or from a SavedModel's folder."""

import hashlib
import os
import shlex
import sys
from pathlib import Path

from iwae_tf.commands import flags
from iwae_tf.commands.quiet import import_tensorflow
from iwae_tf.errors import InputError

SUMMARY = "score the images of a file by an exported model, on a server or in a folder"
DESCRIPTION = """Estimates log p(x) of every image in a file by an exported model, in nats, and writes a row of scores
for each. A large file is sent in many small requests, all to one version of the model. With --out, a job that was
stopped goes on when the same command is given again."""

_LONGEST_TIMEOUT = 24 * 3600


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("images", metavar="IMAGES", type=Path, help=".npy or .npz, [N, D] or [N, H, W]")
    parser.add_argument(
        "--url",
        required=True,
        help="http://HOST:8501/v1/models/NAME or grpc://HOST:8500/NAME, with /versions/N or /labels/L at its end or "
        "without; or a folder such as export/models/NAME, which needs no server",
    )
    parser.add_argument("--num-samples", type=int, metavar="K", help="importance samples (default: the model's own)")
    parser.add_argument("--seed", type=int, help="of the samples, with --num-samples (default: 0)")
    parser.add_argument("--array", metavar="NAME", help="the array of an .npz (default: x, or the only one)")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".csv, .npz or .parquet (default: CSV on stdout)")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="to wait for an answer (default: 30)"
    )


def run(arguments) -> int:
    """Scores, writes, sums up; returns the exit code."""
    from iwae_tf.serving import score_file
    from iwae_tf.serving.client import ScoringClient, check_samples
    from iwae_tf.serving.images import read_images
    from iwae_tf.serving.model_url import parse_model_url

    if arguments.seed is not None and arguments.num_samples is None:
        raise InputError("--seed without --num-samples: give both, or neither for the model's own")
    check_samples(arguments.num_samples, arguments.seed or 0)
    if not 0 < arguments.timeout <= _LONGEST_TIMEOUT:
        raise InputError(f"--timeout must be above 0 and at most {_LONGEST_TIMEOUT} s, got {arguments.timeout:g}")
    url = parse_model_url(arguments.url)
    if arguments.out is not None:
        score_file.check_path(arguments.out)
    x = read_images(arguments.images, arguments.array)
    if url.needs_tensorflow:
        # What goes wrong comes as an exception; the log would only tear the progress bar.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import_tensorflow()
    with ScoringClient(arguments.url, timeout=arguments.timeout) as client:
        if arguments.out is None:
            return _to_stdout(client, x, arguments)
        return _to_file(client, x, arguments)


def _to_stdout(client, x, arguments) -> int:
    from iwae_tf.serving.score_file import COLUMNS, csv_lines

    finished = []
    chunks = client.score_chunks(x, arguments.num_samples, arguments.seed or 0)
    try:
        with _progress_bar(len(x), 0) as bar:
            for scores in chunks:
                if not finished:
                    print(",".join(COLUMNS))
                print("\n".join(csv_lines(bar.n, scores)), flush=True)
                finished.append(scores)
                bar.update(len(scores.status))
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    _sum_up(finished)
    return 0


def _to_file(client, x, arguments) -> int:
    from iwae_tf.serving.score_file import ScoreFile

    file = ScoreFile(arguments.out, _identity(client, x, arguments))
    if client.version is None and file.version is not None:
        client.pin(file.version)
    done = file.rows
    try:
        with _progress_bar(len(x), done) as bar:
            if done < len(x):
                for scores in client.score_chunks(x[done:], arguments.num_samples, arguments.seed or 0):
                    file.append(scores, client.version)
                    bar.update(len(scores.status))
    except InputError as error:
        if not file.rows:
            raise
        raise InputError(
            f"{error}; {file.rows} of {len(x)} rows are in {file.part}, the same command goes on after them"
        ) from error
    except KeyboardInterrupt:
        command = shlex.join(sys.orig_argv)
        print(f"\nstopped after {file.rows} of {len(x)} rows; go on with: {command}", file=sys.stderr)
        return 130
    finally:
        file.close()
    file.finish()
    _sum_up(file.scores)
    return 0


def _identity(client, x, arguments) -> dict:
    from iwae_tf.serving.client import signature_of

    return {
        "images": "sha256:" + hashlib.sha256(x.tobytes()).hexdigest(),
        "rows": len(x),
        "url": client.url,
        "version": client.version,
        "signature": signature_of(arguments.num_samples),
        "num_samples": arguments.num_samples,
        "seed": None if arguments.num_samples is None else arguments.seed or 0,
    }


def _progress_bar(total: int, done: int):
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(desc="scoring", total=total, initial=done, unit="row", mininterval=interval, dynamic_ncols=True)


def _sum_up(chunks) -> None:
    from iwae_tf.serving.scores import concatenate, summary

    print(summary(concatenate(chunks)), file=sys.stderr)
