"""Writes one HTML page about a run, or about several side by side.

The page needs no network and no other file: results, learning curves, L_k against k, latent units, samples,
reconstructions, interpolations, best and worst scored rows, settings and protocol, timing, and the commands that
repeat the run. Nothing that the run folders hold is computed again.
"""

from pathlib import Path

from iwae_tf.commands import flags
from iwae_tf.commands.quiet import import_tensorflow
from iwae_tf.errors import InputError
from iwae_tf.report.record import read_records


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="folder of a run; at most 8 side by side")
    parser.add_argument(
        "--output",
        metavar="FILE.html",
        type=Path,
        help="the page (default: RUN/report.html; for several, report.html in the current folder)",
    )


def run(arguments) -> int:
    """Writes the page; returns the exit code."""
    paths = arguments.runs
    output = arguments.output or (paths[0] / "report.html" if len(paths) == 1 else Path("report.html"))
    records = read_records(paths)
    check_output(output, (".html",))
    if any(record.has_model for record in records):
        import_tensorflow()
    from iwae_tf.report.page import write_report  # imports matplotlib

    write_report(records, output)
    print(f"written: {output}")
    return 0


def check_output(output: Path, suffixes: tuple[str, ...]) -> None:
    """Raises `InputError` unless `output` has one of the suffixes and can be written."""
    if output.suffix not in suffixes:
        raise InputError(f"--output {output}: unknown suffix {output.suffix!r}; expected {', '.join(suffixes)}")
    if not output.parent.is_dir() or output.is_dir():
        raise InputError(f"--output {output} cannot be written: its folder does not exist, or it is a folder itself")
