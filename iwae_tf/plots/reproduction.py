"""Ours and the paper's figures of a table, one line a model."""

import os

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.plots.bounds import INK, LINE
from iwae_tf.plots.panels import ACCENT, BOTTOM, RIGHT, TOP, page, panel, write

LEFT = 240  # room for the names of the models


def save_reproduction(
    path: str | os.PathLike, pairs: dict[str, tuple[float, float, float]], title: str, protocol: str
) -> None:
    """Writes negative log-likelihoods, ours and the paper's, as one PNG.

    Args:
        path: the file to write; its folder exists.
        pairs: name of a model -> ours, its standard error, and the paper's, in nats; one or more.
        title: the line above.
        protocol: of what length our runs are; the line below the title.

    Raises:
        InputError: there is no model.
    """
    write(reproduction_figure(pairs, title, protocol), path)


def reproduction_figure(pairs: dict[str, tuple[float, float, float]], title: str, protocol: str) -> Figure:
    """The figure that `save_reproduction` writes; arguments and errors as there."""
    if not pairs:
        raise InputError("there is no model to draw")
    ours, errors, papers = np.array(list(pairs.values()), np.float64).T
    note = "Filled: ours, with one standard error over the test images. Open: the paper's."
    figure = page(title, [protocol, note])
    axes = panel(figure, (LEFT, BOTTOM, RIGHT, TOP), "estimate of the negative log-likelihood (nats)", "")
    lines = np.arange(len(pairs))
    axes.hlines(lines, papers, ours, color="#c8c8c8", linewidth=1.2, zorder=1)
    axes.errorbar(ours, lines, xerr=errors, fmt="o", color=LINE, markersize=6, elinewidth=1.2, zorder=3)
    axes.plot(papers, lines, "o", markerfacecolor="white", markeredgecolor=ACCENT, markersize=6, zorder=2)
    axes.set_yticks(lines, list(pairs), color=INK)
    axes.set_ylim(len(pairs) - 0.5, -0.5)  # the first on top
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    return figure
