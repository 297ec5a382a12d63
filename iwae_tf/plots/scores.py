"""Scores of rows: the spread of log p(x), and how far each score can be trusted."""

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.plots import style
from iwae_tf.words import percent

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
VARIANCE_LIMIT, TRUST_LIMIT = 0.5, 0.7  # above: standard errors are too small; above: scores are unreliable


def scores_figure(log_likelihood, of: str = "test data") -> Figure:
    """Draws a histogram of log p(x) with its mean and quantiles.

    Args:
        log_likelihood: float [N], in nats; values that are not finite are left out and counted in the heading.
        of: name of the rows for the title, e.g. "400 test images".

    Raises:
        InputError: no value is finite, or the shape is not [N].
    """
    values, left_out = style.finite(log_likelihood, "log_likelihood")
    mean, quantiles = values.mean(), np.quantile(values, QUANTILES)
    q5, q25, median, q75, q95 = map(style.number, quantiles)
    error = f" ± {style.number(values.std(ddof=1) / np.sqrt(len(values)))}" if len(values) > 1 else ""
    notes = [
        f"{len(values):,} scores; thick line: mean {style.number(mean)}{error}; dashed: median {median}",
        f"bands: half of the scores from {q25} to {q75}, nine tenths from {q5} to {q95}; "
        f"all from {style.number(values.min())} to {style.number(values.max())}",
    ]
    if left_out:
        notes.append(f"NOT SHOWN and not in the mean, because their score is not finite: {left_out:,}")
    figure = style.page(f"log p(x) of {of}", notes)
    (axes,) = style.panels(figure, [("log p(x) (nats)", "number of scores")])
    axes.hist(values, style.number_of_bins(values), color=style.FILL, edgecolor=style.LINE, linewidth=0.8, zorder=2)
    for low, high, shade in ((0, 4, "#f7efe8"), (1, 3, "#efdccd")):
        axes.axvspan(quantiles[low], quantiles[high], color=shade, linewidth=0, zorder=0)
    axes.axvline(quantiles[2], color=style.INK, linewidth=1.2, linestyle=style.DASHED, zorder=3)
    axes.axvline(mean, color=style.ACCENT, linewidth=2, zorder=3)
    return figure


def reliability_figure(log_likelihood, pareto_k, of: str = "test data") -> Figure:
    """Draws Pareto k-hat against log p(x), one point a score; values that are not finite stand at the border.

    Args:
        log_likelihood: float [N], in nats.
        pareto_k: float [N]; NaN (unknown), inf and -inf as `iwae_tf.weight_statistics.pareto_shape` returns them.
        of: name of the rows for the title, e.g. "400 test images".

    Raises:
        InputError: the shapes differ or are not [N], N >= 1.
    """
    scores, shapes = (np.asarray(values, np.float64) for values in (log_likelihood, pareto_k))
    if scores.ndim != 1 or scores.shape != shapes.shape or not len(scores):
        raise InputError(
            f"log_likelihood and pareto_k must both be [N] with N >= 1, got {scores.shape} and {shapes.shape}"
        )
    figure = style.page(f"Pareto k-hat of {of}", _notes(scores, shapes))
    (axes,) = style.panels(figure, [("log p(x) (nats)", "Pareto k-hat")])
    known, kinds = np.isfinite(scores), (np.isnan(shapes), np.isposinf(shapes), np.isneginf(shapes))
    low, high = (scores[known].min(), scores[known].max()) if known.any() else (-1.0, 0.0)
    finite = shapes[np.isfinite(shapes)]
    bottom, top = min(0.0, finite.min(initial=0.0)), max(1.0, finite.max(initial=1.0))
    x = np.where(known, scores, low - max(0.06 * (high - low), 1.0))
    y = np.select(kinds, [top + 0.16 * (top - bottom), top + 0.08 * (top - bottom), bottom - 0.1], shapes)
    marker = np.select([~known, *kinds], ["<", "x", "^", "v"], "o")
    crowded = len(x) > 1000
    for shape in np.unique(marker):
        plain, shown = shape == "o", marker == shape
        look = {"s": (8 if crowded else 22) if plain else 40, "color": style.LINE if plain else style.ACCENT}
        look |= {"alpha": (0.35 if crowded else 0.7) if plain else 0.8, "linewidths": 1.2 if shape == "x" else 0}
        axes.scatter(x[shown], y[shown], marker=shape, zorder=3, rasterized=crowded, **look)
    for limit, line in ((VARIANCE_LIMIT, (0, (2, 3))), (TRUST_LIMIT, style.DASHED)):
        axes.axhline(limit, color=style.INK, linewidth=1.2, linestyle=line, zorder=4)
    return figure


def _notes(scores, shapes) -> list[str]:
    def above(limit: float) -> str:
        count = int((shapes > limit).sum())
        return f"above {limit:g}: {count:,} of {len(shapes):,} scores ({percent(count / len(shapes))})"

    notes = [
        f"dashed: {above(TRUST_LIMIT)}, more samples hardly help",
        f"dotted: {above(VARIANCE_LIMIT)}, infinite variance",
    ]
    kinds = {
        "crosses: k-hat unknown": np.isnan(shapes),
        "triangles at the top: k-hat is inf": np.isposinf(shapes),
        "triangles at the bottom: k-hat is −inf": np.isneginf(shapes),
        "triangles at the left: score not finite": ~np.isfinite(scores),
    }
    border = [f"{kind}, {int(found.sum()):,}" for kind, found in kinds.items() if found.any()]
    return [*notes, "; ".join(border)] if border else notes
