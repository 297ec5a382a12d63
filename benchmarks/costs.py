"""Costs of training options: the objective, 16-bit precision, and fewer samples in the backward pass.

    python -m benchmarks.costs objectives [--batch-size 100] [--k 50] [--rounds 30]
    python -m benchmarks.costs precision --data-dir DIR [--epochs 2] [--images 400] [--rounds 50]
    python -m benchmarks.costs backward-samples --data-dir DIR [--seconds 600] [--batch-size 100]

The network has one stochastic layer of the paper's size. Candidates take turns in one process, in another order in
every round, and ratios are taken within a round, so that a busy machine slows both sides. With `--out DIR` each
command writes a CSV, `backward-samples` also its figure.
"""

import argparse
import csv
import statistics
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

import iwae_tf
from benchmarks import figures, package
from benchmarks.cases import network, step_of
from benchmarks.timing import images, measure, ratios_to
from iwae_tf.objectives import OBJECTIVES, IWAEBound, objective_class

K, SEED, SAMPLES, CHUNK = 50, 0, 5000, 20
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
WIDE = (1000, 1000)
BACKWARD_SAMPLES = {50: figures.INK, 5: figures.LINE, 1: figures.ACCENT}  # m -> colour
TEST_IMAGES, TURN_SECONDS = 2000, 10.0
NAMES = {"objectives": "objective_cost", "precision": "precision", "backward-samples": "backward_samples"}


def objectives(arguments) -> list[tuple]:
    """Returns the time of a training step under each objective, and its ratio to `iwae`."""
    x = tf.constant(images(arguments.batch_size))
    made = {name: objective_class(name)(arguments.k) for name in OBJECTIVES}
    made |= {f"iwae --backward-samples {m}": IWAEBound(arguments.k, backward_samples=m) for m in (5, 1)}
    steps = {}
    for name, objective in made.items():
        model = network(1)
        model.compile(objective=objective)
        steps[name] = step_of(model, x)
    seconds = measure(steps, arguments.rounds)
    rows = [("objective", "median_ms", "ratio_to_iwae", "lower_quartile", "upper_quartile")]
    for name, values in seconds.items():
        ratios = (f"{ratio:.3f}" for ratio in ratios_to(seconds["iwae"], values))
        rows.append((name, f"{1000 * statistics.median(values):.1f}", *ratios))
    return rows


def precision(arguments) -> list[tuple]:
    """Returns the ratios of steps and scores to float32, and the shift of L_5000 of a model trained in float32."""
    dataset = iwae_tf.data.load("mnist", arguments.data_dir)
    x = package.binarized(dataset, "test")[: arguments.images]
    model = iwae_tf.IWAE.one_layer(dataset.data_dim, data_mean=dataset.train_mean(), seed=SEED)
    model.compile(objective=IWAEBound(5))
    stream, steps = iwae_tf.data.training_batches(dataset, 100, SEED), len(dataset.x_train) // 100
    model.fit(stream, epochs=arguments.epochs, steps_per_epoch=steps, shuffle=False, verbose=2)
    rows = [("what", "precision", "median_ratio_or_mean", "lower_quartile_or_deviation", "upper_quartile_or_largest")]
    wide = iwae_tf.IWAE(dataset.data_dim, (50,), (WIDE,))
    for batch_size, of_width in ((20, model), (100, model), (20, wide)):
        ways = {}
        for name, other in in_all_precisions(of_width).items():
            other.compile(objective=IWAEBound(K))
            ways[name] = step_of(other, tf.constant(x[:batch_size]))
        words = f"step, batch {batch_size}, width {of_width.hidden_units[0][0]}"
        rows += _ratio_rows(words, measure(ways, arguments.rounds))
    return rows + score_rows(in_all_precisions(model), x)


def in_all_precisions(model) -> dict[str, iwae_tf.IWAE]:
    """Returns the model with the same weights in every precision."""
    models = {}
    for name, dtype in POLICIES.items():
        models[name] = iwae_tf.IWAE.from_config({**model.get_config(), "dtype": dtype})
        models[name].set_weights(model.get_weights())
    return models


def score_rows(models: dict[str, iwae_tf.IWAE], x: np.ndarray) -> list[tuple]:
    """Returns ratios of scoring times, and mean, standard deviation and largest shift of scores by the same noise."""
    ways = {name: lambda m=model: m.log_likelihood(x[:CHUNK], SAMPLES).numpy() for name, model in models.items()}
    rows = _ratio_rows(f"scoring, {SAMPLES} samples", measure(ways, max(2, len(x) // CHUNK)))
    scores = {name: model.log_likelihood(x, SAMPLES).numpy() for name, model in models.items()}
    for name in (name for name in models if name != "float32"):
        shift = scores[name] - scores["float32"]
        numbers = (f"{value:+.5f}" for value in (shift.mean(), shift.std(ddof=1), np.abs(shift).max()))
        rows.append((f"shift of L_{SAMPLES}, nats", name, *numbers))
    return rows


def _ratio_rows(what: str, seconds: dict[str, list[float]]) -> list[tuple]:
    ratios = {name: ratios_to(seconds["float32"], values) for name, values in seconds.items() if name != "float32"}
    return [(what, name, *(f"{ratio:.3f}" for ratio in three)) for name, three in ratios.items()]


class Racer:
    """A model with its batches, and a clock that runs in its training steps alone.

    Args:
        dataset: the images.
        m: samples in the backward pass.
        batch_size: images in a step.
    """

    def __init__(self, dataset, m: int, batch_size: int):
        self.m, self.seconds, self.steps = m, 0.0, 0
        self.model = iwae_tf.IWAE.one_layer(dataset.data_dim, data_mean=dataset.train_mean(), seed=SEED)
        self.model.compile(objective=IWAEBound(K, backward_samples=None if m == K else m))
        self.batches = iter(iwae_tf.data.training_batches(dataset, batch_size, SEED))
        self.step = tf.function(self.model.train_step, autograph=False)

    def train(self, seconds: float) -> None:
        """Takes steps for this time, without that of tracing the first."""
        batch = next(self.batches)
        if not self.steps:
            self.step.get_concrete_function(batch)
        begin = time.perf_counter()
        while time.perf_counter() < begin + seconds:
            float(self.step(batch)["bound"])
            batch = next(self.batches)
            self.steps += 1
        self.seconds += time.perf_counter() - begin


def backward_samples(arguments) -> list[tuple]:
    """Returns the test bound L_50 against training time of models with m of k = 50 samples in the backward pass."""
    dataset = iwae_tf.data.load(arguments.dataset, arguments.data_dir)
    x_test = package.binarized(dataset, "test")[:TEST_IMAGES]
    racers, rows = [Racer(dataset, m, arguments.batch_size) for m in BACKWARD_SAMPLES], []
    while racers[0].seconds < arguments.seconds:
        for racer in racers:
            racer.train(TURN_SECONDS)
            bound = float(np.mean(racer.model.log_likelihood(x_test, K, seed=1)))
            rows.append((racer.m, round(racer.seconds, 2), racer.steps, round(bound, 4)))
            print("m = {:2}  {:7.1f} s  {:6} steps  L_50 {:.3f}".format(*rows[-1]), flush=True)
    if arguments.out:
        title = f"{dataset.name}, one layer, k = {K}, batch {arguments.batch_size}: m samples in the backward pass"
        figures.save(race_figure(rows, title), arguments.out / "backward_samples.png")
    return [("backward_samples", "seconds", "steps", "test_bound_k50"), *rows]


def race_figure(rows: list[tuple[int, float, int, float]], title: str):
    """Returns the figure of the test bound against seconds for each m, down to 12 nats below the best."""
    notes = ["Each line: one model; its clock runs in its training steps alone. At the end: the steps it has taken."]
    figure, ((axes,),) = figures.page(title, notes)
    figures.style(axes, "training time (s)", "test $L_{50}$ (nats)")
    best, ends = max(bound for *_, bound in rows), []
    axes.set_ylim(best - 12.0, best + 1.0)
    for m, color in BACKWARD_SAMPLES.items():
        _, seconds, steps, bounds = (np.array(column) for column in zip(*(r for r in rows if r[0] == m), strict=True))
        axes.plot(seconds, bounds, color=color, linewidth=1.6)
        ends.append((seconds[-1], bounds[-1], f"m = {m}: {steps[-1]:,}", color))
    figures.label_ends(figure, {axes: ends})
    return figure


def main() -> None:
    """Measures, prints and writes the CSV of a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = {}
    for measurement in (objectives, precision, backward_samples):
        name = measurement.__name__.replace("_", "-")
        made[name] = commands.add_parser(name, help=measurement.__doc__)
        made[name].set_defaults(measurement=measurement)
        made[name].add_argument("--out", type=Path, help="folder for what is written")
    for name in ("precision", "backward-samples"):
        made[name].add_argument("--data-dir", help="folder with MNIST")
    for name in ("objectives", "backward-samples"):
        made[name].add_argument("--batch-size", type=int, default=100, help="images of a step (default: 100)")
    made["objectives"].add_argument("--k", type=int, default=50, help="importance samples (default: 50)")
    made["objectives"].add_argument("--rounds", type=int, default=30, help="turns of each candidate (default: 30)")
    made["precision"].add_argument("--rounds", type=int, default=50, help="turns of each candidate (default: 50)")
    made["precision"].add_argument("--epochs", type=int, default=2, help="of training before scoring (default: 2)")
    made["precision"].add_argument("--images", type=int, default=400, help="test images to score (default: 400)")
    made["backward-samples"].add_argument("--dataset", default="mnist", help="default: mnist")
    made["backward-samples"].add_argument("--seconds", type=float, default=600.0, help="of each model (default: 600)")
    arguments = parser.parse_args()
    package.set_threads()
    rows = arguments.measurement(arguments)
    for row in rows:
        print("".join(f"{value!s:30}" for value in row))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with (arguments.out / f"{NAMES[arguments.command]}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
