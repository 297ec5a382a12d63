"""`objectives`: what can be maximised."""

from iwae_tf.commands import flags
from iwae_tf.objectives.registry import OBJECTIVES, PARAMETERS

SUMMARY = "list what `train --objective` can maximise, and when one would use it"
DESCRIPTION = """Lists the objectives with the flags that they have beside --k and --backward-samples.
docs/theory.md derives each one."""


def add_flags(parser: flags.Parser) -> None:
    """It has none."""


def run(arguments) -> int:
    """Prints the list; returns the exit code."""
    rows = [
        (name, " ".join(map(flags.flag_of, PARAMETERS.get(name, ()))), text) for name, (*_, text) in OBJECTIVES.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, parameters, text in rows:
        print(f"{name:{widths[0]}}  {parameters:{widths[1]}}  {text}")
    return 0
