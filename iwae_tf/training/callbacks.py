"""What happens while `fit` runs: a progress bar, the history file, checkpoints."""

import csv
import math
import sys
import time
from pathlib import Path

import keras
from tqdm import tqdm

from iwae_tf.training.checkpoints import save_checkpoint
from iwae_tf.training.event_files import EventFiles as EventFiles
from iwae_tf.training.stop_signals import StopSignals

HISTORY_COLUMNS = ("epoch", "step", "bound", "val_bound", "learning_rate", "seconds")


def progress_bar(name: str, total: int, unit: str, verbose: int, **kwargs) -> tqdm:
    """A bar on stderr; where that is no terminal it is written anew every ten seconds at most."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(
        desc=name, total=total, unit=unit, disable=not verbose, mininterval=interval, dynamic_ncols=True, **kwargs
    )


class ProgressBar(keras.callbacks.Callback):
    """One bar over all steps of the run, with the running bound of the epoch and the last validation bound.

    Args:
        total_steps: steps of the whole run.
        steps_per_epoch: steps of an epoch.
        first_step: where the run starts, above 0 for one that is resumed.
        verbose: 0 shows nothing, 1 the bar, 2 a line for each epoch as well.
    """

    def __init__(self, total_steps: int, steps_per_epoch: int, first_step: int, verbose: int):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.epochs = total_steps // steps_per_epoch
        self.verbose = verbose
        self.validation = ""
        self.bar = progress_bar("training", total_steps, "step", verbose, initial=first_step)

    def on_train_batch_end(self, batch, logs=None):
        step = self.model.step
        epoch = -(-step // self.steps_per_epoch)
        text = f"epoch {epoch}/{self.epochs} bound {logs['bound']:.2f}{self.validation}"
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(step - self.bar.n)

    def on_epoch_end(self, epoch, logs=None):
        if "val_bound" in logs:
            self.validation = f" validation {logs['val_bound']:.2f}"
        if self.verbose == 2:
            self.bar.write(f"epoch {epoch + 1}/{self.epochs}: bound {logs['bound']:.3f}{self.validation}")

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self.bar.close()


class HistoryFile(keras.callbacks.Callback):
    """Adds a line to `history.csv` after each epoch; a resumed run first drops lines after its first step."""

    def __init__(self, path: Path, first_step: int):
        super().__init__()
        self.path = path
        rows = _complete_rows(path, first_step) if path.exists() else []
        beside = path.with_name(path.name + ".part")
        with beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, HISTORY_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        beside.replace(path)
        self.seconds_before = float(rows[-1]["seconds"]) if rows else 0.0
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training time so far, without what an interrupted run lost after its last line."""
        return self.seconds_before + time.perf_counter() - self.start

    def on_epoch_end(self, epoch, logs=None):
        row = (
            epoch + 1,
            self.model.step,
            f"{logs['bound']:.6f}",
            f"{logs['val_bound']:.6f}" if "val_bound" in logs else "",
            f"{keras.ops.convert_to_numpy(self.model.optimizer.learning_rate):.6g}",
            f"{self.seconds:.3f}",
        )
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)


def _complete_rows(path: Path, last_step: int) -> list[dict]:
    """The lines up to a step; a last line that a killed run left half-written is left out."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["seconds"]]
    return [row for row in rows if int(row["step"]) <= last_step]


class Checkpoints(keras.callbacks.Callback):
    """Saves a checkpoint after an epoch, if the last one is old enough, inside a long one, and at the end of training.

    Args:
        folder: where to.
        min_seconds: age of the last checkpoint from which on the end of an epoch makes another.
        max_seconds: age from which on one is made inside an epoch.
    """

    def __init__(self, folder: Path, min_seconds: float = 10.0, max_seconds: float = 300.0):
        super().__init__()
        self.folder = folder
        self.min_seconds, self.max_seconds = min_seconds, max_seconds
        self.saved_at = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 < self.params["steps"]:  # at the end of an epoch the history comes first
            self._save_if_older(self.max_seconds, logs)

    def on_epoch_end(self, epoch, logs=None):
        self._save_if_older(self.min_seconds, logs)

    def on_train_end(self, logs=None):
        save_checkpoint(self.model, self.folder)

    def _save_if_older(self, seconds: float, logs: dict) -> None:
        good = all(math.isfinite(value) for value in logs.values())
        if good and time.perf_counter() - self.saved_at >= seconds:
            save_checkpoint(self.model, self.folder)
            self.saved_at = time.perf_counter()


class Interruption(keras.callbacks.Callback):
    """Ends `fit` by `Stopped` after the steps under way, when a signal asked for it.

    Args:
        signals: an open `StopSignals`.
    """

    def __init__(self, signals: StopSignals):
        super().__init__()
        self.signals = signals

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 < self.params["steps"]:  # at the end of an epoch the history comes first
            self.signals.check()

    def on_epoch_end(self, epoch, logs=None):
        self.signals.check()


class RestoredBound(keras.callbacks.Callback):
    """Keeps the running bound of an epoch that goes on from a checkpoint, which `fit` resets when it starts.

    Args:
        tracker: the metric, as the checkpoint left it.
    """

    def __init__(self, tracker: keras.metrics.Metric):
        super().__init__()
        self.tracker = tracker
        self.values = [keras.ops.convert_to_numpy(variable) for variable in tracker.variables]

    def on_epoch_begin(self, epoch, logs=None):
        for variable, value in zip(self.tracker.variables, self.values, strict=True):
            variable.assign(value)
