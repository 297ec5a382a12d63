"""What a training step costs under each objective: ratios to `iwae`, all steps of one process taken in turns.

    python benchmarks/objective_cost.py [--batch-size 100] [--k 50] [--rounds 30] [--out docs/results]

One stochastic layer of the paper's size and 784 random binary pixels; `fit` and the input pipeline are left out. In
every round each candidate takes one step, in another order each time; the ratio is taken within the round, so that a
machine that is busy with other things slows both sides of it.
"""

import argparse
import csv
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

import iwae_tf
from benchmarks.timing import measure, ratios_to
from iwae_tf.objectives import OBJECTIVES, objective_class
from iwae_tf.threads import one_thread_for_an_operation

BACKWARD_SAMPLES = (5, 1)


def candidates(k: int) -> dict[str, iwae_tf.objectives.Objective]:
    """Every objective with its default parameters, and `iwae` with fewer backward samples."""
    objectives = {name: objective_class(name)(k) for name in OBJECTIVES}
    for m in BACKWARD_SAMPLES:
        objectives[f"iwae --backward-samples {m}"] = objective_class("iwae")(k, backward_samples=m)
    return objectives


def step_of(objective, x: tf.Tensor):
    """A function that takes one compiled training step on x."""
    model = iwae_tf.IWAE(x.shape[1])
    model.compile(objective=objective)
    step = tf.function(model.train_step, autograph=False)
    return lambda: float(step(x)["bound"])  # reading the number waits for it


def main() -> None:
    """Measures and prints, and writes `objective_cost.csv`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, help="folder for objective_cost.csv")
    arguments = parser.parse_args()
    one_thread_for_an_operation()  # as the commands do
    x = tf.constant(np.random.default_rng(0).random((arguments.batch_size, 784)) < 0.13, tf.float32)
    steps = {name: step_of(objective, x) for name, objective in candidates(arguments.k).items()}
    seconds = measure(steps, arguments.rounds)
    rows = [("objective", "median_ms", "ratio_to_iwae", "lower_quartile", "upper_quartile")]
    for name, values in seconds.items():
        ratio = ratios_to(seconds["iwae"], values)
        rows.append((name, f"{1000 * statistics.median(values):.1f}", *(f"{value:.3f}" for value in ratio)))
    for row in rows:
        print(f"{row[0]:28}" + "".join(f"{value:>16}" for value in row[1:]))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with (arguments.out / "objective_cost.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
