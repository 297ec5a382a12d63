"""The folder that a run leaves behind."""

import json
import os
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from iwae_tf.config import OutputConfig, RunConfig
from iwae_tf.errors import InputError

FILES = (
    "config.json",
    "history.csv",
    "metrics.json",
    "scores.parquet",
    "model.keras",
    "checkpoints",
    "samples.png",
    "reconstructions.png",
    "bounds.png",
    "evaluation",
    "report.html",
    "tensorboard",
)


def path_of(config: RunConfig, output: OutputConfig) -> Path:
    """The folder asked for, or runs/DATASET-OBJECTIVE-kK-lLAYERS-seedSEED.

    A data file loses its ending; settings of the objective that were given follow its name, and binary units l.
    """
    if output.output_dir:
        return Path(output.output_dir)
    training, model = config.training, config.model
    words = [Path(config.data.dataset).stem, training.objective]
    for name, value in config.objective.given.items():
        words.append(name.replace("_", "-") + ("" if value is True else str(value)))
    words += [f"k{training.k}", f"l{model.layers}", *([model.latent] if model.latent != "gaussian" else [])]
    return Path("runs") / "-".join([*words, f"seed{training.seed}"])


def prepare(path: Path, resume: bool, overwrite: bool) -> FileLock:
    """Makes the folder ready for a run and locks it, or raises `InputError` with nothing of a run changed.

    Args:
        path: the run folder.
        resume: the folder must hold a run, and keeps it.
        overwrite: a run in the folder is deleted; files that are not a run's stay.

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
            f"{path} already holds a run ({held[0]}); go on with it by --resume, replace it by --overwrite, or give "
            "another --output-dir"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
        if overwrite:
            for name in held:
                remove = shutil.rmtree if (path / name).is_dir() else os.remove
                remove(path / name)
        (path / "checkpoints").mkdir(exist_ok=True)
        return lock
    except OSError as error:
        raise InputError(
            f"output folder {path} cannot be written: {error.strerror}; give another --output-dir"
        ) from None


def _holds(path: Path) -> bool:
    """True for a file and for a folder with something in it: a run that was killed at its very start left nothing."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _locked(path: Path) -> FileLock:
    lock = FileLock(path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another process is at work on the run in {path}; wait for it or stop it, or give another --output-dir"
        ) from None
    return lock


def write_json(path: Path, content: dict) -> None:
    """Writes beside and renames in, so that a reader never sees half a file."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(beside, path)


def read_json(path: Path) -> dict:
    """The content of a JSON file of a run; raises `InputError` if it cannot be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); is this the folder of a run?") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no settings; is this the folder of a run?")
    return content


def check_same_settings(path: Path, config: RunConfig) -> None:
    """Raises `InputError` naming every setting in which `config` differs from the run in the folder.

    A setting that is not in the folder is newer than the run, which was made as its default says.
    """
    stored, defaults = read_json(path / "config.json"), RunConfig().to_json()
    there = {section: {**values, **stored.get(section, {})} for section, values in defaults.items()}
    differences = [
        f"{name} is {there[section][name]!r} there and {value!r} here"
        for section, values in config.to_json().items()
        for name, value in values.items()
        if there[section][name] != value
    ]
    if differences:
        raise InputError(f"--resume: {path} was made with other settings: {'; '.join(differences)}")
