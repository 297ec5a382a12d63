"""Lists what `train --objective` can maximise, and when one would use it.

Each objective has the flags beside its name in addition to --k and --backward-samples.
"""

from iwae_tf.commands import flags
from iwae_tf.declarations import declared


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    flags.add_plugin(parser)


def run(arguments) -> int:
    """Prints the list; returns the exit code."""
    for name, objective in declared("objective").items():
        print(f"{name:15} {' '.join(map(flags.flag_of, objective.settings)):20} {objective.help}")
    return 0
