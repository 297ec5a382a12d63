"""A finished run, read back from its folder."""

from pathlib import Path
from typing import Any, NamedTuple

from iwae_tf.errors import InputError, nearest_name
from iwae_tf.training.run_folder import read_json


class TrainedRun(NamedTuple):
    """What a finished run left: its folder, the content of `config.json` and `metrics.json`, and the model."""

    path: Path
    config: dict
    metrics: dict
    model: Any


def check_run(path: Path) -> None:
    """Raises `InputError` unless the folder is that of a run, finished or not. Imports no TensorFlow."""
    if not path.is_dir():
        runs = sorted(str(config.parent) for config in path.parent.glob("*/config.json"))
        nearest = nearest_name(str(path), runs)
        hint = f"did you mean {nearest}?" if nearest else "train one with train.py"
        raise InputError(f"there is no run folder {path}; {hint}")
    if not (path / "config.json").is_file():
        raise InputError(f"{path} is not the folder of a run: it has no config.json")


def check_trained(path: Path) -> None:
    """Raises `InputError` unless the folder is that of a run with a finished model. Imports no TensorFlow."""
    check_run(path)
    missing = [name for name in ("model.keras", "metrics.json") if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"the run in {path} is not finished: it has no {' and no '.join(missing)}; go on with it by "
            "train.py with the same flags and --resume"
        )


def read_trained(path: Path) -> TrainedRun:
    """The run in a folder.

    Raises:
        InputError: there is no such run, it is not finished, or a file of it cannot be read.
    """
    check_trained(path)
    config, metrics = (read_json(path / name) for name in ("config.json", "metrics.json"))
    return TrainedRun(path, config, metrics, read_model(path))


def read_model(path: Path):
    """The `IWAE` in a run folder that has come to the end of training; raises `InputError` if it cannot be read."""
    import keras

    from iwae_tf.models import iwae  # noqa: F401, Keras has to know the class

    try:
        return keras.saving.load_model(path / "model.keras", compile=False)
    except Exception as error:  # Keras raises whatever its readers do
        raise InputError(f"{path / 'model.keras'} cannot be read ({error}); was it cut short?") from None
