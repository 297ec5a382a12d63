"""Two workers on 127.0.0.1, in real processes: the run of one, whatever happens to them."""

import contextlib
import functools
import json
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet
import pytest

pytestmark = pytest.mark.slow

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["iwae_tf.commands.main", "iwae_tf.training.run"])
TRAIN = ["--epochs", "6", "--batch-size", "20", "--k", "3", "--latent-units", "3", "--hidden-units", "8"]
TRAIN += ["--eval-samples", "60", "--verbose", "0"]
LOST = "another worker has stopped or cannot be reached"


def _worker(folder: Path, index: int, ports: list[int] | None, *words: str) -> multiprocessing.Process:
    """A process that runs a command as one worker; what it prints goes to FOLDER/INDEX.txt."""
    process = CONTEXT.Process(target=_command, args=(folder, index, ports, words), daemon=True)
    process.start()
    return process


def _command(folder: Path, index: int, ports: list[int] | None, words: tuple[str, ...]) -> None:
    from iwae_tf.commands.main import main
    from iwae_tf.training import run as training

    training.Checkpoints = functools.partial(training.Checkpoints, min_seconds=0.0)
    if ports:
        workers = [f"127.0.0.1:{port}" for port in ports]
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
        words = (*words, "--strategy", "multiworker", "--worker-timeout", "60")
    tempfile.tempdir = str(folder / f"temporary{index}")
    os.makedirs(tempfile.tempdir, exist_ok=True)
    output = (folder / f"{index}.txt").open("w", buffering=1)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(list(words))
        shutil.rmtree(tempfile.tempdir)  # what is to go when the process ends; os._exit runs no handlers
        os._exit(code)


def _free_ports() -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        return [s.getsockname()[1] for s in sockets]


def _two(folder: Path, *words: str) -> list[multiprocessing.Process]:
    ports = _free_ports()
    return [_worker(folder, index, ports, *words) for index in (0, 1)]


def _ended(processes: list, codes: list[int]) -> None:
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == codes


def _state(run: Path) -> np.ndarray:
    """All that the last checkpoint holds."""
    arrays = []
    with h5py.File(sorted((run / "checkpoints").glob("step-*.h5"))[-1]) as file:
        file.visititems(lambda _, item: arrays.append(np.ravel(item[()])) if isinstance(item, h5py.Dataset) else None)
    return np.concatenate(arrays)


def _history(run: Path) -> list[str]:
    path = run / "history.csv"
    return path.read_text().splitlines() if path.exists() else []


def _files(run: Path) -> set[str]:
    return {path.name for path in run.iterdir() if path.name != ".lock"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with images of our own, of which the last batch of a pass is a single one."""
    folder = tmp_path_factory.mktemp("workers")
    rng = np.random.default_rng(0)
    parts = {"x_train": rng.random((101, 30)), "x_valid": rng.random((7, 30)), "x_test": rng.random((9, 30))}
    np.savez(folder / "mine.npz", **parts)
    return folder


def _train(folder: Path, name: str) -> list[str]:
    return ["train", "--dataset", str(folder / "mine.npz"), "--output-dir", str(folder / name), *TRAIN]


@pytest.fixture(scope="module")
def together(folder):
    """The run of two workers."""
    _ended(_two(folder, *_train(folder, "together")), [0, 0])
    return folder / "together"


@pytest.fixture(scope="module")
def alone(folder):
    """The same run by one process."""
    _ended([_worker(folder, 0, None, *_train(folder, "alone"))], [0])
    return folder / "alone"


def test_two_workers_make_the_run_of_one_and_the_chief_alone_writes(folder, together, alone):
    # The same sums in another order, through 36 steps of Adam.
    np.testing.assert_allclose(_state(together), _state(alone), rtol=1e-4, atol=1e-5)
    assert _files(together) == _files(alone)
    for mine, its in zip(_history(together)[1:], _history(alone)[1:], strict=True):
        np.testing.assert_allclose(
            [float(number) for number in mine.split(",")[:5]],
            [float(number) for number in its.split(",")[:5]],
            rtol=1e-5,
        )
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (together, alone)]
    assert metrics[0]["log_likelihood"] == pytest.approx(metrics[1]["log_likelihood"], abs=1e-4)
    assert "done; the chief worker wrote the run to" in (folder / "1.txt").read_text()


def test_a_killed_worker_stops_the_other_and_started_again_both_resume_to_the_same_bits(folder, together):
    run = folder / "killed"
    for killed, lines in ((0, 3), (1, 5)):
        flags = ["--resume"] if run.exists() else []
        processes = _two(folder, *_train(folder, run.name), *flags)
        while all(process.is_alive() for process in processes) and len(_history(run)) < lines:
            time.sleep(0.01)
        processes[killed].kill()
        codes = [75, 75]
        codes[killed] = -signal.SIGKILL
        _ended(processes, codes)
        assert f"error: {LOST}" in (folder / f"{1 - killed}.txt").read_text()
        assert "Traceback" not in (folder / f"{1 - killed}.txt").read_text()
        assert 1 < len(_history(run)) < 7
    _ended(_two(folder, *_train(folder, run.name), "--resume"), [0, 0])
    np.testing.assert_array_equal(_state(run), _state(together))


def test_workers_with_different_commands_stop_before_anything_is_written(folder):
    ports, words = _free_ports(), _train(folder, "different")
    _ended([_worker(folder, 0, ports, *words), _worker(folder, 1, ports, *words, "--seed", "7")], [2, 2])
    for index in (0, 1):
        assert "the workers were started with different settings" in (folder / f"{index}.txt").read_text()
    assert not (folder / "different").exists()


def test_a_chief_that_refuses_stops_the_others(folder, together):
    before = _state(together)
    _ended(_two(folder, *_train(folder, "together")), [2, 75])
    assert "already holds a run" in (folder / "0.txt").read_text()
    assert LOST in (folder / "1.txt").read_text()
    np.testing.assert_array_equal(_state(together), before)


def test_two_workers_score_the_images_of_a_run_as_one_does(folder, together):
    words = ["evaluate", str(together), "--num-samples", "330", "--verbose", "0"]
    _ended(_two(folder, *words), [0, 0])
    scores = pyarrow.parquet.read_table(together / "evaluation" / "scores.parquet").to_pydict()
    assert "report.json" in _files(together / "evaluation")
    assert not (together / "evaluation" / "batches").exists()
    assert "done; the chief worker wrote the scores to" in (folder / "1.txt").read_text()
    _ended([_worker(folder, 0, None, *words, "--overwrite")], [0])
    expected = pyarrow.parquet.read_table(together / "evaluation" / "scores.parquet").to_pydict()
    assert scores.keys() == expected.keys()
    for name in ("log_likelihood", "standard_error", "pareto_k"):  # batches of other sizes: rounding of float32
        np.testing.assert_allclose(scores[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
