"""The settings of runs as tables: what differs between them, and what they share."""

from iwae_tf.report.record import Record
from iwae_tf.report.words import ABSENT, setting

Row = tuple[str, list[str]]  # a setting, and its value in each run

# Scores of runs that differ in one of these are of other data, or of another protocol.
PROTOCOL = (
    ("data", "dataset"),
    ("data", "source"),
    ("data", "split"),
    ("data", "num_test"),
    ("data", "intensity"),
    ("data", "binarization_evaluation"),
    ("model", "likelihood"),
    ("evaluation", "eval_samples"),
)


def setting_tables(records: list[Record]) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Rows of what differs and of what is common, each by section; of a single run all is common."""
    differing, common = {}, {}
    for section in dict.fromkeys(name for record in records for name in record.config):
        values = [_flat(record.config.get(section, {})) for record in records]
        for name in dict.fromkeys(name for of_run in values for name in of_run):
            row = [of_run.get(name, ABSENT) for of_run in values]
            table = common if len(set(row)) == 1 else differing
            table.setdefault(section, []).append((name.replace("_", " "), row))
    return differing, common


def other_protocols(records: list[Record]) -> list[str]:
    """The names of the settings of data and scoring in which the runs differ: their scores do not compare then."""
    return [
        name.replace("_", " ")
        for section, name in PROTOCOL
        if len({setting(record.config.get(section, {}).get(name)) for record in records}) > 1
    ]


def _flat(section: dict) -> dict[str, str]:
    """Names to words, of what is set; a dictionary inside becomes an entry for each of its own."""
    rows = {}
    for name, value in section.items():
        if isinstance(value, dict):
            rows |= {f"{name} {inner}": words for inner, words in _flat(value).items()}
        elif value is not None and value is not False:
            rows[name] = setting(value)
    return rows
