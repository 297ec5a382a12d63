"""Run folders written by hand, for tests that need no model."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np

from iwae_tf.config import RunConfig
from iwae_tf.report.record import Record, read_record
from iwae_tf.training.scores_file import write_columns

BOUNDS = {1: -30.5, 5: -28.25, 50: -27.125}
ERRORS = {1: 0.5, 5: 0.375, 50: 0.25}


def config_of(**sections) -> dict:
    """Returns the `config.json` of a small run on the digits; `sections` change entries."""
    content = RunConfig().to_json()
    content["data"] |= {"source": "a source", "split": "a split", "num_train": 60, "num_valid": 10, "num_test": 20}
    content["data"] |= {"image_shape": [8, 8], "intensity": "value / 16", "binarization_evaluation": "drawn once"}
    content["model"] |= {"latent_units": [4], "data_dim": 64}
    content["training"] |= {"steps_per_epoch": 3, "total_steps": 12}
    content["training"]["optimizer_config"] = {"name": "adam", "clipnorm": None}
    content["versions"] = {"iwae-tf": "0.1.0"}
    for name, values in sections.items():
        content[name] = {**content.get(name, {}), **values}
    return content


def metrics_of(**changes) -> dict:
    """Returns the content of `metrics.json`."""
    return {
        "num_test": 20,
        "log_likelihood": BOUNDS[50],
        "standard_error": ERRORS[50],
        "num_samples": 50,
        "bounds": {str(k): value for k, value in BOUNDS.items()},
        "bound_standard_errors": {str(k): value for k, value in ERRORS.items()},
        "active_units": [3],
        "reliability": {"reliable": 14, "num_rows": 20, "median_effective_sample_size": 10.5},
        "train_seconds": 90.5,
        "eval_seconds": 4.0,
    } | changes


def history_of(epochs: int, validated: bool = True) -> str:
    """Returns a `history.csv`: bounds that rise, 2 seconds for the first epoch and half a second for the others."""
    lines = ["epoch,step,bound,val_bound,learning_rate,seconds"]
    for epoch in range(1, epochs + 1):
        validation = f"{-40 + 2 * epoch - 0.5}" if validated else ""
        lines.append(f"{epoch},{3 * epoch},{-40 + 2 * epoch},{validation},0.001,{1.5 + 0.5 * epoch}")
    return "\n".join(lines) + "\n"


def write_run(path: Path, config=None, metrics=None, history=None, scores=None) -> Path:
    """Writes the files that are given, and always the configuration; returns the folder.

    Activities of units among the `scores` are written to `metrics.json`, where `train` puts them.
    """
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config or config_of()))
    columns = {name: values for name, values in (scores or {}).items() if not name.startswith("unit_activities")}
    activities = [list(values) for name, values in (scores or {}).items() if name.startswith("unit_activities")]
    if metrics is not None and activities:
        metrics = {**metrics, "unit_activities": activities}
    if metrics is not None:
        (path / "metrics.json").write_text(json.dumps(metrics))
    if history is not None:
        (path / "history.csv").write_text(history)
    if scores is not None:
        write_columns(path / "scores.parquet", columns)
    return path


def write_model(path: Path, weight: float = 0.5, optimizer: float = 0.0, name: str = "dense", date=(2026, 1, 1)):
    """Writes a `model.keras` of one weight as Keras lays it out: name of its layer, state of the optimiser, a date."""
    path.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("layer/vars").attrs["name"] = name
        file["layer/vars/0"] = np.full([2, 3], weight, np.float32)
        file["optimizer/vars/0"] = np.float32(optimizer)
    with zipfile.ZipFile(path / "model.keras", "w") as archive:
        archive.writestr(zipfile.ZipInfo("model.weights.h5", (*date, 0, 0, 0)), content.getvalue())


def scores_of(log_likelihood) -> dict:
    """Returns scores of images and activities of four units: the third is inactive, the last one on the border."""
    values = np.asarray(log_likelihood, np.float64)
    return {
        "log_likelihood": values,
        "standard_error": np.full(values.shape, 0.125),
        "effective_sample_size": np.arange(1.0, len(values) + 1),
        "pareto_k": np.linspace(0.0, 1.0, len(values)),
        "reliable": np.arange(len(values)) < 0.7 * len(values),
        "unit_activities_1": np.array([0.02, 0.5, 0.009, 0.01]),
    }


def record_of(path: Path, epochs: int = 4, **changes) -> Record:
    """Writes an evaluated run without a model and reads it back."""
    metrics, scores = metrics_of(), scores_of(-30.0 - np.arange(20.0))
    return read_record(
        write_run(path, **{"metrics": metrics, "history": history_of(epochs), "scores": scores} | changes)
    )
