"""Callbacks of `fit`: progress bar, history file, checkpoints, early stopping, stop signals, and a user's own."""

import csv
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
from tqdm import tqdm

from iwae_tf.declarations import import_named
from iwae_tf.errors import InputError, Stopped, nearest_name
from iwae_tf.files import atomic_write
from iwae_tf.training.checkpoints import save_checkpoint

HISTORY_COLUMNS = ("epoch", "step", "bound", "val_bound", "learning_rate", "seconds")


def progress_bar(name: str, total: int | None, unit: str, verbose: int, **kwargs) -> tqdm:
    """Returns a bar on stderr, which is refreshed every ten seconds at most if stderr is no terminal."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(
        desc=name, total=total, unit=unit, disable=not verbose, mininterval=interval, dynamic_ncols=True, **kwargs
    )


class ProgressBar(keras.callbacks.Callback):
    """One bar over all steps of the run, with the running bound of the epoch and the last validation bound.

    Args:
        total_steps: steps of the whole run.
        steps_per_epoch: steps of an epoch.
        first_step: step at which the run starts, above 0 for a resumed run.
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
        self._show(logs)
        self.bar.update(self.model.step - self.bar.n)

    def on_epoch_end(self, epoch, logs=None):
        if "val_bound" in logs:
            self.validation = f" validation {logs['val_bound']:.2f}"
            self._show(logs)
        if self.verbose == 2:
            self.bar.write(f"epoch {epoch + 1}/{self.epochs}: bound {logs['bound']:.3f}{self.validation}")

    def _show(self, logs):
        epoch = -(-self.model.step // self.steps_per_epoch)
        text = f"epoch {epoch}/{self.epochs} bound {logs['bound']:.2f}{self.validation}"
        self.bar.set_postfix_str(text, refresh=False)


class TimeLeft(keras.callbacks.Callback):
    """Says once, after a minute of training, how long the run takes at its speed up to then.

    Args:
        total_steps: steps of the whole run.
        say: called with the seconds of training to go, and of the whole run.
        after: seconds after the first steps, which compile.
    """

    def __init__(self, total_steps: int, say: Callable[[float, float], None], after: float = 60.0):
        super().__init__()
        self.total_steps, self.say, self.after = total_steps, say, after
        self.start, self.said = None, False

    def on_train_batch_end(self, batch, logs=None):
        now, step = time.perf_counter(), self.model.step
        self.start = self.start or (now, step)
        seconds, steps = now - self.start[0], step - self.start[1]
        if steps and seconds >= self.after and not self.said:
            self.said = True
            self.say(seconds / steps * (self.total_steps - step), seconds / steps * self.total_steps)


def epochs_in(path: Path) -> int:
    """Returns the number of epochs in a `history.csv`, whose first line has names; 0 without the file."""
    return max(len(path.read_text().splitlines()) - 1, 0) if path.is_file() else 0


class HistoryFile(keras.callbacks.Callback):
    """Appends a line to `history.csv` after each epoch.

    A resumed run first drops the lines after its first step, and that of an epoch in which a callback had stopped it.
    """

    def __init__(self, path: Path, first_step: int, steps_per_epoch: int):
        super().__init__()
        self.path = path
        rows = []
        if path.exists():
            with path.open(newline="") as file:  # a killed run may have left its last line incomplete
                rows = [row for row in csv.DictReader(file) if row["seconds"] and int(row["step"]) <= first_step]
        rows = [row for row in rows if int(row["step"]) >= int(row["epoch"]) * steps_per_epoch]
        with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, HISTORY_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        self.seconds_before = float(rows[-1]["seconds"]) if rows else 0.0
        self.last_step = int(rows[-1]["step"]) if rows else 0
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training time up to now, without the time that a stopped run spent after its last line."""
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
        self.last_step = self.model.step


def made_by(factories: Sequence[str]) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that factories make, each given as MODULE:FACTORY.

    Raises:
        InputError: there is no such module or function, it fails, or it returns something else.
    """
    return [_made_by(factory) for factory in factories]


def _made_by(factory: str) -> keras.callbacks.Callback:
    flag = f"--callback {factory}"
    name, colon, attribute = factory.partition(":")
    if not (name and colon and attribute):
        raise InputError(f"{flag}: expected MODULE:FACTORY, e.g. my_callbacks:logger")
    module = import_named(name, flag)
    if not hasattr(module, attribute):
        nearest = nearest_name(attribute, [name for name in vars(module) if not name.startswith("_")])
        raise InputError(f"{flag}: {name} has no {attribute}" + (f"; did you mean {nearest}?" if nearest else ""))
    make = getattr(module, attribute)
    if not callable(make):
        raise InputError(f"{flag} is no function but {make!r}; expected one that returns a Keras callback")
    try:
        made = make()
    except Exception as error:  # of the user's code, e.g. a tracker that nobody has logged in to
        raise InputError(f"{flag} failed ({type(error).__name__}: {error}); it is called without arguments") from error
    if not isinstance(made, keras.callbacks.Callback):
        raise InputError(f"{flag} returns {made!r}; expected a keras.callbacks.Callback")
    return made


class StopSignals:
    """A context in which Ctrl-C and SIGTERM wait for `check`, which raises `Stopped`; a second one ends at once.

    An exception that a signal handler raises can land in TensorFlow's code, which drops it or turns it into another
    error. Between two steps or two batches, weights and files belong together.
    """

    def __init__(self):
        self.requested = None

    def __enter__(self):
        self.handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._install(dict.fromkeys(self.handlers, self._request))
        return self

    def __exit__(self, kind, *others):
        self._install(self.handlers)
        if kind is None:  # it may have come after the last step
            self.check()

    def check(self) -> None:
        """Raises `Stopped` if a signal came."""
        if self.requested is not None:
            raise Stopped(self.requested)

    def _request(self, number, frame):
        self.requested = number
        self._install(self.handlers)

    @staticmethod
    def _install(handlers: dict) -> None:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers in no other thread
            for number, handler in handlers.items():
                signal.signal(number, handler)


class Checkpoints(keras.callbacks.Callback):
    """Saves checkpoints: after an epoch if the last one is old enough, within a long epoch, and after training.

    Args:
        folder: the folder of checkpoints.
        signals: raises `Stopped` after the current steps, or after the history of an epoch, if a signal came.
        min_seconds: age of the last checkpoint at which the end of an epoch saves another.
        max_seconds: age at which one is saved within an epoch.
    """

    def __init__(self, folder: Path, signals: StopSignals, min_seconds: float = 10.0, max_seconds: float = 300.0):
        super().__init__()
        self.folder, self.signals = folder, signals
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
        finite = all(math.isfinite(value) for value in logs.values())
        if finite and time.perf_counter() - self.saved_at >= seconds:
            save_checkpoint(self.model, self.folder)
            self.saved_at = time.perf_counter()
        self.signals.check()


class EarlyStopping(keras.callbacks.Callback):
    """Stops `fit` after `patience` epochs without a higher validation bound, and keeps the best epoch's model.

    Its state is in files: the bounds in `history.csv`, the model in `checkpoints/best.weights.h5`. A resumed run
    repeats the epochs after its checkpoint to the same bits, so it stops at the same epoch with the same best one. The
    callback must precede those of history and checkpoints: then the best model is on disk before its epoch counts.

    Args:
        path: the run folder, whose history ends at the step at which the run resumes.
        patience: in epochs; infinite for never.
    """

    def __init__(self, path: Path, patience: float):
        super().__init__()
        self.history, self.file = path / "history.csv", path / "checkpoints" / "best.weights.h5"
        self.patience = patience
        self.epochs, self.best, self.best_epoch = 0, float("-inf"), 0
        with self.history.open(newline="") as file:
            for row in csv.DictReader(file):
                self._is_best(row["val_bound"])

    @property
    def stopped(self) -> bool:
        """True once the patience is exhausted."""
        return self.epochs - self.best_epoch >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        if self._is_best(f"{logs['val_bound']:.6f}"):  # rounded as in the history
            with atomic_write(self.file) as temporary:
                self.model.save_weights(temporary)
        if self.stopped:
            self.model.stop_training = True

    def restore(self, model) -> None:
        """Sets the model and its optimiser to the best epoch; raises `InputError` if the file cannot be read."""
        if not self.best_epoch:
            return  # no bound was finite
        try:
            model.load_weights(self.file)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{self.file}, the model of the best epoch, cannot be read ({error}); train anew with --overwrite"
            ) from None

    def _is_best(self, val_bound: str) -> bool:
        """Counts an epoch; returns whether it is the best up to now."""
        self.epochs += 1
        if float(val_bound or "nan") > self.best:
            self.best, self.best_epoch = float(val_bound), self.epochs
            return True
        return False
