"""Reads the files of run folders without TensorFlow; a file that is missing gives None or an empty column."""

import csv
import dataclasses
from pathlib import Path

import numpy as np

from iwae_tf.config import RunConfig
from iwae_tf.errors import InputError
from iwae_tf.training.run_folder import check_run, different_models, read_json, recorded
from iwae_tf.training.scores_file import ImageScores, read_scores

MAX_RUNS = 8  # colours that all eyes tell apart
NUMBERS = ("log_likelihood", "standard_error", "train_seconds", "eval_seconds")
COUNTS = ("num_samples", "num_test")
COLUMNS = ("epoch", "step", "bound", "val_bound", "seconds")


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """A run as its files describe it.

    Attributes:
        path: its folder.
        config: `config.json`; settings that are newer than the run have their defaults.
        metrics: `metrics.json` with bounds and their standard errors by int k, or None before the evaluation; number
            of `reliable` scores, median `effective_sample_size` and mean and most `samples`, None where not recorded.
        history: columns of `history.csv`, float64 [epochs]; NaN where nothing was written.
        scores: of each test row, or None without scores.
        plugins: modules that `train` imported.
        callbacks: factories of callbacks that `train` called.
    """

    path: Path
    config: dict
    metrics: dict | None
    history: dict[str, np.ndarray]
    scores: ImageScores | None
    plugins: tuple[str, ...] = ()
    callbacks: tuple[str, ...] = ()

    @property
    def has_model(self) -> bool:
        """True once training has finished."""
        return (self.path / "model.keras").is_file()

    @property
    def steps(self) -> tuple[int, int]:
        """Steps in the history, and steps of the whole run."""
        done = int(self.history["step"][-1]) if len(self.history["step"]) else 0
        return done, int(self.config["training"].get("total_steps", done))


def read_records(paths: list[Path]) -> list[Record]:
    """Returns the records of at most 8 runs.

    Raises:
        InputError: there are more, one is given twice, is not a run folder, or a file of it is damaged.
    """
    check_paths(paths)
    return [read_record(path) for path in paths]


def check_paths(paths: list[Path], most: int = MAX_RUNS) -> None:
    """Raises `InputError` for more runs than `most`, or a run that is given twice."""
    if len(paths) > most:
        raise InputError(f"at most {most} runs go side by side, got {len(paths)}; give fewer")
    places = [path.resolve() for path in paths]
    twice = [str(path) for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise InputError(f"{twice[0]} is given twice; give each run once")


def names_of(paths: list[Path]) -> list[str]:
    """Returns the name of each folder, or its path where two folders have the same name."""
    names = [path.resolve().name for path in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def read_record(path: Path) -> Record:
    """Returns the record of a run folder; raises `InputError` if it is not one, or a file is damaged or out of date."""
    check_run(path)
    config = _config(path / "config.json")
    return Record(
        path,
        config,
        _metrics(path / "metrics.json", config),
        _history(path / "history.csv"),
        read_scores(path),
        recorded(path, "plugins"),
        recorded(path, "callbacks"),
    )


def read_summary(path: Path) -> tuple[dict, dict | None, int]:
    """Returns settings, metrics and the number of epochs done of a run folder, without reading its scores.

    The metrics are None before the evaluation.

    Raises:
        InputError: a file of the folder is damaged.
    """
    config, done = _config(path / "config.json"), len(_history(path / "history.csv")["epoch"])
    return config, _metrics(path / "metrics.json", config), done


def _config(path: Path) -> dict:
    content, defaults = read_json(path), RunConfig().to_json()
    missing = [name for name in ("data", "model", "training") if not isinstance(content.get(name), dict)]
    if missing:
        raise InputError(f"{path} has no section {' and no '.join(missing)}; is this the folder of a run?")
    sections = {name: values for name, values in content.items() if isinstance(values, dict)}
    defaults = {name: values for name, values in defaults.items() if isinstance(values, dict)}
    return {name: {**defaults.get(name, {}), **sections.get(name, {})} for name in {**defaults, **sections}}


def _metrics(path: Path, config: dict) -> dict | None:
    """Returns the content of a `metrics.json`, None before the scoring of the run with this `config`."""
    if not path.is_file():
        return None
    content = read_json(path)
    if different := different_models(path.parent, {path.name: content.get("model")}):
        if content.get("epochs") not in (None, config["training"]["epochs"]):  # trained further, and not yet scored
            return None
        raise InputError(
            f"{path} is not of the run's model ({different}); write it again by python -m iwae_tf train --resume"
        )
    try:
        bounds, errors = (
            {int(k): float(value) for k, value in content[name].items()} for name in ("bounds", "bound_standard_errors")
        )
        metrics = {name: float(content[name]) for name in NUMBERS} | {name: int(content[name]) for name in COUNTS}
        active = [int(count) for count in content["active_units"]]
        best = int(content["best_epoch"]) if "best_epoch" in content else None
        counts, labels = content.get("reliability"), content.get("labels")
        metrics |= {"reliable": None, "effective_sample_size": None, "samples": None}
        if counts:
            metrics["reliable"] = int(counts["reliable"])
            metrics["effective_sample_size"] = float(counts["median_effective_sample_size"])
            if "mean_num_samples" in counts:
                metrics["samples"] = float(counts["mean_num_samples"]), int(counts["largest_num_samples"])
        if labels:
            labels = {"rarer": str(labels["rarer"])} | {n: float(labels[n]) for n in ("auroc", "average_precision")}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error!r}); write it again by python -m iwae_tf train --resume") from None
    if bounds.keys() != errors.keys() or not bounds:
        raise InputError(
            f"{path} is damaged (bounds and their errors have other k); write it again by python -m iwae_tf train "
            "--resume"
        )
    metrics |= {"bounds": bounds, "bound_standard_errors": errors, "epochs": content.get("epochs")}
    metrics["protocol"] = content.get("protocol", {})
    return metrics | {"active_units": active, "best_epoch": best, "labels": labels}


def _history(path: Path) -> dict[str, np.ndarray]:
    """Returns the complete lines; a last line that was cut off, e.g. by a full disk, is left out."""
    rows = []
    if path.is_file():
        try:
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if row.get("seconds")]
            values = [[float(row[name] or "nan") for name in COLUMNS] for row in rows]
        except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise InputError(f"{path} cannot be read as the history of a run ({error!r})") from None
    columns = np.array(values if rows else np.empty((0, len(COLUMNS))), np.float64).T
    return dict(zip(COLUMNS, columns, strict=True))
