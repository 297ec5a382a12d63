"""How far scores can be relied on: `python -m benchmarks.reliability RUN [RUN ...]`.

Scores the first test images of finished runs under several seeds, with a refined proposal and with q(h | x), and prints
for each a row of a table: the mean, the mean number of samples of a row, the median share of them that is effective,
the share of scores called reliable, how often the 95% interval of a reliable score covers the estimate that the other
seeds give together, and the processor's time without that of L_k, which every estimate comes with, in units of it.

`--annealed 4` compares the refined estimate with annealing under 4 seeds, and with bidirectional Monte Carlo on 4 times
as many images, which the model draws itself.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from iwae_tf.config import ScoringConfig
from iwae_tf.evaluation import (
    LikelihoodEstimate,
    annealed_log_likelihood,
    bidirectional_bounds,
    estimate_log_likelihood,
)
from iwae_tf.replicas import one_thread_per_operation
from iwae_tf.training.evaluation import evaluation_images
from iwae_tf.training.run_folder import read_trained

COLUMNS = (
    *("run", "proposal", "mean", "sd over seeds", "samples", "ESS / samples"),
    *("reliable", "covered", "all covered", "time"),
)


def main() -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--images", type=int, default=100, help="test images of each run (default: 100)")
    parser.add_argument("--seeds", type=int, default=20, help="seeds of the samples (default: 20)")
    parser.add_argument("--num-samples", type=int, default=5000, help="k (default: 5000)")
    parser.add_argument("--annealed", type=int, default=0, metavar="SEEDS", help="seeds of annealing (default: 0)")
    parser.add_argument("--data-dir", help="folder to read the data from, if it is not the run's")
    arguments = parser.parse_args()
    one_thread_per_operation()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for path in arguments.runs:
        trained = read_trained(path)
        x, _ = evaluation_images(trained, ScoringConfig(data_dir=arguments.data_dir), "test")
        x = x[: arguments.images]
        rows, refined = measured(trained.model, x, arguments.num_samples, arguments.seeds)
        for row in rows:
            print(f"| {path.name} | {' | '.join(row)} |", flush=True)
        if arguments.annealed:
            for line in agreement(trained.model, x, arguments.num_samples, refined, arguments.annealed):
                print(f"{path.name}: {line}", flush=True)


def measured(
    model, x: np.ndarray, num_samples: int, seeds: int
) -> tuple[list[tuple[str, ...]], list[LikelihoodEstimate]]:
    """Returns the row of each proposal, scored in turns so that their times can be compared, and the refined estimates.

    The estimates are those of seed 0, 1, ...
    """
    found, seconds = {"auto": [], "off": []}, {"auto": [], "off": [], "L_k": []}
    model.log_likelihood(x, num_samples)  # the first call of a graph is slow
    for refine in found:
        estimate_log_likelihood(model, x, num_samples, refine=refine, sample_sizes=())
    for seed in range(seeds):
        begin = time.process_time()
        model.log_likelihood(x, num_samples, seed)
        seconds["L_k"].append(time.process_time() - begin)
        for refine, estimates in found.items():
            begin = time.process_time()
            estimates.append(estimate_log_likelihood(model, x, num_samples, seed, sample_sizes=(), refine=refine))
            seconds[refine].append(time.process_time() - begin)
    names = {"auto": "refined", "off": "q"}
    rows = [_row(names[refine], found[refine], np.divide(seconds[refine], seconds["L_k"]) - 1) for refine in found]
    return rows, found["auto"]


def _row(name: str, estimates: list, times: np.ndarray) -> tuple[str, ...]:
    log_p, error, reliable, samples, ess = (
        np.array([getattr(estimate, field) for estimate in estimates])  # [seeds, images]
        for field in ("log_likelihood", "standard_error", "reliable", "num_samples", "effective_sample_size")
    )
    covered = intervals_cover(log_p, error)
    of_reliable = f"{covered[reliable].mean():.3f}" if reliable.any() else ""
    means = log_p.mean(axis=1)
    return (
        name,
        f"{means.mean():.3f}",
        f"{means.std(ddof=1):.3f}",
        f"{samples.mean():.0f}",
        f"{np.median(ess / samples):.4f}",
        f"{reliable.mean():.3f}",
        of_reliable,
        f"{covered.mean():.3f}",
        f"{np.median(times):.2f}",
    )


def agreement(
    model,
    x: np.ndarray,
    num_samples: int,
    found: list[LikelihoodEstimate],
    annealing_seeds: int,
    num_temperatures: int = 1000,
) -> Iterator[str]:
    """Yields lines that compare means over x, and over images that the model draws, in nats.

    The error of a mean over seeds is that of the samples, from their spread; the error of a difference is over images.
    `found` are refined estimates of x, one for each seed.
    """
    log_p, reliable = (np.array([getattr(one, name) for one in found]) for name in ("log_likelihood", "reliable"))
    annealed, differences, gaps = [], [], []
    for seed in range(annealing_seeds):
        settings = {"num_temperatures": num_temperatures, "seed": seed}
        annealed.append(annealed_log_likelihood(model, x, **settings).log_likelihood)
        bounds = bidirectional_bounds(model, len(x), **settings)
        refined = estimate_log_likelihood(model, bounds.x, num_samples, seed, sample_sizes=())
        differences.extend(refined.log_likelihood - bounds.lower)
        gaps.extend(bounds.gap)
    over_seeds = (_mean_and_error(np.mean(values, axis=1)) for values in (log_p, annealed))
    yield "refined {}, annealed {}, q {:.3f}".format(*over_seeds, found[0].mean_bounds[num_samples])
    of_reliable = np.ma.array(log_p, mask=~reliable).mean(axis=0) - np.mean(annealed, axis=0)
    yield f"refined - annealed, of the reliable scores: {_mean_and_error(of_reliable.compressed())}"
    yield f"simulated: refined - lower {_mean_and_error(differences)}, upper - lower {_mean_and_error(gaps)}"


def _mean_and_error(values: Sequence) -> str:
    return f"{np.mean(values):.3f} +- {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"


def intervals_cover(log_p: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Returns whether the 95% interval of each seed covers the mean estimate of p(x) by the other seeds.

    Args:
        log_p: estimates, [seeds, images].
        error: their standard errors, the same.

    Returns:
        bool, the same shape. The error of the others' mean is added to the interval.
    """
    seeds = len(log_p)
    others = np.stack([logsumexp(np.delete(log_p, s, axis=0), axis=0) for s in range(seeds)]) - np.log(seeds - 1)
    of_others = np.sqrt((error**2).mean(axis=0) / (seeds - 1))
    return np.abs(log_p - others) < 1.96 * np.hypot(error, of_others)


if __name__ == "__main__":
    main()
