"""What a run keeps of each test image, `scores.npz`, and of its latent units."""

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np

from iwae_tf.errors import InputError
from iwae_tf.training.run_folder import read_json

COLUMNS = ("log_likelihood", "standard_error", "effective_sample_size", "pareto_k")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageScores:
    """Scores of the test images, in the order of the data set, and the activities of the latent units.

    Attributes:
        log_likelihood: estimate of log p(x), float64 [N], in nats.
        standard_error: of each estimate, float64 [N].
        effective_sample_size: float64 [N].
        pareto_k: float64 [N].
        unit_activities: variance over the images of each unit's posterior mean, float64 [H_l] for each layer.
    """

    log_likelihood: np.ndarray
    standard_error: np.ndarray
    effective_sample_size: np.ndarray
    pareto_k: np.ndarray
    unit_activities: tuple[np.ndarray, ...]


def write_scores(path: Path, estimate, unit_activities) -> None:
    """Writes `scores.npz` into a run folder, beside and renamed in.

    Args:
        path: the run folder.
        estimate: an `iwae_tf.evaluation.LikelihoodEstimate` of the test images.
        unit_activities: as in `ImageScores`.
    """
    arrays = {name: getattr(estimate, name) for name in COLUMNS}
    arrays |= {f"unit_activities_{number}": layer for number, layer in enumerate(unit_activities, start=1)}
    beside = path / "scores.npz.part"
    with beside.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(beside, path / "scores.npz")


def read_scores(path: Path) -> ImageScores | None:
    """The scores of the test images that a run folder holds: by `train.py`, else by `evaluate`; None without either.

    Raises:
        InputError: the files are damaged.
    """
    file, evaluation = path / "scores.npz", path / "evaluation"
    if file.is_file():
        return _checked(file, _read_npz(file))
    if not (evaluation / "report.json").is_file():
        return None
    report = read_json(evaluation / "report.json")
    if report.get("protocol", {}).get("part") != "test":
        return None
    file = evaluation / "per_example.parquet"
    arrays = _read_parquet(file)
    for number, layer in enumerate(report.get("unit_activities", ()), start=1):
        arrays[f"unit_activities_{number}"] = np.asarray(layer, np.float64)
    return _checked(file, arrays)


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(file, error) from None


def _read_parquet(file: Path) -> dict[str, np.ndarray]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
        return {name: table.column(name).to_numpy() for name in COLUMNS}
    except (OSError, KeyError, ValueError, pyarrow.ArrowException) as error:
        raise _damaged(file, error) from None


def _checked(file: Path, arrays: dict[str, np.ndarray]) -> ImageScores:
    layers = [name for name in arrays if name.startswith("unit_activities_")]
    layers = tuple(arrays[f"unit_activities_{number}"] for number in range(1, len(layers) + 1))
    columns = {name: arrays[name] for name in COLUMNS if name in arrays}
    shapes = {values.shape for values in columns.values()}
    flat = len(columns) == len(COLUMNS) and len(shapes) == 1 and len(next(iter(shapes))) == 1
    if not flat or not all(values.dtype.kind == "f" for values in (*columns.values(), *layers)):
        raise _damaged(file, "it does not hold one number an image in each of " + ", ".join(COLUMNS))
    return ImageScores(**columns, unit_activities=layers)


def _damaged(file: Path, why) -> InputError:
    return InputError(f"{file} is damaged ({why}); delete it, or score the images again")
