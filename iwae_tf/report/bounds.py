"""L_k against k of runs in one figure, and as a table."""

from markupsafe import Markup

from iwae_tf.plots.bounds import check_bounds
from iwae_tf.report import svg
from iwae_tf.report.record import Record
from iwae_tf.report.words import ABSENT, number, with_error


def bounds_figure(records: list[Record], letters: str) -> Markup | None:
    """Mean L_k of the test images against k, with bars of one standard error; None where no run is evaluated."""
    told = [(place, check_bounds(*_bounds(record))) for place, record in enumerate(records) if record.metrics]
    if not told:
        return None
    figure, axes = svg.panel("k, samples per image (log scale)", "mean L_k on the test images (nats)")
    ends = []
    for place, (ks, means, errors) in told:
        look = {"color": svg.SERIES[place], "marker": svg.MARKERS[place], "markersize": 5, "linewidth": 1.6}
        axes.errorbar(ks, means, yerr=errors, capsize=3, elinewidth=1.0, **look)
        ends.append((ks[-1], means[-1], place))
    _set_axes(axes, [values for _, values in told])
    if len(records) > 1:
        svg.name_ends(axes, ends, letters)
    words = [
        f"{f'run {letters[place]}: ' if len(records) > 1 else ''}from {number(means[0])} nats at k = {ks[0]:.0f} "
        f"to {number(means[-1])} nats at k = {ks[-1]:.0f}"
        for place, (ks, means, _) in told
    ]
    return svg.inline(figure, "bounds", f"L_k against k. {'; '.join(words)}.")


def bounds_table(records: list[Record]) -> list[tuple[str, list[str]]]:
    """A row for each k: mean L_k with its standard error in each run."""
    found = [_bounds(record) if record.metrics else ({}, {}) for record in records]
    return [
        (f"{k:,}", [with_error(means[k], errors[k], 3) if k in means else ABSENT for means, errors in found])
        for k in sorted({k for means, _ in found for k in means})
    ]


def _bounds(record: Record) -> tuple[dict, dict]:
    return record.metrics["bounds"], record.metrics["bound_standard_errors"]


def _set_axes(axes, values) -> None:
    ks = sorted({float(k) for of_run, _, _ in values for k in of_run})
    axes.set_xscale("log")
    axes.set_xlim(ks[0] / 1.5, ks[-1] * 1.5)
    axes.set_xticks(ks, [f"{k:.0f}" for k in ks])
    axes.minorticks_off()
    low = min((means - errors).min() for _, means, errors in values)
    high = max((means + errors).max() for _, means, errors in values)
    room = max(0.08 * (high - low), 0.15)  # at least 0.3 nats in all, or noise would look like a finding
    axes.set_ylim(low - room, high + room)
