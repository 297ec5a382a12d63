"""What came out of runs, in words."""

import numpy as np

from iwae_tf.config import RELIABLE_PARETO_K
from iwae_tf.evaluation.units import ACTIVE_THRESHOLD
from iwae_tf.report.record import Record
from iwae_tf.report.words import ABSENT, duration, number, with_error

ROWS = (
    "log p(x)",
    "L_1, the VAE's bound",
    "active units",
    "unreliable scores",
    "effective samples",
    "training",
    "best epoch",
)


def result_table(records: list[Record]) -> list[tuple[str, str, list[str]]]:
    """Rows of a name, a note, and the value in each run, of what at least one run has."""
    evaluated = [record for record in records if record.metrics]
    columns = [_result(record) for record in records]
    notes = _notes(evaluated) if evaluated else {}
    return [
        (name, notes.get(name, ""), [column.get(name, ABSENT) for column in columns])
        for name in ROWS
        if any(name in column for column in columns)
    ]


def state(record: Record) -> str:
    """What a run lacks, in a sentence; empty for one that is finished."""
    done, total = record.steps
    if record.metrics and record.has_model:
        return ""
    if record.metrics or record.has_model:
        missing = "evaluated" if record.has_model else "left with its model (model.keras is missing)"
        return f"This run was trained, but not {missing}. train.py with the same flags and --resume goes on with it."
    share = f"{done:,} of {total:,} steps" + (f" ({100 * done / total:.0f}%)" if total else "")
    return f"This run is not finished: its history has {share}. train.py with the same flags and --resume goes on."


def _result(record: Record) -> dict[str, str]:
    metrics, scores = record.metrics, record.scores
    if not metrics:
        return {}
    units = record.config["model"].get("latent_units") or []
    same = len(units) == len(metrics["active_units"])
    active = [f"{n} of {units[i]}" if same else str(n) for i, n in enumerate(metrics["active_units"])]
    values = {
        "log p(x)": f"{with_error(metrics['log_likelihood'], metrics['standard_error'])} nats",
        "active units": " + ".join(active),
        "training": duration(metrics["train_seconds"]),
    }
    if metrics["best_epoch"] is not None:
        values["best epoch"] = f"{metrics['best_epoch']} of {len(record.history['epoch'])}"
    if 1 in metrics["bounds"]:
        elbo = with_error(metrics["bounds"][1], metrics["bound_standard_errors"][1])
        values["L_1, the VAE's bound"] = f"{elbo} nats"
    if scores:
        bad = int(np.sum(~(scores.pareto_k < RELIABLE_PARETO_K)))
        values["unreliable scores"] = f"{bad:,} of {len(scores.pareto_k):,}"
        values["effective samples"] = number(float(np.median(scores.effective_sample_size)), 0)
    return values


def _notes(evaluated: list[Record]) -> dict[str, str]:
    counts = {(record.metrics["num_samples"], record.metrics["num_test"]) for record in evaluated}
    k, images = (f"{count:,}" for count in counts.pop()) if len(counts) == 1 else ("the largest of each run", "the")
    return {
        "log p(x)": f"estimate L_k with k = {k}, mean over {images} test images ± standard error",
        "L_1, the VAE's bound": "on the same images",
        "active units": f"variance of the posterior mean above {ACTIVE_THRESHOLD:g}",
        "unreliable scores": f"test images with a Pareto k of {RELIABLE_PARETO_K} or more",
        "effective samples": "median over the test images",
        "training": "wall clock",
        "best epoch": "by the validation bound; the model is that of this epoch",
    }
