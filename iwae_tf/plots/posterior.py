"""The posterior of a model with two latent units: what it is, what q makes of it, and what resampling mends."""

import os

import numpy as np
import tensorflow as tf
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.layers.gaussian import GaussianParameters
from iwae_tf.layers.registry import check_gaussian
from iwae_tf.models.evaluation_noise import evaluation_noise
from iwae_tf.numerics import log_mean_exp
from iwae_tf.plots.bounds import DPI, INK, LINE, QUIET
from iwae_tf.plots.image_grid import as_pictures

MAX_IMAGES = 6
REACH, COARSE, FINE = 6.0, 121, 160  # half-width and points a side of the grid that finds the window; of the panels
DEPTH = 6.0  # nats below its peak where a density ends: 2-D Gaussians have 0.25 % of their mass beyond
CHUNK = 2000  # points of the grid that go through the network together
SHADES = LinearSegmentedColormap.from_list("density", ["white", "#9cc4e4", LINE, "#0b2f4d"])
MASSES = (0.5, 0.95)  # enclosed by the lines
SIDE, LEFT, GAP, TOP, BOTTOM = 2.5, 1.55, 0.42, 0.85, 0.5  # inches


def save_posteriors(
    path: str | os.PathLike, model, x, draws, image_shape: tuple[int, int], title: str, seed: int = 0
) -> None:
    """Writes a row of three panels for each of the first 6 images as one PNG, all about the top layer's two units.

    On the left the posterior p(h | x), p(x, h) on a grid divided by its sum; with several layers, where it has no such
    form, the prior p(h). In the middle q(h | x); with several layers the mean of q(h | h below) over 200 draws. On the
    right the `draws`. The lines hold 50 % and 95 % of the mass of the left panel. A row's panels share their axes.

    Args:
        path: the file to write; its folder exists.
        model: an `iwae_tf.IWAE` with two Gaussian units in its only or top layer.
        x: [N, D] in [0, 1], N >= 1.
        draws: float [n, N, 2], draws from the posterior: the last of `iwae_tf.evaluation.posterior_samples`.
        image_shape: (height, width) with height * width = D.
        title: the line above.
        seed: seed of the draws of the layers below.

    Raises:
        InputError: the model has other units or another number of them, a shape does not fit, or x has other values.
    """
    check_gaussian(model.latent, "the figure of the posterior", "two units that are 0 or 1 have no density to draw")
    if model.latent_units[-1] != 2:
        raise InputError(f"posteriors are drawn for 2 units in the top layer, got {model.latent_units[-1]}")
    draws = np.asarray(draws, np.float64)
    if draws.ndim != 3 or draws.shape[1:] != (len(x), 2) or len(draws) == 0 or not np.isfinite(draws).all():
        raise InputError(f"draws must be finite numbers [n, {len(x)}, 2], n >= 1, got shape {draws.shape}")
    x, draws = np.asarray(model.checked(x[:MAX_IMAGES])), draws[:, :MAX_IMAGES]
    pictures = as_pictures(x, image_shape, "x")
    rows = [(picture, *_densities(model, x, row, draws[:, row], seed)) for row, picture in enumerate(pictures)]
    figure = posteriors_figure(rows, draws, title, "p(h | x)" if len(model.latent_units) == 1 else "prior p(h)")
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def posteriors_figure(rows, draws: np.ndarray, title: str, target: str) -> Figure:
    """The figure that `save_posteriors` writes.

    Args:
        rows: for each image the image [height, width], its window (left, right, bottom, top), and the masses of the
            target and of q in every cell of the window, [G, G] with the second unit first, each with the sum 1.
        draws: float [n, N, 2].
        title: the line above.
        target: what the left panel shows.
    """
    width, height = LEFT + 3 * (SIDE + GAP), TOP + len(rows) * (SIDE + GAP) + BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.text(0.02, 1 - 0.3 / height, title, color=INK, fontsize=12, va="center", parse_math=False)
    note = f"lines: 50 % and 95 % of the mass of {target}; axes: the two units of h, each row to its own scale"
    figure.text(0.98, 0.2 / height, note, color=QUIET, fontsize=9, ha="right", parse_math=False)
    names = (target, "q(h | x)", "draws of q, resampled")
    for number, (picture, window, p, q) in enumerate(rows):
        bottom = BOTTOM + (len(rows) - 1 - number) * (SIDE + GAP) + 0.2
        small = figure.add_axes((0.25 / width, (bottom + SIDE / 2 - 0.45) / height, 0.9 / width, 0.9 / height))
        small.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
        small.set_axis_off()
        for column, name in enumerate(names):
            left = LEFT + column * (SIDE + GAP)
            axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
            _panel(axes, window, (p, q, None)[column], p, draws[:, number])
            if number == 0:
                axes.set_title(name, color=INK, fontsize=10.5, parse_math=False)
    return figure


def _panel(axes, window, mass, target, points) -> None:
    """One density, or the points where `mass` is None, under the lines of the target."""
    if mass is None:
        axes.scatter(points[:, 0], points[:, 1], s=6, color=LINE, alpha=0.35, linewidths=0)
    else:
        axes.imshow(mass, extent=window, origin="lower", cmap=SHADES, vmin=0.0, interpolation="nearest")
    levels = _levels(target)
    if levels:
        across, up = (_centers(window[i : i + 2], len(target)) for i in (0, 2))
        axes.contour(across, up, target, levels=levels, colors=[INK], linewidths=0.7)
    axes.set(xlim=window[:2], ylim=window[2:], aspect="equal")
    axes.locator_params(nbins=4)
    axes.tick_params(colors=QUIET, labelsize=8, length=2)
    axes.spines[:].set_color(QUIET)


def _levels(mass: np.ndarray) -> list[float]:
    """Masses of a cell above which lie 95 % and 50 % of all mass, rising; those that a line can follow."""
    falling = np.sort(mass, axis=None)[::-1]
    levels = [falling[np.searchsorted(np.cumsum(falling), part)] for part in MASSES]
    return [float(level) for level in np.unique(levels) if falling[-1] < level < falling[0]]


def _densities(model, x: np.ndarray, row: int, draws: np.ndarray, seed: int):
    """The window of image `row`, and the masses of target and q in its cells: (l, r, b, t), [G, G], [G, G]."""
    conditions = _conditions(model, x, row, seed)

    def log_densities(grid):
        return _log_target(model, x[row : row + 1], grid), _log_q(model, conditions, grid)

    coarse = _grid((-REACH, REACH, -REACH, REACH), COARSE)
    high = [coarse[log > log.max() - DEPTH] for log in log_densities(coarse)]
    window = _window(np.concatenate([*high, draws]))
    masses = [np.exp(log - log.max()).reshape(FINE, FINE) for log in log_densities(_grid(window, FINE))]
    return window, *(mass / mass.sum() for mass in masses)


def _window(points: np.ndarray) -> tuple[float, float, float, float]:
    """The square around points [n, 2], a cell of the coarse grid wider on all sides: (left, right, bottom, top)."""
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2
    half = (high - low).max() / 2 + 2 * REACH / COARSE
    return (middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half)


def _centers(ends, cells: int) -> np.ndarray:
    """Middles of `cells` equal parts between two ends."""
    return ends[0] + (np.arange(cells) + 0.5) * (ends[1] - ends[0]) / cells


def _grid(window, cells: int) -> np.ndarray:
    """Middles of the cells, the first unit changing fastest: float32 [cells^2, 2]."""
    across, up = np.meshgrid(_centers(window[:2], cells), _centers(window[2:], cells))
    return np.stack([across.ravel(), up.ravel()], axis=1).astype(np.float32)


def _conditions(model, x: np.ndarray, row: int, seed: int) -> tf.Tensor:
    """What the top layer of q sees of image `row`: itself [1, D], or 200 draws of the layer below [200, H]."""
    if len(model.latent_units) == 1:
        return tf.constant(x[row : row + 1])
    noise = evaluation_noise(tf.constant([row]), tf.range(4), tf.constant(seed), sum(model.latent_units))
    h, _ = model.inference_network.transform(tf.constant(x[row : row + 1]), noise)
    return h[-2][:, 0]


def _log_target(model, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """log p(x, h) with one layer, else log p(h): x [1, D], grid [P, 2] -> float64 [P]."""
    if len(model.latent_units) > 1:
        return model.generative_network.prior.log_prob(tf.constant(grid)).numpy().astype(np.float64)
    parts = [grid[start : start + CHUNK, None] for start in range(0, len(grid), CHUNK)]  # [c, 1, 2]
    return np.concatenate([model.generative_network.log_prob(x, (part,)).numpy()[:, 0] for part in parts], dtype=float)


def _log_q(model, conditions: tf.Tensor, grid: np.ndarray) -> np.ndarray:
    """log of the mean over conditions [K, H] of q(h | condition): grid [P, 2] -> float64 [P]."""
    stage = model.inference_network.stages[-1]
    loc, log_scale = stage(conditions)  # [K, 2]
    log_q = stage.head.log_prob(GaussianParameters(loc[:, None], log_scale[:, None]), grid)  # [K, P]
    return log_mean_exp(tf.cast(log_q, tf.float64)).numpy()
