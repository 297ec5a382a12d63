"""`objectives`: lists the bounds that `train` can maximise."""

from iwae_tf.commands import flags
from iwae_tf.declarations import declared
from iwae_tf.objectives.registry import OBJECTIVES, PARAMETERS

SUMMARY = "list what `train --objective` can maximise, and when one would use it"
DESCRIPTION = """Lists the objectives with the flags that they have in addition to --k and --backward-samples.
docs/theory.md derives each one."""


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    flags.add_plugin(parser)


def run(arguments) -> int:
    """Prints the list; returns the exit code."""
    rows = [(name, it.settings, it.help) for name, it in declared("objective").items()]
    rows = rows or [(name, PARAMETERS.get(name, ()), text) for name, (*_, text) in OBJECTIVES.items()]
    rows = [(name, " ".join(map(flags.flag_of, settings)), text) for name, settings, text in rows]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, settings, text in rows:
        print(f"{name:{widths[0]}}  {settings:{widths[1]}}  {text}")
    return 0
