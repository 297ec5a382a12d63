"""log p(x) of the same test images by every estimate there is, with the error of its samples and its time."""

import argparse
import sys
import time
from pathlib import Path

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from iwae_tf import IWAE, data, evaluation
from iwae_tf.data.binarization import binarize_once


def main(run: Path, images: int, num_temperatures: int, sizes: tuple[int, int] = (50, 5000)) -> None:
    """Prints a table for a run on the digits."""
    model = keras.saving.load_model(run / "model.keras", custom_objects={"IWAE": IWAE}, compile=False)
    x = binarize_once(data.load("digits").intensities("test"), "test")[:images]
    print("| estimate | mean log p(x) | error of the samples | seconds |\n|---|---|---|---|")
    for name, refine, k in (*((f"L_{k}", "off", k) for k in sizes), ("refined proposal", "on", sizes[-1])):
        settings = {"num_samples": k, "sample_sizes": (), "refine": refine}
        evaluation.estimate_log_likelihood(model, x, **settings)  # builds the graph
        begin = time.perf_counter()
        found = evaluation.estimate_log_likelihood(model, x, **settings)
        row(name, found.log_likelihood, found.standard_error, begin)
    for k in sizes:
        begin = time.perf_counter()
        corrected = evaluation.jackknife_log_likelihood(model, x, k)
        for order in (1, 2):
            row(f"JVI-{order}, k = {k}", corrected.estimates[order], corrected.standard_errors[order], begin)
    begin = time.perf_counter()
    annealed = evaluation.annealed_log_likelihood(model, x, num_temperatures=num_temperatures)
    row("AIS", annealed.log_likelihood, annealed.standard_error, begin)
    begin = time.perf_counter()
    bounds = evaluation.bidirectional_bounds(model, images, num_temperatures=num_temperatures)
    seconds, error = time.perf_counter() - begin, bounds.gap.std(ddof=1) / np.sqrt(images)
    print(f"\nBDMC on {images} simulated images: gap {bounds.gap.mean():.4f} +- {error:.4f} nats, {seconds:.0f} s")


def row(name: str, values: np.ndarray, errors: np.ndarray, begin: float) -> None:
    """Prints a row of the table."""
    error = np.sqrt(np.sum(errors**2)) / len(errors)
    print(f"| {name} | {values.mean():.3f} | {error:.3f} | {time.perf_counter() - begin:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run on the digits")
    parser.add_argument("--images", type=int, default=100, help="how many of the test images (default: 100)")
    parser.add_argument("--temperatures", type=int, default=1000, help="steps of the annealing (default: 1000)")
    arguments = parser.parse_args()
    main(arguments.run, arguments.images, arguments.temperatures)
