"""`scores.parquet`: one row for each scored row of x, written by `train` and by `evaluate`. Imports no TensorFlow."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from iwae_tf.errors import InputError
from iwae_tf.files import atomic_write
from iwae_tf.training.run_folder import different_models, read_json

SCORES = "scores.parquet"
# column -> kind of its dtype
COLUMNS = {
    "log_likelihood": "f",
    "standard_error": "f",
    "effective_sample_size": "f",
    "pareto_k": "f",
    "reliable": "b",
}


@dataclasses.dataclass(frozen=True, eq=False)
class ImageScores:
    """Scores of the test rows, in the order of the data set, and the activities of the latent units.

    Attributes:
        log_likelihood: estimate of log p(x), float64 [N], in nats.
        standard_error: of each estimate, float64 [N].
        effective_sample_size: float64 [N].
        pareto_k: float64 [N].
        reliable: bool [N].
        unit_activities: variance over the rows of each unit's posterior mean, float64 [H_l] for each layer.
        row: number of each row in its split, int64 [N].
        protocol: settings that two sets of scores must share to be compared, and the seed; empty if unknown.
    """

    log_likelihood: np.ndarray
    standard_error: np.ndarray
    effective_sample_size: np.ndarray
    pareto_k: np.ndarray
    reliable: np.ndarray
    unit_activities: tuple[np.ndarray, ...] = ()
    row: np.ndarray | None = None
    protocol: dict = dataclasses.field(default_factory=dict)


def columns_of(estimate, first_row: int = 0) -> dict[str, np.ndarray]:
    """Returns the columns of `scores.parquet` for a `LikelihoodEstimate` of consecutive rows."""
    values = dict(vars(estimate))
    bounds = {f"bound_{k}": bound for k, bound in values.pop("bounds").items()}
    return {"row": first_row + np.arange(len(estimate.log_likelihood)), **values, **bounds}


def write_columns(path: Path, columns: Mapping[str, np.ndarray], model: str | None = None) -> None:
    """Writes arrays of one length as a Parquet file, with the `model_checksum` of the model that they are of."""
    import pyarrow
    import pyarrow.parquet

    with atomic_write(path) as temporary:
        table = pyarrow.table(dict(columns), metadata={"model": model} if model else None)
        pyarrow.parquet.write_table(table, temporary)


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Returns the columns of a Parquet file; raises `InputError` if it is damaged."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise _damaged(path, error) from None
    return {name: table.column(name).to_numpy() for name in table.column_names}


def model_of(path: Path) -> str | None:
    """Returns the model's checksum in a Parquet file that `read_columns` has read; None if it has none."""
    import pyarrow.parquet

    return (pyarrow.parquet.read_schema(path).metadata or {}).get(b"model", b"").decode(errors="replace") or None


def wrong_columns(columns: Mapping[str, np.ndarray], kinds: Mapping[str, str]) -> list[str]:
    """Returns the names of columns that are absent or whose dtype is not of the kind stated."""
    return [name for name, kind in kinds.items() if name not in columns or columns[name].dtype.kind != kind]


def read_scores(path: Path) -> ImageScores | None:
    """Returns the scores of a run's test rows, by `evaluate` if it scored those, else by `train`; None without any.

    An evaluation that was stopped, or of an earlier model, before training went on, is left out.

    Raises:
        InputError: a file is damaged, or the scores by `train` are not of the model in the folder.
    """
    for folder, record in ((path / "evaluation", "report.json"), (path, "metrics.json")):
        file, finished = folder / SCORES, (folder / record).is_file()
        if not file.is_file() or (folder != path and not finished):
            continue
        about = read_json(folder / record) if finished else {}
        if about.get("protocol", {}).get("part", "test") == "test":
            columns = read_columns(file)
            different = different_models(path, {record: about.get("model"), SCORES: model_of(file)})
            if different and folder == path:
                raise _damaged(file, different)
            if different:
                continue
            activities = tuple(np.asarray(layer, np.float64) for layer in about.get("unit_activities", ()))
            return _checked(file, columns, activities, about.get("protocol", {}))
    return None


def _checked(file: Path, columns: dict, activities: tuple, protocol: dict) -> ImageScores:
    if wrong_columns(columns, COLUMNS):
        raise _damaged(file, f"it does not hold a value for each row in each of {', '.join(COLUMNS)}")
    scores = {name: columns[name] for name in COLUMNS}
    row = columns.get("row", np.arange(len(scores["log_likelihood"])))
    return ImageScores(**scores, unit_activities=activities, row=row, protocol=protocol)


def _damaged(file: Path, why) -> InputError:
    return InputError(f"{file} is damaged ({why}); delete it, or score the rows again")
