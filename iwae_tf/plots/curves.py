"""Curves of one run or several: the bound by epoch, L_k by k, and the activity of the latent units."""

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.plots import style

ACTIVE, LOWEST = 0.01, 1e-8  # threshold of Burda et al. (2016); smaller activities are rounding errors


def bounds_figure(
    runs: dict[str, tuple[dict[int, float], dict[int, float]]],
    of: str = "test data",
    log_p: tuple[str, float] | None = None,
) -> Figure:
    """Draws the mean of L_k against k; of a single run also its value below each k.

    Args:
        runs: name of a run -> means of L_k over the rows, and their standard errors (NaN or inf where unknown), both
            by the same k, at least one, in nats.
        of: name of the rows for the title, e.g. "400 test images".
        log_p: name and value of the mean estimate of log p(x), drawn as a line above the bounds; None for none.

    Raises:
        InputError: there is no k, a k is below 1, a bound is not finite, or the standard errors have other k.
    """
    curves = [_checked_bounds(*values) for values in runs.values()]
    notes = ["bars: one standard error either way"] if any(errors.any() for *_, errors in curves) else []
    if any(ks[0] == 1 for ks, *_ in curves):
        notes.append("k = 1: the VAE's bound (ELBO)")
    if log_p is not None:
        name, log_p = log_p
        notes.append(f"line: {name}, {log_p:.2f}")
    figure = style.page(f"Mean L_k over {of}", notes)
    (axes,) = style.panels(figure, [("k, number of samples (log scale)", "mean L_k (nats)")])
    for number, (name, (ks, means, errors)) in enumerate(zip(runs, curves, strict=True)):
        look = {**style.color_and_marker(name, number), "markersize": 5}
        axes.errorbar(ks, means, yerr=errors if errors.any() else None, capsize=3, elinewidth=1, label=name, **look)
    low = min((means - errors).min() for _, means, errors in curves)
    high = max((means + errors).max() for _, means, errors in curves)
    if log_p is not None:
        axes.axhline(log_p, linestyle="--", linewidth=1.2, color=style.SERIES[1])
        low, high = min(low, log_p), max(high, log_p)
    room = max(0.08 * (high - low), 0.15)  # 0.3 nats at least: a smaller range would show noise as a finding
    axes.set_ylim(low - room, high + room)
    ks = np.unique(np.concatenate([ks for ks, *_ in curves]))
    values = [f"\n{style.number(mean)}" for mean in curves[0][1]] if len(runs) == 1 else [""] * len(ks)
    place = np.log(ks / ks[0]) / max(np.log(ks[-1] / ks[0]), 1e-9)
    axes.set_xscale("log")
    axes.set_xlim(*np.exp(np.log(ks[[0, -1]]) + 0.06 * max(np.log(ks[-1] / ks[0]), 1e-2) * np.array([-1, 1])))
    widest = max(len(label.strip()) for label in values) if len(runs) == 1 else 5
    shown = style.spaced(place, max(0.12 if len(runs) == 1 else 0.1, 0.02 * widest))
    axes.set_xticks(ks, [f"{k:.0f}{v}" if s else "" for k, v, s in zip(ks, values, shown, strict=True)])
    axes.minorticks_off()
    style.legend(axes, runs)
    return figure


def _checked_bounds(bounds: dict[int, float], standard_errors: dict[int, float]):
    """Returns k, bounds and standard errors (0 where unknown), float [K] in the order of k; raises `InputError`."""
    if not bounds or sorted(bounds) != sorted(standard_errors):
        raise InputError(
            f"bounds and standard_errors must have the same k, at least one; got bounds for k = {sorted(bounds)} "
            f"and standard errors for k = {sorted(standard_errors)}"
        )
    ks = np.array(sorted(bounds), np.float64)
    means, errors = (np.array([values[k] for k in sorted(bounds)], np.float64) for values in (bounds, standard_errors))
    if ks[0] < 1 or not np.isfinite(means).all():
        raise InputError(f"every k must be at least 1 and every bound finite, got {bounds}")
    return ks, means, np.nan_to_num(errors, posinf=0.0)


def learning_figure(histories: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Draws the bound on training and validation data after each epoch.

    Args:
        histories: name of a run -> columns `epoch`, `bound` and `val_bound`, float [epochs]; NaN where unknown.
    """
    curves = [history[name] for history in histories.values() for name in ("bound", "val_bound")]
    known = np.concatenate(curves)[np.isfinite(np.concatenate(curves))]
    # The axis ends below the bounds after the first twentieth of the epochs: the start would flatten the rest.
    late = np.concatenate([curve[len(curve) // 20 :] for curve in curves])
    low = np.min(late[np.isfinite(late)], initial=known.max(initial=0.0))
    room = max(0.06 * (known.max(initial=low) - low), 0.1)
    below = max(int((curve < low - room).sum()) for curve in curves)
    validated = any(np.isfinite(history["val_bound"]).any() for history in histories.values())
    notes = ["solid: training; " + ("dashed: validation" if validated else "no validation data")]
    if below:
        notes.append(f"below the figure: the first {'epoch' if below == 1 else f'{below} epochs'}")
    if len(histories) > 1:
        notes.append("bounds of different objectives or k do not compare")
    figure = style.page("Mean of the maximised bound by epoch", notes)
    (axes,) = style.panels(figure, [("epoch", "bound (nats)")])
    for number, (name, history) in enumerate(histories.items()):
        look = {
            "color": style.color_and_marker(name, number)["color"],
            "marker": "o" if len(history["epoch"]) < 3 else None,
            "markersize": 4,
        }
        for column, line in (("bound", "-"), ("val_bound", style.DASHED)):
            shown = np.isfinite(history[column])
            label = name if column == "bound" else None
            axes.plot(history["epoch"][shown], history[column][shown], linestyle=line, label=label, **look)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(low - room, known.max(initial=low) + room)
    style.legend(axes, histories)
    return figure


def activities_figure(runs: dict, of: str = "test data", threshold: float = ACTIVE) -> Figure:
    """Draws the activity of every latent unit in falling order on a log axis, one panel a layer.

    Args:
        runs: name of a run -> for each stochastic layer, nearest x first, the variance over x of the units' posterior
            means, float [H_l], H_l >= 1. Values below 1e-8 and estimates below 0 stand at the lower border.
        of: name of the rows, e.g. "400 test images".
        threshold: a unit above it is active.

    Raises:
        InputError: there is no layer, a layer is not [H_l] with H_l >= 1, or a value is not finite.
    """
    runs = {name: [np.sort(np.asarray(a, np.float64))[::-1] for a in layers] for name, layers in runs.items()}
    every = [layer for layers in runs.values() for layer in layers]
    if not all(runs.values()) or not all(a.ndim == 1 and len(a) and np.isfinite(a).all() for a in every):
        raise InputError(f"activities must be one array [H] of finite values for each layer, got {runs!r}")
    counts = {name: [f"{(a > threshold).sum()} of {len(a)}" for a in layers] for name, layers in runs.items()}
    totals = "; ".join(f"{name} {' + '.join(words)}".strip() for name, words in counts.items())
    notes = [
        f"variance over {of} of each unit's posterior mean",
        f"filled: above {threshold:g} (dashed), active: {totals}",
    ]
    floor = max(0.4 * min(layer[layer > LOWEST].min(initial=threshold) for layer in every), LOWEST)
    below = sum(int((layer < floor).sum()) for layer in every)
    if below:
        notes.append(f"at the lower border: {below} units with an activity below {floor:.0e}")
    depth = max(map(len, runs.values()))
    figure = style.page("Activity of the latent units", notes, height=style.BODY * (1 + 0.7 * (depth - 1)))
    names = [f"units of layer {number + 1}, from the most active" for number in range(depth)]
    panels = style.panels(figure, [(name, "activity (log scale)") for name in names], rows=depth)
    for number, (name, layers) in enumerate(runs.items()):
        for axes, layer in zip(panels, layers, strict=False):
            rank, y, active = np.arange(1, len(layer) + 1), np.maximum(layer, 1.15 * floor), layer > threshold
            look = {"linestyle": "none", "zorder": 3, "markersize": 5 if len(layer) <= 60 else 3}
            look |= style.color_and_marker(name, number)
            axes.plot([], [], label=name, **look)
            for shown, face in ((active, None), (~active, style.PAPER)):
                if shown.any():  # an unclipped line without points would take all of the layout
                    axes.plot(rank[shown], y[shown], markerfacecolor=face, clip_on=False, **look)
    for axes in panels:
        axes.axhline(threshold, color=style.INK, linewidth=1.2, linestyle=style.DASHED, zorder=1)
        axes.set_yscale("log")
        axes.set_ylim(floor, 3 * max(threshold, *(layer[0] for layer in every)))
        axes.minorticks_off()
        axes.xaxis.get_major_locator().set_params(integer=True)
    style.legend(panels[0], runs)
    return figure
