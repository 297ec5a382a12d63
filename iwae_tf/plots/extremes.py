"""The images that a model finds likeliest and those it finds least likely."""

import math
import os
import textwrap

import numpy as np

from iwae_tf.errors import InputError
from iwae_tf.plots.bounds import words
from iwae_tf.plots.image_grid import (
    CHARACTER,
    GAP,
    INK,
    LINE,
    MARGIN,
    MIN_WIDTH,
    PAPER,
    QUIET,
    as_pictures,
    cell_size,
    paste,
    write_page,
)

EACH = 10
SCORE = 18  # height of the line under an image, in output pixels
MIN_CELL = 66  # the width of a score, in output pixels
BEST, WORST = "highest log p(x), in nats", "lowest log p(x), in nats"


def save_extremes(
    path: str | os.PathLike, images, log_likelihood, image_shape: tuple[int, int] | None, title: str
) -> None:
    """Writes the 10 best and the 10 worst scored images with their scores as one PNG; 0 is black, 1 is white.

    Of fewer than 20 images the better half stands above and the worse below. A score of NaN counts as the worst.

    Args:
        path: the file to write; its folder exists.
        images: float [N, D] in [0, 1], N >= 1.
        log_likelihood: float [N], in nats.
        image_shape: (height, width) with height * width = D; (1, D) draws every row as a band. None for rows that are
            no images: nothing is written.
        title: the line above.

    Raises:
        InputError: a shape does not fit, there is no image, or a value is outside [0, 1].
    """
    if image_shape is None:
        return
    pictures, scores = as_pictures(images, image_shape), np.asarray(log_likelihood, np.float64)
    if scores.shape != (len(pictures),):
        raise InputError(f"every image needs its score, got {len(pictures)} images and scores of shape {scores.shape}")
    _write(path, pictures, scores, extremes(scores), title)


def extremes(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the best scores, highest first, and of the worst, lowest first: each int [n], n <= 10, none in both."""
    order = np.argsort(np.where(np.isnan(scores), -np.inf, scores), kind="stable")
    order = np.concatenate([order[np.isnan(scores[order])], order[~np.isnan(scores[order])]])
    half = len(scores) // 2
    return order[::-1][: min(EACH, len(scores) - half)], order[: min(EACH, half)]


def _write(path, pictures, scores, rows_of, title: str) -> None:
    """Lays the two blocks of cells out below the title, in rows of at most 10 cells that fit the page."""
    image_shape = pictures.shape[1:]
    most = 1 if image_shape[1] > 4 * image_shape[0] else EACH
    height, width = cell_size(image_shape, most)
    step = max(width + GAP, MIN_CELL)
    columns = min(most, len(rows_of[0]))
    page_width = max(2 * MARGIN + columns * step, MIN_WIDTH)
    lines = textwrap.wrap(title, int((page_width - 2 * MARGIN) / CHARACTER))
    texts = [(MARGIN, MARGIN + LINE * i, line, INK, 10.5, "top") for i, line in enumerate(lines)]
    top, cells = MARGIN + LINE * len(lines) + 4, []
    for name, rows in zip((BEST, WORST), rows_of, strict=True):
        if not len(rows):
            continue
        texts.append((MARGIN, top, name, QUIET, 9.5, "top"))
        top += LINE + 4
        for place, row in enumerate(rows):
            left, upper = MARGIN + place % columns * step, top + place // columns * (height + SCORE + 4)
            cells.append((row, upper, left))
            texts.append((left, upper + height + 4, _score(scores[row]), INK, 9, "top"))
        top += math.ceil(len(rows) / columns) * (height + SCORE + 4) + 8
    page = np.full((top + MARGIN - 8, page_width, 3), PAPER)
    for row, upper, left in cells:
        paste(page, pictures[row], upper, left, height, width)
    write_page(path, page, texts)


def _score(value: float) -> str:
    return "no score" if np.isnan(value) else words(value)
