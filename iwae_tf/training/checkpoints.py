"""Checkpoints of a run: weights with the optimiser's state, named by step and checksum."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import keras

from iwae_tf.files import atomic_write

KEPT = 2
_RUNNING_BOUND = "running bound"
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.weights\.h5")


def save_checkpoint(model, folder: Path) -> Path:
    """Saves the model at its optimiser's step, keeps the last two checkpoints and returns the file.

    The name holds the first 16 digits of the file's SHA-256, by which later damage is detected.
    """
    unnamed = folder / "checkpoint.weights.h5"
    # HDF5 corrupts files on a full disk, so reserve the space first; it adds up to 4 KiB to each variable.
    size = sum(4096 + keras.ops.convert_to_numpy(variable).nbytes for variable in state_of(model))
    with atomic_write(unnamed, reserve=size) as temporary:
        model.save_weights(temporary)
        with h5py.File(temporary, "a") as file:
            file.attrs[_RUNNING_BOUND] = [keras.ops.convert_to_numpy(v) for v in model.bound_tracker.variables]
    path = folder / f"step-{model.step:09d}-{_digest(unnamed)}.weights.h5"
    os.replace(unnamed, path)
    for old in _checkpoints(folder)[:-KEPT]:
        if old != path:
            old.unlink()
    return path


def load_checkpoint(model, path: Path) -> None:
    """Sets the model's weights, its optimiser and the running bound of the epoch, which Keras does not save."""
    model.load_weights(path)
    with h5py.File(path) as file:
        for variable, value in zip(model.bound_tracker.variables, file.attrs[_RUNNING_BOUND], strict=True):
            variable.assign(value)


def state_of(model) -> list:
    """Returns all variables that a checkpoint holds: weights, optimiser, running bound."""
    return [*model.variables, *model.optimizer.variables, *model.bound_tracker.variables]


def latest_checkpoint(folder: Path, report: Callable[[str], None] | None = None) -> Path | None:
    """Returns the undamaged checkpoint of the highest step, or None.

    Args:
        folder: the folder of checkpoints.
        report: called with a line about each damaged checkpoint, which is then deleted: otherwise a later checkpoint
            of a lower step would count as older. None checks nothing and deletes nothing.
    """
    for path in reversed(_checkpoints(folder)):
        if report is None or _digest(path) == _NAME.fullmatch(path.name)[2]:
            return path
        report(
            f"{path} is damaged and is deleted: its checksum is not the one in its name; an older one is used, if any"
        )
        path.unlink()
    return None


def _checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints by step; those of one step in the order in which they were written."""
    paths = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (int(_NAME.fullmatch(path.name)[1]), path.stat().st_mtime_ns))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
