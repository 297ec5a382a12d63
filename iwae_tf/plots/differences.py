"""Two models on the same images: by how much one scores each image higher than the other."""

import os

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.plots import panels
from iwae_tf.plots.bounds import INK, LINE


def save_differences(
    path: str | os.PathLike,
    first,
    second,
    names: tuple[str, str],
    interval: tuple[float, float],
    title: str,
    warning: str = "",
) -> None:
    """Writes log p(x) of two models on the same images as one PNG: histogram of A - B, and A against B.

    Args:
        path: the file to write; its folder exists.
        first: log p(x) under A, finite float [N], in nats.
        second: the same under B, of the same images in the same order.
        names: what A and B are called.
        interval: 95% interval of the mean difference, in nats; NaN where it is not known.
        title: the first line.
        warning: what must not be overlooked, above the title.

    Raises:
        InputError: the shapes differ or are not [N], N >= 1, or a value is not finite.
    """
    panels.write(differences_figure(first, second, names, interval, title, warning), path)


def differences_figure(first, second, names, interval, title: str, warning: str = "") -> Figure:
    """The figure that `save_differences` writes; arguments and errors as there."""
    first, second = (np.asarray(values, np.float64) for values in (first, second))
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise InputError(f"two models need a score each for the same images, got {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("scores that are not finite have no difference; leave these images out of both")
    notes = [f"A: {names[0]}", f"B: {names[1]}", _note(first, second)]
    figure = panels.page(title, notes, warning)
    middle = (panels.LEFT + panels.RIGHT) / 2 + 40
    left = panels.panel(figure, (panels.LEFT, panels.BOTTOM, middle - 60, panels.TOP), "A − B (nats)", "images")
    _draw_histogram(left, first - second, interval)
    box = (middle + 20, panels.BOTTOM, middle + 20 + panels.TOP - panels.BOTTOM, panels.TOP)
    right = panels.panel(figure, box, "log p(x) under B (nats)", "log p(x) under A (nats)")
    _draw_scatter(right, first, second)
    return figure


def _note(first, second) -> str:
    better, total = int((first > second).sum()), len(first)
    return (
        "left: thick line the mean of A − B, band its 95% interval, dashed no difference; right: above the dashed line "
        f"A is better, {better:,} of {total:,} images ({panels.percent(better, total)})"
    )


def _draw_histogram(axes, differences, interval) -> None:
    bins = panels.number_of_bins(differences)
    axes.hist(differences, bins, color=panels.FILL, edgecolor=LINE, linewidth=0.8, zorder=1)
    axes.axvline(0.0, color=INK, linewidth=1.2, linestyle=(0, (6, 3)), zorder=2)
    if np.isfinite(interval).all():
        axes.axvspan(*interval, facecolor=panels.ACCENT, alpha=0.35, linewidth=0, zorder=3)
    axes.axvline(differences.mean(), color=panels.ACCENT, linewidth=1.8, zorder=4)


def _draw_scatter(axes, first, second) -> None:
    """One point an image, in a square where the diagonal means no difference."""
    low, high = min(first.min(), second.min()), max(first.max(), second.max())
    room = max(0.04 * (high - low), 0.1)
    limits = (low - room, high + room)
    size, opacity = (16, 0.6) if len(first) <= 1000 else (6, 0.25)
    axes.scatter(second, first, s=size, color=LINE, alpha=opacity, linewidths=0, zorder=2)
    axes.plot(limits, limits, color=INK, linewidth=1.2, linestyle=(0, (6, 3)), zorder=3)
    axes.set(xlim=limits, ylim=limits)
    axes.locator_params(nbins=6)
