"""Folders of images: PNG or JPEG files of one size, in the folder itself or in one subfolder for each class."""

import pathlib
from collections.abc import Sequence

import numpy as np

from iwae_tf.data import files
from iwae_tf.data.dataset import SPLITS
from iwae_tf.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg")


def image_paths(folder: pathlib.Path, skipped: Sequence[str] = ()) -> dict[str, list[pathlib.Path]]:
    """Returns the images in a folder under the name "", and those in each subfolder under its name, sorted by name.

    Hidden files and folders, subfolders without images, and those named in `skipped` are left out.

    Raises:
        InputError: there are images both in the folder and in subfolders, or in subfolders of these.
    """
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    places = {"": inside}
    places |= {path.name: sorted(path.iterdir()) for path in inside if path.is_dir() and path.name not in skipped}
    in_classes = [path for name, paths in places.items() if name for path in paths if path.name[0] != "."]
    for path in filter(pathlib.Path.is_dir, in_classes):
        if deeper := next(filter(_is_image, path.rglob("*")), None):
            raise InputError(
                f"{deeper} is too deep in {folder}; expected images in folders train, valid and test, or one for each "
                "class, and no folders in classes: move them"
            )
    found = {name: [path for path in paths if _is_image(path)] for name, paths in places.items()}
    found = {name: paths for name, paths in found.items() if paths}
    if "" in found and len(found) > 1:
        others = ", ".join(name for name in found if name)
        raise InputError(f"{folder} has images both in itself and in {others}: move them to one place")
    return found


def all_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the images of a folder, of its classes, and of its splits, each with or without classes.

    Raises:
        InputError: there are none, or both in a folder and in its subfolders.
    """
    places = [folder, *(folder / split for split in SPLITS if (folder / split).is_dir())]
    classes = [image_paths(place, SPLITS if place == folder else ()) for place in places]
    found = {path for found in classes for paths in found.values() for path in paths}
    if not found:
        raise InputError(f"{folder} holds no PNG or JPEG images, nor do its subfolders: correct the path")
    return sorted(found)


def _is_image(path: pathlib.Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()


def read_images(paths: Sequence[pathlib.Path], shape: tuple[int, ...] = ()) -> np.ndarray:
    """Returns images as uint8 [N, H, W] if all are grey, else [N, H, W, 3].

    Args:
        paths: of the images.
        shape: of the rows of colours that are wanted; with (H, 3 W) grey images get three equal colours too.

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
    height, width = images[0].shape[:2]
    if shape == (height, 3 * width) or any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.stack([image] * 3, axis=-1) for image in images]
    return np.stack(images)


def _read_image(path: pathlib.Path) -> np.ndarray:
    """Returns an image as uint8 [H, W] or [H, W, 3]."""
    import PIL.Image
    import PIL.ImageOps

    with files.reading(path, "a PNG or JPEG image"), PIL.Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise InputError(f"{path} has more than 8 bits a pixel (mode {image.mode}): save it with 8 bits")
        if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            raise InputError(f"{path} has transparent pixels: save it on an opaque background")
        upright = PIL.ImageOps.exif_transpose(image)  # cameras store how they were held
        return np.asarray(upright.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
