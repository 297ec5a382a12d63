"""Checkpoints of a run: weights with optimiser state, named by step and checksum."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import keras

KEPT = 2
_RUNNING_BOUND = "running bound"
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.weights\.h5")


def save_checkpoint(model, folder: Path) -> Path:
    """Saves the model at its optimiser's step and keeps the last two; returns the file.

    The file is written beside, brought to the disk and renamed in: a name that is there stands for a file that was
    whole. The name holds the first 16 digits of its SHA-256, by which one that was damaged later is found out.
    """
    beside = folder / "part.weights.h5"
    try:
        _check_room(beside, model)
        model.save_weights(beside)
        with h5py.File(beside, "a") as file:
            file.attrs[_RUNNING_BOUND] = [keras.ops.convert_to_numpy(v) for v in model.bound_tracker.variables]
        with beside.open("rb") as file:
            os.fsync(file.fileno())
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    path = folder / f"step-{model.step:09d}-{_digest(beside)}.weights.h5"
    os.replace(beside, path)
    for old in _checkpoints(folder)[:-KEPT]:
        if old != path:
            old.unlink()
    return path


def state_of(model) -> list:
    """All that a checkpoint holds: weights, optimiser, and the running bound, which Keras leaves out."""
    return [*model.variables, *model.optimizer.variables, *model.bound_tracker.variables]


def _check_room(path: Path, model) -> None:
    """Fills the file with as many zeros as a checkpoint has bytes: HDF5 makes a mess of a full disk, Python none."""
    variables = [*model.variables, *model.optimizer.variables]
    size = sum(
        keras.ops.convert_to_numpy(variable).nbytes + 4096 for variable in variables
    )  # with what HDF5 adds to each
    with path.open("wb") as file:
        file.write(bytes(size))


def load_checkpoint(model, path: Path) -> None:
    """Sets the model's weights, its optimiser and the running bound of the epoch under way, which Keras leaves out."""
    model.load_weights(path)
    with h5py.File(path) as file:
        for variable, value in zip(model.bound_tracker.variables, file.attrs[_RUNNING_BOUND], strict=True):
            variable.assign(value)


def latest_checkpoint(folder: Path, report: Callable[[str], None] | None = None) -> Path | None:
    """The whole checkpoint with the highest step, or None.

    Args:
        folder: where they are.
        report: told in a line of every checkpoint that is damaged; it is then deleted, so that no later one of a lower
            step is taken for older than it. None leaves the files alone and trusts the names.
    """
    for path in reversed(_checkpoints(folder)):
        if report is None or _digest(path) == _NAME.fullmatch(path.name)[2]:
            return path
        report(f"{path} is damaged: its checksum is not the one in its name; it is deleted, the one before is used")
        path.unlink()
    return None


def _checkpoints(folder: Path) -> list[Path]:
    """Files in the order of their steps, of one step in the order they were written."""
    paths = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (int(_NAME.fullmatch(path.name)[1]), path.stat().st_mtime_ns))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
