"""The pictures of runs, side by side: samples, reconstructions, interpolations, best and worst scored images."""

import dataclasses

import numpy as np

from iwae_tf.plots.extremes import extremes
from iwae_tf.report.png import drawable, png
from iwae_tf.report.record import Record
from iwae_tf.report.words import number

COLUMNS = 10
KINDS = {
    "Samples": "Means of p(x | h) for h drawn from the prior.",
    "Reconstructions": "Above in each pair of rows: test images as they were scored. Below: the mean of p(x | h) at "
    "the mean of q(h | x).",
    "Interpolation": "Left and right: two test images. Between them: means of p(x | h) on the straight line between "
    "their posterior means, in the layer nearest x.",
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image of the page: a data URI, its size in pixels, and what it shows in words."""

    uri: str
    width: int
    height: int
    alt: str


@dataclasses.dataclass(frozen=True)
class Scored:
    """A test image with its score and the standard error of that; no picture where rows are no images."""

    row: int
    score: str
    error: str
    picture: Picture | None


def grids(pictures, image_shape) -> dict[str, Picture]:
    """The pictures of `KINDS` that there are; none where rows are no images.

    Args:
        pictures: a `ModelPictures`.
        image_shape: (height, width).
    """
    if not drawable(image_shape):
        return {}
    found = {"Samples": _grid(_rows(pictures.samples), image_shape, f"{len(pictures.samples)} samples of the model")}
    if pictures.x_test is not None:
        above, below = (_rows(x) for x in (pictures.x_test[: len(pictures.reconstructions)], pictures.reconstructions))
        rows = [row for pair in zip(above, below, strict=True) for row in pair]
        alt = f"{len(pictures.reconstructions)} test images, each above its reconstruction"
        found["Reconstructions"] = _grid(rows, image_shape, alt, block=2)
        alt = f"{len(pictures.interpolations)} rows, each from one test image to another by way of the model's own"
        found["Interpolation"] = _grid(list(pictures.interpolations), image_shape, alt)
    return found


def best_and_worst(record: Record, x: np.ndarray | None) -> dict[str, list[Scored]]:
    """The test images of the highest and of the lowest log p(x); empty where no scores of images are kept.

    Args:
        record: the run.
        x: the test images, [N, D]; None, or rows that are no images, leave scores without pictures.
    """
    if record.scores is None:
        return {}
    scores = record.scores
    if x is not None and not (len(x) == len(scores.log_likelihood) and drawable(record.config["data"]["image_shape"])):
        x = None
    rows = dict(zip(("Best", "Worst"), extremes(scores.log_likelihood), strict=True))
    return {name: [_scored(record, int(row), x) for row in found] for name, found in rows.items() if len(found)}


def _scored(record: Record, row: int, x: np.ndarray | None) -> Scored:
    value, error = record.scores.log_likelihood[row], record.scores.standard_error[row]
    picture = None
    if x is not None:
        alt = f"Test image {row}, log p(x) {number(value)} nats"
        picture = _grid([x[row : row + 1]], record.config["data"]["image_shape"], alt)
    return Scored(row, number(value), number(error) if np.isfinite(error) else "not known", picture)


def _rows(images: np.ndarray) -> list[np.ndarray]:
    return [images[start : start + COLUMNS] for start in range(0, len(images), COLUMNS)]


def _grid(rows, image_shape, alt: str, block: int = 1) -> Picture:
    return Picture(*png(rows, tuple(image_shape), block), alt)
