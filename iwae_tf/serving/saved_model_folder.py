"""A SavedModel's folder asked without a server; importing this imports TensorFlow."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from iwae_tf.data.files import one_line
from iwae_tf.errors import InputError
from iwae_tf.serving.backend import shapes
from iwae_tf.serving.model_folder import find_version, load
from iwae_tf.serving.model_url import ModelURL


class FolderBackend:
    """The signatures of a SavedModel, loaded into this process.

    Args:
        url: a folder of versions, of which the newest is taken, or the folder of one version.
    """

    bytes_per_value = 4

    def __init__(self, url: ModelURL):
        path = _version_folder(Path(url.base))
        self.version = path.name if path.name.isdecimal() else None
        self._path = path
        self._model = load(path)  # kept: its signatures do not outlive it

    def data_dim(self, signature: str) -> int | None:
        """D, from the signature."""
        return self._signature(signature).structured_input_signature[1]["x"].shape[1]

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend.predict`."""
        function = self._signature(signature)
        names = function.structured_input_signature[1]
        if set(names) != set(inputs):
            raise InputError(f"signature {signature} of {self._path} takes {', '.join(names)}, got {', '.join(inputs)}")
        try:
            outputs = function(**{name: tf.constant(values) for name, values in inputs.items()})
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise InputError(f"{self._path}: {signature}: {one_line(error)} (sent {shapes(inputs)})") from error
        return {name: values.numpy() for name, values in outputs.items()}

    def close(self) -> None:
        """See `Backend.close`."""

    def _signature(self, name: str):
        signatures = self._model.signatures
        if name not in signatures:
            raise InputError(f"{self._path} has no signature {name!r}; it has {', '.join(signatures)}")
        return signatures[name]


def _version_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}; expected http://HOST:8501/v1/models/NAME, grpc://HOST:8500/NAME or a "
            "model's folder such as export/models/NAME"
        )
    return find_version(folder)[1]
