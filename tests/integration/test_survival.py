"""Runs that are killed, damaged, cut off from their disk or doubled: real processes, signals and files."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from processes import checkpoints, ended, history_of, started, state_of

EPOCHS, STEPS = 40, 10  # of the run, and in an epoch
FLAGS = f"--epochs {EPOCHS} --batch-size 10 --k 3 --latent-units 3 --hidden-units 8 --eval-samples 50 --verbose 0 "
FLAGS += "--objective ciwae --learn-beta --schedule paper --backward-samples 2"

pytestmark = pytest.mark.slow


def train(run: Path, *flags: str, file_size: int | None = None):
    """A process that trains in the folder."""
    words = ["train", "--dataset", str(run.parent / "mine.npz"), "--output-dir", str(run), *FLAGS.split(), *flags]
    return started(words, run.with_suffix(".txt"), file_size=file_size, refine=False)


def printed(run: Path) -> str:
    """What the processes in the folder have printed."""
    text = run.with_suffix(".txt").read_text()
    assert "Traceback" not in text
    return text


def wait_for_epochs(process, run: Path, number: int) -> None:
    """Waits until the history has that many lines, or the process has ended."""
    while process.is_alive() and len(history_of(run)) < number:
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to, beside its images."""
    run, rng = tmp_path_factory.mktemp("runs") / "whole", np.random.default_rng(0)
    splits = {f"x_{split}": rng.random((number, 30)) for split, number in (("train", 95), ("valid", 7), ("test", 9))}
    np.savez(run.parent / "mine.npz", **splits)
    ended(train(run), 0)
    assert len(history_of(run)) == EPOCHS
    return run


def test_a_run_killed_damaged_stopped_and_without_disk_is_the_run_that_nothing_happened_to(whole):
    run, flags, chance = whole.with_name("killed"), [], random.Random(0)
    for event in ("start", "cut", signal.SIGTERM, "flip", signal.SIGINT):
        process = train(run, *flags)
        wait_for_epochs(process, run, 0 if event == "start" else len(history_of(run)) + 2)
        time.sleep(chance.uniform(0.0, 2.0 if event == "start" else 0.05))
        if isinstance(event, signal.Signals):
            os.kill(process.pid, event)
            ended(process, 128 + event)
        else:
            process.kill()
            ended(process, -signal.SIGKILL)
        if event in ("cut", "flip"):
            content = checkpoints(run)[-1].read_bytes()
            damaged = content[: len(content) // 2] if event == "cut" else content[:-1] + bytes([content[-1] ^ 1])
            checkpoints(run)[-1].write_bytes(damaged)
        flags = ["--resume"] if (run / "config.json").exists() else []
    kept = checkpoints(run)
    ended(train(run, "--resume", file_size=kept[-1].stat().st_size // 2), 2)
    assert checkpoints(run) == kept
    assert not list(run.rglob(".writing*"))
    assert STEPS < int(kept[-1].name.split("-")[1]) < EPOCHS * STEPS
    ended(train(run, "--resume"), 0)
    assert history_of(run) == history_of(whole)
    expected, found = state_of(whole), state_of(run)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert printed(run).count("is damaged") == printed(run).count("stopped at step") == 2
    assert "cannot be written" in printed(run)
    assert "which --resume continues" in printed(run)


def test_a_second_process_in_the_same_folder_is_refused_and_changes_nothing(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"}
    with FileLock(whole / ".lock"):  # as a run holds it
        for process in [train(whole, flag) for flag in ("--resume", "--overwrite")]:
            ended(process, 2)
    assert printed(whole).count("error: another process is at work on the run in") == 2
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"} == before


def test_a_folder_that_is_removed_under_a_run_stops_it_in_one_line(whole):
    run = whole.with_name("removed")
    process = train(run)
    wait_for_epochs(process, run, 3)
    moved = shutil.move(run, run.with_name("moved"))
    ended(process, 2)
    assert "cannot be written" in printed(run)
    assert len(checkpoints(moved)) == 2
