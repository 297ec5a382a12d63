"""Checkpoints of a run: weights with optimiser state, named by step."""

import os
import re
from pathlib import Path

KEPT = 2
_NAME = re.compile(r"step-(\d+)\.weights\.h5")


def save_checkpoint(model, folder: Path) -> Path:
    """Saves the model at its optimiser's step and keeps the last two; returns the file.

    The file is written beside and renamed in: a checkpoint that is there is complete.
    """
    path = folder / f"step-{int(model.optimizer.iterations):09d}.weights.h5"
    beside = folder / "part.weights.h5"
    model.save_weights(beside)
    os.replace(beside, path)
    for old in _checkpoints(folder)[:-KEPT]:
        old.unlink()
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest step, or None."""
    return (_checkpoints(folder) or [None])[-1]


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
