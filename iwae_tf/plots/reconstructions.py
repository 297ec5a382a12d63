"""What the model makes of images it is shown: pairs of original and reconstruction."""

import math
import os

from iwae_tf.errors import InputError
from iwae_tf.plots.image_grid import as_pictures, save_rows

MAX_IMAGES = 20
MAX_COLUMNS = 10
LABELS = ("x", "mean of p(x|h)")


def save_reconstructions(
    path: str | os.PathLike, originals, reconstructions, image_shape: tuple[int, int], title: str
) -> None:
    """Writes the first 20 images as one PNG, each with its reconstruction beneath; 0 is black, 1 is white.

    Args:
        path: the file to write; its folder exists.
        originals: float [N, D] in [0, 1], N >= 1.
        reconstructions: float [N, D] in [0, 1], the mean of p(x|h) for an h drawn from q(h|x).
        image_shape: (height, width) with height * width = D; images wider than 4 times their height stand in one
            column, all others in at most 10.
        title: the line above.

    Raises:
        InputError: a shape does not fit, the two differ, there is no image, or a value is outside [0, 1].
    """
    above = as_pictures(originals, image_shape, "originals")
    beneath = as_pictures(reconstructions, image_shape, "reconstructions")
    if len(above) != len(beneath):
        raise InputError(
            f"every original needs its reconstruction, got {len(above)} originals and {len(beneath)} reconstructions"
        )
    count = min(len(above), MAX_IMAGES)
    height, width = image_shape
    most = 1 if width > 4 * height else MAX_COLUMNS
    columns = math.ceil(count / math.ceil(count / most))  # 12 images stand as 6 + 6, not as 10 + 2
    blocks = [slice(start, min(start + columns, count)) for start in range(0, count, columns)]
    rows = [pictures[block] for block in blocks for pictures in (above, beneath)]
    save_rows(path, rows, title, labels=LABELS * len(blocks), block=2)
