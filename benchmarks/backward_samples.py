"""Test bound against training time for m of k = 50 samples in the backward pass, on MNIST.

    python benchmarks/backward_samples.py --data-dir DIR [--seconds 600] [--batch-size 100] [--out docs/results]

One model for each m, from the same weights and seed, trained in turns of a few seconds each in one process, so that a
machine that is busy with other things slows all alike. The clock of a model runs in its own training steps alone.
After every turn the bound L_50 of the first 2,000 test images, binarised once, is estimated with the same noise for
all. Writes `backward_samples.csv` and `backward_samples.png`.
"""

import argparse
import csv
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

import iwae_tf
from iwae_tf.data.binarization import binarize_once
from iwae_tf.plots import panels
from iwae_tf.plots.bounds import INK, LINE

BACKWARD_SAMPLES = (50, 5, 1)
K, SEED, TEST_IMAGES = 50, 0, 2000
TURN_SECONDS = 10.0
COLORS = dict(zip(BACKWARD_SAMPLES, (INK, LINE, panels.ACCENT), strict=True))


class Racer:
    """One model with its batches and its clock.

    Args:
        dataset: the images.
        m: samples in the backward pass.
        batch_size: images in a step.
    """

    def __init__(self, dataset, m: int, batch_size: int):
        self.m = m
        self.model = iwae_tf.IWAE.one_layer(dataset.data_dim, data_mean=dataset.train_mean(), seed=SEED)
        objective = iwae_tf.objectives.IWAEBound(K, backward_samples=None if m == K else m)
        self.model.compile(objective=objective)
        self.batches = iter(iwae_tf.data.training_batches(dataset, batch_size, SEED))
        self.step = tf.function(self.model.train_step, autograph=False)
        self.seconds, self.steps = 0.0, 0

    def train(self, seconds: float) -> None:
        """Takes steps for about so many seconds; what comes before the first is not counted, since it traces."""
        batch = next(self.batches)
        if not self.steps:
            self.step.get_concrete_function(batch)
        end = time.perf_counter() + seconds
        begin = time.perf_counter()
        while time.perf_counter() < end:
            float(self.step(batch)["bound"])
            batch = next(self.batches)
            self.steps += 1
        self.seconds += time.perf_counter() - begin


def race(racers: list[Racer], x_test: np.ndarray, seconds: float) -> list[tuple[int, float, int, float]]:
    """Rows of m, seconds, steps, mean test bound L_50."""
    rows = []
    while racers[0].seconds < seconds:
        for racer in racers:
            racer.train(TURN_SECONDS)
            bound = float(np.mean(racer.model.log_likelihood(x_test, K, seed=1)))
            rows.append((racer.m, racer.seconds, racer.steps, bound))
            print(f"m = {racer.m:2}  {racer.seconds:7.1f} s  {racer.steps:6} steps  L_50 {bound:.3f}", flush=True)
    return rows


def draw(path: Path, rows: list[tuple[int, float, int, float]], title: str) -> None:
    """The test bound of every m against its seconds, from where it is within 12 nats of the best."""
    notes = ["Each line: one model; its clock runs in its own training steps. At the end: the steps it has taken."]
    figure = panels.page(title, notes)
    box = (panels.LEFT, panels.BOTTOM, 860, panels.TOP)
    axes = panels.panel(figure, box, "training time (s)", "test $L_{50}$ (nats)")
    axes.yaxis.label.set_parse_math(True)
    best = max(bound for *_, bound in rows)
    axes.set_ylim(best - 12.0, best + 1.0)
    label_at = np.inf
    ends = {m: [row for row in rows if row[0] == m] for m in BACKWARD_SAMPLES}
    for m in sorted(ends, key=lambda m: -ends[m][-1][-1]):
        _, seconds, steps, bounds = (np.array(column) for column in zip(*ends[m], strict=True))
        axes.plot(seconds, bounds, color=COLORS[m], linewidth=1.6)
        label_at = min(bounds[-1], label_at - 0.7)  # nats that a line of text is high
        axes.text(1.01 * seconds[-1], label_at, f"m = {m:2}: {steps[-1]:,}", color=COLORS[m], va="center")
    panels.write(figure, path)


def main() -> None:
    """Trains, prints, writes the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--seconds", type=float, default=600.0, help="training time of each model")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    dataset = iwae_tf.data.load(arguments.dataset, arguments.data_dir)
    x_test = binarize_once(dataset.intensities("test"), "test")[:TEST_IMAGES]
    racers = [Racer(dataset, m, arguments.batch_size) for m in BACKWARD_SAMPLES]
    rows = race(racers, x_test, arguments.seconds)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "backward_samples.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("backward_samples", "seconds", "steps", "test_bound_k50"))
        writer.writerows((m, f"{seconds:.2f}", steps, f"{bound:.4f}") for m, seconds, steps, bound in rows)
    title = f"{dataset.name}, one layer, k = {K}, batch {arguments.batch_size}: m samples in the backward pass"
    draw(arguments.out / "backward_samples.png", rows, title)


if __name__ == "__main__":
    main()
