"""Scores every row of a split of a finished run and says how far to trust each score.

Estimates log p(x) of every test row of a finished run, in nats, with diagnostics of its reliability, and writes
RUN/evaluation/ with the score of each row, a report and figures. After Ctrl-C the same command resumes it.
"""

import dataclasses
import shlex
import sys
from pathlib import Path

from iwae_tf.commands import flags
from iwae_tf.commands.quiet import import_tensorflow
from iwae_tf.config import ScoringConfig, WorkersConfig
from iwae_tf.errors import exit_code
from iwae_tf.training.run_folder import check_trained, locked, read_trained


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    flags.add_settings(parser, ScoringConfig)
    flags.add_settings(parser, WorkersConfig)
    flags.add_figure_format(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the evaluation in the folder")
    parser.add_argument(
        "--verbose",
        type=int,
        choices=(0, 1),
        default=1,
        help="0: the table only, 1: progress bars (default: 1)",
    )


def run(arguments) -> int:
    """Scores, writes, prints the table; returns the exit code."""
    settings, workers = (flags.settings_from(arguments, kind) for kind in (ScoringConfig, WorkersConfig))
    path = Path(arguments.run)
    check_trained(path)
    import_tensorflow()
    from iwae_tf.training.evaluation import evaluate_run, table  # needs TensorFlow
    from iwae_tf.training.workers import gather_workers, worker_loss_errors

    lock = None
    try:
        with worker_loss_errors("with the same command"):
            shared = dataclasses.asdict(settings)
            shared.pop("data_dir")  # the data may be in another folder on each host
            workers = gather_workers(workers, shared)
            lock = locked(path) if workers.is_chief else None
            with workers.strategy.scope():
                trained = read_trained(path)
            report, folder = evaluate_run(
                trained, settings, arguments.overwrite, arguments.verbose, workers, arguments.figure_format
            )
    except KeyboardInterrupt as stop:
        command = [word for word in sys.orig_argv if word != "--overwrite"]
        print(f"\nstopped; resume with: {shlex.join(command)}")
        return exit_code(stop)
    finally:
        if lock:
            lock.release()
    if not workers.is_chief:
        print(f"done; the chief worker wrote the scores to {folder}")
        return 0
    print(f"{table(report)}\nwritten:", *(f"  {path}" for path in sorted(folder.iterdir())), sep="\n")
    return 0
