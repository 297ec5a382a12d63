"""Page and lines that the figures of the benchmarks share, and the figure of growth.

    python -m benchmarks.figures [--results benchmarks/results.json] [--out docs/images/performance.png]

draws, from the results of `python -m benchmarks`, how the time of a training step and peak memory grow with k, the
batch, depth and the size of the data.
"""

import argparse
import json
import re
from itertools import pairwise
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from iwae_tf.plots.style import ACCENT, DPI, FAINT, INK, LINE, QUIET

LABEL_GAP = 15  # pixels between the names of two lines

NOTES = [
    "One stochastic layer, 20 images of 784 pixels and k = 50 unless the axis says otherwise.",
    "Blue: a training step, or 100 batches of 20 images. Grey: the step's matrix products alone. Orange: evaluation.",
    "Last panel: evaluation has 500 samples for each image.",
]
BATCH_20, K_50, LAYERS = "train-l1-b20-k(.+)", "train-l1-b(.+)-k50", "train-l(.+)-b20-k50"
MEMORY_20, MEMORY_50 = "memory-train-b20-k(.+)", "memory-train-b(.+)-k50"
TRAIN, EVALUATE = ("iwae-tf", LINE), ("iwae-tf", ACCENT)
PANELS = (  # x label, y label, lines: pattern of cases with x in brackets, candidate, colour
    ("k, samples per image (log)", "ms (log)", ((BATCH_20, *TRAIN), (BATCH_20, "floor", QUIET))),
    ("B, images in a step (log)", "ms (log)", ((K_50, *TRAIN), (K_50, "floor", QUIET))),
    ("stochastic layers", "ms", ((LAYERS, *TRAIN), (LAYERS, "floor", QUIET))),
    ("N, training images (log)", "ms", (("batches-n(.+)", "batches", LINE),)),
    ("k, samples per image (log)", "MiB", ((MEMORY_20, *TRAIN), ("memory-evaluate-b20-k(.+)", *EVALUATE))),
    ("B, images at once (log)", "MiB", ((MEMORY_50, *TRAIN), ("memory-evaluate-b(.+)-k500", *EVALUATE))),
)


def page(title: str, notes: list[str], rows: int = 1, columns: int = 1):
    """Returns a figure with its title above and notes below, and its axes, [rows, columns]."""
    figure = Figure(figsize=(10, 1.1 + 3.6 * rows), dpi=DPI, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK, parse_math=False)
    figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=9.5, color=QUIET, parse_math=False)
    return figure, figure.subplots(rows, columns, squeeze=False)


def style(axes, x_label: str, y_label: str) -> None:
    """Labels both axes; the y label stands above the axis, where it is read without turning the head."""
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelsize=9.5)
    axes.set_xlabel(x_label, color=INK, fontsize=10.5)
    axes.set_title(y_label, loc="left", color=INK, fontsize=10.5)


def log_x(axes, ticks: list[float]) -> None:
    """Makes the x axis logarithmic, with these ticks."""
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{x / 1000:g}k" if x >= 1000 else f"{x:g}" for x in ticks])
    axes.minorticks_off()


def label_ends(figure: Figure, ends_of: dict) -> None:
    """Writes labels at the right ends of lines, moved apart until none touches another.

    Args:
        figure: page, on which all else has been drawn.
        ends_of: axes with lines -> x and y of each line's end, label, colour.
    """
    room = {"xycoords": "axes fraction", "textcoords": "offset pixels", "fontsize": 9.5, "alpha": 0.0}
    for axes, ends in ends_of.items():
        for *_, label, _ in ends:  # invisible labels, for which the layout leaves room on the right
            axes.annotate(label, (1, 0.5), xytext=(8, 0), **room)
    figure.draw_without_rendering()
    for axes, ends in ends_of.items():
        _label_ends(axes, sorted(ends, key=lambda end: end[1]))


def _label_ends(axes, ends: list[tuple[float, float, str, str]]) -> None:
    pixels = [axes.transData.transform(end[:2])[1] for end in ends]
    gaps = [LABEL_GAP * (2 + one[2].count("\n") + two[2].count("\n")) / 2 for one, two in pairwise(ends)]
    places = list(pixels)
    for _ in range(200):
        for number, gap in enumerate(gaps):
            push = max(0.0, gap - (places[number + 1] - places[number])) / 2
            places[number], places[number + 1] = places[number] - push, places[number + 1] + push
    for (x, y, label, color), pixel, place in zip(ends, pixels, places, strict=True):
        axes.annotate(label, (x, y), xytext=(8, place - pixel), textcoords="offset pixels", va="center",
                      fontsize=9.5, color=color, annotation_clip=False)  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as PNG; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def points(rows: list[dict], pattern: str, candidate: str) -> list[tuple[float, float]]:
    """Returns x and the candidate's milliseconds or MiB; of "floor", the floor that its case is divided by."""
    found = {}
    for row in rows:
        match = re.fullmatch(pattern, row["case"])
        if match and candidate in (row["candidate"], "floor"):
            value = row["floor_ms"] if candidate == "floor" else row.get("median_ms", row.get("peak_mib"))
            found[float(match[1])] = value
    return sorted(found.items())


def growth_figure(rows: list[dict]) -> Figure:
    """Returns the figure of growth from the rows of results.json: time in four panels, memory in two."""
    figure, axes = page("Time of a training step and peak memory as the task grows", NOTES, 2, 3)
    for one, (x_label, y_label, lines) in zip(axes.flat, PANELS, strict=True):
        ticks = set()
        for pattern, candidate, color in lines:
            x, y = zip(*points(rows, pattern, candidate), strict=True)
            one.plot(x, y, color=color, linewidth=1.6, marker="o", markersize=4)
            ticks |= set(x)
        style(one, x_label, y_label)
        if "log" in y_label:
            one.set_yscale("log")
            one.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            one.yaxis.set_major_formatter("{x:g}")
        else:
            one.set_ylim(0, 1.1 * one.get_ylim()[1])
        log_x(one, sorted(ticks)) if "log" in x_label else one.set_xticks(sorted(ticks))
    return figure


def main() -> None:
    """Draws the figure of growth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results.json"))
    parser.add_argument("--out", type=Path, default=Path("docs/images/performance.png"))
    arguments = parser.parse_args()
    save(growth_figure(json.loads(arguments.results.read_text())), arguments.out)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
