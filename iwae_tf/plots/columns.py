"""The columns of a table: the rows that were held out, and draws of the model."""

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.plots import style

MOST, ACROSS = 12, 3  # panels of a figure, and in a row of it
MOST_NAMED = 5  # categories of a column whose names are written
BINS = 24
DRAWS = 5000  # from p(x), enough for smooth histograms
PANEL_WIDTH, PANEL_HEIGHT = 240, 190


def columns_figure(columns, x, samples, of: str = "test rows") -> Figure:
    """Draws the histogram of each column, of rows and of draws from p(x), on one scale; the first 12 columns.

    The range of a column of numbers is that of the middle 99% of its rows, so that one outlier does not hide the
    others; the values outside of it are counted in the bins at the ends.

    Args:
        columns: `iwae_tf.data.Column`, D.
        x: rows, [N, D]; NaN is missing.
        samples: draws from p(x), [M, D].
        of: name of the rows for the title.
    """
    shown, more = columns[:MOST], max(len(columns) - MOST, 0)
    notes = [
        f"filled: the rows; line: {len(samples):,} draws from the model",
        "heights are shares; of numbers, the bins at both ends hold all that lies beyond",
    ]
    if more:
        notes.append(f"the first {MOST} of {len(columns)} columns")
    rows = -(-len(shown) // ACROSS)
    across = min(len(shown), ACROSS)
    figure = style.page(f"Columns of {of}", notes, width=across * PANEL_WIDTH, height=rows * PANEL_HEIGHT)
    labels = [("", _short(column.name)) for column in shown] + [("", "")] * (rows * across - len(shown))
    panels = style.panels(figure, labels, rows)
    for number, axes in enumerate(panels):
        if number >= len(shown):
            axes.set_visible(False)
            continue
        values, drawn = np.asarray(x, np.float64)[:, number], np.asarray(samples, np.float64)[:, number]
        edges, categories = _edges(values[~np.isnan(values)], shown[number]), shown[number].categories
        for data, look in (
            (values, {"histtype": "stepfilled", "color": style.FILL}),
            (drawn, {"histtype": "step", "color": style.ACCENT, "linewidth": 1.4}),
        ):
            data = data[~np.isnan(data)]
            known = np.clip(data[data >= 0] if categories else data, edges[0], edges[-1])  # an unknown category is -1
            axes.hist(known, edges, weights=np.full(len(known), 1.0 / max(len(data), 1)), **look)
        if 0 < len(categories) <= MOST_NAMED:
            words = [_short(name, 30 // len(categories)) for name in categories]
            axes.set_xticks(range(len(categories)), words, parse_math=False)
        elif categories:
            ends = [_short(categories[0], 12), _short(categories[-1], 12)]
            axes.set_xticks([0, len(categories) - 1], ends, parse_math=False)
        else:
            axes.locator_params(axis="x", nbins=3)
        axes.locator_params(axis="y", nbins=4)
    return figure


def _edges(values: np.ndarray, column) -> np.ndarray:
    """Returns the edges of the bins: one for each category, or value of few integers, else equal ones."""
    if column.categories or column.kind == "binary":  # a rare one has no neighbour that it could be counted with
        return np.arange(max(len(column.categories), 2) + 1) - 0.5
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = np.quantile(values, (0.005, 0.995))
    if np.all(values == np.round(values)) and high - low < BINS:
        return np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


def _short(name: str, most: int = 26) -> str:
    return name if len(name) <= most else name[: most - 3] + "..."
