"""Commands in processes of their own, forked from a server that has imported TensorFlow once, which takes seconds."""

import contextlib
import functools
import multiprocessing
import os
import resource
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["iwae_tf.commands.main", "iwae_tf.training.run"])


def started(
    words: list[str],
    printed: Path,
    environment: dict | None = None,
    file_size: int | None = None,
    refine: bool = True,
):
    """Starts a command that saves a checkpoint after every epoch; returns the process.

    Args:
        words: of the command line.
        printed: a file to which stdout and stderr are appended.
        environment: variables to set.
        file_size: bytes above which no file can grow.
        refine: False makes `train` score with q(h | x), which saves each process 3 s.
    """
    arguments = (words, printed, environment or {}, file_size, refine)
    process = CONTEXT.Process(target=_command, args=arguments, daemon=True)
    process.start()
    return process


def _command(words: list[str], printed: Path, environment: dict, file_size: int | None, refine: bool) -> None:
    from iwae_tf.commands.main import main
    from iwae_tf.config import ScoringConfig
    from iwae_tf.training import evaluation
    from iwae_tf.training import run as training

    training.Checkpoints = functools.partial(training.Checkpoints, min_seconds=0.0)
    if not refine:
        evaluation.ScoringConfig = functools.partial(ScoringConfig, refine="off")
    os.environ.update(environment)
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    tempfile.tempdir = tempfile.mkdtemp(dir=printed.parent)
    output = printed.open("a", buffering=1)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(words)
        shutil.rmtree(tempfile.tempdir)  # os._exit calls no function that was registered for the end
        os._exit(code)


def ended(process, code: int) -> None:
    """Waits for a process and checks its exit code."""
    process.join(240)
    assert process.exitcode == code


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, the last one at the end."""
    return sorted((run / "checkpoints").glob("step-*.h5"))


def state_of(run: Path) -> dict[str, np.ndarray]:
    """All arrays of the last checkpoint by name."""
    arrays = {}
    with h5py.File(checkpoints(run)[-1]) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    assert len(arrays) > 20
    return arrays


def history_of(run: Path) -> list[list[str]]:
    """The complete lines of the history but for their times, and without the header."""
    path = run / "history.csv"
    lines = path.read_text().splitlines(keepends=True)[1:] if path.exists() else []
    return [line.split(",")[:5] for line in lines if line.endswith("\n")]
