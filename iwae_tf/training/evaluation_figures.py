"""The figures of an evaluation."""

from pathlib import Path

import numpy as np

from iwae_tf import evaluation, plots
from iwae_tf.evaluation.log_likelihood import LikelihoodEstimate

POSTERIOR_IMAGES = 4


def draw(
    folder: Path, x: np.ndarray, image_shape: tuple, estimate: LikelihoodEstimate, activities: tuple, title: str
) -> None:
    """Writes the figures that every evaluation has.

    Args:
        folder: where they go.
        x: the scored images, [N, D].
        image_shape: (height, width).
        estimate: their scores.
        activities: variance of the posterior mean of each unit, one array a layer.
        title: the line above each.
    """
    log_p = estimate.log_likelihood
    plots.save_bounds(folder / "bounds.png", estimate.mean_bounds, estimate.bound_standard_errors, title)
    plots.save_scores(folder / "scores.png", log_p, title)
    plots.save_reliability(folder / "reliability.png", log_p, estimate.pareto_k, title)
    plots.save_extremes(folder / "extremes.png", x, log_p, image_shape, title)
    plots.save_activities(folder / "activities.png", activities, title)


def draw_posteriors(folder: Path, model, x: np.ndarray, image_shape: tuple, num_samples: int, title: str) -> None:
    """Writes the posterior of a few images, for models whose top layer has two Gaussian units."""
    x = x[:POSTERIOR_IMAGES]
    draws = evaluation.posterior_samples(model, x, 500, num_samples)[-1]
    plots.save_posteriors(folder / "posteriors.png", model, x, draws.numpy(), image_shape, title)
