"""Two workers on 127.0.0.1, in real processes: the run of one, whatever happens to them."""

import contextlib
import json
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from processes import ended, history_of, started, state_of

from iwae_tf.training.run_folder import read_model

pytestmark = pytest.mark.slow

FLAGS = "--epochs 3 --batch-size 20 --k 3 --latent-units 3 --hidden-units 8 --eval-samples 60 --verbose 0"
LOST = "another worker has stopped or cannot be reached"


def two_workers(folder: Path, words: list[str], more: tuple = ((), ()), refine: bool = True) -> list:
    """Processes that run a command as two workers, each with some more words; they print to FOLDER/INDEX.txt."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        cluster = {"worker": [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]}
    processes = []
    for index in (0, 1):
        (folder / f"{index}.txt").write_text("")
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        command = [*words, "--strategy", "multiworker", "--worker-timeout", "60", *more[index]]
        processes.append(started(command, folder / f"{index}.txt", {"TF_CONFIG": config}, refine=refine))
    return processes


def both_ended(processes: list, codes: tuple[int, int]) -> None:
    for process, code in zip(processes, codes, strict=True):
        ended(process, code)


def printed(folder: Path, index: int) -> str:
    text = (folder / f"{index}.txt").read_text()
    assert "Traceback" not in text
    return text


def train(folder: Path, name: str) -> list[str]:
    return ["train", "--dataset", str(folder / "mine.npz"), "--output-dir", str(folder / name), *FLAGS.split()]


def files(run: Path) -> set[str]:
    return {path.name for path in run.iterdir() if path.name != ".lock"}


def assert_same_bits(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with images of our own, of which the last batch of a pass is a single one."""
    folder, rng = tmp_path_factory.mktemp("workers"), np.random.default_rng(0)
    splits = {f"x_{split}": rng.random((number, 30)) for split, number in (("train", 101), ("valid", 7), ("test", 9))}
    np.savez(folder / "mine.npz", **splits)
    return folder


@pytest.fixture(scope="module")
def together(folder):
    """The run of two workers."""
    both_ended(two_workers(folder, train(folder, "together")), (0, 0))
    assert "done; the chief worker wrote the run to" in printed(folder, 1)
    return folder / "together"


@pytest.fixture(scope="module")
def alone(folder):
    """The same run by one process."""
    ended(started(train(folder, "alone"), folder / "alone.txt"), 0)
    return folder / "alone"


def test_two_workers_make_the_run_of_one_and_the_chief_alone_writes(together, alone):
    for name, expected in state_of(alone).items():  # the same sums in another order, through 18 steps of Adam
        np.testing.assert_allclose(state_of(together)[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)
    assert files(together) == files(alone)
    histories = [np.array(history_of(run), np.float64) for run in (together, alone)]
    np.testing.assert_allclose(*histories, rtol=1e-5)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (together, alone)]
    assert metrics[0]["log_likelihood"] == pytest.approx(metrics[1]["log_likelihood"], abs=1e-4)


def test_a_killed_worker_stops_the_chief_and_started_again_both_resume_to_the_same_bits(folder, together):
    run = folder / "killed"
    processes = two_workers(folder, train(folder, run.name), refine=False)
    while all(process.is_alive() for process in processes) and not history_of(run):
        time.sleep(0.01)
    processes[1].kill()
    both_ended(processes, (75, -signal.SIGKILL))
    assert f"error: {LOST}" in printed(folder, 0)
    assert 0 < len(history_of(run)) < 3
    both_ended(two_workers(folder, [*train(folder, run.name), "--resume"], refine=False), (0, 0))
    assert_same_bits(state_of(run), state_of(together))


def test_workers_with_different_commands_stop_before_anything_is_written(folder):
    both_ended(two_workers(folder, train(folder, "different"), ((), ("--seed", "7"))), (2, 2))
    for index in (0, 1):
        assert "the workers were started with different settings" in printed(folder, index)
    assert not (folder / "different").exists()


def test_workers_with_other_rows_stop_before_anything_is_written(folder):
    words = ["train", "--dataset", "rows.npz", "--output-dir", str(folder / "rows"), *FLAGS.split()]
    for name, seed in (("one", 0), ("two", 1)):
        (folder / name).mkdir()
        x = np.random.default_rng(seed).random((60, 30))
        np.savez(folder / name / "rows.npz", x_train=x[:40], x_valid=x[40:50], x_test=x[50:])
    own = [("--data-dir", str(folder / name)) for name in ("one", "two")]
    both_ended(two_workers(folder, words, tuple(own)), (2, 2))
    for index in (0, 1):
        assert "started with different data: give all the same rows in the same order" in printed(folder, index)
    assert not (folder / "rows").exists()


def test_two_workers_keep_the_standardisation_of_the_run_that_they_start_from_and_resume(folder):
    def table(name, mean):
        values = np.random.default_rng(0).normal(mean, 1.0, (60, 3))
        np.savetxt(folder / name, values, delimiter=",", header="a,b,c", comments="")
        return ["train", "--dataset", str(folder / name), *FLAGS.split()]

    def columns(run):
        return json.loads((folder / run / "config.json").read_text())["model"]["column_models"]

    first = [*table("first.csv", 0.0), "--output-dir", str(folder / "first")]
    ended(started(first, folder / "first.txt"), 0)
    second = [*table("second.csv", 50.0), "--output-dir", str(folder / "second"), "--init-from", str(folder / "first")]
    both_ended(two_workers(folder, second, refine=False), (0, 0))
    assert columns("second") == columns("first")
    both_ended(two_workers(folder, [*second, "--epochs", "4", "--resume"], refine=False), (0, 0))
    assert columns("second") == columns("first")
    own = read_model(folder / "second").columns
    assert [column.loc for column in own] == [column["loc"] for column in columns("first")]


def test_a_chief_that_refuses_stops_the_others(folder, together):
    before = state_of(together)
    both_ended(two_workers(folder, train(folder, "together")), (2, 75))
    assert "already holds a run" in printed(folder, 0)
    assert LOST in printed(folder, 1)
    assert_same_bits(state_of(together), before)


def test_two_workers_score_the_images_of_a_run_as_one_does(folder, alone):
    words = ["evaluate", str(alone), "--num-samples", "60", "--verbose", "0"]
    folders = [("--data-dir", str(path)) for path in (folder, folder.parent)]  # of a file with an absolute path, any
    both_ended(two_workers(folder, words, tuple(folders)), (0, 0))
    assert "report.json" in files(alone / "evaluation")
    assert not (alone / "evaluation" / "batches").exists()
    assert "done; the chief worker wrote the scores to" in printed(folder, 1)
    tables = [pyarrow.parquet.read_table(path / "scores.parquet") for path in (alone / "evaluation", alone)]
    assert tables[0].column_names == tables[1].column_names
    # Batches of other sizes: rounding of float32.
    for name in ("log_likelihood", "standard_error", "pareto_k", "reliable"):
        scores, expected = (table[name].to_numpy() for table in tables)
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5, err_msg=name)
