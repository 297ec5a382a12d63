"""Tables of the page: results, bounds, settings, times and commands of runs, in words."""

import dataclasses
import math
import shlex

import numpy as np

from iwae_tf.config import RunConfig, word_of
from iwae_tf.evaluation.compare import RELIABLE_SHARE, mean_name
from iwae_tf.plots.curves import ACTIVE
from iwae_tf.plots.style import number
from iwae_tf.report.record import Record
from iwae_tf.training.run_folder import likelihood_of

ABSENT = "\N{EN DASH}"
Row = tuple[str, list[str]]  # a name, and the value in each run
PROGRAM = "python -m iwae_tf"
MOST = 50  # columns of a table that are described
# Scores of runs that differ in one of these settings do not compare; equal test rows may have several names.
NAMES_OF_ROWS = ("dataset", "source", "split")
PROTOCOL = {"data": ("num_test", "intensity", "binarization_evaluation"), "evaluation": ("eval_samples",)}


def with_error(value: float, standard_error: float, digits: int = 2) -> str:
    """Returns a value with its standard error."""
    error = number(standard_error, digits) if math.isfinite(standard_error) else "not known"
    return f"{number(value, digits)} ± {error}"


def duration(seconds: float) -> str:
    """Returns seconds in the units that a person would use."""
    if not math.isfinite(seconds):
        return "not known"
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def setting(value) -> str:
    """Returns a value of `config.json` in one line; lists inside a list are separated by bars."""
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        nested = any(isinstance(item, (list, dict)) for item in value)
        return (" | " if nested else ", ").join(setting(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {setting(item)}" for name, item in value.items() if item is not None)
    return str(value)


def _table(columns: list[dict[str, str]]) -> list[Row]:
    """Returns a row for each name that a column has, in the order of their first mention."""
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, [column.get(name, ABSENT) for column in columns]) for name in names]


def result_table(records: list[Record]) -> list[Row]:
    """Returns the results that at least one run has."""
    return _table([_results(record) for record in records])


def _results(record: Record) -> dict[str, str]:
    metrics = record.metrics
    if not metrics:
        return {}
    units = record.config["model"].get("latent_units") or []
    same = len(units) == len(metrics["active_units"])
    active = [f"{n} of {units[i]}" if same else str(n) for i, n in enumerate(metrics["active_units"])]
    reliable = metrics["reliable"]
    log_p = f"{with_error(metrics['log_likelihood'], metrics['standard_error'])} nats"
    values = {mean_name(reliable or 0, metrics["num_test"]): log_p, "largest k of L_k": f"{metrics['num_samples']:,}"}
    values["test rows"] = f"{metrics['num_test']:,}"
    if 1 in metrics["bounds"]:
        elbo = with_error(metrics["bounds"][1], metrics["bound_standard_errors"][1])
        values["L_1, the VAE's bound"] = f"{elbo} nats"
    values["active units"] = " + ".join(active)
    if reliable is not None:
        values["reliable scores"] = f"{reliable:,} of {metrics['num_test']:,}"
        values["effective samples"] = number(metrics["effective_sample_size"], 0)
    if metrics["samples"]:
        values["samples of an estimate"] = "{:,.0f} on average, at most {:,}".format(*metrics["samples"])
    if labels := metrics["labels"]:
        values[f"AUROC of low scores for label {labels['rarer']}"] = number(labels["auroc"], 3)
        values["their average precision"] = number(labels["average_precision"], 3)
    values["training"] = duration(metrics["train_seconds"])
    if metrics["best_epoch"] is not None:
        values["best epoch"] = f"{metrics['best_epoch']} of {len(record.history['epoch'])}"
    return values


RESULT_NOTES = (
    "log p(x): mean of the estimates over the test rows ± standard error; called a lower bound if fewer than "
    f"{RELIABLE_SHARE:.0%} of the scores are reliable. Reliable scores: test rows for which pilot runs predict a "
    f"small error. Active units: variance of the posterior mean above {ACTIVE:g}. Effective samples: median over the "
    "test rows. Best epoch: by the validation bound; the model is that of this epoch."
)


def state(record: Record) -> str:
    """Returns what a run lacks, in a sentence; empty for a finished run."""
    done, total = record.steps
    resume = f"Resume it by {PROGRAM} train with the same flags and --resume."
    if record.metrics and record.has_model:
        scored, wanted = record.metrics["epochs"], record.config["training"]["epochs"]
        if scored in (None, wanted):
            return ""
        return f"This run is trained further and not finished: its results are those of {scored} epochs. {resume}"
    if record.metrics or record.has_model:
        missing = "evaluated" if record.has_model else "left with its model (model.keras is missing)"
        return f"This run was trained, but not {missing}. {resume}"
    share = f"{done:,} of {total:,} steps" + (f" ({100 * done / total:.0f}%)" if total else "")
    return f"This run is not finished: its history has {share}. {resume}"


def bounds_table(records: list[Record]) -> list[Row]:
    """Returns a row for each k, rising: mean L_k with its standard error."""
    columns = []
    for metrics in (record.metrics for record in records):
        errors = metrics["bound_standard_errors"] if metrics else {}
        columns.append({k: with_error(metrics["bounds"][k], error, 3) for k, error in errors.items()})
    return [(f"{k:,}", values) for k, values in sorted(_table(columns))]


def timing_table(records: list[Record]) -> list[Row]:
    """Returns the times of training and evaluation."""
    return _table([_times(record) for record in records])


def _times(record: Record) -> dict[str, str]:
    ends, steps, metrics = record.history["seconds"], record.history["step"], record.metrics
    epochs = np.diff(ends)  # the first epoch includes compilation, so only its end is known
    trained = metrics["train_seconds"] if metrics else ends[-1] if len(ends) else np.nan
    return {
        "training": duration(float(trained)) if np.isfinite(trained) else ABSENT,
        "first epoch, with compilation": duration(float(ends[0])) if len(ends) else ABSENT,
        "a later epoch (median)": duration(float(np.median(epochs))) if len(epochs) else ABSENT,
        "a step (median)": duration(float(np.median(epochs / np.diff(steps)))) if len(epochs) else ABSENT,
        "evaluation": duration(metrics["eval_seconds"]) if metrics else ABSENT,
        "evaluation, a row": duration(metrics["eval_seconds"] / metrics["num_test"]) if metrics else ABSENT,
    }


def setting_tables(records: list[Record]) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Returns the settings that differ and those that are common, each by section; of one run all are common."""
    differing, common = {}, {}
    for section in dict.fromkeys(name for record in records for name in record.config):
        for name, row in _table([_flat(record.config.get(section, {})) for record in records]):
            table = common if len(set(row)) == 1 else differing
            table.setdefault(section, []).append((name.replace("_", " "), row))
    return differing, common


def _flat(section: dict) -> dict[str, str]:
    """Returns names and words of the settings that are set; a dictionary becomes one entry for each of its own."""
    rows = {}
    for name, value in section.items():
        if name == "image_shape" and value[:1] == [1]:  # rows that are no images
            continue
        if name in ("table_columns", "column_models"):
            rows |= _columns(value)
        elif isinstance(value, dict):
            rows |= {f"{name} {inner}": words for inner, words in _flat(value).items()}
        elif value is not None and value is not False:
            rows[name] = setting(value)
    return rows


def _columns(columns: list[dict]) -> dict[str, str]:
    """Returns a row for each of the first columns, in words."""
    rows = {
        f"column {c['name']}": setting({k: v for k, v in c.items() if k != "name" and v != []}) for c in columns[:MOST]
    }
    more = {"further columns": f"{len(columns) - MOST:,}"} if len(columns) > MOST else {}
    return rows | more


def other_protocols(records: list[Record]) -> list[str]:
    """Returns the settings of data and scoring in which the runs differ, so that their scores do not compare."""
    checksums = {record.config.get("data", {}).get("sha256", {}).get("test") for record in records}
    protocol = PROTOCOL if None not in checksums else PROTOCOL | {"data": (*NAMES_OF_ROWS, *PROTOCOL["data"])}
    found = ["test rows"] * (len(checksums - {None}) > 1) + [
        name.replace("_", " ")
        for section, names in protocol.items()
        for name in names
        if len({setting(record.config.get(section, {}).get(name)) for record in records}) > 1
    ]
    return found + ["likelihood"] * (len({likelihood_of(record.config) for record in records}) > 1)


def run_commands(record: Record) -> list[tuple[str, str]]:
    """Returns the commands that train and evaluate the run again, for a shell in the root of the repository."""
    path = shlex.quote(str(record.path))
    code = [word for module in record.plugins for word in ("--plugin", module)]
    code += [word for factory in record.callbacks for word in ("--callback", factory)]
    flags = " ".join([*map(shlex.quote, [*code, *train_flags(record.config)]), "--output-dir", path])
    return [("Train", f"{PROGRAM} train {flags}"), ("Evaluate", f"{PROGRAM} evaluate {path}")]


def report_command(records: list[Record]) -> tuple[str, str]:
    """Returns the command that writes the page again."""
    return "Report", f"{PROGRAM} report {' '.join(shlex.quote(str(record.path)) for record in records)}"


def train_flags(config: dict) -> list[str]:
    """Returns the flags of `train` for the settings of a run that differ from their defaults."""
    words = []
    for section in dataclasses.fields(RunConfig):
        stored, plain = config.get(section.name, {}), RunConfig().to_json().get(section.name)
        if not isinstance(plain, dict):
            continue
        # Layers and schedule decide the defaults of other settings.
        chosen = {name: stored[name] for name in ("layers", "schedule") if name in plain and name in stored}
        settings = type(getattr(RunConfig(), section.name))
        given = RunConfig(**{section.name: settings(**chosen)}).to_json()[section.name]
        given |= {name: plain[name] for name in chosen}
        for field in dataclasses.fields(settings):
            if (value := stored.get(field.name, given[field.name])) != given[field.name]:
                words += _words(field, value)
    return words


def _words(field: dataclasses.Field, value) -> list[str]:
    """Returns the flag of a setting, alone for a switch, and its value."""
    flag = "--" + field.metadata.get("flag", field.name).replace("_", "-")
    if value is True:
        return [flag]
    if "nargs" in field.metadata:
        return [flag, *map(word_of, value)]
    word = word_of(value)
    return [f"{flag}={word}"] if word.startswith("-") else [flag, word]
