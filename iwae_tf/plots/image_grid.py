"""Rows of small images on one page: pixels are copied, not resampled, and only the words are drawn.

A page is an array of colours in output pixels. Every image becomes a cell of the same size, a whole multiple of
the image's own size where it fits, so that a pixel of the image is a sharp rectangle of the picture.
"""

import math
import os
import textwrap

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.errors import InputError

DPI = 100
INK, QUIET = "#202020", "#606060"  # colours of title and labels
PAPER, FRAME = (1.0, 1.0, 1.0), (0.44, 0.53, 0.65)  # the frame is no grey, so that it is never taken for a pixel
MARGIN, GAP, BLOCK_GAP = 14, 2, 13  # output pixels; a gap is filled by the frame; BLOCK_GAP parts blocks of rows
LINE, CHARACTER = 19, 8.5  # height of a line and mean width of a character of the title, in output pixels
LABEL_CHARACTER = 7.0  # the same width for a row's label
MIN_WIDTH = 360  # a single image still leaves room for its title
MIN_SIDE, MAX_SIDE = 20, 1000  # of a cell: an image of one row is drawn as a band, a row of 20,000 is thinned


def as_pictures(images, image_shape: tuple[int, int], name: str = "images") -> np.ndarray:
    """Returns float [N, D] images in [0, 1] as [N, height, width].

    Args:
        images: float [N, D], N >= 1, values in [0, 1].
        image_shape: (height, width) with height * width = D.
        name: what to call the images in an error.

    Raises:
        InputError: the shape does not fit, there is no image, or a value is outside [0, 1] or not a number.
    """
    images = np.asarray(images, dtype=np.float64)
    height, width = image_shape
    if images.ndim != 2 or len(images) == 0 or images.shape[1] != height * width:
        raise InputError(
            f"{name} of shape {images.shape} cannot be drawn as {height} x {width} pixels: "
            f"expected [N, {height * width}] with N >= 1; flatten every image to one row"
        )
    if not (images.min() >= 0.0 and images.max() <= 1.0):  # written so that nan fails too
        raise InputError(
            f"{name} must have values in [0, 1], got {images.min():.6g} to {images.max():.6g}; "
            "divide grey values by their largest possible value"
        )
    return images.reshape(-1, height, width)


def cell_size(image_shape: tuple[int, int], columns: int) -> tuple[int, int]:
    """Height and width in output pixels of an image where `columns` of them stand side by side."""
    target = min(max(840 // columns, 84), 196)
    scale = max(1, target // max(image_shape))
    height, width = (min(max(side * scale, MIN_SIDE), MAX_SIDE) for side in image_shape)
    return height, width


def row_tops(count: int, first: int, height: int, block: int) -> list[int]:
    """The upper edge of every row in output pixels; after every `block` rows of more than one comes a wider gap."""
    wider = BLOCK_GAP - GAP if block > 1 else 0
    return [first + row * (height + GAP) + row // block * wider for row in range(count)]


def save_rows(path: str | os.PathLike, rows, title: str, labels=(), block: int = 1) -> None:
    """Writes rows of images as one PNG, white for 1 and black for 0.

    Args:
        path: the file to write.
        rows: list of arrays [n, height, width] with values in [0, 1], n <= len(rows[0]); all of one image shape.
        title: the line above, wrapped to the width of the page.
        labels: one word or line for the left of every row, or nothing.
        block: so many rows belong together; a wider gap follows them.
    """
    height, width = cell_size(rows[0].shape[1:], len(rows[0]))
    left = MARGIN + (math.ceil(max(map(len, labels)) * LABEL_CHARACTER) + 8 if labels else 0)
    page_width = max(left + len(rows[0]) * (width + GAP) - GAP + MARGIN, MIN_WIDTH)
    lines = textwrap.wrap(title, int((page_width - 2 * MARGIN) / CHARACTER))
    tops = row_tops(len(rows), MARGIN + LINE * len(lines) + 6, height, block)
    page = np.full((tops[-1] + height + MARGIN, page_width, 3), PAPER)
    for top, row in zip(tops, rows, strict=True):
        for column, image in enumerate(row):
            paste(page, image, top, left + column * (width + GAP), height, width)
    words = [(MARGIN, MARGIN + LINE * i, line, INK, 10.5, "top") for i, line in enumerate(lines)]
    middles = [top + height / 2 for top in tops[: len(labels)]]
    words += [(MARGIN, y, label, QUIET, 9, "center_baseline") for y, label in zip(middles, labels, strict=True)]
    write_page(path, page, words)


def paste(page: np.ndarray, image: np.ndarray, top: int, left: int, height: int, width: int) -> None:
    """Draws `image` with its frame on the page: the nearest pixel of the image for every pixel of the cell."""
    page[top - GAP : top + height + GAP, left - GAP : left + width + GAP] = FRAME
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    page[top : top + height, left : left + width] = image[rows[:, None], columns, None]


def write_page(path: str | os.PathLike, page: np.ndarray, words) -> None:
    """Writes a page [height, width, 3] with words (x, y, text, colour, size, vertical alignment) upon it."""
    height, width, _ = page.shape
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.figimage(np.round(page * 255).astype(np.uint8))
    for x, y, text, color, size, align in words:
        where = {"x": x / width, "y": 1 - y / height}
        figure.text(s=text, color=color, fontsize=size, va=align, parse_math=False, **where)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})  # no version: the same bytes everywhere
