"""The commands that make a run, its evaluation and its page again."""

import dataclasses
import shlex

from iwae_tf.config import RunConfig
from iwae_tf.report.record import Record

# Settings on which the defaults of others depend.
CHOSEN_FIRST = ("layers", "schedule")
PROGRAM = "python -m iwae_tf"


def run_commands(record: Record) -> list[tuple[str, str]]:
    """Train and evaluate: what each command does, and the command, for a shell in the root of the repository."""
    path = shlex.quote(str(record.path))
    flags = " ".join([*map(shlex.quote, train_flags(record.config)), "--output-dir", path])
    return [("Train", f"{PROGRAM} train {flags}"), ("Evaluate", f"{PROGRAM} evaluate {path}")]


def report_command(records: list[Record]) -> tuple[str, str]:
    """The same for the page."""
    return "Report", f"{PROGRAM} report {' '.join(shlex.quote(str(record.path)) for record in records)}"


def train_flags(config: dict) -> list[str]:
    """The flags of `train` that give the settings of a run: those that differ from their defaults."""
    words = []
    for section in dataclasses.fields(RunConfig):
        stored = config.get(section.name, {})
        for name, default in _defaults(section, stored).items():
            value = stored.get(name, default)
            if value != default:
                words += ["--" + name.replace("_", "-"), *_values(value)]
    return words


def _defaults(section: dataclasses.Field, stored: dict) -> dict:
    """What each setting of a section would be with the run's network and schedule and nothing else given."""
    settings, plain = type(section.default), RunConfig().to_json()[section.name]
    chosen = {name: stored[name] for name in CHOSEN_FIRST if name in plain and name in stored}
    return RunConfig(**{section.name: settings(**chosen)}).to_json()[section.name] | {n: plain[n] for n in chosen}


def _values(value) -> list[str]:
    """Words after a flag: none for a switch, one for each entry of a list, entries that are lists with commas."""
    if value is True:
        return []
    if not isinstance(value, list):
        return [str(value)]
    return [_comma_list(item) if isinstance(item, list) else str(item) for item in value]


def _comma_list(items: list) -> str:
    return ",".join(map(str, items)) or "none"
