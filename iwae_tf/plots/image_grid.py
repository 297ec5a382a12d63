"""Grids of small images. Pixels are copied, not resampled: a pixel of an image is a sharp rectangle of the figure."""

import math

import numpy as np
from matplotlib.figure import Figure

from iwae_tf.errors import InputError
from iwae_tf.plots import style

FRAME = (112, 135, 166)  # not a grey, so that it is never taken for a pixel
# Lengths are pixels of a PNG file, two a layout unit.
MARGIN, GAP, BLOCK_GAP = 32, 4, 24  # around the grid; between images; more between blocks of rows
PAGE, MIN_PAGE = 936, 656  # width of the images in a row; of the smallest grid, which leaves room for a title
MIN_BAND, MAX_CELL, MAX_SIDE = 40, 320, 2000  # a row of numbers is drawn as a band, one of 20,000 numbers thinned
CAPTION, CHARACTER = 36, 15  # height of a caption; width of a letter


def as_pictures(images, image_shape: tuple[int, ...], name: str = "images") -> np.ndarray:
    """Returns float [N, D] images in [0, 1] as [N, height, width], or [N, height, width, 3].

    Args:
        images: float [N, D], N >= 1, values in [0, 1].
        image_shape: (height, width) with height * width = D, or (height, width, 3) with 3 * height * width = D.
        name: of the images in an error.

    Raises:
        InputError: the shape does not fit, there is no image, or a value is outside [0, 1] or NaN.
    """
    images = np.asarray(images, dtype=np.float64)
    size = math.prod(image_shape)
    if images.ndim != 2 or len(images) == 0 or images.shape[1] != size:
        colours = " of 3 colours" if len(image_shape) == 3 else ""
        raise InputError(
            f"{name} of shape {images.shape} cannot be drawn as {image_shape[0]} x {image_shape[1]} pixels{colours}: "
            f"expected [N, {size}] with N >= 1; flatten every image to one row"
        )
    return _in_range(images, name).reshape(-1, *image_shape)


def _in_range(images: np.ndarray, name: str) -> np.ndarray:
    if not (images.min() >= 0.0 and images.max() <= 1.0):  # also true for NaN
        raise InputError(
            f"{name} must have values in [0, 1], got {images.min():.6g} to {images.max():.6g}; "
            "divide grey values by their largest possible value"
        )
    return images


def as_grey(images, x=None) -> np.ndarray:
    """Returns images as grey values in [0, 1], float64 of their shape.

    Args:
        images: any shape; values outside the range are cut off, as those of a Gaussian's mean may be, and NaN is black.
        x: rows whose range of values becomes that from black to white; None for values in [0, 1].
    """
    low, high = (0.0, 1.0) if x is None else (np.nanmin(x), np.nanmax(x))
    values = (np.asarray(images, np.float64) - low) / max(high - low, 1e-9)
    return np.clip(np.nan_to_num(values), 0.0, 1.0)


def cell_size(image_shape: tuple[int, ...], columns: int) -> tuple[int, int]:
    """Returns height and width in pixels of an image in a row of `columns`."""
    image_shape = image_shape[:2]
    scale = max(1, min(PAGE // columns - GAP, MAX_CELL) // max(image_shape))
    least = MIN_BAND if min(image_shape) == 1 else 1
    height, width = (min(max(side * scale, least), MAX_SIDE) for side in image_shape)
    return height, width


def grid_figure(rows, title: str, labels=(), block: int = 1, captions=(), notes=()) -> Figure:
    """Draws rows of images, white for 1 and black for 0.

    Args:
        rows: list of arrays [n, height, width] or, with colours, [n, height, width, 3] with values in [0, 1], all of
            one image shape.
        title: the first line.
        labels: a word at the left of each row, or nothing.
        block: number of rows that belong together; a wider gap follows them.
        captions: for each row a word below each image, or nothing.
        notes: smaller lines below the title.

    Raises:
        InputError: a value is outside [0, 1] or NaN.
    """
    rows = [_in_range(np.asarray(row, np.float64), "rows") for row in rows]
    columns = max(map(len, rows))
    height, width = cell_size(rows[0].shape[1:], columns)
    longest = max((len(word) for words in captions for word in words), default=0)
    step, line = max(width + GAP, math.ceil(longest * CHARACTER) + 16), CAPTION if captions else 0
    left = MARGIN + (math.ceil(max(map(len, labels)) * CHARACTER) + 12 if len(labels) else 0)
    wider = BLOCK_GAP if block > 1 else 0
    tops = [GAP + row * (height + GAP + line) + row // block * wider for row in range(len(rows))]
    page_width = max(left + columns * step + MARGIN, MIN_PAGE)
    canvas = np.full((tops[-1] + height + line + MARGIN, page_width + page_width % 2, 3), 255, np.uint8)
    canvas = np.pad(canvas, ((0, len(canvas) % 2), (0, 0), (0, 0)), constant_values=255)
    for top, row in zip(tops, rows, strict=True):
        for column, image in enumerate(row):
            _paste(canvas, image, top, left + column * step, height, width)
    units = np.array(canvas.shape[:2]) * style.UNIT / style.DPI
    figure = style.page(title, notes, width=units[1], height=units[0])
    figure.set_layout_engine("none")  # the axes cover whole pixels
    axes = figure.add_axes((0, 0, 1, units[0] / (figure.get_figheight() * style.UNIT)))
    axes.imshow(canvas, aspect="auto", interpolation="none")
    axes.set_axis_off()
    for top, label in zip(tops, labels, strict=len(labels) > 0):
        axes.text(MARGIN, top + height / 2, label, color=style.QUIET, fontsize=style.SMALL, va="center_baseline")
    for top, words in zip(tops, captions, strict=len(captions) > 0):
        for column, word in enumerate(words):
            where = (left + column * step, top + height + 8)
            axes.text(*where, word, color=style.INK, fontsize=style.SMALL, va="top")
    return figure


def _paste(canvas: np.ndarray, image: np.ndarray, top: int, left: int, height: int, width: int) -> None:
    """Draws `image` with its frame on the canvas; each pixel of the cell is the nearest pixel of the image."""
    canvas[top - GAP : top + height + GAP, left - GAP : left + width + GAP] = FRAME
    rows, columns = (np.arange(n) * size // n for n, size in zip((height, width), image.shape[:2], strict=True))
    pixels = image[rows[:, None], columns]
    canvas[top : top + height, left : left + width] = np.round(
        255 * (pixels if pixels.ndim == 3 else pixels[..., None])
    )


def samples_figure(images, image_shape: tuple[int, ...], title: str = "Means of p(x | h), h from the prior") -> Figure:
    """Draws the first 100 images in a grid about as wide as high.

    Args:
        images: float [N, D] in [0, 1], N >= 1, e.g. the means of p(x | h) for h drawn from the prior.
        image_shape: see `as_pictures`; (1, D) draws each row as a band.
        title: the first line.

    Raises:
        InputError: the shape does not fit, there is no image, or a value is outside [0, 1].
    """
    pictures = as_pictures(images, image_shape)[:100]
    height, width = cell_size(image_shape, math.ceil(math.sqrt(len(pictures))))
    columns = min(len(pictures), math.ceil(math.sqrt(len(pictures) * height / width)))
    return grid_figure(_chunks(pictures, columns), title)


def reconstructions_figure(
    originals, reconstructions, image_shape: tuple[int, ...], title: str = "Test images and their reconstructions"
) -> Figure:
    """Draws the first 20 images, each above its reconstruction.

    Args:
        originals: float [N, D] in [0, 1], N >= 1.
        reconstructions: float [N, D] in [0, 1], the mean of p(x | h) at the mean of q(h | x).
        image_shape: see `as_pictures`; images wider than 4 times their height stand in one
            column, others in at most 10.
        title: the first line.

    Raises:
        InputError: a shape does not fit, the numbers differ, there is no image, or a value is outside [0, 1].
    """
    above = as_pictures(originals, image_shape, "originals")
    below = as_pictures(reconstructions, image_shape, "reconstructions")
    if len(above) != len(below):
        raise InputError(
            f"every original needs its reconstruction, got {len(above)} originals and {len(below)} reconstructions"
        )
    count = min(len(above), 20)
    columns = math.ceil(count / math.ceil(count / _most_columns(image_shape)))  # 12 images stand as 6 + 6
    pairs = zip(_chunks(above[:count], columns), _chunks(below[:count], columns), strict=True)
    rows = [row for pair in pairs for row in pair]
    return grid_figure(rows, title, ("x", "mean of p(x|h)") * (len(rows) // 2), block=2)


def extremes_figure(images, log_likelihood, image_shape: tuple[int, ...] | None, of: str = "test images"):
    """Draws the 10 images with the highest and the 10 with the lowest log p(x), each above its score.

    Of fewer than 20 images the better half stands above and the worse half below. NaN counts as the worst score.

    Args:
        images: float [N, D] in [0, 1], N >= 1.
        log_likelihood: float [N], in nats.
        image_shape: see `as_pictures`; (1, D) draws each row as a band. None draws nothing,
            for rows that are no images.
        of: name of the images for the title, e.g. "400 test images".

    Returns:
        The figure, or None without an image shape.

    Raises:
        InputError: a shape does not fit, there is no image, or a value is outside [0, 1].
    """
    if image_shape is None:
        return None
    pictures, scores = as_pictures(images, image_shape), np.asarray(log_likelihood, np.float64)
    if scores.shape != (len(pictures),):
        raise InputError(f"every image needs its score, got {len(pictures)} images and scores of shape {scores.shape}")
    groups = [_chunks(rows, _most_columns(image_shape)) for rows in extremes(scores) if len(rows)]
    labels = [name for name, rows in zip(("highest", "lowest"), groups, strict=False) for _ in rows]
    chunks = [chunk for rows in groups for chunk in rows]
    captions = [["no score" if np.isnan(scores[row]) else style.number(scores[row]) for row in c] for c in chunks]
    title = f"Highest and lowest log p(x) of {of}, in nats"
    return grid_figure([pictures[chunk] for chunk in chunks], title, labels, len(groups[0]), captions)


def extremes(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows of the best scores, highest first, and of the worst, lowest first: int [n], n <= 10, disjoint."""
    order = np.lexsort((np.where(np.isnan(scores), -np.inf, scores), ~np.isnan(scores)))  # NaN first, then rising
    half = len(scores) // 2
    return order[::-1][: min(10, len(scores) - half)], order[: min(10, half)]


def _chunks(values, size: int) -> list:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _most_columns(image_shape: tuple[int, ...]) -> int:
    return 1 if image_shape[1] > 4 * image_shape[0] else 10
