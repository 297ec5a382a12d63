"""Which latent units carry information about x."""

import os

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.plots import panels
from iwae_tf.plots.bounds import INK, LINE, QUIET

THRESHOLD = 0.01  # the paper's
LOWEST = 1e-8  # an axis that went on to rounding errors would hide the step at the threshold


def save_activities(path: str | os.PathLike, activities, title: str, threshold: float = THRESHOLD) -> None:
    """Writes the activity of every latent unit, in falling order and on a log axis, a panel a layer, as one PNG.

    Args:
        path: the file to write; its folder exists.
        activities: for each stochastic layer, nearest x first, the variance over x of the units' posterior means,
            float [H_l], H_l >= 1. Values below 1e-8 and estimates below 0 stand at the lower border.
        title: the first line.
        threshold: what is above is active.

    Raises:
        InputError: there is no layer, a layer is no [H_l] with H_l >= 1, or a value is not finite.
    """
    panels.write(activities_figure(activities, title, threshold), path)


def activities_figure(activities, title: str, threshold: float = THRESHOLD) -> Figure:
    """The figure that `save_activities` writes; arguments and errors as there."""
    layers = [np.sort(np.asarray(layer, np.float64))[::-1] for layer in activities]
    if not layers or not all(layer.ndim == 1 and len(layer) and np.isfinite(layer).all() for layer in layers):
        raise InputError(f"activities must be one array [H] of finite values for each layer, got {activities!r}")
    counts = [int((layer > threshold).sum()) for layer in layers]
    total = " + ".join(f"{count} of {len(layer)}" for count, layer in zip(counts, layers, strict=True))
    smallest = min(layer[layer > LOWEST].min(initial=threshold) for layer in layers)
    floor = max(0.3 * smallest, LOWEST)
    figure = panels.page(f"{title}: {total} units active", _notes(layers, threshold, floor))
    gap = 24
    width = (panels.RIGHT - panels.LEFT + gap) / len(layers) - gap
    ceiling = 3 * max(threshold, *(layer[0] for layer in layers))
    for number, (layer, count) in enumerate(zip(layers, counts, strict=True)):
        left = panels.LEFT + number * (width + gap)
        name = "activity (log scale)" if number == 0 else ""
        box = (left, panels.BOTTOM, left + width, panels.TOP)
        axes = panels.panel(figure, box, f"units of layer {number + 1}, {count} of {len(layer)} active", name)
        axes.set_yscale("log")
        axes.set_ylim(floor, ceiling)
        if number:
            axes.tick_params(labelleft=False)  # the same axis as that of the first panel
        _draw_layer(axes, layer, count, threshold, floor)
    return figure


def _notes(layers, threshold: float, floor: float) -> list[str]:
    notes = [f"variance over the images of each unit's posterior mean; filled: above {threshold:g} (dashed), active"]
    below = sum(int((layer <= floor).sum()) for layer in layers)
    if below:
        notes.append(
            f"triangles at the lower border: activity below {floor:.0e}, or an estimate below 0; units: {below}"
        )
    return notes


def _draw_layer(axes, layer, count: int, threshold: float, floor: float) -> None:
    rank = np.arange(1, len(layer) + 1)
    axes.axhline(threshold, color=INK, linewidth=1.2, linestyle=(0, (6, 3)), zorder=1)
    shown = {"markersize": 6 if len(layer) <= 60 else 3.5, "linestyle": "none", "clip_on": False, "zorder": 3}
    axes.plot(rank[:count], layer[:count], marker="o", color=LINE, **shown)
    low = layer <= floor
    rest = ~low & (rank > count)
    open_marker = {"markerfacecolor": "white", "markeredgecolor": QUIET, **shown}
    axes.plot(rank[rest], layer[rest], marker="o", **open_marker)
    axes.plot(rank[low], np.full(low.sum(), 1.25 * floor), marker="v", **open_marker)
    axes.set_xlim(0, len(layer) + 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.minorticks_off()
