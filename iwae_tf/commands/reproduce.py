"""Trains the models of the paper's tables and compares the results with the paper's.

The models of a table of Burda, Grosse, Salakhutdinov (2016) are trained with the paper's protocol, or a shortened one
that every output names, and the table is written with the paper's figures and the differences. Finished models are not
trained again; after Ctrl-C the same command resumes.

table1: VAE and IWAE, k = 1, 5, 50, one and two layers. table2: a VAE trained on as an IWAE, and the other way round.
table3: table 1 on the fixed binarisation of MNIST.

Training at scale 1 takes about these core-hours for each cell and seed, extrapolated from 1/200 on two cores: k1-l1 4,
k5-l1 7, vae-k50-l1 30, iwae-k50-l1 45, k1-l2 12, vae-k5-l2 9, iwae-k5-l2 13, vae-k50-l2 42, iwae-k50-l2 54; in table 2
vae-k1-l1-then-iwae-k50-l1 25 more, iwae-k50-l1-then-vae-k1-l1 3 more; table1 in all 220. After the first minute of a
cell the time left is printed.
"""

import shlex
import sys
from pathlib import Path

from iwae_tf.commands import flags
from iwae_tf.commands.quiet import import_tensorflow, print_line
from iwae_tf.config import DataConfig, EvaluationConfig, OutputConfig
from iwae_tf.errors import exit_code
from iwae_tf.training.reproduce import TABLES, Reproduction, cells_of, markdown, reproduce
from iwae_tf.training.sweep import Options, check_none_failed


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("table", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--dataset", metavar="NAME", help="mnist or omniglot for table1 (default: mnist)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder to read the data from, without network")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="passes over the data as a share of the paper's 3,280 (default: 1.0)"
    )
    parser.add_argument("--only", nargs="+", metavar="CELL", help="only these cells, e.g. iwae-k50-l1 vae-k5-l2")
    flags.add_settings(parser, EvaluationConfig)
    parser.add_argument("--seed", type=int, default=0, help="seed of all runs (default: 0)")
    flags.add_seeds(parser)
    flags.add_figure_format(parser)
    parser.add_argument("--output-dir", metavar="DIR", help="default: runs/paper-DATASET-scaleSCALE")
    parser.add_argument("--verbose", type=int, choices=(0, 1, 2), default=1, help="as for train (default: 1)")


def run(arguments) -> int:
    """Trains what is missing, prints the table; returns the exit code."""
    dataset = arguments.dataset or next(iter(TABLES.get(arguments.table, ["mnist"])))
    folder = Path(arguments.output_dir or f"runs/paper-{dataset}-scale{arguments.scale:g}")
    wanted = Reproduction(
        arguments.table,
        cells_of(arguments.table, dataset, arguments.only),
        DataConfig(dataset, arguments.data_dir),
        arguments.scale,
        flags.settings_from(arguments, EvaluationConfig),
        flags.seeds_of(arguments),
        folder,
    )
    import_tensorflow()
    try:
        output = OutputConfig(verbose=arguments.verbose)
        rows, failed = reproduce(wanted, Options(output, figure_format=arguments.figure_format, report=print_line))
    except KeyboardInterrupt as stop:
        print(f"\nstopped; resume with: {shlex.join(sys.orig_argv)}")
        return exit_code(stop)
    if rows:
        print(
            f"\n{markdown(wanted, rows)}\nwritten: {', '.join(map(str, sorted(folder.glob(f'{arguments.table}.*'))))}"
        )
    check_none_failed(failed)
    return 0
