"""What the files of a run folder say, read without TensorFlow; what is not there yet is None or empty."""

import csv
import dataclasses
from pathlib import Path

import numpy as np

from iwae_tf.config import RunConfig
from iwae_tf.errors import InputError
from iwae_tf.training.run_folder import check_run, read_json
from iwae_tf.training.scores_file import ImageScores, read_scores

MAX_RUNS = 8  # as many as there are colours that are told apart
NUMBERS = ("log_likelihood", "standard_error", "train_seconds", "eval_seconds")
COUNTS = ("num_samples", "num_test")
COLUMNS = ("epoch", "step", "bound", "val_bound", "seconds")


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """A run as its files describe it.

    Attributes:
        path: its folder.
        config: `config.json`; settings that are newer than the run have their defaults.
        metrics: `metrics.json` with bounds and their standard errors by int k, or None before the evaluation.
        history: the columns of `history.csv`, float64 [epochs]; NaN where nothing was written.
        scores: of each test image, or None where none are kept.
    """

    path: Path
    config: dict
    metrics: dict | None
    history: dict[str, np.ndarray]
    scores: ImageScores | None

    @property
    def has_model(self) -> bool:
        """Whether training came to its end."""
        return (self.path / "model.keras").is_file()

    @property
    def steps(self) -> tuple[int, int]:
        """Steps that the history tells of, and those of the whole run."""
        done = int(self.history["step"][-1]) if len(self.history["step"]) else 0
        return done, int(self.config["training"].get("total_steps", done))


def read_records(paths: list[Path]) -> list[Record]:
    """What the files of each run say, of at most 8 runs.

    Raises:
        InputError: there are more, one is given twice, is no run folder, or a file of it is damaged.
    """
    if len(paths) > MAX_RUNS:
        raise InputError(f"a page shows at most {MAX_RUNS} runs side by side, got {len(paths)}; give fewer")
    places = [path.resolve() for path in paths]
    twice = [str(path) for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise InputError(f"{twice[0]} is given twice; give each run once")
    return [read_record(path) for path in paths]


def read_record(path: Path) -> Record:
    """Reads the files of a run folder.

    Raises:
        InputError: it is no run folder, or a file of it is damaged.
    """
    check_run(path)
    metrics = path / "metrics.json"
    return Record(
        path,
        _config(path / "config.json"),
        _metrics(metrics) if metrics.is_file() else None,
        _history(path / "history.csv"),
        read_scores(path),
    )


def _config(path: Path) -> dict:
    content, defaults = read_json(path), RunConfig().to_json()
    missing = [name for name in ("data", "model", "training") if not isinstance(content.get(name), dict)]
    if missing:
        raise InputError(f"{path} has no section {' and no '.join(missing)}; is this the folder of a run?")
    sections = {name: values for name, values in content.items() if isinstance(values, dict)}
    return {name: {**defaults.get(name, {}), **sections.get(name, {})} for name in {**defaults, **sections}}


def _metrics(path: Path) -> dict:
    content = read_json(path)
    try:
        bounds, errors = (
            {int(k): float(value) for k, value in content[name].items()} for name in ("bounds", "bound_standard_errors")
        )
        metrics = {name: float(content[name]) for name in NUMBERS} | {name: int(content[name]) for name in COUNTS}
        active = [int(count) for count in content["active_units"]]
        best = int(content["best_epoch"]) if "best_epoch" in content else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error!r}); make it anew by train.py with --resume") from None
    if bounds.keys() != errors.keys() or not bounds:
        raise InputError(f"{path} is damaged (bounds and their errors are of other k); make it anew by --resume")
    return metrics | {"bounds": bounds, "bound_standard_errors": errors, "active_units": active, "best_epoch": best}


def _history(path: Path) -> dict[str, np.ndarray]:
    """The complete lines; a last one that was cut off, as by a full disk, is left out."""
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
