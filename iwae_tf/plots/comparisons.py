"""Two models or more against each other, and our results against the paper's."""

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.plots import style
from iwae_tf.words import percent

WIDTH, ROW = 900, 360  # of a figure of two panels in each row; of a row


def differences_figure(scores, names, intervals, notes=(), warning: str = "", measure: str = "log p(x)") -> Figure:
    """Draws the models B, C, ... against A on the same rows: a histogram of the differences, and both scores.

    Args:
        scores: log p(x) under each model, A first, finite float [N] for the same rows in the same order, in nats.
        names: of the models.
        intervals: for each model but A the 95% interval of the mean difference, in nats; NaN where unknown.
        notes: lines for the heading, e.g. the conclusions.
        warning: a bold line above the title.
        measure: what the scores are.

    Raises:
        InputError: the shapes differ or are not [N], N >= 1, or a value is not finite.
    """
    first, *others = (np.asarray(values, np.float64) for values in scores)
    if first.ndim != 1 or not len(first) or any(other.shape != first.shape for other in others):
        raise InputError(f"scores must be [N] of the same rows, got shapes {[np.shape(values) for values in scores]}")
    if not all(np.isfinite(values).all() for values in (first, *others)):
        raise InputError("scores that are not finite have no difference; leave these rows out of all models")
    notes = [*(f"{letter}: {name}" for letter, name in zip(style.LETTERS, names, strict=False)), *notes]
    labels = []
    for letter, other in zip(style.LETTERS[1:], others, strict=False):
        count = int((first > other).sum())
        share = percent(count / len(first))
        notes.append(f"A is better than {letter} on {count:,} of {len(first):,} rows ({share})")
        labels.append((f"A − {letter} (nats)", "rows"))
        labels.append((f"{measure} under {letter} (nats)", f"{measure} under A (nats)"))
    notes.append(
        "left: thick line the mean of the differences, band its 95% interval, dashed no difference; "
        "right: A is better above the dashed line"
    )
    title = f"Differences of {measure} over {len(first):,} rows"
    figure = style.page(title, notes, warning, width=WIDTH, height=ROW * len(others))
    panels = style.panels(figure, labels, rows=len(others))
    for left, right, other, interval in zip(panels[::2], panels[1::2], others, intervals, strict=True):
        _draw_histogram(left, first - other, interval)
        _draw_scatter(right, first, other)
    return figure


def _draw_histogram(axes, differences, interval) -> None:
    bins = style.number_of_bins(differences)
    axes.hist(differences, bins, color=style.FILL, edgecolor=style.LINE, linewidth=0.8, zorder=1)
    axes.axvline(0.0, color=style.INK, linewidth=1.2, linestyle=style.DASHED, zorder=2)
    if np.isfinite(interval).all():
        axes.axvspan(*interval, facecolor=style.ACCENT, alpha=0.35, linewidth=0, zorder=3)
    axes.axvline(differences.mean(), color=style.ACCENT, linewidth=1.8, zorder=4)


def _draw_scatter(axes, first, other) -> None:
    """Draws one point a row in a square, whose diagonal means no difference."""
    low, high = min(first.min(), other.min()), max(first.max(), other.max())
    room = max(0.04 * (high - low), 0.1)
    limits = (low - room, high + room)
    crowded = len(first) > 1000
    look = {"s": 6 if crowded else 16, "alpha": 0.25 if crowded else 0.6, "linewidths": 0, "rasterized": crowded}
    axes.scatter(other, first, color=style.LINE, **look)
    axes.plot(limits, limits, color=style.INK, linewidth=1.2, linestyle=style.DASHED)
    axes.set(xlim=limits, ylim=limits, box_aspect=1)
    axes.locator_params(nbins=5)


def distributions_figure(scores, names, notes=(), warning: str = "", measure: str = "log p(x)") -> Figure:
    """Draws the shares of rows at each log p(x) under two models or more, each on rows of its own.

    Args:
        scores: log p(x) under each model, float [N_i], in nats; values that are not finite are left out and counted.
        names: of the models.
        notes: lines for the heading, e.g. the conclusions.
        warning: a bold line above the title.
        measure: what the scores are.

    Raises:
        InputError: a model has no finite value.
    """
    kept = [style.finite(values, f"log_likelihood of {name}") for values, name in zip(scores, names, strict=True)]
    words = [
        f"{letter}: {name}; {len(values):,} rows, mean {style.number(values.mean())}"
        + (f"; NOT SHOWN: {left_out:,} that are not finite" if left_out else "")
        for letter, name, (values, left_out) in zip(style.LETTERS, names, kept, strict=False)
    ]
    figure = style.page(f"Distribution of {measure} under each model", [*words, *notes], warning, width=WIDTH)
    (axes,) = style.panels(figure, [(f"{measure} (nats); vertical lines: means", "share of the rows in each bin")])
    every = np.concatenate([values for values, _ in kept])
    edges = np.histogram_bin_edges(every, style.number_of_bins(every))
    for number, (values, _) in enumerate(kept):
        look = {"color": style.SERIES[number], "linewidth": 1.8}
        look |= {"linestyle": style.DASHED if number else "-"}
        axes.stairs(np.histogram(values, edges)[0] / len(values), edges, label=style.LETTERS[number], **look)
        axes.axvline(values.mean(), **look)
    axes.set_ylim(bottom=0)
    style.legend(axes, names)
    return figure


def reproduction_figure(
    pairs: dict[str, tuple[float, float, float]], title: str, protocol: str, refits: bool = False
) -> Figure:
    """Draws negative log-likelihoods, ours and the paper's, one line a model.

    Args:
        pairs: name of a model -> ours, its error (None for none), and the paper's, in nats; at least one.
        title: the first line, e.g. table and data set.
        protocol: length of our runs; the line below the title.
        refits: whether ours are means over refits, and the errors the standard deviations over these.

    Raises:
        InputError: there is no model.
    """
    if not pairs:
        raise InputError("pairs must hold at least one model, got none")
    ours, errors, papers = np.array(list(pairs.values()), np.float64).T
    error = "the standard deviation over refits" if refits else "one standard error over the test images"
    note = f"Filled: ours, with {error}. Open: the paper's."
    figure = style.page(title, [protocol, note], width=WIDTH, height=100 + 26 * len(pairs))
    (axes,) = style.panels(figure, [("estimate of the negative log-likelihood (nats)", "")])
    lines = _draw_lines(axes, pairs)
    axes.hlines(lines, papers, ours, color=style.FAINT, linewidth=1.6, zorder=1)
    axes.errorbar(ours, lines, xerr=errors, fmt="o", color=style.LINE, markersize=6, elinewidth=1.2, zorder=3)
    axes.plot(papers, lines, "o", markerfacecolor=style.PAPER, markeredgecolor=style.ACCENT, markersize=6, zorder=2)
    return figure


def sweep_figure(scores: dict[str, list[float]], errors, title: str, fixed: str) -> Figure:
    """Draws the mean scores of settings, a line each: of every refit, their mean and standard deviation.

    Args:
        scores: name of a setting -> mean score of each refit, in nats; at least one of each.
        errors: standard error over rows of one run of each setting, in nats.
        title: names the scores and the data.
        fixed: settings that all runs share; the line below the title.

    Raises:
        InputError: there is no setting.
    """
    if not scores:
        raise InputError("scores must hold at least one setting, got none")
    low, high = (style.number(end) for end in (min(errors), max(errors)))
    over_rows = low if low == high else f"{low} to {high}"
    notes = ["Open: refits, i.e. runs of other seeds. Filled: their mean, with their standard deviation."]
    notes.append(f"Standard error over rows, which the runs share and the bars lack: {over_rows} nats.")
    figure = style.page(title, [fixed, *notes], width=WIDTH, height=100 + 26 * len(scores))
    (axes,) = style.panels(figure, [("mean score (nats)", "")])
    lines = _draw_lines(axes, scores)
    for line, values in zip(lines, scores.values(), strict=True):
        look = {"markerfacecolor": style.PAPER, "markeredgecolor": style.QUIET, "markersize": 5, "zorder": 2}
        axes.plot(values, np.full(len(values), line), "o", **look)
        spread = np.std(values, ddof=1) if len(values) > 1 else None
        axes.errorbar(np.mean(values), line, xerr=spread, fmt="o", color=style.LINE, markersize=6, zorder=3)
    return figure


def _draw_lines(axes, names) -> np.ndarray:
    """Names the lines of a figure on the y axis, the first on top; returns their places."""
    lines = np.arange(len(names))
    axes.set_yticks(lines, list(names), color=style.INK, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=style.FAINT, linewidth=0.8)
    return lines
