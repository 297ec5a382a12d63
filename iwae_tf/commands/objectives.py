"""`objectives`: lists the bounds that `train` can maximise."""

from iwae_tf.commands import flags
from iwae_tf.declarations import declared

SUMMARY = "list what `train --objective` can maximise, and when one would use it"
DESCRIPTION = """Lists the objectives with the flags that they have in addition to --k and --backward-samples.
docs/theory.md derives each one."""


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    flags.add_plugin(parser)


def run(arguments) -> int:
    """Prints the list; returns the exit code."""
    rows = [
        (name, " ".join(map(flags.flag_of, objective.settings)), objective.help)
        for name, objective in declared("objective").items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, settings, text in rows:
        print(f"{name:{widths[0]}}  {settings:{widths[1]}}  {text}")
    return 0
