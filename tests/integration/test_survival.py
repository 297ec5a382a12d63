"""Runs that are killed, damaged, cut off from their disk or doubled: real processes, signals and files.

The processes are forked from a server that has imported TensorFlow once, which saves each the seconds that takes.
"""

import contextlib
import functools
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from filelock import FileLock

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["iwae_tf.commands.main", "iwae_tf.training.run"])
KILLS = 6
EPOCHS, STEPS = 40, 10  # of the run, and in an epoch

pytestmark = pytest.mark.slow


def _process(run: Path, *flags: str, file_size: int | None = None) -> multiprocessing.Process:
    """A process that trains in the folder, with a checkpoint after every epoch; what it prints goes to RUN.txt."""
    process = CONTEXT.Process(target=_train, args=(run, flags, file_size), daemon=True)
    process.start()
    return process


def _train(run: Path, flags: tuple[str, ...], file_size: int | None) -> None:
    from iwae_tf.commands.main import main
    from iwae_tf.training import run as training

    training.Checkpoints = functools.partial(training.Checkpoints, min_seconds=0.0)
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    settings = ["--dataset", str(run.parent / "mine.npz"), "--epochs", str(EPOCHS), "--batch-size", "10", "--k", "3"]
    sizes = ["--latent-units", "3", "--hidden-units", "8", "--eval-samples", "50", "--verbose", "0"]
    kind = ["--objective", "ciwae", "--learn-beta", "--schedule", "paper", "--backward-samples", "2"]
    output = run.with_suffix(".txt").open("a", buffering=1)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        os._exit(main(["train", "--output-dir", str(run), *settings, *sizes, *kind, *flags]))


def _ended(process, code: int) -> None:
    process.join(120)
    assert process.exitcode == code


def _text(run: Path) -> str:
    return run.with_suffix(".txt").read_text()


def _epochs(run: Path) -> int:
    """Complete lines of the history."""
    history = run / "history.csv"
    return max(history.read_text().count("\n") - 1, 0) if history.exists() else 0


def _wait(process, condition) -> None:
    """Until the condition holds or the process has ended."""
    while process.is_alive() and not condition():
        time.sleep(0.005)


def _checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step-*.h5"))


def _arrays(checkpoint: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with h5py.File(checkpoint) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def _assert_same_bits(one: Path, other: Path) -> None:
    """Weights, optimiser with its step, and the history but for its times."""
    expected, arrays = (_arrays(_checkpoints(run)[-1]) for run in (one, other))
    assert len(expected) > 20
    assert expected.keys() == arrays.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    histories = [
        [line.split(",")[:5] for line in (run / "history.csv").read_text().splitlines()] for run in (one, other)
    ]
    assert histories[0] == histories[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with images of our own."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    np.savez(folder / "mine.npz", x_train=rng.random((95, 30)), x_valid=rng.random((7, 30)), x_test=rng.random((9, 30)))
    return folder


@pytest.fixture(scope="module")
def whole(data):
    """A run that nothing happened to."""
    run = data / "whole"
    _ended(_process(run), 0)
    assert _epochs(run) == EPOCHS
    return run


def test_a_run_killed_many_times_and_damaged_is_the_run_never_killed(data, whole):
    run, chance, damaged = data / "killed", random.Random(0), 0
    for number in range(KILLS):
        process = _process(run, *(["--resume"] if (run / "config.json").exists() else []))
        if number % 4:  # else: somewhere in the start, which takes about a second
            goal = _epochs(run) + chance.randint(1, 3)
            _wait(process, lambda: _epochs(run) >= goal)  # noqa: B023 (called in the loop)
            time.sleep(chance.uniform(0.0, 0.05))
        else:
            time.sleep(chance.uniform(0.0, 2.0))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        if number % 2 and len(_checkpoints(run)) > 1:
            _damage(_checkpoints(run)[-1], cut=number % 4 == 1)
            damaged += 1
    assert STEPS < int(_checkpoints(run)[-1].name.split("-")[1]) < EPOCHS * STEPS
    _ended(_process(run, "--resume"), 0)
    _assert_same_bits(whole, run)
    assert _text(run).count("is damaged") == damaged > 1


def _damage(path: Path, cut: bool) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if cut else content[:-1] + bytes([content[-1] ^ 1]))


def test_a_signal_saves_the_current_step_and_the_run_resumes_from_it(data, whole):
    run = data / "signal"
    for number, code, epochs, flags in ((signal.SIGTERM, 143, 3, []), (signal.SIGINT, 130, 12, ["--resume"])):
        process = _process(run, *flags)
        _wait(process, lambda: _epochs(run) >= epochs)  # noqa: B023 (called in the loop)
        os.kill(process.pid, number)
        _ended(process, code)
    assert _text(run).count("stopped at step") == 2
    assert "Traceback" not in _text(run)
    _ended(_process(run, "--resume"), 0)
    _assert_same_bits(whole, run)


def test_a_second_process_in_the_same_folder_is_refused_and_changes_nothing(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"}
    with FileLock(whole / ".lock"):  # as a run holds it
        for process in [_process(whole, flag) for flag in ("--resume", "--overwrite")]:
            _ended(process, 2)
    assert _text(whole).count("error: another process is at work on the run in") == 2
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"} == before


def test_a_full_disk_stops_a_run_in_one_line_and_what_was_saved_goes_on(data, whole):
    run = data / "full"
    process = _process(run)
    _wait(process, lambda: _epochs(run) >= 3)
    process.kill()
    process.join()
    kept = [path.name for path in _checkpoints(run)]
    size = _checkpoints(run)[-1].stat().st_size
    _ended(_process(run, "--resume", file_size=size // 2), 2)  # a file may grow to this size and no further
    assert "cannot be written" in _text(run)
    assert "--resume continues from it" in _text(run)
    assert "Traceback" not in _text(run)
    assert [path.name for path in _checkpoints(run)] == kept
    assert not list(run.rglob(".writing*"))
    _ended(_process(run, "--resume"), 0)
    _assert_same_bits(whole, run)


def test_a_folder_that_is_removed_under_a_run_stops_it_in_one_line(data):
    run = data / "removed"
    process = _process(run)
    _wait(process, lambda: _epochs(run) >= 3)
    moved = run.with_name("moved")
    shutil.move(run, moved)
    _ended(process, 2)
    assert "cannot be written" in _text(run)
    assert "Traceback" not in _text(run)
    assert len(_checkpoints(moved)) == 2
