"""Ways to train, at equal processor time: `python -m benchmarks.recipes --data-dir DIR --minutes 4`.

Every recipe trains the paper's one-layer network on MNIST for the same core-minutes, those of the training loop alone:
its time of a step is measured first, and gives the number of steps over which its learning rate falls. Then come L_500
of the 400 validation images, by which a recipe is chosen, and of 1000 test images. One row of the output file for each
recipe, budget and seed; what the file has already is not done again.
"""

import argparse
import csv
import dataclasses
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from benchmarks import package
from benchmarks.figures import label_ends, log_x, page, style
from iwae_tf.config import RunConfig, TrainingConfig
from iwae_tf.data import Dataset, load
from iwae_tf.data.pipeline import training_batches
from iwae_tf.models.iwae import IWAE
from iwae_tf.objectives import build_objective
from iwae_tf.plots.style import MARKERS, SERIES
from iwae_tf.training.building import build_optimizer

NUM_SAMPLES, NUM_TEST = 500, 1000
TRACED, TIMED = 60, 300  # steps before and during the measurement of a step
FIRST_SHARE = 2 / 3  # of the time, with `Recipe.first`
FIELDS = ("recipe", "minutes", "seed", "passes", "steps", "used", "validation", "test", "error")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is varied; the defaults are where the search starts."""

    objective: str = "dreg"
    k: int = 5
    backward: int = 0  # of the k samples; 0 for all
    first: int = 0  # k of a first run, from which this one goes on at half the rate; 0 for none
    optimizer: str = "adam"
    batch: int = 100
    rate: float = 4e-3
    schedule: str = "cosine"
    warmup: float = 0.0  # share of the steps in which the rate rises from 0
    ema: float = 0.0  # momentum of averaged weights; 0 for none

    @property
    def name(self) -> str:
        """What distinguishes it, as words."""
        words = [self.objective, *[f"k{self.first} then"] * bool(self.first), f"k{self.k}"]
        words += [self.optimizer] * (self.optimizer != "adam")
        words += [f"batch{self.batch}", f"{self.rate:g}", self.schedule]
        words += [f"backward{self.backward}"] * bool(self.backward) + [f"warmup{self.warmup:g}"] * bool(self.warmup)
        return " ".join(words + [f"ema{self.ema:g}"] * bool(self.ema))

    @property
    def runs(self) -> list[tuple["Recipe", float]]:
        """The runs that follow each other, each with its share of the time."""
        if not self.first:
            return [(self, 1.0)]
        first = dataclasses.replace(self, first=0, k=self.first, backward=0)
        return [(first, FIRST_SHARE), (dataclasses.replace(self, first=0, rate=self.rate / 2), 1.0 - FIRST_SHARE)]

    def build_optimizer(self, steps: int) -> keras.optimizers.Optimizer:
        """Returns the optimiser that `train` has, with the learning rate on its schedule over these steps."""
        settings = TrainingConfig(optimizer=self.optimizer, learning_rate=self.rate, schedule=self.schedule)
        optimizer, rising = build_optimizer(RunConfig(training=settings), steps), round(self.warmup * steps)
        content = optimizer.get_config()
        if self.ema:
            content |= {"use_ema": True, "ema_momentum": self.ema}
        if rising:
            content["learning_rate"] = keras.optimizers.schedules.CosineDecay(
                0.0, steps - rising, warmup_target=self.rate, warmup_steps=rising
            )
        return type(optimizer).from_config(content)


RATES = (1e-3, 2e-3, 4e-3, 8e-3)
GROUPS = {
    "rates": [Recipe(rate=rate, schedule=schedule) for schedule in ("constant", "paper", "cosine") for rate in RATES],
    "batches": [
        *(Recipe(batch=20, rate=rate) for rate in (1e-3, 2e-3)),
        *(Recipe(batch=50, rate=rate) for rate in (2e-3, 4e-3)),
        *(Recipe(batch=batch, rate=rate) for batch in (200, 400) for rate in (4e-3, 8e-3)),
    ],
    "objectives": [Recipe(objective=name) for name in ("iwae", "stl", "piwae")],
    "averages": [Recipe(ema=0.999), Recipe(ema=0.999, schedule="constant"), Recipe(warmup=0.05)],
    "muon": [
        *(Recipe(optimizer="muon", rate=rate) for rate in (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)),
        *(Recipe(optimizer="muon", batch=batch, rate=8e-3) for batch in (200, 800)),
        *(Recipe(optimizer="muon", batch=400, rate=rate) for rate in (4e-3, 8e-3, 1.6e-2)),
    ],
    "k50": [
        *(Recipe(objective=name, k=50) for name in ("iwae", "dreg", "stl", "piwae")),
        *(Recipe(k=50, backward=number) for number in (5, 10)),
        Recipe(k=50, backward=10, optimizer="muon", batch=400, rate=8e-3),
        *(Recipe(k=50, backward=10, first=5, optimizer="muon", batch=400, rate=rate) for rate in (4e-3, 8e-3)),
        Recipe(objective="iwae", k=50, batch=20, rate=1e-3, schedule="paper"),
    ],
}


def measured(recipe: Recipe, dataset: Dataset, minutes: float, seed: int) -> dict[str, object]:
    """Trains by a recipe for some core-minutes; returns a row of the file."""
    speeds = [TIMED / _fitted(run, dataset, TRACED + TIMED, seed, timed=TIMED)[1] for run, _ in recipe.runs]
    model, used, steps = None, 0.0, 0
    for (run, share), speed in zip(recipe.runs, speeds, strict=True):
        of_run = max(1, round(60.0 * minutes * share * speed))
        model, seconds = _fitted(run, dataset, of_run, seed, model=model)
        used, steps = used + seconds, steps + of_run
    validation = model.log_likelihood(package.binarized(dataset, "valid"), NUM_SAMPLES)
    test = model.log_likelihood(package.binarized(dataset, "test")[:NUM_TEST], NUM_SAMPLES)
    return {
        "recipe": recipe.name,
        "minutes": minutes,
        "seed": seed,
        "passes": f"{steps * recipe.batch / len(dataset.x_train):.2f}",
        "steps": steps,
        "used": f"{used / 60:.2f}",
        "validation": f"{np.mean(validation):.3f}",
        "test": f"{np.mean(test):.3f}",
        "error": f"{np.std(test, ddof=1) / NUM_TEST**0.5:.3f}",
    }


def _fitted(
    recipe: Recipe, dataset: Dataset, steps: int, seed: int, timed: int = 0, model: IWAE | None = None
) -> tuple[IWAE, float]:
    """Returns a model, new if none is given, after these steps; and processor seconds, of all or the last `timed`."""
    if model is None:
        keras.backend.clear_session()
        model = IWAE.one_layer(dataset.data_dim, data_mean=dataset.train_mean(), seed=seed)
    given = {"backward_samples": recipe.backward} if recipe.backward else {}
    model.compile(recipe.build_optimizer(steps), build_objective(recipe.objective, recipe.k, given))
    batches, used = training_batches(dataset, recipe.batch, seed), 0.0
    for part in [steps - timed, timed] if timed else [steps]:
        begin = time.process_time()
        model.fit(batches, epochs=1, steps_per_epoch=part, verbose=0)
        used = time.process_time() - begin
    return model, used


def grouped(path: Path) -> dict[tuple[float, str], list[dict]]:
    """Returns the rows of the file by core-minutes and recipe, a row for each seed."""
    groups: dict[tuple[float, str], list[dict]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            groups.setdefault((float(row["minutes"]), row["recipe"]), []).append(row)
    return groups


def table(groups: dict[tuple[float, str], list[dict]]) -> str:
    """Returns `grouped` rows as a table in Markdown: mean and spread over seeds, the best by validation first."""
    columns = ("core-minutes", "recipe", "seeds", "passes", "validation", "test")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    means = {key: np.mean([float(row["validation"]) for row in of_key]) for key, of_key in groups.items()}
    for minutes, name in sorted(groups, key=lambda key: (key[0], -means[key])):
        of_key = groups[minutes, name]
        cells = [f"{minutes:g}", name, str(len(of_key)), f"{np.mean([float(row['passes']) for row in of_key]):.1f}"]
        for split in ("validation", "test"):
            values = np.array([float(row[split]) for row in of_key])
            cells.append(f"{values.mean():.2f}" + (f" +- {values.std(ddof=1):.2f}" if len(values) > 1 else ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(groups: dict[tuple[float, str], list[dict]], path: Path) -> None:
    """Draws L_500 of the test images against the learning rate, for each schedule, and against core-minutes."""
    means = {key: np.mean([float(row["test"]) for row in rows]) for key, rows in groups.items()}
    least = min(minutes for minutes, _ in means if all((minutes, r.name) in means for r in GROUPS["rates"]))
    schedules = {
        schedule: [(r.rate, means[least, r.name]) for r in GROUPS["rates"] if r.schedule == schedule]
        for schedule in ("constant", "paper", "cosine")
    }
    longer = {
        name: sorted((minutes, mean) for (minutes, other), mean in means.items() if other == name) for _, name in means
    }
    notes = [
        f"One layer, 784-200-200-50, MNIST; L_500 of {NUM_TEST} test images; left: {least:g} core-minutes each, k = 5."
    ]
    figure, axes = page("What gets far in little processor time", notes, columns=2)
    ends = {}
    for one, lines in zip(axes[0], (schedules, {n: line for n, line in longer.items() if len(line) > 1}), strict=True):
        for number, (name, points) in enumerate(lines.items()):
            color = SERIES[number % len(SERIES)]
            one.plot(*zip(*points, strict=True), color=color, marker=MARKERS[number % len(MARKERS)], markersize=4)
            ends.setdefault(one, []).append((*points[-1], name, color))
    style(axes[0, 0], "learning rate (log)", "L_500, nats")
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    style(axes[0, 1], "core-minutes of training (log)", "L_500, nats")
    log_x(axes[0, 1], sorted({minutes for minutes, _ in means}))
    for one in axes[0]:
        one.minorticks_off()
    label_ends(figure, ends)
    figure.savefig(path)


def main() -> None:
    """Runs what the file lacks, and prints it as a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", help="folder of MNIST")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS), help="recipes (default: all)")
    parser.add_argument("--only", nargs="+", default=[], metavar="RECIPE", help="only recipes of these names")
    parser.add_argument("--minutes", type=float, nargs="+", default=[4.0], help="core-minutes (default: 4)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("docs/results/recipes.csv"))
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the file as well")
    arguments = parser.parse_args()
    package.set_threads()
    dataset = load("mnist", arguments.data_dir)
    recipes = {recipe.name: recipe for group in arguments.groups for recipe in GROUPS[group]}
    if arguments.only:
        recipes = {name: recipe for name, recipe in recipes.items() if name in arguments.only}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.output.exists():
        arguments.output.write_text(",".join(FIELDS) + "\n")
    with arguments.output.open(newline="") as file:
        done = {(row["recipe"], float(row["minutes"]), int(row["seed"])) for row in csv.DictReader(file)}
    for minutes in arguments.minutes:
        for seed in arguments.seeds:
            for name, recipe in recipes.items():
                if (name, minutes, seed) in done:
                    continue
                row = measured(recipe, dataset, minutes, seed)
                with arguments.output.open("a", newline="") as file:
                    csv.DictWriter(file, FIELDS).writerow(row)
                print(*row.values(), flush=True)
    groups = grouped(arguments.output)
    print(table(groups))
    if arguments.figure:
        draw(groups, arguments.figure)


if __name__ == "__main__":
    main()
