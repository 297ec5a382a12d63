"""Prints a script by which a shell completes commands and flags.

For bash: `eval "$(iwae-tf completion bash)"`, best in ~/.bashrc; the script completes the console script `iwae-tf`.
"""

from iwae_tf.commands import flags
from iwae_tf.errors import unknown_name


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("shell", metavar="SHELL", help="e.g. bash or zsh")


def run(arguments) -> int:
    """Prints the script; returns the exit code."""
    import shtab  # not with the requirements of a client alone

    from iwae_tf.commands.main import all_commands

    if arguments.shell not in shtab.SUPPORTED_SHELLS:
        raise unknown_name("shell", arguments.shell, shtab.SUPPORTED_SHELLS)
    print(shtab.complete(all_commands("iwae-tf", whole=True), shell=arguments.shell))
    return 0
