"""Folders of images: PNG or JPEG files of one size, in the folder itself or in subfolders train, valid and test."""

import pathlib
from collections.abc import Sequence

import numpy as np

from iwae_tf.data import files
from iwae_tf.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg")


def image_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the images in a folder, sorted by name, without its subfolders and hidden files."""
    paths = (path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith("."))
    return sorted(path for path in paths if path.is_file())


def read_images(paths: Sequence[pathlib.Path]) -> np.ndarray:
    """Returns images as uint8 [N, H, W] if all are grey, else [N, H, W, 3].

    Raises:
        InputError: a file cannot be read, or has another size, 16 bits or transparent pixels.
    """
    images = [_read_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            sizes = [f"{shape[1]}x{shape[0]} pixels" for shape in (images[0].shape, image.shape)]
            raise InputError(
                f"{path} has {sizes[1]} and {paths[0]} has {sizes[0]}; expected one size: resize or crop the images"
            )
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.stack([image] * 3, axis=-1) for image in images]
    return np.stack(images)


def _read_image(path: pathlib.Path) -> np.ndarray:
    """Returns an image as uint8 [H, W] or [H, W, 3]."""
    import PIL.Image

    with files.reading(path, "a PNG or JPEG image"), PIL.Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise InputError(f"{path} has more than 8 bits a pixel (mode {image.mode}): save it with 8 bits")
        if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            raise InputError(f"{path} has transparent pixels: save it on an opaque background")
        grey = image.mode in ("1", "L", "LA")
        return np.asarray(image.convert("L" if grey else "RGB"))
