"""The folder of an exported model: its versions, which one counts, and whether a version is whole."""

import hashlib
import json
from pathlib import Path

from iwae_tf.errors import InputError

SAVED_MODEL = "saved_model.pb"
PROVENANCE = Path("assets.extra") / "provenance.json"


def versions(directory: Path) -> list[int]:
    """The versions in a model's folder, rising: subfolders with a number for a name, as TensorFlow Serving has it."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())


def find_version(path: Path) -> tuple[str, Path]:
    """Finds a version to load.

    Args:
        path: a model's folder (`export/models/NAME`), of which the newest version counts, or one of its versions.

    Returns:
        The model's name and the version's folder.

    Raises:
        InputError: (a `ValueError`) if there is no SavedModel.
    """
    if not path.is_dir():
        raise InputError(f"there is no folder {path}; give that of an exported model, e.g. export/models/digits")
    path = path.resolve()
    if (path / SAVED_MODEL).exists():
        return (path.parent.name if path.name.isdecimal() else path.name), path
    numbers = versions(path)
    if not numbers:
        raise InputError(f"{path} holds no version (a subfolder 1, 2, ...); export/export_model.py writes one")
    newest = next(folder for folder in path.iterdir() if folder.name.isdecimal() and int(folder.name) == numbers[-1])
    if not (newest / SAVED_MODEL).exists():
        raise InputError(f"{newest} is no SavedModel, it has no {SAVED_MODEL}; export the model again")
    return path.name, newest


def load(version: Path):
    """The SavedModel in a version's folder; its `signatures` live as long as it does. Imports TensorFlow.

    Raises:
        InputError: (a `ValueError`) if it is damaged: its files are not those whose checksum the export wrote down, or
            TensorFlow cannot read them.
    """
    import tensorflow as tf

    if (version / PROVENANCE).exists():
        try:
            written = json.loads((version / PROVENANCE).read_text())["checksum"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{version / PROVENANCE} cannot be read; export the model again") from None
        if written != checksum(version):
            raise InputError(f"{version} is damaged: its files have changed since the export; export the model again")
    try:
        return tf.saved_model.load(str(version))
    except Exception as error:  # TensorFlow raises whatever its readers do
        raise InputError(f"{version} cannot be loaded as a SavedModel: {error}") from None


def checksum(version: Path) -> str:
    """sha256 over names and contents of all files of a version but the provenance, which holds it."""
    digest = hashlib.sha256()
    for path in sorted(path for path in version.rglob("*") if path.is_file()):
        name = path.relative_to(version)
        if name != PROVENANCE:
            content = path.read_bytes()
            digest.update(f"{name.as_posix()}\0{len(content)}\0".encode() + content)
    return f"sha256:{digest.hexdigest()}"
