"""Figures as SVG inside the page, in the page's own colours and letters.

Every colour of a figure is a placeholder that becomes a variable of the style sheet, so that one drawing serves a dark
screen, a light one and paper.
"""

import io
import re

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from iwae_tf.report.record import MAX_RUNS

INK, QUIET, FAINT, PAPER = "#010101", "#010102", "#010103", "#010104"
SERIES = tuple(f"#0102{number:02x}" for number in range(1, MAX_RUNS + 1))
VARIABLES = {INK: "ink", QUIET: "quiet", FAINT: "faint", PAPER: "paper"}
VARIABLES |= {color: f"series-{number}" for number, color in enumerate(SERIES, start=1)}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # runs are told apart without colours, too
FONT = 10.0  # points; a figure is drawn 4.8 inches wide and shown in 280 to 560 pixels


def panel(x_label: str, y_label: str) -> tuple[Figure, object]:
    """A figure with axes in one style, the y axis named above it."""
    figure = Figure(figsize=(4.8, 3.15))
    axes = figure.add_axes((0.125, 0.155, 0.825, 0.73))
    axes.set_facecolor("none")
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelsize=FONT)
    axes.set_xlabel(x_label, color=INK, fontsize=FONT, parse_math=False)
    axes.set_ylabel(y_label, color=INK, fontsize=FONT, rotation=0, ha="left", va="bottom", parse_math=False)
    axes.yaxis.set_label_coords(-0.1, 1.04)
    return figure, axes


def name_ends(axes, ends: list[tuple[float, float, int]], letters: str) -> None:
    """Writes the letters of runs where their curves end, one above another where they end close together.

    Args:
        axes: with final limits.
        ends: x and y of each curve's last point, and the number of its run.
        letters: one for each run.
    """
    to_axes = (axes.transData - axes.transAxes).transform
    placed = []
    for x, y, number in sorted(((*to_axes(end[:2]), end[2]) for end in ends), key=lambda end: end[1]):
        for other_x, other_y in placed:  # from below
            if abs(x - other_x) < 0.06 and y - other_y < 0.07:
                y = other_y + 0.07
        placed.append((x, y))
        axes.annotate(
            letters[number], (x, y), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=FONT, fontweight="bold", color=SERIES[number], annotation_clip=False,
        )  # fmt: skip


def inline(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as an `<svg>` element.

    Args:
        figure: drawn in the colours of this module.
        name: told apart from those of all other figures of the page, from which the ids inside are made.
        alt: what it shows, for those who do not see it.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', text)[0]
    text = re.sub(r"^<svg[^>]*>", f'<svg role="img" aria-label="{escape(alt)}" {box}>', text)
    text = text.replace('id="', f'id="{name}-').replace('"#', f'"#{name}-').replace("url(#", f"url(#{name}-")
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    return Markup(text)
