"""What is around a step: `fit`, the batches, imports, the time until `train.py` has taken its first step."""

import errno
import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

import iwae_tf
from benchmarks.peers import ROOT
from benchmarks.sizes import DIM, images
from benchmarks.steps import network, step_of
from iwae_tf.models.steps_in_a_call import MOST_STEPS
from iwae_tf.objectives import IWAEBound
from iwae_tf.training import callbacks

STACK = "import tensorflow, keras"


def fit(k: int, steps: int) -> dict[str, Callable[[], object]]:
    """One call of `fit` on batches that lie ready, as it comes and as `train.py` calls it: 20 steps to an execution."""
    assert steps % MOST_STEPS == 0
    data = tf.data.Dataset.from_tensors(images(20)).repeat()
    bare, plain, run = (network(1) for _ in range(3))
    bare.compile(objective=IWAEBound(k))
    plain.compile(objective=IWAEBound(k))
    run.compile(objective=IWAEBound(k), steps_per_execution=MOST_STEPS)
    step = step_of(bare, tf.constant(images(20)))
    folder = tempfile.TemporaryDirectory()
    of_run = [
        callbacks.ProgressBar(10**9, steps, 0, verbose=0),
        callbacks.HistoryFile(Path(folder.name) / "history.csv", 0),
    ]
    settings = {"steps_per_epoch": steps, "shuffle": False, "verbose": 0}
    return {
        "floor: bare steps": lambda: [step() for _ in range(steps)],
        "fit, defaults": lambda: plain.fit(data, **settings),
        "fit, as train.py": lambda folder=folder: run.fit(data, callbacks=of_run, **settings),  # keeps the folder
    }


def batches(number: int, count: int = 100) -> dict[str, Callable[[], object]]:
    """The training batches of so many images, and the steps that they are for."""
    x = (255 * np.random.default_rng(0).random((number, DIM))).astype(np.uint8)
    dataset = iwae_tf.data.Dataset("random", x, x[:0], x[:0], 255.0, (28, 28), "random", "none")
    stream = iter(iwae_tf.data.training_batches(dataset, 20, 0))
    model = network(1)
    model.compile(objective=IWAEBound(5))
    step = step_of(model, tf.constant(images(20)))
    return {
        "floor: the steps": lambda: [step() for _ in range(count)],
        "batches": lambda: [next(stream) for _ in range(count)],
    }


def _import(code: str) -> Callable[[], None]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    words = [sys.executable, "-c", code]
    return lambda: subprocess.run(words, cwd=ROOT, check=True, env=environment, stderr=subprocess.DEVNULL)


def start() -> dict[str, Callable[[], object]]:
    """A process that imports the package, and one that imports what it stands on."""
    return {"floor: TensorFlow and Keras": _import(STACK), "iwae_tf": _import("import iwae_tf")}


def first_step() -> dict[str, Callable[[], object]]:
    """`train.py` on a terminal, until the bar shows the bound of its first steps, and imports alone."""
    return {"floor: TensorFlow and Keras": _import(STACK), "train.py": _train_until_a_step_is_shown}


def _train_until_a_step_is_shown() -> None:
    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))  # lines and columns; a new one has none
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "train.py", "--epochs", "1", "--output-dir", folder + "/run"]
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=terminal)
        os.close(terminal)
        shown = b""
        while b"bound" not in shown and (text := _read(ours)):
            shown += text
        process.kill()
        process.wait()
    os.close(ours)
    if b"bound" not in shown:
        raise RuntimeError(f"train.py ended before its first step: {shown.decode()}")


def _read(terminal: int) -> bytes:
    """What has been written; nothing when the other end is closed."""
    try:
        return os.read(terminal, 4096)
    except OSError as error:
        if error.errno != errno.EIO:  # with which Linux says what others do by reading nothing
            raise
        return b""
