"""Ends a run whose validation bound no longer rises, and goes back to its best epoch; survives a stop."""

import csv
import os
from pathlib import Path

import keras

from iwae_tf.errors import InputError


class EarlyStopping(keras.callbacks.Callback):
    """Stops `fit` when the validation bound has not risen for `patience` epochs, and keeps the best epoch's model.

    What it knows is in files: the bounds in `history.csv`, the model in `checkpoints/best.weights.h5`. A run that goes
    on from a checkpoint repeats the epochs after it to the same bits, and so stops at the same epoch with the same
    best one. It has to come before the callbacks that write the history and checkpoints: what is best after an epoch
    is then on the disk before the epoch counts as done.

    Args:
        path: the run folder, whose history ends at the step that the run goes on from.
        patience: epochs; infinite for never.
    """

    def __init__(self, path: Path, patience: float):
        super().__init__()
        self.history, self.file = path / "history.csv", path / "checkpoints" / "best.weights.h5"
        self.patience = patience
        self.epochs, self.best, self.best_epoch = 0, float("-inf"), 0
        with self.history.open(newline="") as file:
            for row in csv.DictReader(file):
                self._take(row["val_bound"])

    @property
    def stopped(self) -> bool:
        """Whether patience is at its end."""
        return self.epochs - self.best_epoch >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        if self._take(f"{logs['val_bound']:.6f}"):  # as the history has it
            beside = self.file.with_name("part-best.weights.h5")
            self.model.save_weights(beside)
            os.replace(beside, self.file)
        if self.stopped:
            self.model.stop_training = True

    def restore(self, model) -> None:
        """Sets the model to that of the best epoch, its optimiser included.

        Raises:
            InputError: the file is not there or damaged.
        """
        if not self.best_epoch:
            return  # no bound was ever finite
        try:
            model.load_weights(self.file)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{self.file}, the model of the best epoch, cannot be read ({error}); train anew by --overwrite"
            ) from None

    def _take(self, val_bound: str) -> bool:
        """Counts an epoch; returns whether it is the best so far."""
        self.epochs += 1
        if float(val_bound or "nan") > self.best:
            self.best, self.best_epoch = float(val_bound), self.epochs
            return True
        return False
