"""What the model draws: a sheet of images."""

import math
import os

from iwae_tf.plots.image_grid import as_pictures, cell_size, save_rows

MAX_IMAGES = 100


def save_samples(path: str | os.PathLike, images, image_shape: tuple[int, int], title: str) -> None:
    """Writes the first 100 of `images` as one PNG, in a sheet about as wide as high; 0 is black, 1 is white.

    Args:
        path: the file to write; its folder exists.
        images: float [N, D] in [0, 1], N >= 1, e.g. the means of p(x|h) for h drawn from the prior.
        image_shape: (height, width) with height * width = D; (1, D) draws every row as a band.
        title: the line above the sheet.

    Raises:
        InputError: the shape does not fit, there is no image, or a value is outside [0, 1].
    """
    pictures = as_pictures(images, image_shape)[:MAX_IMAGES]
    count = len(pictures)
    height, width = cell_size(image_shape, math.ceil(math.sqrt(count)))
    columns = min(count, math.ceil(math.sqrt(count * height / width)))
    save_rows(path, [pictures[start : start + columns] for start in range(0, count, columns)], title)
