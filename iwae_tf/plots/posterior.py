"""The posterior of a model with two units in its top layer: the target, the approximation q, and resampled draws."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.plots import style
from iwae_tf.plots.image_grid import as_grey, as_pictures

MAX_ROWS = 6
REACH, COARSE, FINE = 6.0, 121, 160  # half-width and points a side of the grid that finds the window; of the panels
DEPTH = 6.0  # nats below its peak where a density ends: 2-D Gaussians have 0.25% of their mass beyond
CHUNK = 2000  # points of the grid that pass through the network together
SHADES = LinearSegmentedColormap.from_list("density", ["white", "#9cc4e4", style.LINE, "#0b2f4d"])
MASSES = (0.5, 0.95)  # enclosed by the contour lines
WIDTH, ROW = 900, 270  # of the figure; of a row of panels


def posteriors_figure(
    model, x, draws, image_shape: tuple[int, ...] | None, of: str = "test images", seed: int = 0
) -> Figure:
    """Draws three panels for each of the first 6 rows of x, all about the top layer's two units.

    Left: the posterior p(h | x), p(x, h) on a grid divided by its sum; with several layers, where it has no such form,
    the prior p(h). Middle: q(h | x); with several layers the mean of q(h | h below) over 200 draws. Right: the `draws`.
    The lines hold 50% and 95% of the mass of the left panel. The panels of a row share their axes.

    Args:
        model: an `iwae_tf.IWAE` with two Gaussian units in its only or top layer.
        x: [N, D], N >= 1.
        draws: float [n, N, 2], draws from the posterior: the last of `iwae_tf.evaluation.posterior_samples`.
        image_shape: (height, width) with height * width = D, or (height, width, 3); None for rows that are no images,
            which are numbered.
        of: name of the rows for the title, e.g. "400 test images".
        seed: seed of the draws of the layers below.

    Raises:
        InputError: the model has other units or another number of them, a shape does not fit, or x has other values.
    """
    from iwae_tf.models.checks import check_gaussian

    check_gaussian(model, "the figure of the posterior", "two units that are 0 or 1 have no density to draw")
    if model.latent_units[-1] != 2:
        raise InputError(f"posteriors are drawn for 2 units in the top layer, got {model.latent_units[-1]}")
    draws = np.asarray(draws, np.float64)
    if draws.ndim != 3 or draws.shape[1:] != (len(x), 2) or len(draws) == 0 or not np.isfinite(draws).all():
        raise InputError(f"draws must be finite numbers [n, {len(x)}, 2], n >= 1, got shape {draws.shape}")
    x, draws = np.asarray(model.checked(x[:MAX_ROWS])), draws[:, :MAX_ROWS]
    pictures = None
    if image_shape is not None:
        pictures = as_pictures(as_grey(x, x) if model.columns else x, image_shape, "x")
    target = "p(h | x)" if len(model.latent_units) == 1 else "prior p(h)"
    note = f"lines: 50% and 95% of the mass of {target}; axes: the two units of h, each row on its own scale"
    figure = style.page(f"{target} and q(h | x), first {len(x)} of {of}", [note], width=WIDTH, height=ROW * len(x))
    grid = figure.subplots(len(x), 4, squeeze=False, width_ratios=(0.45, 1, 1, 1))
    for row, (left, *panels) in enumerate(grid):
        window, p, q = densities(model, x, row, draws[:, row], seed)
        if pictures is None:
            left.text(0.5, 0.5, f"row {row}", color=style.INK, fontsize=style.TEXT, ha="center", va="center")
        else:
            left.imshow(pictures[row], cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
        left.set_axis_off()
        for axes, mass in zip(panels, (p, q, None), strict=True):
            _draw_panel(axes, window, mass, p, draws[:, row])
    for axes, name in zip(grid[0, 1:], (target, "q(h | x)", "draws of q, resampled"), strict=True):
        axes.set_title(name, color=style.INK, fontsize=style.TEXT, parse_math=False)
    return figure


def _draw_panel(axes, window, mass, target, points) -> None:
    """Draws a density, or the points if `mass` is None, below the contour lines of the target."""
    if mass is None:
        axes.scatter(points[:, 0], points[:, 1], s=6, color=style.LINE, alpha=0.35, linewidths=0)
    else:
        axes.imshow(mass, extent=window, origin="lower", cmap=SHADES, vmin=0.0, interpolation="nearest")
    levels = contour_levels(target)
    if levels:
        across, up = (_centers(window[i : i + 2], len(target)) for i in (0, 2))
        axes.contour(across, up, target, levels=levels, colors=[style.INK], linewidths=0.7)
    axes.set(xlim=window[:2], ylim=window[2:], aspect="equal")
    axes.locator_params(nbins=4)
    axes.tick_params(colors=style.QUIET, labelsize=style.SMALL, length=2)
    axes.spines[:].set_color(style.QUIET)


def contour_levels(mass: np.ndarray) -> list[float]:
    """Returns the masses of a cell above which lie 95% and 50% of all mass, rising; those that a line can follow."""
    falling = np.sort(mass, axis=None)[::-1]
    levels = [falling[np.searchsorted(np.cumsum(falling), share)] for share in MASSES]
    return [float(level) for level in np.unique(levels) if falling[-1] < level < falling[0]]


def densities(model, x: np.ndarray, row: int, draws: np.ndarray, seed: int = 0):
    """Returns the window (left, right, bottom, top) of row `row`, and the masses of target and q in its cells.

    The masses are [G, G] with the second unit first, each with the sum 1.
    """
    conditions = _conditions(model, x[row : row + 1], seed + row)

    def log_densities(grid):
        return _log_target(model, x[row : row + 1], grid), _log_q(model, conditions, grid)

    coarse = _grid((-REACH, REACH, -REACH, REACH), COARSE)
    points = np.concatenate([*(coarse[log > log.max() - DEPTH] for log in log_densities(coarse)), draws])
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, (high - low).max() / 2 + 2 * REACH / COARSE  # a square, one coarse cell wider
    window = (middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half)
    masses = [np.exp(log - log.max()).reshape(FINE, FINE) for log in log_densities(_grid(window, FINE))]
    return window, *(mass / mass.sum() for mass in masses)


def _centers(ends, cells: int) -> np.ndarray:
    """Returns the middles of `cells` equal intervals between two ends."""
    return ends[0] + (np.arange(cells) + 0.5) * (ends[1] - ends[0]) / cells


def _grid(window, cells: int) -> np.ndarray:
    """Returns the middles of the cells, the first unit changing fastest: float32 [cells^2, 2]."""
    across, up = np.meshgrid(_centers(window[:2], cells), _centers(window[2:], cells))
    return np.stack([across.ravel(), up.ravel()], axis=1).astype(np.float32)


def _conditions(model, x: np.ndarray, seed: int) -> np.ndarray:
    """Returns the input of q's top layer for x [1, D]: x itself, or 200 draws of the layer below, [200, H]."""
    if len(model.latent_units) == 1:
        return x
    noise = np.random.default_rng(seed).standard_normal((200, 1, sum(model.latent_units)), np.float32)
    h, _ = model.inference_network.transform(x, noise)
    return h[-2][:, 0].numpy()


def _log_target(model, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Returns log p(x, h) with one layer, else log p(h): x [1, D], grid [P, 2] -> float64 [P]."""
    if len(model.latent_units) > 1:
        return model.generative_network.prior.log_prob(grid).numpy().astype(np.float64)
    chunks = [grid[start : start + CHUNK, None] for start in range(0, len(grid), CHUNK)]  # [c, 1, 2]
    log_p = [model.generative_network.log_prob(x, (chunk,)).numpy()[:, 0] for chunk in chunks]
    return np.concatenate(log_p, dtype=float)


def _log_q(model, conditions: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Returns the log of the mean of q(h | condition) over conditions [K, H]: grid [P, 2] -> float64 [P]."""
    stage = model.inference_network.stages[-1]
    parameters = stage(conditions)  # loc and log_scale, [K, 2]
    spread = parameters._replace(loc=parameters.loc[:, None], log_scale=parameters.log_scale[:, None])
    log_q = stage.head.log_prob(spread, grid).numpy().astype(np.float64)  # [K, P]
    return np.logaddexp.reduce(log_q, axis=0) - np.log(len(log_q))
