"""How log p(x) is spread over the images of a data set."""

import os

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.plots import panels
from iwae_tf.plots.bounds import INK, LINE, words

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
STRIP = 30  # height of the box above the histogram, in output pixels


def save_scores(path: str | os.PathLike, log_likelihood, title: str) -> None:
    """Writes a histogram of log p(x) per image as one PNG, with the mean and quantiles in a box above it.

    Args:
        path: the file to write; its folder exists.
        log_likelihood: float [N], in nats; values that are not finite are left out and counted in the heading.
        title: the first line.

    Raises:
        InputError: there is no finite value, or the shape is another.
    """
    panels.write(scores_figure(log_likelihood, title), path)


def scores_figure(log_likelihood, title: str) -> Figure:
    """The figure that `save_scores` writes; arguments and errors as there."""
    values, left_out = panels.finite(log_likelihood, "log_likelihood")
    mean, quantiles = values.mean(), np.quantile(values, QUANTILES)
    figure = panels.page(title, _notes(values, left_out, mean, quantiles))
    box = (panels.LEFT, panels.BOTTOM, panels.RIGHT, panels.TOP - STRIP - 30)
    axes = panels.panel(figure, box, "log p(x) (nats)", "images")
    axes.hist(values, panels.number_of_bins(values), color=panels.FILL, edgecolor=LINE, linewidth=0.8)
    axes.axvline(mean, color=panels.ACCENT, linewidth=1.8)
    inside = axes.transAxes.inverted().transform((0, STRIP))[1] - axes.transAxes.inverted().transform((0, 0))[1]
    strip = axes.inset_axes((0, 1 + inside, 1, inside), sharex=axes)
    _draw_box(strip, mean, quantiles, (values.min(), values.max()))
    return figure


def _notes(values, left_out: int, mean: float, quantiles) -> list[str]:
    error = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.2f}" if len(values) > 1 else ""
    q5, q25, median, q75, q95 = map(words, quantiles)
    notes = [
        f"{len(values):,} images; mean {words(mean)}{error} (thick line, diamond), median {median} (line in the box)",
        f"half of all from {q25} to {q75} (box), nine tenths from {q5} to {q95} (whiskers), all from "
        f"{words(values.min())} to {words(values.max())} (dots)",
    ]
    if left_out:
        notes.append(f"NOT SHOWN and not in the mean, as their score is not finite: {left_out:,}")
    return notes


def _draw_box(axes, mean: float, quantiles, ends) -> None:
    """Ends, whiskers, box, median and mean in a strip without axes of its own."""
    q5, q25, median, q75, q95 = quantiles
    axes.set_ylim(-1, 1)
    axes.axis("off")
    axes.plot(ends, [0, 0], color=LINE, linestyle="none", marker="o", markersize=4)
    axes.plot([q5, q95], [0, 0], color=LINE, linewidth=1.4, zorder=1)
    for end in (q5, q95):
        axes.plot([end, end], [-0.4, 0.4], color=LINE, linewidth=1.4)
    axes.fill_between([q25, q75], -0.8, 0.8, facecolor=panels.FILL, edgecolor=LINE, zorder=2)
    axes.plot([median, median], [-0.8, 0.8], color=INK, linewidth=1.6, zorder=3)
    axes.plot([mean], [0], color=panels.ACCENT, marker="D", markersize=6, zorder=4)
