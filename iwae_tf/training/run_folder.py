"""The folder of a run: name, lock, JSON files, and a finished run read back. Only `read_model` imports TensorFlow."""

import hashlib
import io
import json
import math
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from iwae_tf.config import FIGURE_FORMATS, RECORDED, OutputConfig, RunConfig
from iwae_tf.declarations import declared, load_plugins
from iwae_tf.errors import InputError, nearest_name
from iwae_tf.files import atomic_write

FILES = (
    *("config.json", "history.csv", "metrics.json", "scores.parquet", "model.keras", "report.html"),
    *("checkpoints", "batches", "evaluation", "tensorboard"),
    *(f"{name}.{ending}" for name in ("samples", "reconstructions", "columns", "bounds") for ending in FIGURE_FORMATS),
)


def path_of(config: RunConfig, output: OutputConfig) -> Path:
    """Returns the folder asked for, or runs/DATASET-OBJECTIVE-kK-lLAYERS-seedSEED."""
    if output.output_dir:
        return Path(output.output_dir)
    return Path("runs") / "-".join([*name_words(config).values(), f"seed{config.training.seed}"])


def name_words(config: RunConfig) -> dict[str, str]:
    """Returns the words of the name of a run's folder without its seed, by setting.

    A data file loses its ending. The objective's own settings follow its name, the kind of binary units follows l.
    """
    training, model = config.training, config.model
    words = {"dataset": Path(config.data.dataset).stem, "objective": training.objective}
    for name, value in config.objective.given.items():
        words[name] = name.replace("_", "-") + ("" if value is True else str(value))
    words |= {"k": f"k{training.k}", "layers": f"l{model.layers}"}
    default = type(model).__dataclass_fields__["latent"].default
    return words | ({"latent": model.latent} if model.latent != default else {})


def prepare(path: Path, resume: bool, overwrite: bool) -> FileLock:
    """Makes the folder ready for a run and locks it, or raises `InputError` and leaves a run in it unchanged.

    Args:
        path: the run folder.
        resume: the folder must hold a run, which is kept.
        overwrite: a run in the folder is deleted; other files stay.

    Returns:
        The lock, held until it is released or the process ends, however it ends.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"output folder {path} is a file; give another --output-dir")
    held = [name for name in FILES if _holds(path / name)]
    if resume and "config.json" not in held:
        raise InputError(f"--resume: there is no run in {path} (no config.json); leave --resume out to start one")
    if held and not (resume or overwrite):
        raise InputError(
            f"{path} already holds a run ({held[0]}); continue it with --resume, replace it with --overwrite, or give "
            "another --output-dir"
        )
    if held and "config.json" not in held:
        raise InputError(f"{path} holds {held[0]} but no run (no config.json); give another --output-dir or delete it")
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = locked(path)
        if overwrite:
            for name in sorted(held, key="config.json".__eq__):  # which says that there is a run: last
                remove = shutil.rmtree if (path / name).is_dir() else os.remove
                remove(path / name)
        (path / "checkpoints").mkdir(exist_ok=True)
        return lock
    except OSError as error:
        raise InputError(
            f"output folder {path} cannot be written: {error.strerror}; give another --output-dir"
        ) from None


def locked(path: Path) -> FileLock:
    """Returns the lock of a run folder, held; raises `InputError` if another process holds it."""
    lock = FileLock(path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another process is at work on the run in {path}; wait for it or stop it, or take another folder"
        ) from None
    return lock


def _holds(path: Path) -> bool:
    """Returns whether a file exists or a folder is not empty: a run killed at its start leaves empty folders."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


# JSON files and settings


def write_json(path: Path, content: dict) -> None:
    """Writes a JSON file by an atomic rename, with null for NaN, which JSON does not have."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(_without_nan(content), indent=2) + "\n")


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_json(path: Path) -> dict:
    """Returns the content of a JSON file of a run; raises `InputError` if it cannot be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); is this the folder of a run?") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no settings; is this the folder of a run?")
    return content


def check_same_settings(path: Path, config: RunConfig) -> None:
    """Raises `InputError` that names every setting in which `config` differs from the run in the folder.

    More epochs are no difference at a constant learning rate: the run goes on. The data, and the run that it started
    from, may have moved: checksums identify them, those of the data in `check_same_data`. A setting that config.json
    lacks is newer than the run and has its default value in it.
    """
    stored, defaults = read_json(path / "config.json"), RunConfig().to_json()
    training, epochs = stored.get("training", {}), config.training.epochs
    if training.get("schedule") == "constant" and epochs > training.get("epochs", epochs):
        stored = {**stored, "training": {**training, "epochs": epochs}}
    sections = {name: values for name, values in config.to_json().items() if isinstance(values, dict)}
    there = {
        name: value for section in sections for name, value in (defaults[section] | stored.get(section, {})).items()
    }
    here = {name: value for values in sections.values() for name, value in values.items()}
    there["data_dir"] = here["data_dir"]
    if Path(there["dataset"]).name == Path(here["dataset"]).name:
        there["dataset"] = here["dataset"]
    start = here["init_from"]
    if start and there["init_from"] not in (None, start) and (Path(start) / "model.keras").is_file():
        moved = model_checksum(Path(start)) == training.get("init_from_model")
        there["init_from"] = start if moved else there["init_from"]
    found = differences(there, here)
    if found:
        raise InputError(
            f"{path} was made with other settings: {found}; give its settings (more epochs are allowed at a "
            "constant learning rate), or start another run, with --init-from from its weights"
        )


def record_places(path: Path, config: RunConfig) -> None:
    """Writes what may change in a resumed run into its `config.json`: places of its data and start, and callbacks."""
    stored = read_json(path / "config.json")
    data = {"dataset": config.data.dataset, "data_dir": config.data.data_dir}
    callbacks = list(dict.fromkeys([*stored.get("callbacks", []), *config.callbacks]))
    moved = stored | {"data": stored["data"] | data, "callbacks": callbacks}
    moved["training"] = stored["training"] | {"init_from": config.training.init_from}
    if moved != stored:
        write_json(path / "config.json", moved)


def refit_settings(path: Path) -> dict[str, Any]:
    """Returns what runs that differ in the seed of their training alone have in common, by name.

    Those are the settings of model, objective and training, whether it started from another run's weights, and the
    checksum of the training rows.
    """
    stored, defaults = read_json(path / "config.json"), RunConfig().to_json()
    training = stored.get("training", {})
    found = {"training rows": stored.get("data", {}).get("sha256", {}).get("train")}
    found |= {"started from a run": bool(training.get("init_from"))}
    found |= training.get("objective_config") or defaults["objective"] | stored.get("objective", {})
    for section in ("model", "training"):
        values = defaults[section] | stored.get(section, {})
        left_out = ("seed", "init_from", "jit", *RECORDED.get(section, ()))
        found |= {name: value for name, value in values.items() if name not in left_out}
    return found


def differences(there: dict, here: dict) -> str:
    """Returns in words every entry of `here` that `there` has otherwise, or ""."""
    return "; ".join(
        f"{name} is {there.get(name)!r} there and {value!r} here"
        for name, value in here.items()
        if there.get(name) != value
    )


def likelihood_of(config: dict) -> str:
    """Returns the likelihood of a `config.json`, and of which columns it is a density, which depends on their units."""
    model, known = config["model"], declared("likelihood")
    columns = model.get("column_models")
    if columns is None:
        return model["likelihood"]

    def is_density(likelihood):  # False for that of a plugin that is not imported
        facts = known[likelihood].facts if likelihood in known else {}
        return facts.get("real") or facts.get("density")

    densities = [column["name"] for column in columns if is_density(column["likelihood"])]
    of = "all columns" if len(densities) == len(columns) else ", ".join(densities) or "no column"
    return f"{model['likelihood']}, a density of {of}"


# Runs that are read back

PRETRAINED = Path(__file__).resolve().parents[2] / "pretrained"  # of the repository; an installed package has none


def pretrained(name: str) -> Path:
    """Returns the folder of a trained model: a path, or a name in the repository's folder `pretrained/`."""
    path = Path(name)
    if path.is_dir():
        return path
    names = sorted(folder.name for folder in PRETRAINED.glob("*") if folder.is_dir())
    if name not in names:
        known = f"it has {', '.join(names)}" if names else "there is none here, clone the repository"
        raise InputError(
            f"{name!r} is neither the folder of a run nor a model in the repository's pretrained/: {known}"
        )
    return PRETRAINED / name


class TrainedRun(NamedTuple):
    """A finished run: its folder, the content of `config.json` and `metrics.json`, and its model."""

    path: Path
    config: dict
    metrics: dict
    model: Any


def check_run(path: Path) -> None:
    """Raises `InputError` unless the folder is that of a run, finished or not. Imports no TensorFlow."""
    if not path.is_dir():
        runs = sorted(str(config.parent) for config in path.parent.glob("*/config.json"))
        nearest = nearest_name(str(path), runs)
        hint = f"did you mean {nearest}?" if nearest else "train one with python -m iwae_tf train"
        raise InputError(f"there is no run folder {path}; {hint}")
    if not (path / "config.json").is_file():
        raise InputError(f"{path} is not the folder of a run: it has no config.json")


def check_trained(path: Path) -> None:
    """Raises `InputError` unless the folder is that of a run with a finished model. Imports no TensorFlow."""
    check_run(path)
    missing = [name for name in ("model.keras", "metrics.json") if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"the run in {path} is not finished: it has no {' and no '.join(missing)}; continue it with "
            "python -m iwae_tf train, the same flags and --resume"
        )
    wanted = read_json(path / "config.json").get("training", {}).get("epochs")
    if read_json(path / "metrics.json").get("epochs", wanted) != wanted:
        raise InputError(
            f"the run in {path} is not finished: its {wanted} epochs are not trained and scored; continue it with "
            "python -m iwae_tf train, the same flags and --resume"
        )


def read_trained(path: Path) -> TrainedRun:
    """Returns the finished run in a folder.

    Raises:
        InputError: there is no such run, it is not finished, or one of its files cannot be read.
    """
    check_trained(path)
    config, metrics = (read_json(path / name) for name in ("config.json", "metrics.json"))
    return TrainedRun(path, config, metrics, read_model(path))


def read_model(path: Path):
    """Returns the `IWAE` of a trained run; raises `InputError` if it cannot be read."""
    load_plugins(recorded(path, "plugins"))
    import keras

    from iwae_tf.models import iwae  # noqa: F401, Keras has to know the class

    try:
        return keras.saving.load_model(path / "model.keras", compile=False)
    except Exception as error:  # Keras raises whatever its readers raise
        raise InputError(f"{path / 'model.keras'} cannot be read ({error}); was it cut short?") from None


def model_checksum(path: Path) -> str:
    """Returns "sha256:..." of the weights in a run's `model.keras`; raises `InputError` if it cannot be read.

    A checksum of the file would change whenever a finished run is resumed: time stamps and names of layers are in it.
    Imports no TensorFlow.
    """
    import h5py

    digest = hashlib.sha256()

    def add(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            values = np.asarray(item)
            digest.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode() + values.tobytes())

    try:
        with zipfile.ZipFile(path / "model.keras") as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights) as file:
            file.visititems(add)
    except Exception as error:  # readers of damaged archives raise errors of many types
        raise InputError(f"{path / 'model.keras'} cannot be read ({error}); was it cut short?") from None
    return f"sha256:{digest.hexdigest()}"


def different_models(path: Path, recorded: Mapping[str, str | None]) -> str:
    """Returns in words the models of a run's files, or "" if all are of one model.

    Args:
        path: the run folder; its `model.keras` is one of the files, unless it has been deleted.
        recorded: file name -> `model_checksum` recorded in it; None, as in files of earlier versions, is left out.
    """
    found = {name: str(checksum) for name, checksum in recorded.items() if checksum}
    if found and (path / "model.keras").is_file():
        found["model.keras"] = model_checksum(path)
    if len(set(found.values())) < 2:
        return ""
    return ", ".join(f"{name} is of model {checksum[:19]}..." for name, checksum in found.items())


def recorded(path: Path, name: str) -> tuple[str, ...]:
    """Returns the "plugins" or the "callbacks" that were given when the run in a folder was started."""
    return tuple(read_json(path / "config.json").get(name, ()))
