"""The look of every figure: colours, sizes, resolution, fonts, labels, heading and file formats.

Lengths are in units of 1/100 inch. What a figure shows stands in its heading, where words cover no data.
"""

import contextlib
import io
import os
import textwrap
from pathlib import Path

import numpy as np

from iwae_tf.errors import InputError

try:
    import matplotlib
    from matplotlib.figure import Figure
except ValueError as error:
    raise InputError(f"matplotlib cannot be imported ({error}): correct MPLBACKEND or matplotlibrc") from None

UNIT, DPI = 100, 200  # layout units an inch; pixels an inch of a PNG file
WIDTH, BODY = 500, 330  # of a figure and of its axes: letters stay legible on a phone of 390 pixels
MARGIN, ROW = 16, 19  # left and right of the heading; height of a line of it
TITLE, TEXT, SMALL = 12, 10, 9  # font sizes in points

PAPER, INK, QUIET, FAINT = "#ffffff", "#202020", "#5b6570", "#e4e4e4"
# Colours of runs, told apart by all eyes and 4.5:1 against white; markers tell runs apart without colours.
SERIES = ("#1b6ca8", "#c04a00", "#1f7a4d", "#8a4fb0", "#a8306b", "#6b6f12", "#00737a", "#7a5230")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LETTERS = "ABCDEFGH"  # names of up to eight runs
LINE, ACCENT, FILL = SERIES[0], SERIES[1], "#a9cbe3"
DASHED = (0, (5, 3))

# Metadata without version and date: the same figure gives the same bytes.
FORMATS = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}


def page(title: str, notes=(), warning: str = "", width: float = WIDTH, height: float = BODY) -> Figure:
    """Returns an empty figure with a heading.

    Args:
        title: the first line; names the quantity and the protocol.
        notes: smaller lines below it.
        warning: a bold line above the title.
        width: of the figure, in units.
        height: below the heading, in units.
    """
    figure = Figure(figsize=(width / UNIT, 1), dpi=UNIT, facecolor=PAPER)
    texts = [(warning, {"color": ACCENT, "fontsize": TEXT, "fontweight": "bold"})] if warning else []
    texts += [(title, {"color": INK, "fontsize": TITLE})]
    texts += [(note, {"color": QUIET, "fontsize": SMALL}) for note in notes]
    lines = [(line, look) for text, look in texts for line in _wrapped(figure, text, width - 2 * MARGIN, look)]
    total = height + ROW * len(lines) + 16
    figure.set_size_inches(width / UNIT, total / UNIT)
    for number, (line, look) in enumerate(lines):
        y = 1 - (10 + ROW * (number + 0.5)) / total
        figure.text(MARGIN / width, y, line, va="center", parse_math=False, **look)
    figure.set_layout_engine("constrained", rect=(0.01, 0.0, 0.98, height / total), h_pad=0.06, hspace=0.06)
    return figure


def _wrapped(figure: Figure, text: str, width: float, look: dict) -> list[str]:
    """Returns the text in lines whose measured width is at most `width`."""
    for columns in range(160, 16, -4):
        lines = textwrap.wrap(text, columns) or [""]
        trials = [figure.text(0, 0, line, parse_math=False, **look) for line in lines]
        widest = max(trial.get_window_extent().width for trial in trials)
        for trial in trials:
            trial.remove()
        if widest <= width:
            break
    return lines


def panels(figure: Figure, labels, rows: int = 1) -> list:
    """Returns axes in `rows` rows, one for each (x label, y label) of `labels`; the y label stands above the axis."""
    found = figure.subplots(rows, len(labels) // rows, squeeze=False).ravel()
    for axes, (x_label, y_label) in zip(found, labels, strict=True):
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(QUIET)
        axes.tick_params(colors=QUIET, labelsize=SMALL)
        axes.locator_params(axis="x", nbins=6)  # six labels of eight digits do not touch
        axes.set_xlabel(x_label, color=INK, fontsize=TEXT, parse_math=False)
        axes.set_title(y_label, loc="left", color=INK, fontsize=TEXT, parse_math=False)
    return list(found)


def color_and_marker(name: str, number: int) -> dict[str, str]:
    """Returns the look of a run: that of its letter, the same on every figure of a page, else of its number."""
    place = LETTERS.index(name) if name in tuple(LETTERS) else number
    return {"color": SERIES[place], "marker": MARKERS[place]}


def legend(axes, names) -> None:
    """Writes the names of runs, if they have any, to the right of the axes, where they cover no data."""
    if any(names):
        look = {"frameon": False, "fontsize": TEXT, "labelcolor": INK, "borderaxespad": 0.2}
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), **look)


def spaced(places: np.ndarray, gap: float) -> np.ndarray:
    """Returns which labels at rising `places` to write, bool [n]: both ends, and others at least `gap` apart."""
    kept = [0]
    for place in range(1, len(places) - 1):
        if places[place] - places[kept[-1]] >= gap and places[-1] - places[place] >= gap:
            kept.append(place)
    return np.isin(np.arange(len(places)), [*kept, len(places) - 1])


@contextlib.contextmanager
def plain_settings():
    """A context in which the user's matplotlibrc does not matter: it may ask for LaTeX or another resolution."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def encode(figure: Figure, kind: str) -> bytes:
    """Returns the figure as a file of a kind in `FORMATS`; the same figure gives the same bytes."""
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "iwae-tf"}):
        figure.savefig(file, format=kind, dpi=DPI, metadata=FORMATS[kind])
    return file.getvalue()


def write(figure: Figure, path: str | os.PathLike) -> None:
    """Writes the figure in the format of the path's suffix; raises `InputError` for a suffix not in `FORMATS`."""
    suffix = Path(path).suffix
    if suffix[1:] not in FORMATS:
        raise InputError(f"{path}: unknown suffix {suffix!r} of a figure; expected .{', .'.join(FORMATS)}")
    Path(path).write_bytes(encode(figure, suffix[1:]))


def number(value: float, digits: int = 2) -> str:
    """Returns a value with `digits` decimals and a true minus sign; "not finite" for NaN and infinities."""
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "not finite"


def number_of_bins(values: np.ndarray) -> int:
    """Returns bins for a histogram of float [N], as wide as N^(1/3) bins over the middle nine tenths.

    Outliers therefore do not widen the bins.
    """
    low, high = np.quantile(values, (0.05, 0.95))
    width = (high - low) / len(values) ** (1 / 3)
    return int(np.clip(np.ptp(values) / width, 8, 120)) if width > 0 else 8


def finite(values, name: str) -> tuple[np.ndarray, int]:
    """Returns the finite values of float [N] and the count of the others; raises `InputError` if none is finite."""
    values = np.asarray(values, np.float64)
    kept = values[np.isfinite(values)]
    if values.ndim != 1 or not len(kept):
        raise InputError(f"{name} must be [N] with at least one finite value, got {len(kept)} in {values.shape}")
    return kept, len(values) - len(kept)
