"""Learning curves of runs in one figure."""

import numpy as np
from markupsafe import Markup

from iwae_tf.report import svg
from iwae_tf.report.record import Record
from iwae_tf.report.words import number

BOUNDS = (("bound", "training", "-"), ("val_bound", "validation", (0, (4, 2))))


def learning_figure(records: list[Record], letters: str) -> tuple[Markup, str] | None:
    """The bound on training and validation images after each epoch, with a caption; None where there is no epoch."""
    told = [(place, record) for place, record in enumerate(records) if len(record.history["epoch"])]
    if not told:
        return None
    figure, axes = svg.panel("epoch", "bound (nats)")
    ends = [_draw(axes, place, record.history) for place, record in told]
    axes.xaxis.get_major_locator().set_params(integer=True)
    below = _cut(axes, [record.history for _, record in told])
    if len(records) > 1:
        svg.name_ends(axes, ends, letters)
    validated = any(np.isfinite(record.history["val_bound"]).any() for _, record in told)
    caption = "The bound that is maximised, mean over the images after each epoch: solid on the training images, " + (
        "dashed on the validation images." if validated else "alone, since there are no validation images."
    )
    if len(records) > 1:
        caption += " Bounds of different objectives or k do not compare."
    if below:
        caption += f" The first {'epoch lies' if below == 1 else f'{below} epochs lie'} below the figure."
    return svg.inline(figure, "learning", _alt(told, letters if len(records) > 1 else "")), caption


def _draw(axes, place: int, history) -> tuple[float, float, int]:
    """Both curves; returns where the last point of the one that is drawn last lies."""
    color, end = svg.SERIES[place], (np.nan, np.nan)
    marker = "o" if len(history["epoch"]) < 3 else None
    for name, _, style in BOUNDS:
        known = np.isfinite(history[name])
        if known.any():
            x, y = history["epoch"][known], history[name][known]
            axes.plot(x, y, color=color, linestyle=style, linewidth=1.6, marker=marker, markersize=4)
            end = (x[-1], y[-1])
    return *end, place


def _cut(axes, histories) -> int:
    """Ends the axis below the bounds after the first twentieth of the epochs; returns how many epochs lie below."""
    curves = [history[name] for history in histories for name, *_ in BOUNDS]
    late = np.concatenate([curve[len(curve) // 20 :] for curve in curves])
    late, every = late[np.isfinite(late)], np.concatenate(curves)
    if not len(late):
        return 0
    high = np.nanmax(np.where(np.isfinite(every), every, -np.inf))
    room = max(0.06 * (high - late.min()), 0.1)
    axes.set_ylim(late.min() - room, high + room)
    return max(int((curve < late.min() - room).sum()) for curve in curves)


def _alt(told, letters: str) -> str:
    words = []
    for place, record in told:
        name, history = f"run {letters[place]}: " if letters else "", record.history
        parts = [
            f"{title} from {number(values[0])} to {number(values[-1])} nats"
            for column, title, _ in BOUNDS
            if len(values := history[column][np.isfinite(history[column])])
        ]
        words.append(f"{name}{len(history['epoch'])} epochs, {', '.join(parts)}")
    return f"Learning curves. {'; '.join(words)}."
