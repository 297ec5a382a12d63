"""Signal-to-noise ratio and variance of the main estimators against k, a column for each network."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.gradient_quality_statistics import has_signal
from iwae_tf.plots import panels
from iwae_tf.plots.bounds import LINE, QUIET

# estimator -> colour and line; told apart by their labels, and by darkness in print
LOOKS = {
    "elbo": (QUIET, (0, (5, 2))),
    "iwae": (panels.ACCENT, "-"),
    "dreg": (LINE, "-"),
    "stl": ("#17909b", "-"),
    "miwae": ("#b07d00", "-"),
    "rws": ("#8a5aa8", "-"),
    "vimco": ("#3d7a3a", "-"),
}
SAME_AS_IWAE = ("dreg", "stl", "rws", "vimco")  # their generative row
GENERATIVE_LABEL = "iwae, dreg,\nstl, rws, vimco"
LABEL_GAP = 15  # pixels between two labels
COLUMNS = (("inference", 70, 455), ("generative", 570, 905))
ROWS = (("SNR", "snr", 470, 800), ("variance", "variance", 62, 392))


def save_gradient_quality(path: Path, rows: list[dict], title: str, notes: list[str]) -> None:
    """Writes the figure as PNG: SNR above, variance below; inference network left, generative right."""
    panels.write(gradient_quality_figure(rows, title, notes), path)


def gradient_quality_figure(rows: list[dict], title: str, notes: list[str]) -> Figure:
    """The figure that `save_gradient_quality` writes.

    Args:
        rows: with `estimator`, `k`, `network`, `snr`, `variance` and their errors.
        title: the first line.
        notes: the lines beneath.
    """
    figure = panels.page(title, notes)
    taller = (ROWS[0][3] - panels.TOP) / 100
    grow(figure, taller)
    for network, left, right in COLUMNS:
        for name, quantity, bottom, top in ROWS:
            label = "k, samples per image (log scale)" if bottom == ROWS[-1][2] else ""
            axes = panels.panel(figure, (left, bottom, right, top), label, f"{name}, {network} network (log scale)")
            _draw(axes, rows, network, quantity)
    return figure


def grow(figure: Figure, inches: float) -> None:
    """Makes the page taller below its heading, which stays as far from the upper edge as it was."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + inches)
    for text in figure.texts:
        text.set_y(1 - (1 - text.get_position()[1]) * height / (height + inches))


def _draw(axes, rows: list[dict], network: str, quantity: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = []
    for name, (color, line) in LOOKS.items():
        own = [row for row in rows if (row["estimator"], row["network"]) == (name, network)]
        kept = [row for row in own if quantity == "variance" or has_signal(row)]
        points = sorted((row["k"], row[quantity], row[f"{quantity}_se"]) for row in kept)
        if not points or (network == "generative" and name in SAME_AS_IWAE):
            continue
        k, value, error = np.array(points).T
        low = np.minimum(error, 0.9 * value)  # a bar that reached 0 would have no end on a log axis
        axes.errorbar(k, value, (low, error), color=color, ls=line, lw=1.6, marker="o", ms=4, elinewidth=1, zorder=3)
        ends.append((k[-1], value[-1], GENERATIVE_LABEL if network == "generative" and name == "iwae" else name, color))
    ks = sorted({row["k"] for row in rows if row["estimator"] in LOOKS})
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.autoscale_view()  # the labels are placed in pixels
    _label(axes, ends)


def _label(axes, ends) -> None:
    """The names at the right ends of the lines, pushed apart where they would touch."""
    ends = sorted(ends, key=lambda end: end[1])
    pixels = [axes.transData.transform((k, value))[1] for k, value, *_ in ends]
    gaps = [LABEL_GAP * (2 + one[2].count("\n") + two[2].count("\n")) / 2 for one, two in pairwise(ends)]
    places = list(pixels)
    for _ in range(200):
        for number, gap in enumerate(gaps):
            push = max(0.0, gap - (places[number + 1] - places[number])) / 2
            places[number], places[number + 1] = places[number] - push, places[number + 1] + push
    for (k, value, name, color), pixel, place in zip(ends, pixels, places, strict=True):
        axes.annotate(
            name, (k, value), xytext=(10, place - pixel), textcoords="offset pixels", va="center", fontsize=9.5,
            color=color, annotation_clip=False,
        )  # fmt: skip
