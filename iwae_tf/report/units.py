"""The latent units: how active each is."""

import numpy as np
from markupsafe import Markup

from iwae_tf.plots.activities import LOWEST, THRESHOLD
from iwae_tf.report import svg
from iwae_tf.report.words import small

Activities = list[tuple[np.ndarray, ...] | None]  # of each run, of each layer; None where they are not known


def unit_figures(activities: Activities, letters: str) -> list[tuple[Markup, str]]:
    """For each layer the activities of all runs in falling order, with a caption."""
    depth = max((len(layers) for layers in activities if layers), default=0)
    return [_figure(activities, number, letters, depth) for number in range(depth)]


def _figure(activities: Activities, layer: int, letters: str, depth: int) -> tuple[Markup, str]:
    told = [(run, layers[layer]) for run, layers in enumerate(activities) if layers and len(layers) > layer]
    figure, axes = svg.panel("units, from the most active to the least", "activity (log scale)")
    axes.set_yscale("log")
    smallest = min(values[values > LOWEST].min(initial=THRESHOLD) for _, values in told)
    floor = max(0.4 * smallest, LOWEST)
    axes.set_ylim(floor, 3 * max(THRESHOLD, *(values.max() for _, values in told)))
    axes.axhline(THRESHOLD, color=svg.INK, linewidth=1.0, linestyle=(0, (5, 3)), zorder=1)
    words = []
    for run, values in told:
        _draw(axes, np.sort(values)[::-1], run, floor)
        count = f"{int((values > THRESHOLD).sum())} of {len(values)} active"
        words.append(f"{letters[run]}: {count}" if len(activities) > 1 else count)
    axes.minorticks_off()
    axes.xaxis.get_major_locator().set_params(integer=True)
    name = f"Layer {layer + 1}" + (", nearest x" if layer == 0 else "") if depth > 1 else "Latent units"
    caption = f"{name}: {'; '.join(words)}."
    return svg.inline(figure, f"units-{layer + 1}", f"Activity of the latent units. {caption}"), caption


def _draw(axes, falling, run: int, floor: float) -> None:
    """Filled above the threshold, open below it; what lies below the axis stands on its border."""
    rank, y = np.arange(1, len(falling) + 1), np.maximum(falling, 1.15 * floor)
    active = falling > THRESHOLD
    color, look = svg.SERIES[run], {"marker": svg.MARKERS[run], "markersize": 4.5, "linestyle": "none", "zorder": 3}
    axes.plot(rank[active], y[active], color=color, **look)
    axes.plot(rank[~active], y[~active], markerfacecolor=svg.PAPER, markeredgecolor=color, **look)


def unit_lists(activities: tuple[np.ndarray, ...]) -> list[list[tuple[int, str, bool]]]:
    """Of each layer number, activity and whether active, for every unit, the most active first."""
    return [
        [(int(unit), small(layer[unit]), bool(layer[unit] > THRESHOLD)) for unit in np.argsort(-layer, kind="stable")]
        for layer in activities
    ]
