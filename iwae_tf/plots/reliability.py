"""How far each score can be trusted: the tail of its importance weights against the score itself."""

import os

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.plots import panels
from iwae_tf.plots.bounds import INK, LINE, QUIET

VARIANCE_LINE, TRUST_LINE = 0.5, 0.7  # below: standard errors mean what they say; above: not to be relied on
ROWS = {"NaN": "x", "inf": "^", "-inf": "v"}  # what has no place on the axis, and its marker
OUTSIDE = "<"  # marker of a score that is not finite


def save_reliability(path: str | os.PathLike, log_likelihood, pareto_k, title: str) -> None:
    """Writes Pareto k-hat against log p(x), one point for each image, as one PNG.

    What is not finite stands in a row of its own above or below the plane, or in a column at its left, with a count.

    Args:
        path: the file to write; its folder exists.
        log_likelihood: float [N], in nats.
        pareto_k: float [N]; NaN, inf and -inf as `iwae_tf.pareto.pareto_shape` gives them.
        title: the first line.

    Raises:
        InputError: the shapes differ or are not [N], N >= 1.
    """
    panels.write(reliability_figure(log_likelihood, pareto_k, title), path)


def reliability_figure(log_likelihood, pareto_k, title: str) -> Figure:
    """The figure that `save_reliability` writes; arguments and errors as there."""
    scores, shapes = (np.asarray(values, np.float64) for values in (log_likelihood, pareto_k))
    if scores.ndim != 1 or scores.shape != shapes.shape or not len(scores):
        raise InputError(
            f"log_likelihood and pareto_k must both be [N] with N >= 1, got {scores.shape} and {shapes.shape}"
        )
    figure = panels.page(title, _notes(shapes))
    box = (panels.LEFT + 30, panels.BOTTOM, panels.RIGHT - 30, panels.TOP)
    axes = panels.panel(figure, box, "log p(x) (nats)", "Pareto k-hat")
    x = _with_column(axes, scores)
    y, markers = _with_rows(axes, shapes)
    markers = np.where(np.isfinite(scores), markers, OUTSIDE)
    size, opacity = (26, 0.7) if len(x) <= 1000 else (9, 0.35)
    border = {"s": 40, "color": panels.ACCENT, "alpha": 0.7}
    for marker in np.unique(markers):
        look = {"s": size, "color": LINE, "alpha": opacity} if marker == "o" else border
        there, width = markers == marker, 1.2 if marker == "x" else 0
        axes.scatter(x[there], y[there], marker=marker, linewidths=width, clip_on=False, zorder=3, **look)
    _draw_lines(axes)
    return figure


def _notes(shapes) -> list[str]:
    def above(line: float) -> str:
        count = int((shapes > line).sum())
        return f"above {line:g}: {count:,} of {len(shapes):,} images ({panels.percent(count, len(shapes))})"

    unknown = int(np.isnan(shapes).sum())
    notes = [
        f"{above(TRUST_LINE)}, scores not to be relied on{f'; not known: {unknown:,}' if unknown else ''}",
        f"{above(VARIANCE_LINE)}, standard errors too small",
    ]
    if not np.isfinite(shapes).all():
        notes.append("triangles and crosses at the border: values that are not finite, with their count")
    return notes


def _with_column(axes, scores) -> np.ndarray:
    """Sets the x axis; returns the places of the scores on it, those that are not finite at its left border."""
    known = np.isfinite(scores)
    low, high = (scores[known].min(), scores[known].max()) if known.any() else (-1.0, 0.0)
    room = max(0.04 * (high - low), 0.5)
    column = low - 2 * room
    axes.set_xlim(low - room if known.all() else column - room, high + room)
    if not known.all():
        ticks = [tick for tick in axes.get_xticks() if low - 0.5 * room <= tick <= high + room]
        gap = 0.09 * (high + 2 * room - column)
        ticks = [tick for tick in ticks if tick > column + gap]
        axes.set_xticks([column, *ticks], [f"not finite: {(~known).sum():,}", *map(_tick, ticks)])
        axes.axvline(low - room, color=QUIET, linewidth=0.8)
    return np.where(known, scores, column)


def _with_rows(axes, shapes) -> tuple[np.ndarray, np.ndarray]:
    """Sets the y axis; returns places and markers of the shapes, those that are not finite in rows at the border."""
    known = np.isfinite(shapes)
    low, high = min(0.0, shapes[known].min(initial=0.0)), max(1.0, shapes[known].max(initial=1.0))
    step = 0.07 * (high - low)
    kinds = {"NaN": np.isnan(shapes), "inf": np.isposinf(shapes), "-inf": np.isneginf(shapes)}
    rows = [kind for kind in ("inf", "NaN") if kinds[kind].any()]
    places = {kind: high + step * (1.5 + number) for number, kind in enumerate(rows)}
    if kinds["-inf"].any():
        places["-inf"] = low - 1.5 * step
    axes.set_ylim(min([low - step * 0.5, *(place - 0.6 * step for place in places.values())]),
                  max([high + step * 0.5, *(place + 0.6 * step for place in places.values())]))  # fmt: skip
    ticks = [tick for tick in axes.get_yticks() if low - 0.1 * step <= tick <= high + 0.1 * step]
    names = [f"{kind.replace('-', '−')}: {kinds[kind].sum():,}" for kind in places]
    axes.set_yticks([*ticks, *places.values()], [*map(_tick, ticks), *names])
    for edge in ([high + 0.75 * step] if rows else []) + ([low - 0.75 * step] if "-inf" in places else []):
        axes.axhline(edge, color=QUIET, linewidth=0.8)
    y, markers = np.where(known, shapes, 0.0), np.full(len(shapes), "o")
    for kind, place in places.items():
        y[kinds[kind]], markers[kinds[kind]] = place, ROWS[kind]
    return y, markers


def _tick(value: float) -> str:
    return f"{value:,.6g}".replace("-", "−")


def _draw_lines(axes) -> None:
    """The two lines, named in the margin at the right."""
    for line, style, align in ((VARIANCE_LINE, (0, (2, 3)), "top"), (TRUST_LINE, (0, (6, 3)), "bottom")):
        axes.axhline(line, color=INK, linewidth=1.2, linestyle=style, zorder=4)
        axes.annotate(
            f"{line:g}", (1.0, line), xycoords=("axes fraction", "data"), xytext=(6, 0), fontsize=9.5, va=align,
            textcoords="offset pixels", color=INK, annotation_clip=False,
        )  # fmt: skip
