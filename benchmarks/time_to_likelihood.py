"""Test L_500 against core-hours of training: `python -m benchmarks.time_to_likelihood --data-dir DIR --core-hours 3`.

Ways to train the paper's one-layer network with k = 50 on MNIST, in turns of some core-minutes, so that a busy machine
is busy for all of them: this package by `--recipe fast` over several lengths, with k = 5 and then an eighth of the
passes with k = 50; this package by the paper's settings; and the paper's settings in eager PyTorch, which sends every
image k times through both networks. The processor time of the training loops counts, that of scoring after each turn
does not. The folder has every way's state: the same command goes on.
"""

import argparse
import csv
import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from benchmarks.figures import log_x, page, save, style
from benchmarks.timing import Worker, answer_requests, units
from iwae_tf.config import PAPER_EPOCHS, RECIPES, RunConfig, TrainingConfig
from iwae_tf.data import Dataset, load
from iwae_tf.plots.style import MARKERS, SERIES

K, FIRST_K, NUM_SAMPLES, NUM_TEST, BACKWARD = 50, 5, 500, 1000, 10
FIELDS = ("way", "core_seconds", "steps", "passes", "test")
LIKELIHOODS = (-92.0, -90.0, -89.0, -88.0, -87.0, -86.0)
TEST = "test.npy"  # the test images, binarised once
FIRST_STEPS, FIRST_SECONDS = 100, 10.0  # of a run's first turn, and of its second; later ones double its time so far


# The ways. Each has a process of its own, since TensorFlow and PyTorch crash in one; so `EagerTorch` cannot call the
# package's batches and schedule, which import TensorFlow.


class Package:
    """This package, at a step of runs that follow each other; `folder` holds the states after the last turns."""

    def __init__(self, dataset: Dataset, runs: list[TrainingConfig], folder: Path, step: int):
        from iwae_tf.data.pipeline import training_batches
        from iwae_tf.models.iwae import IWAE
        from iwae_tf.replicas import one_thread_per_operation
        from iwae_tf.training import checkpoints

        one_thread_per_operation()
        self.folder, self.save_checkpoint = folder, checkpoints.save_checkpoint
        self.model = IWAE.one_layer(dataset.data_dim, data_mean=dataset.train_mean(), seed=runs[0].seed)
        self.batches_from = functools.partial(training_batches, dataset, runs[0].batch_size, runs[0].seed)
        self.following = list(zip(runs, steps_of(dataset, runs), strict=True))
        self.left = 0  # steps of the run that is compiled
        while step:
            self._start_next()
            taken = min(step, self.left)
            step, self.left = step - taken, self.left - taken
            if not step:
                checkpoints.load_checkpoint(self.model, next(self.states.glob(f"step-{taken:09d}-*.weights.h5")))

    def _start_next(self) -> None:
        """Compiles for the next run, whose steps count from 0."""
        from iwae_tf.objectives import build_objective
        from iwae_tf.training.building import build_optimizer

        run, steps = self.following.pop(0)
        self.left, self.states = steps, self.folder / f"k{run.k}"
        self.states.mkdir(exist_ok=True)
        given = {"backward_samples": BACKWARD} if run.objective == "dreg" and run.k > BACKWARD else {}
        optimizer = build_optimizer(RunConfig(training=run), steps)
        self.model.compile(optimizer, build_objective(run.objective, run.k, given))

    def advance(self, steps: int) -> None:
        """Takes training steps, all of one run."""
        if not self.left:
            self._start_next()
        self.left -= steps
        self.model.fit(self.batches_from(self.model.step), epochs=1, steps_per_epoch=steps, verbose=0)

    def score(self, x: np.ndarray) -> np.ndarray:
        """Returns L_500 of rows, [B]."""
        return self.model.log_likelihood(x, NUM_SAMPLES)

    def save(self) -> None:
        """Writes the state."""
        self.save_checkpoint(self.model, self.states)


class EagerTorch:
    """Eager PyTorch by the paper's settings; the arguments of `Package`."""

    def __init__(self, dataset: Dataset, runs: list[TrainingConfig], folder: Path, step: int):
        import torch

        from benchmarks.peer_torch import TiledTorch

        self.torch, self.dataset, self.folder, self.step = torch, dataset, folder, step
        (self.training,) = runs
        self.model = TiledTorch(*units(1), np.zeros((1, dataset.data_dim), np.float32), self.training.k)
        mean = np.clip(dataset.train_mean(), 0.001, 0.999)  # the paper's start
        with torch.no_grad():
            self.model.generative[0].heads[0].bias.copy_(torch.from_numpy(np.log(mean / (1 - mean))))
        if step:
            state = torch.load(folder / f"step-{step:09d}.pt")
            self.model.load_state_dict(state["model"])
            self.model.optimizer.load_state_dict(state["optimizer"])
        self.batches = self._batches()

    def _batches(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yields learning rates and batches from the step on: the images in a new order, with new pixels, each pass."""
        size = self.training.batch_size
        intensities = self.dataset.intensities("train")
        (total,) = steps_of(self.dataset, [self.training])
        in_a_pass, ends = total // self.training.epochs, np.cumsum(3 ** np.arange(8)) / PAPER_EPOCHS * total
        while True:
            epoch, batch = divmod(self.step, in_a_pass)
            order = np.random.default_rng([0, epoch]).permutation(len(intensities))
            pixels = np.random.default_rng([1, epoch, batch])
            for number in range(batch, in_a_pass):
                rows = intensities[order[number * size : (number + 1) * size]]
                stage = np.searchsorted(ends, self.step, side="right")
                rate = self.training.learning_rate * 10 ** (-min(stage, 7) / 7)
                yield float(rate), (pixels.random(rows.shape, dtype=np.float32) < rows).astype(np.float32)

    def advance(self, steps: int) -> None:
        """Takes training steps."""
        for _ in range(steps):
            rate, x = next(self.batches)
            self.model.optimizer.param_groups[0]["lr"], self.model.x = rate, self.torch.from_numpy(x)
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


def ways(fast_epochs: list[int]) -> dict[str, tuple[type, list[TrainingConfig]]]:
    """Returns name -> class and the settings of its runs, each of which goes on from the one before."""
    found = {f"fast, {n} passes": (Package, fast(n)) for n in fast_epochs}
    paper = [TrainingConfig(k=K, epochs=PAPER_EPOCHS, **RECIPES["paper"])]
    return found | {"the paper's settings": (Package, paper), "the same, eager PyTorch": (EagerTorch, paper)}


def fast(epochs: int) -> list[TrainingConfig]:
    """Returns `--recipe fast` with k = 5 and then, for an eighth of the passes from half the rate, with k = 50."""
    first = TrainingConfig(k=FIRST_K, epochs=epochs, **RECIPES["fast"])
    rate = first.learning_rate / 2
    return [first, dataclasses.replace(first, k=K, epochs=max(1, epochs // 8), learning_rate=rate)]


def steps_of(dataset: Dataset, runs: list[TrainingConfig]) -> list[int]:
    """Returns the steps of each of the runs."""
    return [run.epochs * -(-len(dataset.x_train) // run.batch_size) for run in runs]


def turn(way, steps: int, x_test: np.ndarray) -> tuple[float, float]:
    """Takes steps and saves; returns their processor seconds and the mean L_500 after them."""
    begin = time.process_time()
    way.advance(steps)
    used = time.process_time() - begin
    way.save()
    return used, float(np.mean(way.score(x_test)))


def go_on(
    name: str, rows: list[dict], steps_of_runs: list[int], batches: int, turn_seconds: float, ask, path: Path
) -> Iterator[float]:
    """Yields the core-seconds so far after each turn, until all steps are taken; a turn ends where a run does.

    Args:
        name: of the way.
        rows: of the way in the file; like the file they get a row for each turn.
        steps_of_runs: of each of the runs that follow each other.
        batches: of a pass over the images.
        turn_seconds: most core-seconds of a turn.
        ask: called with steps to take; returns their core-seconds and the score.
        path: the file.
    """
    used, step = (float(rows[-1]["core_seconds"]), int(rows[-1]["steps"])) if rows else (0.0, 0)
    for begin, end in itertools.pairwise(itertools.accumulate([0, *steps_of_runs])):
        before = next((float(row["core_seconds"]) for row in rows if int(row["steps"]) == begin), 0.0)
        while step < end:
            wanted = min(turn_seconds, max(FIRST_SECONDS, used - before))
            speed = (step - begin) / (used - before) if step > begin else 0.0  # of this run
            steps = min(end - step, max(1, round(wanted * speed)) if speed else FIRST_STEPS)
            seconds, test = ask(steps)
            used, step = used + seconds, step + steps
            values = name, f"{used:.1f}", step, f"{step / batches:.2f}", f"{test:.3f}"
            rows.append(dict(zip(FIELDS, values, strict=True)))
            with path.open("a", newline="") as file:
                csv.DictWriter(file, FIELDS).writerow(rows[-1])
            print(*values, flush=True)
            yield used


def reached(points: list[tuple[float, float]], likelihood: float) -> float | None:
    """Returns the core-seconds at which a line through (core-seconds, L_500) first reaches a likelihood, or None."""
    for (begin, low), (end, high) in itertools.pairwise(points):
        if low < likelihood <= high:
            return begin + (end - begin) * (likelihood - low) / (high - low)
    return None


def table(lines: dict[str, list[tuple[float, float]]]) -> str:
    """Returns, in Markdown, the core-hours of each way to each likelihood, or more than all that it was given."""
    rows = [f"| L_{NUM_SAMPLES} of {NUM_TEST} test images | {' | '.join(lines)} |", "|---" * (len(lines) + 1) + "|"]
    for likelihood in LIKELIHOODS:
        cells = []
        for points in lines.values():
            seconds = reached(points, likelihood)
            cells.append(f"> {points[-1][0] / 3600:.2f}" if seconds is None else f"{seconds / 3600:.2f}")
        rows.append(f"| {likelihood:g} | {' | '.join(cells)} |")
    return "\n".join(rows)


def draw(lines: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draws L_500 against core-hours."""
    notes = [
        f"One layer, 784-200-200-50, MNIST; mean L_{NUM_SAMPLES} of {NUM_TEST} test images; one seed.",
        f"k = {K}; fast: k = {FIRST_K}, from the dip on k = {K}.",
    ]
    figure, axes = page("Test likelihood against core-hours of training", notes)
    for number, (name, points) in enumerate(lines.items()):
        hours, test = np.array(points).T / [[3600.0], [1.0]]
        color, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
        axes[0, 0].plot(hours, test, color=color, marker=marker, markersize=3, label=name)
    style(axes[0, 0], "core-hours (log)", f"L_{NUM_SAMPLES}, nats")
    log_x(axes[0, 0], [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    axes[0, 0].set_xlim(0.01, 5)
    axes[0, 0].set_ylim(-100, -84)
    axes[0, 0].legend(loc="lower right", frameon=False, labelcolor="linecolor")  # no line ends there
    save(figure, path)


def read(path: Path) -> dict[str, list[dict]]:
    """Returns the rows of the file by way, oldest first."""
    found: dict[str, list[dict]] = {}
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["way"], []).append(row)
    return found


def main() -> None:
    """Trains in turns, prints the table and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", help="folder of MNIST")
    parser.add_argument("--core-hours", type=float, default=3.0, help="core-hours of each way (default: 3)")
    parser.add_argument("--turn", type=float, default=5.0, help="core-minutes of a turn (default: 5)")
    parser.add_argument("--fast-epochs", type=int, nargs="+", default=[20, 100], help="passes of the fast recipe")
    parser.add_argument("--folder", type=Path, default=Path("runs/time_to_likelihood"), help="states and times.csv")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw as well")
    parser.add_argument("--answer", nargs=2, metavar=("WAY", "STEP"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    dataset, path = load("mnist", arguments.data_dir), arguments.folder / "times.csv"
    chosen = ways(arguments.fast_epochs)
    if arguments.answer:  # a process of a way
        (name, step), x_test = arguments.answer, np.load(arguments.folder / TEST)
        kind, runs = chosen[name]
        way = kind(dataset, runs, arguments.folder / name, int(step))
        answer_requests(lambda steps: turn(way, steps, x_test))
        return
    from benchmarks import package  # with TensorFlow

    arguments.folder.mkdir(parents=True, exist_ok=True)
    np.save(arguments.folder / TEST, package.binarized(dataset, "test")[:NUM_TEST])
    rows, waiting = read(path), {}
    if not rows:
        path.write_text(",".join(FIELDS) + "\n")
    same = ["--folder", arguments.folder.resolve(), "--fast-epochs", *arguments.fast_epochs]
    same += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
    for name, (_, runs) in chosen.items():
        (arguments.folder / name).mkdir(exist_ok=True)
        of_way = rows.setdefault(name, [])
        step = of_way[-1]["steps"] if of_way else 0
        worker = Worker("benchmarks.time_to_likelihood", *map(str, ["--answer", name, step, *same]))
        steps, batches = steps_of(dataset, runs), *steps_of(dataset, [dataclasses.replace(runs[0], epochs=1)])
        waiting[name] = go_on(name, of_way, steps, batches, 60 * arguments.turn, worker.ask, path)
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
