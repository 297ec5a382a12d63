"""What the plots of an evaluation share: a page with a heading in words, and axes in one style.

All that a legend would say stands in the heading, where it covers no data. Lengths are in output pixels.
"""

import os
import textwrap

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.plots.bounds import DPI, FAINT, INK, QUIET

WIDTH, BODY = 1000, 450  # of the page; of all below the heading
LEFT, RIGHT, BOTTOM, TOP = 70, 980, 62, 415  # of the panels, from the left and from below
MARGIN, ROW = 20, 19  # left and right of the heading; height of a line of it
ACCENT = "#c04a00"  # with LINE told apart by all eyes, and darker than LINE's fill in print
FILL = "#a9cbe3"


def page(title: str, notes: list[str], warning: str = "") -> Figure:
    """An empty figure with a heading: the warning if there is one, the title, and a note for each line beneath."""
    figure = Figure(figsize=(WIDTH / DPI, 1), dpi=DPI)
    texts = [(warning, {"fontsize": 11, "color": ACCENT, "fontweight": "bold"})] if warning else []
    texts += [(title, {"fontsize": 12, "color": INK})]
    texts += [(note, {"fontsize": 9.5, "color": QUIET}) for note in notes]
    lines = [(line, style) for text, style in texts for line in _wrapped(figure, text, style)]
    height = BODY + 14 + ROW * len(lines)
    figure.set_size_inches(WIDTH / DPI, height / DPI)
    for number, (line, style) in enumerate(lines):
        y = 1 - (12 + ROW * (number + 0.5)) / height
        figure.text(MARGIN / WIDTH, y, line, va="center", parse_math=False, **style)
    return figure


def _wrapped(figure: Figure, text: str, style: dict) -> list[str]:
    """The text in lines that fit between the margins, by their measured width."""
    for columns in range(160, 20, -4):
        lines = textwrap.wrap(text, columns) or [""]
        trials = [figure.text(0, 0, line, parse_math=False, **style) for line in lines]
        widest = max(trial.get_window_extent().width for trial in trials)
        for trial in trials:
            trial.remove()
        if widest <= WIDTH - 2 * MARGIN:
            break
    return lines


def panel(figure: Figure, box: tuple[float, float, float, float], x_label: str, y_label: str):
    """Axes at (left, bottom, right, top) pixels of the page, their words in place; returns them."""
    left, bottom, right, top = box
    height = figure.get_figheight() * DPI
    axes = figure.add_axes((left / WIDTH, bottom / height, (right - left) / WIDTH, (top - bottom) / height))
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelsize=9.5)
    axes.set_xlabel(x_label, color=INK, fontsize=10.5, parse_math=False)
    axes.set_ylabel(y_label, color=INK, fontsize=10.5, rotation=0, ha="left", va="bottom", parse_math=False)
    axes.yaxis.set_label_coords(0.0, 1.015)
    return axes


def write(figure: Figure, path: str | os.PathLike) -> None:
    """Writes the figure as PNG; the same figure gives the same bytes."""
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def number_of_bins(values: np.ndarray) -> int:
    """Bins of a histogram of float [N]: their width is that of N^(1/3) bins over the middle nine tenths.

    Taken over all values, one that lies far out would leave the others in a single bin.
    """
    low, high = np.quantile(values, (0.05, 0.95))
    width = (high - low) / len(values) ** (1 / 3)
    return int(np.clip(np.ptp(values) / width, 8, 120)) if width > 0 else 8


def finite(values, name: str) -> tuple[np.ndarray, int]:
    """The finite ones of float [N] and the count of all others; raises `InputError` if there is none or no axis."""
    values = np.asarray(values, np.float64)
    kept = values[np.isfinite(values)]
    if values.ndim != 1 or not len(kept):
        raise InputError(f"{name} must be [N] with at least one finite value, got {len(kept)} in {values.shape}")
    return kept, len(values) - len(kept)


def percent(count: int, total: int) -> str:
    """A share in words: one decimal, and never 0.0% or 100.0% of what is some but not all."""
    share = 100 * count / total
    if 0 < count < total:
        share = min(max(share, 0.1), 99.9)
    return f"{share:.1f}%"
