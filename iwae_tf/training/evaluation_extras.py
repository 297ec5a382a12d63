"""Optional sections of an evaluation: bias correction, annealing, pruning, deviation, inference and train-test gap."""

import time

import numpy as np

from iwae_tf import evaluation
from iwae_tf.config import ScoringConfig
from iwae_tf.errors import InputError
from iwae_tf.evaluation.bias import check_jackknife
from iwae_tf.evaluation.compare import monte_carlo_error
from iwae_tf.evaluation.estimate import LikelihoodEstimate, standard_error_of_mean
from iwae_tf.evaluation.units import check_prunable
from iwae_tf.models.checks import check_gaussian
from iwae_tf.training.callbacks import progress_bar

DEVIATION_K, DEVIATION_ESTIMATES, DEVIATION_ROWS = 50, 100, 100


def check_extras(model, settings: ScoringConfig) -> None:
    """Raises `InputError` for a section that does not exist for the model, before hours of scoring."""
    needed = {
        "--annealed": (settings.annealed, "its transitions follow the gradient with respect to the units"),
        "--prune": (settings.prune, "a binary unit cannot be replaced by its mean"),
        "--inference-gap": (settings.inference_gap, "its fit follows the gradient with respect to the units"),
        "--refine on": (settings.refine == "on", "the fit follows the gradient with respect to the units"),
    }
    for flag, (wanted, reason) in needed.items():
        if wanted:
            check_gaussian(model, flag, f"{reason}; leave it out")
    if settings.prune:
        check_prunable(model)
    if settings.jackknife:
        check_jackknife(settings.num_samples)
    if settings.gap and settings.split == "train":
        raise InputError("--gap compares a split with the training rows: leave it or --part train out")


def jackknife_section(model, x: np.ndarray, settings: ScoringConfig, verbose: int) -> dict:
    """Returns the mean of L_k and its corrections of order 1 and 2, from the samples of L_k."""
    begin, number = time.perf_counter(), settings.num_samples
    with progress_bar("jackknife", len(x) * number, "sample", verbose, unit_scale=True) as bar:
        found = evaluation.jackknife_log_likelihood(model, x, number, settings.seed, progress=bar.update)
    return {
        "num_samples": number,
        "log_likelihood": {str(order): float(values.mean()) for order, values in found.estimates.items()},
        "monte_carlo_error": {
            str(order): monte_carlo_error(values, found.standard_errors[order])
            for order, values in found.estimates.items()
        },
        "seconds": round(time.perf_counter() - begin, 3),
    }


def annealed_section(model, x: np.ndarray, estimate: LikelihoodEstimate, settings: ScoringConfig, verbose: int) -> dict:
    """Returns annealed importance sampling of the first rows, and its gap on simulated rows."""
    number, times = min(settings.annealed, len(x)), [time.perf_counter()]
    x, importance = x[:number], estimate.log_likelihood[:number]
    with progress_bar("annealing", None, "step", verbose, unit_scale=True) as bar:
        found = evaluation.annealed_log_likelihood(model, x, seed=settings.seed, progress=bar.update)
    times.append(time.perf_counter())
    with progress_bar("certifying", None, "step", verbose, unit_scale=True) as bar:
        bounds = evaluation.bidirectional_bounds(model, number, seed=settings.seed, progress=bar.update)
    times.append(time.perf_counter())
    return {
        "num_rows": number,
        "log_likelihood": float(found.log_likelihood.mean()),
        "importance_sampling": float(importance.mean()),
        "above_importance_sampling": float((found.log_likelihood - importance).mean()),
        "monte_carlo_error": monte_carlo_error(found.log_likelihood, found.standard_error),
        "acceptance": float(found.acceptance.mean()),
        "seconds": round(times[1] - times[0], 3),
        "simulated": {
            "lower": float(bounds.lower.mean()),
            "upper": float(bounds.upper.mean()),
            "gap": float(bounds.gap.mean()),
            "gap_standard_error": standard_error_of_mean(bounds.gap),
            "seconds": round(times[2] - times[1], 3),
        },
    }


def inference_gap_section(
    model, x: np.ndarray, estimate: LikelihoodEstimate, settings: ScoringConfig, verbose: int
) -> dict:
    """Returns the amortisation and the approximation gap of the first rows, on average and of each."""
    begin, number = time.perf_counter(), min(settings.inference_gap, len(x))
    with progress_bar("inference gap", number, "row", verbose) as bar:
        found = evaluation.inference_gap(
            model, x[:number], estimate.log_likelihood[:number], seed=settings.seed, progress=bar.update
        )
    return {
        "num_rows": number,
        "amortisation": float(found.amortisation.mean()),
        "approximation": float(found.approximation.mean()),
        "monte_carlo_error": monte_carlo_error(found.amortisation, found.standard_error),
        "rows": {"amortisation": found.amortisation.tolist(), "approximation": found.approximation.tolist()},
        "seconds": round(time.perf_counter() - begin, 3),
    }


def pruned_section(
    model, x: np.ndarray, estimate: LikelihoodEstimate, activities: tuple, settings: ScoringConfig, verbose: int
) -> dict:
    """Returns log p(x) without the inactive units."""
    smaller = evaluation.pruned(model, activities)
    scores = _scored("pruned", smaller, x, settings, verbose)
    moved = scores - estimate.log_likelihood
    return {
        "units": list(model.latent_units),
        "units_left": list(smaller.latent_units),
        "log_likelihood": float(scores.mean()),
        "moved": float(moved.mean()),
        "moved_standard_error": standard_error_of_mean(moved),
    }


def deviation_section(model, x: np.ndarray, estimate: LikelihoodEstimate, settings: ScoringConfig) -> dict:
    """Returns the mean absolute deviation of single estimates of L_50 of the first rows, and its bound."""
    x, best = x[:DEVIATION_ROWS], estimate.log_likelihood[:DEVIATION_ROWS]
    found = evaluation.deviation(model, x, DEVIATION_K, DEVIATION_ESTIMATES, best, settings.seed)
    return {
        "k": found.k,
        "num_estimates": found.num_estimates,
        "num_rows": len(x),
        "mean_absolute_deviation": float(found.mean_absolute_deviation.mean()),
        "bound": float(found.bound.mean()),
        "rows_above_their_bound": int((found.mean_absolute_deviation > found.bound).sum()),
    }


def gap_section(
    model, x_train: np.ndarray, estimate: LikelihoodEstimate, settings: ScoringConfig, verbose: int
) -> dict:
    """Returns log p(x) of as many training rows, drawn by the seed, under the same settings."""
    scores, generator = estimate.log_likelihood, np.random.default_rng(settings.seed)  # a file may be sorted
    drawn = np.sort(generator.permutation(len(x_train))[: len(scores)])
    train = _scored("training rows", model, x_train[drawn], settings, verbose)
    return {
        "num_train": len(train),
        "train_log_likelihood": float(train.mean()),
        "gap": float(train.mean() - scores.mean()),
        "gap_standard_error": float(np.hypot(standard_error_of_mean(train), standard_error_of_mean(scores))),
    }


def _scored(name: str, model, x: np.ndarray, settings: ScoringConfig, verbose: int) -> np.ndarray:
    """Returns the estimate of log p(x) of each row under the settings, [N]."""
    with progress_bar(name, len(x), "row", verbose) as bar:
        found = evaluation.estimate_log_likelihood(
            model,
            x,
            settings.num_samples,
            settings.seed,
            target_standard_error=settings.target_standard_error,
            max_samples=settings.max_samples,
            refine=settings.refine,
            progress=bar.update,
        )
    return found.log_likelihood


def labels_section(log_p: np.ndarray, labels: np.ndarray) -> dict | None:
    """Returns how well low scores find the rarer of two labels; None for another number of labels."""
    from sklearn import metrics

    values, counts = np.unique(labels, return_counts=True)
    if len(values) != 2:
        return None
    rarer = values[counts.argmin()]
    found = labels == rarer
    return {
        "rarer": str(rarer),
        "count": int(counts.min()),
        "of": len(labels),
        "auroc": float(metrics.roc_auc_score(found, -log_p)),
        "average_precision": float(metrics.average_precision_score(found, -log_p)),
    }
