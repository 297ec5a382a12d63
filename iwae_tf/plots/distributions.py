"""Two models on images that do not correspond: how the scores of each are spread."""

import os

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.plots import panels
from iwae_tf.plots.bounds import LINE, words


def save_distributions(
    path: str | os.PathLike, first, second, names: tuple[str, str], title: str, warning: str = ""
) -> None:
    """Writes the shares of images at each log p(x) under two models, each on images of its own, as one PNG.

    Args:
        path: the file to write; its folder exists.
        first: log p(x) under A, float [N], in nats; values that are not finite are left out and counted.
        second: the same under B, float [M].
        names: what A and B are called.
        title: the first line.
        warning: what must not be overlooked, above the title.

    Raises:
        InputError: one of the two has no finite value.
    """
    panels.write(distributions_figure(first, second, names, title, warning), path)


def distributions_figure(first, second, names, title: str, warning: str = "") -> Figure:
    """The figure that `save_distributions` writes; arguments and errors as there."""
    kept = [
        panels.finite(values, f"log_likelihood of {name}") for values, name in zip((first, second), names, strict=True)
    ]
    notes = [
        f"{letter} ({line}): {name}; {len(values):,} images, mean {words(values.mean())}"
        + (f"; NOT SHOWN: {left_out:,} that are not finite" if left_out else "")
        for letter, line, name, (values, left_out) in zip("AB", ("filled", "dashed"), names, kept, strict=True)
    ]
    figure = panels.page(title, notes, warning)
    box = (panels.LEFT, panels.BOTTOM, panels.RIGHT, panels.TOP)
    axes = panels.panel(figure, box, "log p(x) (nats); vertical lines: means", "share of the images in each bin")
    (a, _), (b, _) = kept
    edges = np.histogram_bin_edges(np.concatenate([a, b]), panels.number_of_bins(np.concatenate([a, b])))
    shares = [np.histogram(values, edges)[0] / len(values) for values in (a, b)]
    dashed = {"color": panels.ACCENT, "linewidth": 1.8, "linestyle": (0, (6, 3))}
    axes.stairs(shares[0], edges, fill=True, facecolor=panels.FILL, edgecolor=LINE)
    axes.stairs(shares[1], edges, **dashed)
    axes.axvline(a.mean(), color=LINE, linewidth=1.8)
    axes.axvline(b.mean(), **dashed)
    axes.set_ylim(bottom=0)
    return figure
