"""The bound L_k as it rises with k: how far log p(x) still is, and how far the last estimate can be trusted."""

import math
import os

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from iwae_tf.errors import InputError

DPI = 100
INK, QUIET, FAINT, LINE = "#202020", "#606060", "#e4e4e4", "#1b6ca8"
AWAY = 8  # distance in output pixels between a point and its value
# The paper behind a word hides the grid's lines, not the curve.
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
WORDS = {"textcoords": "offset pixels", "color": INK, "fontsize": 9.5, "bbox": PAPER, "zorder": 1}
# Where a value may stand, first choice first: (1, -1) is to the lower right of its point, (0, 1) above its bar.
# A rising curve leaves the lower right and the upper left of its points free.
PLACES = [(1, -1), (-1, 1), (0, 1), (0, -1), (1, 1), (-1, -1), (0, 3), (0, -3), (1, -3), (-1, 3), (0, 5), (0, -5)]


def save_bounds(
    path: str | os.PathLike, bounds: dict[int, float], standard_errors: dict[int, float], title: str
) -> None:
    """Writes L_k against k as one PNG.

    Args:
        path: the file to write; its folder exists.
        bounds: k -> mean of L_k over the test set, in nats; one k or more.
        standard_errors: the same k -> standard error of that mean, in nats; nan or inf where it is not known.
        title: the line above.

    Raises:
        InputError: there is no k, a k is below 1, a bound is not finite, or the standard errors are of other k.
    """
    bounds_figure(bounds, standard_errors, title).savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def bounds_figure(bounds: dict[int, float], standard_errors: dict[int, float], title: str) -> Figure:
    """The figure that `save_bounds` writes; arguments and errors as there."""
    ks, means, errors = check_bounds(bounds, standard_errors)
    figure = Figure(figsize=(10, 5.4), dpi=DPI)
    axes = figure.add_axes((0.085, 0.115, 0.895, 0.76))
    set_limits(axes, ks, means, errors)
    style(axes, ks, title)
    axes.plot(ks, means, color=LINE, linewidth=1.8, marker="o", markersize=5.5, zorder=3)
    if errors.any():
        axes.errorbar(ks, means, yerr=errors, fmt="none", ecolor=LINE, elinewidth=1.1, capsize=4, alpha=0.55, zorder=2)
        caption = "bars: one standard error either way"
        figure.text(0.98, 0.042, caption, ha="right", va="baseline", color=QUIET, fontsize=9)
    label_ends(axes, ks, means)
    label_between(axes, ks, means, errors)
    return figure


def check_bounds(bounds: dict[int, float], standard_errors: dict[int, float]):
    """Returns k, bounds and standard errors (0 where not known), float [K] in the order of k; raises `InputError`."""
    if not bounds or sorted(bounds) != sorted(standard_errors):
        raise InputError(
            f"a bound and a standard error are needed for one k or more, got bounds for k = {sorted(bounds)} "
            f"and standard errors for k = {sorted(standard_errors)}"
        )
    ks = np.array(sorted(bounds), dtype=np.float64)
    means, errors = (np.array([values[k] for k in sorted(bounds)], np.float64) for values in (bounds, standard_errors))
    if ks[0] < 1 or not np.isfinite(means).all():
        raise InputError(f"every k must be at least 1 and every bound finite, got {bounds}")
    return ks, means, np.nan_to_num(errors, posinf=0.0)


def set_limits(axes, ks, means, errors) -> None:
    """Leaves room on the left and on the right for the words at the two ends, and above and below for the bars."""
    span = max(math.log(ks[-1] / ks[0]), math.log(2.0))
    axes.set_xscale("log")
    axes.set_xlim(ks[0] * math.exp(-0.27 * span), ks[-1] * math.exp(0.29 * span))
    low, high = (means - errors).min(), (means + errors).max()
    room = max(0.14 * (high - low), 0.15)  # at least 0.3 nats in all, or noise would look like a finding
    axes.set_ylim(low - room, high + room)


def style(axes, ks, title: str) -> None:
    """Ticks exactly at the k there are, faint horizontal lines, the words of both axes and the title."""
    axes.set_xticks(ks, [f"{k:.0f}" for k in ks])
    axes.minorticks_off()
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelsize=9.5)
    axes.set_xlabel("k, samples per image (log scale)", color=INK, fontsize=10.5)
    # Level, above the axis: read without turning the head, and never in the way of long numbers.
    axes.set_ylabel("mean $L_k$ on the test set (nats)", color=INK, fontsize=10.5, rotation=0, ha="left", va="bottom")
    axes.yaxis.set_label_coords(0.0, 1.02)
    axes.set_title(title, loc="left", color=INK, fontsize=12, pad=30, parse_math=False)


def words(value: float) -> str:
    """A bound as it is written beside its point, with a true minus sign."""
    return f"{value:.2f}".replace("-", "−")


def label_ends(axes, ks, means) -> None:
    """The value and the meaning of the first and the last point, outside the curve where nothing else is."""
    note = {"va": "center", "linespacing": 1.35, **WORDS}
    first = "\nVAE bound (ELBO)" if ks[0] == 1 else "\nestimate of log p(x)" if len(ks) == 1 else ""
    axes.annotate(words(means[0]) + first, (ks[0], means[0]), xytext=(-AWAY, 0), ha="right", **note)
    if len(ks) > 1:
        last = words(means[-1]) + "\nestimate of log p(x)"
        axes.annotate(last, (ks[-1], means[-1]), xytext=(AWAY, 0), ha="left", **note)


def label_between(axes, ks, means, errors) -> None:
    """The values of all other points, each at the first of `PLACES` that nothing else occupies."""
    taken = occupied(axes, ks, means, errors)
    for k, mean, error in zip(ks[1:-1], means[1:-1], errors[1:-1], strict=True):
        choices = []
        for right, up in PLACES:
            align = {"ha": ("center", "left", "right")[right], "va": "bottom" if up > 0 else "top"}
            anchor = mean if right else mean + error * np.sign(up)
            note = axes.annotate(words(mean), (k, anchor), xytext=(AWAY * right, AWAY * up), **align, **WORDS)
            box = note.get_window_extent().padded(2)
            note.remove()
            choices.append((sum(box.overlaps(other) for other in taken), len(choices), note, box))
        _, _, note, box = min(choices, key=lambda choice: choice[:2])
        axes.add_artist(note)
        taken.append(box)


def occupied(axes, ks, means, errors) -> list[Bbox]:
    """Boxes in output pixels around the curve in short pieces, its points, its bars and the words there are."""
    points = axes.transData.transform(np.stack([ks, means], axis=-1))
    places = np.linspace(0, len(ks) - 1, 60 * len(ks))
    curve = np.stack([np.interp(places, range(len(ks)), points[:, axis]) for axis in (0, 1)], axis=-1)
    boxes = [Bbox.from_extents(x - 2, y - 2, x + 2, y + 2) for x, y in curve]
    boxes += [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    ends = [axes.transData.transform(np.stack([ks, means + sign * errors], axis=-1)) for sign in (-1, 1)]
    boxes += [Bbox.from_extents(x - 5, y - 2, x + 5, y + 2) for x, y in np.concatenate(ends)]
    boxes += [Bbox.from_extents(x - 1, low, x + 1, high) for (x, low), (_, high) in zip(*ends, strict=True)]
    return boxes + [text.get_window_extent() for text in axes.texts]
