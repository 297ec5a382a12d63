"""Optional sections of an evaluation: bias correction, annealing, pruning, deviation, and the train-test gap."""

import time
from collections.abc import Callable

import numpy as np

from iwae_tf import evaluation
from iwae_tf.errors import InputError
from iwae_tf.evaluation.log_likelihood import LikelihoodEstimate, monte_carlo_error, standard_error_of_mean
from iwae_tf.scoring_config import ScoringConfig
from iwae_tf.training.callbacks import progress_bar

DEVIATION_K, DEVIATION_ESTIMATES, DEVIATION_IMAGES = 50, 100, 100


def gaussian_latents(model) -> bool:
    """Returns whether the latent units are Gaussian."""
    return model.latent == "gaussian"


def check_extras(model, settings: ScoringConfig) -> None:
    """Raises `InputError` for a section that does not exist for the model, before hours of scoring."""
    needed = {
        "--annealed": (settings.annealed, "its transitions follow the gradient with respect to the units"),
        "--prune": (settings.prune, "a binary unit cannot be replaced by its mean"),
    }
    for flag, (wanted, reason) in needed.items():
        if wanted and not gaussian_latents(model):
            raise InputError(
                f"{flag} exists for Gaussian units, this model's are {model.latent}: {reason}; leave it out"
            )


def jackknife_section(model, x: np.ndarray, settings: ScoringConfig, verbose: int) -> dict:
    """Returns the mean of L_k and its corrections of order 1 and 2, from the samples of the estimate."""
    begin, number = time.perf_counter(), len(x) * settings.num_samples
    with progress_bar("jackknife", number, "sample", verbose, unit_scale=True) as bar:
        found = evaluation.jackknife_log_likelihood(model, x, settings.num_samples, settings.seed, progress=bar.update)
    return {
        "num_samples": settings.num_samples,
        "log_likelihood": {str(order): float(values.mean()) for order, values in found.estimates.items()},
        "monte_carlo_error": {str(order): monte_carlo_error(e) for order, e in found.standard_errors.items()},
        "seconds": round(time.perf_counter() - begin, 3),
    }


def annealed_section(model, x: np.ndarray, estimate: LikelihoodEstimate, settings: ScoringConfig, verbose: int) -> dict:
    """Returns annealed importance sampling of the first images, and its gap on simulated images."""
    number, begin = min(settings.annealed, len(x)), time.perf_counter()
    x, importance = x[:number], estimate.log_likelihood[:number]
    found = _with_bar(
        "annealing",
        verbose,
        lambda p: evaluation.annealed_log_likelihood(model, x, seed=settings.seed, progress=p),
    )
    middle = time.perf_counter()
    bounds = _with_bar(
        "certifying",
        verbose,
        lambda p: evaluation.bidirectional_bounds(model, number, seed=settings.seed, progress=p),
    )
    return {
        "num_images": number,
        "log_likelihood": float(found.log_likelihood.mean()),
        "importance_sampling": float(importance.mean()),
        "above_importance_sampling": float((found.log_likelihood - importance).mean()),
        "monte_carlo_error": monte_carlo_error(found.standard_error),
        "acceptance": float(found.acceptance.mean()),
        "seconds": round(middle - begin, 3),
        "simulated": {
            "lower": float(bounds.lower.mean()),
            "upper": float(bounds.upper.mean()),
            "gap": float(bounds.gap.mean()),
            "gap_standard_error": standard_error_of_mean(bounds.gap),
            "seconds": round(time.perf_counter() - middle, 3),
        },
    }


def pruned_section(
    model, x: np.ndarray, estimate: LikelihoodEstimate, activities: tuple, settings: ScoringConfig, verbose: int
) -> dict:
    """Returns log p(x) without the inactive units."""
    smaller = evaluation.pruned(model, activities)
    with progress_bar("pruned", len(x), "image", verbose) as bar:
        again = evaluation.estimate_log_likelihood(smaller, x, settings.num_samples, settings.seed, progress=bar.update)
    full = estimate.bounds[settings.num_samples]
    moved = again.log_likelihood - full
    return {
        "units": list(model.latent_units),
        "units_left": list(smaller.latent_units),
        "log_likelihood": float(again.log_likelihood.mean()),
        "moved": float(moved.mean()),
        "moved_standard_error": standard_error_of_mean(moved),
    }


def deviation_section(model, x: np.ndarray, estimate: LikelihoodEstimate, settings: ScoringConfig) -> dict:
    """Returns the mean absolute deviation of single estimates of L_50 of the first images, and its bound."""
    x, best = x[:DEVIATION_IMAGES], estimate.log_likelihood[:DEVIATION_IMAGES]
    found = evaluation.deviation(model, x, DEVIATION_K, DEVIATION_ESTIMATES, best, settings.seed)
    return {
        "k": found.k,
        "num_estimates": found.num_estimates,
        "num_images": len(x),
        "mean_absolute_deviation": float(found.mean_absolute_deviation.mean()),
        "bound": float(found.bound.mean()),
        "images_above_their_bound": int((found.mean_absolute_deviation > found.bound).sum()),
    }


def gap_section(
    model, x_train: np.ndarray, estimate: LikelihoodEstimate, settings: ScoringConfig, verbose: int
) -> dict:
    """Returns log p(x) of as many training images under the same settings."""
    x = x_train[: len(estimate.log_likelihood)]
    with progress_bar("training images", len(x), "image", verbose) as bar:
        train = evaluation.estimate_log_likelihood(model, x, settings.num_samples, settings.seed, progress=bar.update)
    same = estimate.bounds[settings.num_samples]
    errors = standard_error_of_mean(train.log_likelihood), standard_error_of_mean(same)
    return {
        "num_train": len(x),
        "train_log_likelihood": float(train.log_likelihood.mean()),
        "gap": float(train.log_likelihood.mean() - same.mean()),
        "gap_standard_error": float(np.hypot(*errors)),
    }


def _with_bar(name: str, verbose: int, run: Callable):
    """Calls `run` with a progress function that counts steps."""
    with progress_bar(name, None, "step", verbose, unit_scale=True) as bar:
        return run(bar.update)
