"""TensorFlow Serving's REST predict call for a SavedModel, by the KServe SDK: serving without Docker.

KServe is the server; this module converts the JSON of a predict call to arrays and back. It is a subset of TensorFlow
Serving: one model, its newest version when the server starts, no batching, no version or label routes.
"""

import asyncio
import json
import logging
import os
import socket
import sys
import threading
import warnings
from pathlib import Path

import numpy as np

from iwae_tf.errors import InputError, unknown_name
from iwae_tf.serving.client import as_integers
from iwae_tf.serving.model_folder import LoadedSignature, load

GRACE_SECONDS = 8  # from SIGINT or SIGTERM to the end of the process; Docker kills after 10, Kubernetes after 30
REQUEST_SECONDS = 4  # of that for open requests; TensorFlow takes seconds to end


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

    After the signal new connections are refused, and the process ends within `GRACE_SECONDS`.

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


def predict(body: bytes, signatures: dict[str, LoadedSignature]) -> str:
    """Answers one predict call of TensorFlow Serving's REST API.

    Args:
        body: JSON with `signature_name` (default: `serving_default`) and the inputs, by row as `instances` or by
            column as `inputs`.
        signatures: those of a loaded model by name.

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
    specs = signature.inputs
    by_row = "instances" in request
    columns = _columns_of_rows(request["instances"], specs) if by_row else _named(request["inputs"], specs, "inputs")
    inputs = {
        key: _text(key, columns[key]) if spec.dtype.name == "string" else _array(key, columns[key], spec)
        for key, spec in specs.items()
    }
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
        request = json.loads(body, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is no JSON: {error}") from None
    if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
        raise InputError('the request must be a JSON object with either "instances" (rows) or "inputs" (columns)')
    return request


def _integer(text: str) -> int | float:
    """Returns an integer, or the nearest float of one with more digits than int64 has: NumPy has no type for it."""
    return int(text) if len(text.lstrip("-")) <= 19 else float(text)


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


def _text(name: str, values) -> np.ndarray:
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise InputError(f"{name} must hold text, one for each row, empty where one is missing")
    # As bytes, because NumPy's text ends at zeros; half a surrogate pair, which JSON may have, equals no category.
    return np.array([value.encode(errors="surrogatepass") for value in values], object)


def _array(name: str, values, spec) -> np.ndarray:
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    shape = ", ".join("rows" if size is None else str(size) for size in spec.shape)
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(f"{name} must have shape [{shape}], got rows of different lengths") from None
    if not spec.shape.is_compatible_with(array.shape) or not len(array):
        raise InputError(f"{name} must have shape [{shape}], got {list(array.shape)}")
    if dtype.kind == "i":
        return as_integers(name, array, dtype)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name} must hold numbers, and NaN where one is missing ({dtype})")
    with np.errstate(over="ignore"):  # a number above 3.4e38 becomes inf, and its row gets a status
        return array.astype(dtype)


def _port_error(host: str, port: int, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"cannot listen on {host} port {port}: {reason}; give another --port or --host")


def _server(name: str, saved_model):
    """Returns a server of KServe's V1 routes with the model, without access log."""
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse
    from kserve import Model, ModelRepository
    from kserve.errors import InvalidInput, ModelNotFound
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.rest.v1_endpoints import register_v1_endpoints
    from starlette.exceptions import HTTPException

    class RawBodies(DataPlane):
        def decode(self, body, headers, *args, **kwargs):
            return body, {}  # KServe's JSON reader refuses NaN, a value of x like any other

        def encode(self, model_name, response, headers, *args, **kwargs):
            return response, {}  # KServe would encode the JSON once more after headers of a CloudEvent

    class SavedModel(Model):
        async def predict(self, payload, headers=None, response_headers=None):
            response_headers["content-type"] = "application/json"
            try:
                # In a thread, so that the server answers other calls at the same time.
                return await asyncio.to_thread(predict, payload, saved_model.signatures)
            except InputError as error:
                raise InvalidInput(" ".join(str(error).split())) from None

    class Server(uvicorn.Server):
        def handle_exit(self, sig, frame):
            logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it logs a traceback for every open request
            super().handle_exit(sig, frame)
            # A score that is being computed cannot be interrupted, and Python would wait for its thread.
            timer = threading.Timer(GRACE_SECONDS, _end_at_once, [sig])
            timer.daemon = True
            timer.start()

    logging.getLogger("kserve").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")  # KServe's use of FastAPI
    models = ModelRepository()
    model = SavedModel(name, return_response_headers=True)
    model.load()
    models.update(model)
    app = FastAPI(openapi_url=None)
    register_v1_endpoints(app, RawBodies(models), None)

    def answers(kind: type, status: int | None, text=str) -> None:
        def handler(request, error):
            return JSONResponse({"error": " ".join(text(error).split())}, status or error.status_code)

        app.add_exception_handler(kind, handler)

    answers(InvalidInput, 400)
    answers(ModelNotFound, 404)
    answers(NotImplementedError, 501)
    answers(HTTPException, None, lambda error: f"{error.detail}: POST to /v1/models/{name}:predict")
    answers(Exception, 500, lambda error: f"{type(error).__name__}: {error}")
    return Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=REQUEST_SECONDS))


def _end_at_once(number: int) -> None:
    print("stopped while requests were open", file=sys.stderr, flush=True)
    os._exit(128 + number)
