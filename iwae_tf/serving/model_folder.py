"""Folders of exported models: versions, checksums, loading, and the backend that scores without a server.

TensorFlow is imported when a version is loaded.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from iwae_tf.data.files import one_line
from iwae_tf.errors import InputError
from iwae_tf.serving.backends import Backend, ModelURL, shapes

SAVED_MODEL = "saved_model.pb"
PROVENANCE = Path("assets.extra") / "provenance.json"


def versions(directory: Path) -> dict[int, Path]:
    """Returns the versions in a model's folder and their folders, which have a number for a name as in TF Serving."""
    return {int(path.name): path for path in directory.iterdir() if path.name.isdecimal() and path.is_dir()}


def find_version(path: Path) -> tuple[str, Path]:
    """Returns the model's name and the folder of the version to load.

    Args:
        path: a model's folder (`export/models/NAME`), whose newest version is taken, or the folder of a version.

    Raises:
        InputError: there is no SavedModel.
    """
    if not path.is_dir():
        raise InputError(f"there is no folder {path}; give that of an exported model, e.g. export/models/digits")
    path = path.resolve()
    if (path / SAVED_MODEL).exists():
        return (path.parent.name if path.name.isdecimal() else path.name), path
    found = versions(path)
    if not found:
        raise InputError(f"{path} holds no version (a subfolder 1, 2, ...); python -m iwae_tf export writes one")
    newest = found[max(found)]
    if not (newest / SAVED_MODEL).exists():
        raise InputError(f"{newest} is no SavedModel, it has no {SAVED_MODEL}; export the model again")
    return path.name, newest


def trained_data(folder: Path) -> dict | None:
    """Returns what is recorded of the data that a model was trained on, section "data" of the run's `config.json`.

    Args:
        folder: of a run, of an exported model, or of a version of it. Imports no TensorFlow.

    Returns:
        The section; None for a model that was exported without its run.

    Raises:
        InputError: the folder is none of these, or its record cannot be read.
    """
    is_run = (folder / "config.json").is_file()
    path = folder / "config.json" if is_run else find_version(folder)[1] / PROVENANCE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        content = content if is_run else content["config"]
        return None if content is None or "data" not in content else dict(content["data"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path} cannot be read; export the model again") from None


class LoadedSignature:
    """A function of a loaded SavedModel, called by the names of inputs that a server takes.

    TensorFlow's loader for Python calls inputs by arguments: names of columns such as "mean radius" are none.

    Attributes:
        inputs: name -> `tf.TensorSpec`.
    """

    def __init__(self, function, name: str, inputs: Mapping[str, Any]):
        arguments = {key: info.name.removeprefix(f"{name}_").removesuffix(":0") for key, info in inputs.items()}
        specs = function.structured_input_signature[1]
        if set(arguments.values()) != set(specs):  # of another exporter
            arguments = dict(zip(specs, specs, strict=True))
        self.inputs = {key: specs[argument] for key, argument in arguments.items()}
        self._function, self._arguments = function, arguments

    def __call__(self, /, **inputs) -> dict:  # a column may be called self
        return self._function(**{self._arguments[key]: value for key, value in inputs.items()})


class LoadedModel(NamedTuple):
    """A loaded SavedModel; keep `model` as long as the signatures are used."""

    model: Any
    signatures: dict[str, LoadedSignature]


def load(version: Path) -> LoadedModel:
    """Loads the SavedModel in a version's folder.

    Raises:
        InputError: its files do not have the checksum that the export wrote, its graph has operations that may touch
            files, processes or Python, or TensorFlow cannot read them.
    """
    from iwae_tf.serving.operations import refused_operations

    verified_checksum(version)
    graph = _meta_graph(version)
    refused = refused_operations(graph)
    if refused:
        raise InputError(
            f"{version} is refused before it is loaded: a model is code, and this one has {', '.join(refused)}, which "
            "may touch files, processes or Python; expected a model that iwae-tf exported"
        )
    import tensorflow as tf

    try:
        model, definitions = tf.saved_model.load(str(version)), graph.signature_def
        return LoadedModel(
            model, {n: LoadedSignature(f, n, definitions[n].inputs) for n, f in model.signatures.items()}
        )
    except Exception as error:  # TensorFlow's readers raise errors of many types
        raise InputError(f"{version} cannot be loaded as a SavedModel: {one_line(error)}") from None


def refused_in(version: Path) -> list[str]:
    """Returns the operations of a SavedModel that may touch files, processes or Python; loads and runs nothing of it.

    Raises:
        InputError: the file cannot be read, or is of TensorFlow 1.
    """
    from iwae_tf.serving.operations import refused_operations

    return refused_operations(_meta_graph(version))


def _meta_graph(version: Path):
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        graphs = saved_model_pb2.SavedModel.FromString((version / SAVED_MODEL).read_bytes()).meta_graphs
    except DecodeError as error:
        raise InputError(f"{version} cannot be loaded as a SavedModel: {one_line(error)}") from None
    # Anything else TensorFlow loads as a model of TensorFlow 1, and runs its initialisation.
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise InputError(f"{version} cannot be loaded as a SavedModel: it is none of TensorFlow 2")
    return graphs[0]


def verified_checksum(version: Path) -> str:
    """Returns the checksum of a version, over the files that its export wrote; files added since do not matter.

    Raises:
        InputError: one of those files has changed or is missing.
    """
    if not (version / PROVENANCE).exists():  # of another exporter
        return checksum(version)
    try:
        provenance = json.loads((version / PROVENANCE).read_text())
        written, names = provenance["checksum"], provenance.get("files")
        found = checksum(version, names)
    except FileNotFoundError as error:
        raise InputError(f"{version} is damaged: {error.filename} is missing; export the model again") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{version / PROVENANCE} cannot be read; export the model again") from None
    if written != found:
        raise InputError(f"{version} is damaged: its files have changed since the export; export the model again")
    return found


def checksum(version: Path, names: list[str] | None = None) -> str:
    """Returns the sha256 of names and contents of files of a version; None for `files_of(version)`."""
    digest = hashlib.sha256()
    for name in files_of(version) if names is None else names:
        content = (version / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"sha256:{digest.hexdigest()}"


def files_of(version: Path) -> list[str]:
    """Returns the names of all files of a version except the provenance, which stores their checksum."""
    found = (path.relative_to(version) for path in sorted(version.rglob("*")) if path.is_file())
    return [name.as_posix() for name in found if name != PROVENANCE]


class FolderBackend(Backend):
    """The signatures of a SavedModel, loaded into this process.

    Args:
        url: the folder of a model, whose newest version is taken, or of a version.
    """

    def __init__(self, url: ModelURL):
        folder = Path(url.base)
        if not folder.is_dir():
            raise InputError(
                f"there is no folder {folder}; expected http://HOST:8501/v1/models/NAME, grpc://HOST:8500/NAME or a "
                "model's folder such as export/models/NAME"
            )
        self._path = find_version(folder)[1]
        self.version = self._path.name if self._path.name.isdecimal() else None
        self.checksum = verified_checksum(self._path)
        self._model = load(self._path)

    def data_dim(self, signature: str) -> int | None:
        x = self._signature(signature).inputs.get("x")  # None in a model of another exporter
        return x.shape[1] if x is not None and x.shape.rank == 2 else None

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        function = self._signature(signature)
        names = function.inputs
        if set(names) != set(inputs):
            raise InputError(f"signature {signature} of {self._path} takes {', '.join(names)}, got {', '.join(inputs)}")
        try:
            outputs = function(**{name: tf.constant(values) for name, values in inputs.items()})
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise InputError(f"{self._path}: {signature}: {one_line(error)} (sent {shapes(inputs)})") from error
        return {name: values.numpy() for name, values in outputs.items()}

    def _signature(self, name: str) -> LoadedSignature:
        signatures = self._model.signatures
        if name not in signatures:
            raise InputError(f"{self._path} has no signature {name!r}; it has {', '.join(signatures)}")
        return signatures[name]
