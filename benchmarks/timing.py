"""Sizes of the timed networks, timing in turns, and worker processes.

Imports no TensorFlow, which would share the cores with the frameworks of the peers.
"""

import atexit
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DIM = 784
LEAST_SECONDS = 0.02  # of a turn: a short step is repeated, so that the caches hold its own data again
SECONDS_PER_CASE = 20.0
# Idle OpenMP threads of PyTorch spin by default and slow the next process; asleep, they also make PyTorch 9x faster.
THREADS_SLEEP = {"OMP_WAIT_POLICY": "passive"}

Ways = dict[str, Callable[[], object]]


def images(n: int) -> np.ndarray:
    """Returns random binary images with as many ones as MNIST has: float32 [n, 784]."""
    return (np.random.default_rng(0).random((n, DIM)) < 0.13).astype(np.float32)


def units(layers: int) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Returns latent and hidden units of the paper's networks with 1 and 2 stochastic layers, and of deeper ones."""
    return (*(100,) * (layers - 1), 50), ((200, 200), *((100, 100),) * (layers - 1))


class Seconds(float):
    """The time that a way measured itself, in another process."""


def turn(way: Callable[[], object], repeats: int) -> float:
    """Returns seconds per call, the mean over `repeats` calls; a way has to wait for its own result."""
    begin = time.perf_counter()
    results = [way() for _ in range(repeats)]
    return float(results[0]) if isinstance(results[0], Seconds) else (time.perf_counter() - begin) / repeats


def repeats_of(way: Callable[[], object], least_seconds: float = LEAST_SECONDS) -> int:
    """Returns the number of calls in a turn, 1 for a way that measures itself. Calls twice: the first call traces."""
    way()
    begin = time.perf_counter()
    measures_itself = isinstance(way(), Seconds)
    return 1 if measures_itself else max(1, round(least_seconds / (time.perf_counter() - begin)))


def rounds_for(ways: Ways, most: int) -> int:
    """Returns the number of rounds that take about `SECONDS_PER_CASE`, from 5 to `most`; all ways are traced."""
    begin = time.perf_counter()
    for way in ways.values():
        way()
    return int(min(most, max(5, SECONDS_PER_CASE / (time.perf_counter() - begin))))


def measure(ways: Ways, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each way in each round; every round takes the ways in another order."""
    seconds = {name: [] for name in ways}
    repeats = {name: repeats_of(way) for name, way in ways.items()}
    names = list(ways)
    for number in range(rounds):
        random.Random(number).shuffle(names)
        for name in names:
            seconds[name].append(turn(ways[name], repeats[name]))
    return seconds


def ratios_to(reference: list[float], seconds: list[float]) -> tuple[float, float, float]:
    """Returns median and quartiles over the rounds of the ratio to the reference within a round."""
    ratios = [one / other for one, other in zip(seconds, reference, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return median, low, high


class Worker:
    """A process that answers JSON lines as long as this process lives.

    Args:
        module: its main program calls `answer_requests`.
        arguments: its command line.
    """

    def __init__(self, module: str, *arguments: str):
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, open as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**THREADS_SLEEP, **os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        atexit.register(self.close)

    def ask(self, request):
        """Returns the answer to a request, both as JSON has them."""
        with contextlib.suppress(BrokenPipeError):  # the answer is empty then
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.process.communicate()
            self.errors.seek(0)
            command = " ".join(self.process.args[1:])
            raise RuntimeError(f"the process `{command}` ended at {request}:\n{self.errors.read()[-2000:]}")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process, which ends with its input."""
        self.process.communicate()
        self.errors.close()


def answer_requests(answer: Callable) -> None:
    """Writes the answer to every JSON line of stdin to stdout, where nothing else is written."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
