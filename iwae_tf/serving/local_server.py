"""TensorFlow Serving's REST predict call for a SavedModel, by the KServe SDK: serving without Docker.

KServe is the server; this module converts the JSON of a predict call to arrays and back. It is a subset of TensorFlow
Serving: one model, its newest version when the server starts, no batching, no version or label routes.
"""

import asyncio
import json
import logging
import socket
import warnings
from pathlib import Path

import numpy as np

from iwae_tf.errors import InputError, unknown_name
from iwae_tf.serving.model_folder import load


def bind(host: str, port: int) -> socket.socket:
    """Reserves a port without listening on it, so that a taken port is found before the model is loaded.

    Args:
        host: the address, e.g. 127.0.0.1, or 0.0.0.0 for all addresses of this machine.
        port: the port; 0 takes a free one.

    Raises:
        InputError: the port is not available.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a port stays taken for a minute after its use
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise _port_error(host, port, error) from None
    return listener


def serve(name: str, version: Path, listener: socket.socket) -> None:
    """Serves a version until SIGINT or SIGTERM; prints the URL to stdout once it answers.

    Args:
        name: the model's name in the URL.
        version: the folder of the SavedModel.
        listener: from `bind`.

    Raises:
        InputError: the SavedModel cannot be loaded, or another server has begun to listen on the port since `bind`.
    """
    server = _server(name, load(version))
    host, port = listener.getsockname()[:2]
    try:
        listener.listen()
    except OSError as error:
        raise _port_error(host, port, error) from None
    host = f"[{host}]" if ":" in host else host
    print(f"serving {version} at http://{host}:{port}/v1/models/{name}", flush=True)
    server.run(sockets=[listener])


def predict(body: bytes, signatures: dict) -> str:
    """Answers one predict call of TensorFlow Serving's REST API.

    Args:
        body: JSON with `signature_name` (default: `serving_default`) and the inputs, by row as `instances` or by
            column as `inputs`.
        signatures: the functions of a loaded SavedModel by name.

    Returns:
        JSON with `predictions`, one for each row, or with `outputs`. NaN and infinity are bare, as TensorFlow Serving
        writes them; the digits of a number restore its float32.

    Raises:
        InputError: the body is not JSON or does not fit the signature.
    """
    request = _parsed(body)
    name = request.get("signature_name", "serving_default")
    if not isinstance(name, str) or name not in signatures:
        raise unknown_name("signature", name, signatures)
    signature = signatures[name]
    specs = signature.structured_input_signature[1]
    by_row = "instances" in request
    columns = _columns_of_rows(request["instances"], specs) if by_row else _named(request["inputs"], specs, "inputs")
    inputs = {key: _array(key, columns[key], spec) for key, spec in specs.items()}
    rows = {key: len(value) for key, value in inputs.items()}
    if len(set(rows.values())) > 1:
        raise InputError(f"inputs must have the same number of rows, got {rows}")
    outputs = {key: value.numpy().tolist() for key, value in signature(**inputs).items()}
    single = len(outputs) == 1  # a single output comes without its name
    if not by_row:
        return json.dumps({"outputs": next(iter(outputs.values())) if single else outputs})
    rows_out = zip(*outputs.values(), strict=True)
    return json.dumps({"predictions": [r[0] if single else dict(zip(outputs, r, strict=True)) for r in rows_out]})


def _parsed(body: bytes) -> dict:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is no JSON: {error}") from None
    if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
        raise InputError('the request must be a JSON object with either "instances" (rows) or "inputs" (columns)')
    return request


def _columns_of_rows(rows, specs: dict) -> dict:
    if not isinstance(rows, list) or not rows:
        raise InputError('"instances" must be a list with at least one row')
    named = [_named(row, specs, f"instances[{number}]") for number, row in enumerate(rows)]
    return {key: [row[key] for row in named] for key in specs}


def _named(values, specs: dict, place: str) -> dict:
    """Returns values by the names of the signature's inputs; a single input may come without its name."""
    if not isinstance(values, dict) and len(specs) == 1:
        return dict.fromkeys(specs, values)
    if not isinstance(values, dict) or values.keys() != specs.keys():
        got = ", ".join(sorted(values)) if isinstance(values, dict) else "no names"
        raise InputError(f"{place} must have the inputs {', '.join(sorted(specs))}, got {got}")
    return values


def _array(name: str, values, spec) -> np.ndarray:
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    shape = ", ".join("rows" if size is None else str(size) for size in spec.shape)
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(f"{name} must have shape [{shape}], got rows of different lengths") from None
    if not spec.shape.is_compatible_with(array.shape) or not len(array):
        raise InputError(f"{name} must have shape [{shape}], got {list(array.shape)}")
    if array.dtype.kind not in ("iuf" if dtype.kind == "f" else "iu"):
        raise InputError(f"{name} must hold {'numbers' if dtype.kind == 'f' else 'integers'} ({dtype})")
    if dtype.kind == "i" and not np.iinfo(dtype).min <= array.min() <= array.max() <= np.iinfo(dtype).max:
        raise InputError(f"{name} holds integers outside the range of {dtype}")
    with np.errstate(over="ignore"):  # a number above 3.4e38 becomes inf, and its row gets a status
        return array.astype(dtype)


def _port_error(host: str, port: int, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"cannot listen on {host} port {port}: {reason}; give another --port or --host")


def _server(name: str, saved_model):
    """Returns KServe's REST server with the model, without gRPC, worker processes and access log."""
    from kserve import Model, ModelRepository
    from kserve.errors import InvalidInput
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import RESTServer

    class RawBodies(DataPlane):
        def decode(self, body, headers, *args, **kwargs):
            return body, {}  # KServe's JSON reader refuses NaN, a value of x like any other

    class SavedModel(Model):
        async def predict(self, payload, headers=None, response_headers=None):
            response_headers["content-type"] = "application/json"
            try:
                # In a thread, so that the server answers other calls at the same time.
                return await asyncio.to_thread(predict, payload, saved_model.signatures)
            except InputError as error:
                raise InvalidInput(" ".join(str(error).split())) from None

    logging.getLogger("kserve").setLevel(logging.CRITICAL)  # it logs a traceback for every refused request
    warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")  # KServe's use of FastAPI
    models = ModelRepository()
    model = SavedModel(name, return_response_headers=True)
    model.load()
    models.update(model)
    return RESTServer("kserve.model_server:app", RawBodies(models), ModelRepositoryExtension(models), http_port=0)
