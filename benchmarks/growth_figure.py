"""How the time of a training step and peak memory grow with k, the batch, depth and the size of the data.

    python benchmarks/growth_figure.py [--results benchmarks/results.json] [--out docs/images/performance.png]

Drawn from what `python -m benchmarks` has measured.
"""

import argparse
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gradient_quality_figure import grow
from iwae_tf.plots import panels
from iwae_tf.plots.bounds import DPI, LINE, QUIET

NOTES = [
    "One stochastic layer, 20 images of 784 pixels and k = 50 unless the axis says otherwise.",
    "Blue: a training step, or 100 batches of 20 images. Grey: the step's matrix products alone.",
    "Orange: evaluation, with 500 samples for each image in the last panel. Axes are logarithmic where they say log.",
]
TIME, MEMORY, LOG_TIME = "ms", "MiB", "ms, log"
# title of the axis, name of a case with the number that is on the axis, candidate, colour
BATCH_20, K_50, LAYERS = "train-l1-b20-k(.+)", "train-l1-b(.+)-k50", "train-l(.+)-b20-k50"
PANELS = (
    ("k, samples per image, log", LOG_TIME, ((BATCH_20, "iwae-tf", LINE), (BATCH_20, "floor", QUIET))),
    ("B, images in a step, log", LOG_TIME, ((K_50, "iwae-tf", LINE), (K_50, "floor", QUIET))),
    ("stochastic layers", TIME, ((LAYERS, "iwae-tf", LINE), (LAYERS, "floor", QUIET))),
    ("N, training images, log", TIME, (("batches-n(.+)", "batches", LINE),)),
    (
        "k, samples per image, log",
        MEMORY,
        (("memory-train-b20-k(.+)", "iwae-tf", LINE), ("memory-evaluate-b20-k(.+)", "iwae-tf", panels.ACCENT)),
    ),
    (
        "B, images at once, log",
        MEMORY,
        (("memory-train-b(.+)-k50", "iwae-tf", LINE), ("memory-evaluate-b(.+)-k500", "iwae-tf", panels.ACCENT)),
    ),
)
COLUMNS, ROWS = ((60, 310), (390, 640), (720, 970)), ((405, 655), (62, 312))  # left and right, bottom and top, pixels


def points(rows: list[dict], pattern: str, candidate: str) -> list[tuple[float, float]]:
    """What is on the axis, and milliseconds or MiB of the candidate; of "floor", what its cases were divided by."""
    found = {}
    for row in rows:
        match = re.fullmatch(pattern, row["case"])
        if match and candidate in (row["candidate"], "floor"):
            value = row["floor_ms"] if candidate == "floor" else row.get("median_ms", row.get("peak_mib"))
            found[float(match[1])] = value
    return sorted(found.items())


def growth_figure(rows: list[dict]):
    """The figure: time in the first four panels, memory in the last two.

    Args:
        rows: of results.json.
    """
    figure = panels.page("Time of a training step and peak memory as the task grows", NOTES)
    grow(figure, (ROWS[0][1] - panels.TOP) / DPI)
    for number, (label, unit, lines) in enumerate(PANELS):
        (left, right), (bottom, top) = COLUMNS[number % 3], ROWS[number // 3]
        axes = panels.panel(figure, (left, bottom, right, top), label, unit)
        ticks = set()
        for pattern, candidate, color in lines:
            x, y = zip(*points(rows, pattern, candidate), strict=True)
            axes.plot(x, y, color=color, linewidth=1.6, marker="o", markersize=4)
            ticks |= set(x)
        _scales(axes, sorted(ticks), "log" in label, "log" in unit)
    return figure


def _scales(axes, ticks: list[float], log_x: bool, log_y: bool) -> None:
    """The measured sizes below; on the left from 0 up, or where logarithmic numbers without powers of ten."""
    if log_x:
        axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{x / 1000:.0f}k" if x >= 1000 else f"{x:.0f}" for x in ticks])
    if log_y:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        steps = [digit * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5)]
        shown = [y for y in steps if low / 2.5 <= y <= high * 2.5]
        axes.set_yticks(shown, [f"{y:,g}" for y in shown])
        axes.set_ylim(max(y for y in shown if y <= low), min(y for y in shown if y >= high))
    else:
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.minorticks_off()


def main() -> None:
    """Reads, draws, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results.json"))
    parser.add_argument("--out", type=Path, default=Path("docs/images/performance.png"))
    arguments = parser.parse_args()
    panels.write(growth_figure(json.loads(arguments.results.read_text())), arguments.out)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
