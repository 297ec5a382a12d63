"""Test L_500 against core-hours of training: `python -m benchmarks.time_to_likelihood --data-dir DIR --core-hours 3`.

Ways to train the paper's one-layer network with k = 50 on MNIST, in turns of some core-minutes, so that a busy machine
is busy for all of them: this package by `--recipe fast` over two lengths, this package by the paper's settings, and the
paper's settings in eager PyTorch, which sends every image k times through both networks. The processor time of the
training loops counts, that of scoring after each turn does not. The folder has every way's state: the same command goes
on.
"""

import argparse
import csv
import functools
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy.special import logsumexp

from benchmarks import package
from benchmarks.figures import label_ends, log_x, page, save, style
from iwae_tf.config import PAPER_EPOCHS, RECIPES, RunConfig, TrainingConfig
from iwae_tf.data import Dataset, load
from iwae_tf.data.pipeline import steps_per_epoch, training_batches
from iwae_tf.models.iwae import IWAE
from iwae_tf.objectives import build_objective
from iwae_tf.plots.style import MARKERS, SERIES
from iwae_tf.training.building import build_optimizer
from iwae_tf.training.checkpoints import load_checkpoint, save_checkpoint

K, NUM_SAMPLES, NUM_TEST, BACKWARD = 50, 500, 1000, 10
FIELDS = ("way", "core_seconds", "steps", "passes", "test")
LIKELIHOODS = (-92.0, -90.0, -89.0, -88.0, -87.0, -86.0)


class Package:
    """This package, at a step of a run with these settings; `folder` holds the states after the last two turns."""

    def __init__(self, dataset: Dataset, training: TrainingConfig, folder: Path, step: int):
        self.dataset, self.training, self.folder = dataset, training, folder
        self.total = training.epochs * steps_per_epoch(len(dataset.x_train), training.batch_size)
        self.model = IWAE.one_layer(dataset.data_dim, data_mean=dataset.train_mean(), seed=training.seed)
        given = {"backward_samples": BACKWARD} if training.objective == "dreg" else {}
        optimizer = build_optimizer(RunConfig(training=training), self.total)
        self.model.compile(optimizer, build_objective(training.objective, training.k, given))
        self.batches = training_batches(dataset, training.batch_size, training.seed, step)
        if step:
            load_checkpoint(self.model, next(folder.glob(f"step-{step:09d}-*.weights.h5")))

    def advance(self, steps: int) -> None:
        """Takes training steps."""
        self.model.fit(self.batches, epochs=1, steps_per_epoch=steps, verbose=0)

    def score(self, x: np.ndarray) -> np.ndarray:
        """Returns L_500 of rows, [B]."""
        return self.model.log_likelihood(x, NUM_SAMPLES)

    def save(self) -> None:
        """Writes the state."""
        save_checkpoint(self.model, self.folder)


class EagerTorch:
    """Eager PyTorch with the same settings; the arguments of `Package`."""

    def __init__(self, dataset: Dataset, training: TrainingConfig, folder: Path, step: int):
        import torch

        from benchmarks.peer_torch import TiledTorch

        self.torch, self.training, self.folder, self.step = torch, training, folder, step
        self.total = training.epochs * steps_per_epoch(len(dataset.x_train), training.batch_size)
        self.rate = build_optimizer(RunConfig(training=training), self.total)
        batches = training_batches(dataset, training.batch_size, training.seed, step)
        self.batches = batches.as_numpy_iterator()
        self.model = TiledTorch((50,), ((200, 200),), np.zeros((1, dataset.data_dim), np.float32), training.k)
        mean = np.clip(dataset.train_mean(), 0.001, 0.999)  # the paper's start
        with torch.no_grad():
            self.model.generative[0].heads[0].bias.copy_(torch.from_numpy(np.log(mean / (1 - mean))))
        if step:
            state = torch.load(folder / f"step-{step:09d}.pt")
            self.model.load_state_dict(state["model"])
            self.model.optimizer.load_state_dict(state["optimizer"])

    def advance(self, steps: int) -> None:
        """Takes training steps."""
        for _ in range(steps):
            self.rate.iterations.assign(self.step)
            self.model.optimizer.param_groups[0]["lr"] = float(self.rate.learning_rate)
            self.model.x = self.torch.from_numpy(next(self.batches))
            self.model.step()
            self.step += 1

    def score(self, x: np.ndarray) -> np.ndarray:
        """Returns L_500 of rows, [B]."""
        found = []
        with self.torch.no_grad():
            for rows in np.array_split(x, -(-len(x) // 20)):
                parts = [self.model.log_weights(self.torch.from_numpy(rows)) for _ in range(NUM_SAMPLES // K)]
                found.append(logsumexp(self.torch.cat(parts).double().numpy(), axis=0) - np.log(NUM_SAMPLES))
        return np.concatenate(found)

    def save(self) -> None:
        """Writes the state."""
        state = {"model": self.model.state_dict(), "optimizer": self.model.optimizer.state_dict()}
        self.torch.save(state, self.folder / f"step-{self.step:09d}.pt")
        for old in sorted(self.folder.glob("*.pt"))[:-2]:
            old.unlink()


def ways(fast_epochs: list[int]) -> dict[str, tuple[type, TrainingConfig]]:
    """Returns name -> class and settings."""
    paper = TrainingConfig(k=K, epochs=PAPER_EPOCHS, **RECIPES["paper"])
    fast = {f"fast, {epochs} passes": TrainingConfig(k=K, epochs=epochs, **RECIPES["fast"]) for epochs in fast_epochs}
    found = {name: (Package, training) for name, training in fast.items()}
    return found | {"the paper's settings": (Package, paper), "the same, eager PyTorch": (EagerTorch, paper)}


def turn(way, steps: int, x_test: np.ndarray) -> tuple[float, float]:
    """Takes steps and saves; returns their processor seconds and the mean L_500 after them."""
    begin = time.process_time()
    way.advance(steps)
    used = time.process_time() - begin
    way.save()
    return used, float(np.mean(way.score(x_test)))


def reached(points: list[tuple[float, float]], likelihood: float) -> float | None:
    """Returns the core-seconds at which a line through (core-seconds, L_500) first reaches a likelihood, or None."""
    for (begin, low), (end, high) in itertools.pairwise(points):
        if low < likelihood <= high:
            return begin + (end - begin) * (likelihood - low) / (high - low)
    return None


def table(lines: dict[str, list[tuple[float, float]]]) -> str:
    """Returns, in Markdown, the core-hours of each way to each likelihood."""
    rows = [f"| L_{NUM_SAMPLES} of {NUM_TEST} test images | {' | '.join(lines)} |", "|---" * (len(lines) + 1) + "|"]
    for likelihood in LIKELIHOODS:
        hours = [reached(points, likelihood) for points in lines.values()]
        rows.append(f"| {likelihood:g} | {' | '.join('' if h is None else f'{h / 3600:.2f}' for h in hours)} |")
    return "\n".join(rows)


def draw(lines: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draws L_500 against core-hours."""
    notes = [f"One layer, 784-200-200-50, MNIST, k = {K}; mean L_{NUM_SAMPLES} of {NUM_TEST} test images; one seed."]
    figure, axes = page("Test likelihood against core-hours of training", notes)
    ends = []
    for number, (name, points) in enumerate(lines.items()):
        hours, test = np.array(points).T / [[3600.0], [1.0]]
        color = SERIES[number % len(SERIES)]
        axes[0, 0].plot(hours, test, color=color, marker=MARKERS[number % len(MARKERS)], markersize=3)
        ends.append((hours[-1], test[-1], name, color))
    style(axes[0, 0], "core-hours (log)", f"L_{NUM_SAMPLES}, nats")
    log_x(axes[0, 0], [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    axes[0, 0].set_ylim(bottom=-100)
    label_ends(figure, {axes[0, 0]: ends})
    save(figure, path)


def read(path: Path) -> dict[str, list[dict]]:
    """Returns the rows of the file by way, oldest first."""
    found: dict[str, list[dict]] = {}
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["way"], []).append(row)
    return found


def go_on(name: str, make: Callable, rows: list[dict], turn_seconds: float, x_test: np.ndarray, path: Path):
    """Yields after each turn of a way, until all its steps are taken; `rows` and the file get a row for each."""
    used, step = (float(rows[-1]["core_seconds"]), int(rows[-1]["steps"])) if rows else (0.0, 0)
    way = make(step)
    per_step = used / step if step else 0.0
    while step < way.total:
        wanted = min(turn_seconds, max(10.0, used))  # core-seconds; the first turns are short, each twice the last
        steps = min(way.total - step, max(1, round(wanted / per_step)) if step else 100)
        seconds, test = turn(way, steps, x_test)
        used, step, per_step = used + seconds, step + steps, seconds / steps
        passes = step / way.total * way.training.epochs
        row = dict(zip(FIELDS, (name, f"{used:.1f}", step, f"{passes:.2f}", f"{test:.3f}"), strict=True))
        rows.append(row)
        with path.open("a", newline="") as file:
            csv.DictWriter(file, FIELDS).writerow(row)
        print(*row.values(), flush=True)
        yield used


def main() -> None:
    """Trains in turns, prints the table and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", help="folder of MNIST")
    parser.add_argument("--core-hours", type=float, default=3.0, help="core-hours of each way (default: 3)")
    parser.add_argument("--turn", type=float, default=5.0, help="core-minutes of a turn (default: 5)")
    parser.add_argument("--fast-epochs", type=int, nargs="+", default=[20, 100], help="passes of the fast recipe")
    parser.add_argument("--folder", type=Path, default=Path("runs/time_to_likelihood"), help="states and times.csv")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw as well")
    arguments = parser.parse_args()
    package.set_threads()
    dataset = load("mnist", arguments.data_dir)
    x_test, path = package.binarized(dataset, "test")[:NUM_TEST], arguments.folder / "times.csv"
    rows, waiting = read(path), {}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not rows:
        path.write_text(",".join(FIELDS) + "\n")
    for name, (kind, training) in ways(arguments.fast_epochs).items():
        folder = arguments.folder / name.replace(" ", "-").replace(",", "").replace("'", "")
        folder.mkdir(exist_ok=True)
        make = functools.partial(kind, dataset, training, folder)
        waiting[name] = go_on(name, make, rows.setdefault(name, []), 60 * arguments.turn, x_test, path)
    while waiting:
        for name, turns in list(waiting.items()):
            if next(turns, np.inf) > 3600 * arguments.core_hours:
                del waiting[name]
    lines = {name: [(float(r["core_seconds"]), float(r["test"])) for r in of_way] for name, of_way in rows.items()}
    print(table(lines))
    if arguments.figure:
        draw(lines, arguments.figure)


if __name__ == "__main__":
    main()
