"""Grids of small images as PNG in the text of a page."""

import base64
import io

import numpy as np
from matplotlib.image import imsave

from iwae_tf.plots.image_grid import as_pictures

SIDE, GAP, BLOCK_GAP = 56, 3, 11  # output pixels: an image's longer side at least; between images; between blocks
FRAME = (128, 128, 128, 110)  # parts black images from a black page and white ones from a white page


def drawable(image_shape) -> bool:
    """Whether rows of pixels are pictures: of two sides, both longer than one pixel."""
    return len(image_shape) == 2 and min(image_shape) > 1


def png(rows, image_shape: tuple[int, int], block: int = 1) -> tuple[str, int, int]:
    """A grid of images as a data URI, with its width and height in pixels; 0 is black, 1 is white.

    Args:
        rows: list of float arrays [n, D], n <= len(rows[0]); values outside [0, 1] are drawn as 0 and 1.
        image_shape: (height, width) with height * width = D.
        block: so many rows belong together; a wider gap follows them.
    """
    pictures = [as_pictures(np.clip(np.nan_to_num(np.asarray(row, np.float64)), 0.0, 1.0), image_shape) for row in rows]
    scale = -(-SIDE // max(image_shape))
    height, width = (side * scale for side in image_shape)
    tops = [GAP + i * (height + GAP) + i // block * (BLOCK_GAP - GAP if block > 1 else 0) for i in range(len(rows))]
    page = np.zeros((tops[-1] + height + GAP, GAP + len(rows[0]) * (width + GAP), 4), np.uint8)
    for top, row in zip(tops, pictures, strict=True):
        for column, picture in enumerate(row):
            left = GAP + column * (width + GAP)
            page[top - GAP : top + height + GAP, left - GAP : left + width + GAP] = FRAME
            grey = np.round(255 * picture).astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
            page[top : top + height, left : left + width, :3] = grey[..., None]
            page[top : top + height, left : left + width, 3] = 255
    return _data_uri(page), page.shape[1], page.shape[0]


def _data_uri(page: np.ndarray) -> str:
    file = io.BytesIO()
    imsave(file, page, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
