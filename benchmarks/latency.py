"""Milliseconds of a served row: `python -m benchmarks.latency export/models/NAME [export/models/NAME ...]`.

Calls exported models in this process, in turns, with rows that each model draws itself: one row in a request, and 20.
Prints the median time of a row with the least and the greatest, by `serving_default`, and by `log_prob_k`, which takes
5000 samples of q(h | x).
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from iwae_tf.serving.model_folder import find_version, load

SIGNATURES, SIZES, NUM_SAMPLES = ("serving_default", "log_prob_k"), (1, 20), 5000


def seconds_of_a_row(folders: list[Path], calls: int, sizes=SIZES, num_samples=NUM_SAMPLES) -> dict[tuple, list[float]]:
    """Returns (name, signature, size of the request) -> seconds of a row, one for each call."""
    models = {name: load(version).model for name, version in map(find_version, folders)}
    found: dict[tuple, list[float]] = {}
    for call in range(calls + 1):
        for (name, model), signature, size in itertools.product(models.items(), SIGNATURES, sizes):
            seeds = tf.constant(np.arange(size) + call * size, tf.int64)
            request = {"x": model.signatures["sample"](seed=seeds)["x"]}
            if signature == "log_prob_k":
                request |= {"num_samples": tf.fill([size], num_samples), "seed": tf.zeros([size], tf.int64)}
            begin = time.perf_counter()
            answer = model.signatures[signature](**request)
            seconds = (time.perf_counter() - begin) / size
            if np.any(answer["status"].numpy()):
                raise RuntimeError(f"{name} does not score what it draws")
            if call:  # the first is slow
                found.setdefault((name, signature, size), []).append(seconds)
    return found


def main() -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="MODEL", help="folder of an exported model")
    parser.add_argument("--calls", type=int, default=15, help="of each kind (default: 15)")
    arguments = parser.parse_args()
    columns = "model", "signature", "rows in a request", "milliseconds of a row", "least", "greatest"
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for keys, seconds in seconds_of_a_row(arguments.folders, arguments.calls).items():
        times = 1000 * np.array([np.median(seconds), min(seconds), max(seconds)])
        print(f"| {' | '.join(map(str, (*keys, *times.round().astype(int))))} |")


if __name__ == "__main__":
    main()
