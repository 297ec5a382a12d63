"""What 16 bits in the networks cost and change on MNIST: time of a step and of scoring, and the shift of L_5000.

    python benchmarks/precision.py --data-dir DIR [--epochs 2] [--images 400] [--rounds 50] [--out docs/results]

One stochastic layer of the paper's size, k = 50, and for a step also hidden layers five times as wide. A step of each
precision is taken in turns, in another order in every round, and so are the scores of each part of the test images; a
ratio is taken within its round, so that a machine that is busy with other things slows both sides of it. The shift is
that of the scores of one model, trained in float32 with k = 5, by the same noise.
"""

import argparse
import csv
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

import iwae_tf
from benchmarks.timing import measure, ratios_to
from iwae_tf.data.binarization import binarize_once
from iwae_tf.models.precision import POLICIES
from iwae_tf.threads import one_thread_for_an_operation

K, SEED, SAMPLES, PART = 50, 0, 5000, 20
WIDE = (1000, 1000)


def with_precision(model: iwae_tf.IWAE, precision: str) -> iwae_tf.IWAE:
    """The same model with another precision."""
    other = iwae_tf.IWAE.from_config({**model.get_config(), "dtype": POLICIES[precision]})
    other.set_weights(model.get_weights())
    return other


def step_of(model: iwae_tf.IWAE, x: tf.Tensor):
    """A function that takes one compiled training step on x."""
    model.compile(objective=iwae_tf.objectives.IWAEBound(K))
    step = tf.function(model.train_step, autograph=False)
    return lambda: float(step(x)["bound"])  # reading the number waits for it


def step_rows(model: iwae_tf.IWAE, x: np.ndarray, batch_size: int, rounds: int) -> list[tuple]:
    """Rows of what, precision, and the ratio of a step to float32: median and quartiles."""
    batch = tf.constant(x[:batch_size])
    seconds = measure({name: step_of(with_precision(model, name), batch) for name in POLICIES}, rounds)
    return _ratio_rows(f"step, batch {batch_size}, width {model.hidden_units[0][0]}", seconds)


def score_rows(model: iwae_tf.IWAE, x: np.ndarray) -> tuple[list[tuple], list[tuple]]:
    """Rows of the ratio of scoring time, and of the shift of L_5000 in nats: mean, standard deviation, largest."""
    models = {name: with_precision(model, name) for name in POLICIES}
    seconds, scores = ({name: [] for name in POLICIES} for _ in range(2))
    for other in models.values():
        other.log_likelihood(x[:PART], SAMPLES)  # traced, and once warm
    names = list(POLICIES)
    for number, first in enumerate(range(0, len(x), PART)):
        random.Random(number).shuffle(names)
        for name in names:
            begin = time.perf_counter()
            scores[name].append(models[name].log_likelihood(x[first : first + PART], SAMPLES, seed=number).numpy())
            seconds[name].append(time.perf_counter() - begin)
    shifts = []
    for name in list(POLICIES)[1:]:
        shift = np.concatenate(scores[name]) - np.concatenate(scores["float32"])
        numbers = (f"{value:+.5f}" for value in (shift.mean(), shift.std(ddof=1), np.abs(shift).max()))
        shifts.append((f"shift of L_{SAMPLES}, nats", name, *numbers))
    return _ratio_rows(f"scoring, {SAMPLES} samples", seconds), shifts


def _ratio_rows(what: str, seconds: dict[str, list[float]]) -> list[tuple]:
    return [
        (what, name, *(f"{value:.3f}" for value in ratios_to(seconds["float32"], values)))
        for name, values in seconds.items()
        if name != "float32"
    ]


def trained(dataset, epochs: int) -> iwae_tf.IWAE:
    """A float32 model of the data after some passes, batch 100, k = 5."""
    model = iwae_tf.IWAE.one_layer(dataset.data_dim, data_mean=dataset.train_mean(), seed=SEED)
    model.compile(objective=iwae_tf.objectives.IWAEBound(5))
    steps = len(dataset.x_train) // 100
    model.fit(
        iwae_tf.data.training_batches(dataset, 100, SEED),
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=2,
    )
    return model


def main() -> None:
    """Measures and prints, and writes `precision.csv`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--out", type=Path, help="folder for precision.csv")
    arguments = parser.parse_args()
    one_thread_for_an_operation()  # as the commands do
    dataset = iwae_tf.data.load("mnist", arguments.data_dir)
    x = binarize_once(dataset.intensities("test"), "test")[: arguments.images]
    model = trained(dataset, arguments.epochs)
    rows = [("what", "precision", "median_ratio_or_mean", "lower_quartile_or_deviation", "upper_quartile_or_largest")]
    for batch_size in (20, 100):
        rows += step_rows(model, x, batch_size, arguments.rounds)
    rows += step_rows(iwae_tf.IWAE(dataset.data_dim, (50,), (WIDE,)), x, 20, arguments.rounds)
    for part in score_rows(model, x):
        rows += part
    for row in rows:
        print(f"{row[0]:28}{row[1]:12}" + "".join(f"{value:>30}" for value in row[2:]))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with (arguments.out / "precision.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
