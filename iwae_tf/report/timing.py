"""How long the parts of a run took."""

import numpy as np

from iwae_tf.report.record import Record
from iwae_tf.report.words import ABSENT, duration


def timing_table(records: list[Record]) -> list[tuple[str, list[str]]]:
    """Rows of a name and its value in each run."""
    columns = [_timing(record) for record in records]
    return [(name, [column[name] for column in columns]) for name in columns[0]]


def _timing(record: Record) -> dict[str, str]:
    ends, steps = (record.history[name] for name in ("seconds", "step"))
    epochs = np.diff(ends)  # of the first, which compiles as well, only the end is known
    rates = epochs / np.diff(steps) if len(epochs) else epochs
    metrics = record.metrics
    trained = metrics["train_seconds"] if metrics else ends[-1] if len(ends) else np.nan
    return {
        "training": duration(float(trained)) if np.isfinite(trained) else ABSENT,
        "first epoch, with the time to compile": duration(float(ends[0])) if len(ends) else ABSENT,
        "a later epoch (median)": duration(float(np.median(epochs))) if len(epochs) else ABSENT,
        "a step (median)": duration(float(np.median(rates))) if len(epochs) else ABSENT,
        "evaluation": duration(metrics["eval_seconds"]) if metrics else ABSENT,
        "evaluation, an image": duration(metrics["eval_seconds"] / metrics["num_test"]) if metrics else ABSENT,
    }
