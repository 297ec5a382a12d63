"""Trains and scores runs over k, objectives or learning rates and several seeds, and tabulates them.

The runs are trained one after the other, in folders of their own. A table and a figure, rewritten after each run, have
for every setting the mean and the spread over its seeds, and beside them the standard error over test rows, which is
another thing. Finished runs are not trained again; after Ctrl-C, or with more values or seeds, the same command goes
on. After the first minute of a run the time left is printed.
"""

import argparse
import dataclasses
import itertools
from pathlib import Path

from iwae_tf.commands import flags, train
from iwae_tf.commands.settings_file import add_recipe
from iwae_tf.config import RunConfig, WorkersConfig
from iwae_tf.training.run_folder import name_words
from iwae_tf.training.sweep import VARIED, Sweep


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command: those of `train`, of which some take lists."""
    for section in (*train.sections(), WorkersConfig):
        flags.add_settings(parser, section)
    for action in parser._actions:
        if action.dest in VARIED:
            action.type, action.default = flags.unrepeated(action.type or str), (action.default,)
            action.metavar = f"{action.metavar},..."
    flags.add_seeds(parser)
    flags.add_figure_format(parser)
    flags.add_plugin(parser)
    flags.add_callback(parser)
    add_recipe(parser)
    text = "folder of the runs (default: runs/sweep-DATASET-VARIED, and words for fixed settings that are no defaults)"
    parser.add_argument("--output-dir", metavar="DIR", help=text)
    parser.add_argument("--tensorboard", action="store_true", help="as for train")
    parser.add_argument("--verbose", type=int, choices=(0, 1, 2), default=1, help="as for train (default: 1)")
    parser.set_defaults(export=False, resume=False, overwrite=False)


def run(arguments) -> int:
    """Trains what is missing, prints the table; returns the exit code."""
    settings = itertools.product(*(getattr(arguments, name) for name in VARIED))
    of_each = [argparse.Namespace(**vars(arguments) | dict(zip(VARIED, values, strict=True))) for values in settings]
    configs = [train.config_of(each) for each in of_each]
    wanted = Sweep(configs, flags.seeds_of(arguments), Path(arguments.output_dir or ""))
    if not arguments.output_dir:  # another one for other settings, whose table it would replace
        words = ["sweep", Path(configs[0].data.dataset).stem, *(name.replace("_", "-") for name in wanted.varied)]
        plain = name_words(RunConfig(configs[0].data)).items()
        words += [v for n, v in name_words(configs[0]).items() if n not in wanted.varied and (n, v) not in plain]
        wanted = dataclasses.replace(wanted, folder=Path("runs") / "-".join(words))
    return train.run_all(wanted, arguments)
