"""Addresses of models, the interface of all backends, and the backend for TF Serving's REST API.

The REST backend imports no TensorFlow. `iwae_tf.serving.model_folder` and `iwae_tf.serving.grpc_backend` hold the
others.
"""

import contextlib
import json
import queue
import random
import re
import reprlib
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from iwae_tf.errors import InputError

_VERSION = r"(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:?#]+))?/?"
_URLS = {  # scheme -> pattern, and the form without version for error messages
    "http": (r"(?P<base>https?://(?P<address>[^/?#]+)(?:/[^?#]*)?/v1/models/(?P<name>[^/:?#]+))", "/v1/models/NAME"),
    "grpc": (r"(?P<base>grpc://(?P<address>[^/?#]+)/(?P<name>[^/:?#]+))", "/NAME"),
}
_CONNECT_SECONDS = 10.0
_FIRST_SECONDS = 5.0  # of waiting for a server that has never answered
MAX_ANSWER = 1 << 28  # bytes of an answer; that to the largest request of scores has 60 kB
_BUSY = (429, 502, 503)  # too many requests, bad gateway, and TF Serving's status while its queue is full
_TIMED_OUT = (408, 504)
_BACK_OFF = (0, 2, 4, 8, 16, 32)  # relative waits before each retry

Result = TypeVar("Result")


class RequestTimeoutError(Exception):
    """A request took longer than the server or the client allows; one with fewer rows may succeed."""


class BusyError(InputError):
    """The server is down or overloaded; the same request may succeed later."""


class ModelURL(NamedTuple):
    """The address of a model; version and label are None if the URL asks for none."""

    scheme: str  # "http" (REST, with or without TLS), "grpc" or "folder"
    base: str  # the URL without version and label, or the path of the folder
    address: str = ""  # host and port of a server
    name: str = ""  # the model's on the server
    version: str | None = None
    label: str | None = None


def parse_model_url(url: str) -> ModelURL:
    """Parses the address of a model; whether a folder exists is not checked.

    Args:
        url: `http(s)://HOST:PORT/v1/models/NAME` or `grpc://HOST:PORT/NAME`, optionally followed by `/versions/N` or
            `/labels/L`; a text without a scheme is a folder.

    Raises:
        InputError: another scheme, or a URL that names no model.
    """
    scheme, colon, rest = url.partition("://")
    if not colon:
        return ModelURL("folder", url)
    kind = "http" if scheme == "https" else scheme
    if kind not in _URLS:
        raise InputError(f"unknown scheme {scheme!r} of {url}; expected http, https or grpc, or the path of a folder")
    pattern, form = _URLS[kind]
    match = re.fullmatch(pattern + _VERSION, url)
    if match is None:
        example = f"{scheme}://{re.split('[/?#]', rest)[0] or 'HOST:PORT'}{form}"
        raise InputError(f"{url} is not the URL of a model; expected {example}, or that with /versions/N or /labels/L")
    return ModelURL(kind, **match.groupdict())


class Backend:
    """A connection to a model.

    Attributes:
        version: the version that every request asks for; None if the server has no versions or has not named one yet.
        checksum: of the model's files; None on a server.
        bytes_per_value: size of a float in a request.
    """

    version: str | None
    checksum: str | None = None
    bytes_per_value = 4

    def data_dim(self, signature: str) -> int | None:
        """Returns D, the number of values of a row, or None if the server does not tell."""
        raise NotImplementedError

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls a signature: arrays by name, each with a leading batch axis, as inputs and as outputs.

        Raises:
            RequestTimeoutError: the request took too long.
            InputError: for all other failures.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Closes the connections."""


def shapes(inputs: dict[str, np.ndarray]) -> str:
    """Returns names and shapes of inputs for error messages, e.g. "x [8, 784]"."""
    return ", ".join(f"{name} {list(values.shape)}" for name, values in inputs.items())


def retry(call: Callable[[], Result], seconds: float) -> Result:
    """Returns `call()`, tried up to 7 times while it raises `BusyError`.

    Args:
        call: makes a request.
        seconds: upper limit of the time spent waiting between tries, by exponential back-off with jitter.
    """
    for wait in _BACK_OFF:
        try:
            return call()
        except BusyError:
            time.sleep(seconds * wait / sum(_BACK_OFF) * random.uniform(0.5, 1.0))
    return call()


def first_seconds(retry_seconds: float) -> float:
    """Returns the seconds to spend on waiting between tries of a client's first request.

    A server that has never answered may not exist, so it is given up sooner than one that has stopped to answer.
    """
    return min(retry_seconds, _FIRST_SECONDS)


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """Returns `call()`; raises `queue.Empty` after `seconds`, while the call goes on in a thread that nobody waits for.

    The time-outs of a socket start anew with every byte.
    """
    done = queue.SimpleQueue()

    def work():
        try:
            done.put((call(), None))
        except BaseException as error:  # is raised below
            done.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    result, error = done.get(timeout=seconds)
    if error is not None:
        raise error
    return result


class RestBackend(Backend):
    """TF Serving's REST API, which the KServe SDK implements as well: JSON requests, all to one version.

    Args: see `iwae_tf.serving.client.ScoringClient`.
    """

    bytes_per_value = 22  # a float32 is written with the digits of its float64, at most 21, and a comma

    def __init__(self, url: ModelURL, timeout: float, retry_seconds: float):
        self._url, self._timeout, self._retry_seconds = url, timeout, first_seconds(retry_seconds)
        self._session = requests.Session()
        self.version = self._available_version()
        self._retry_seconds = retry_seconds

    def data_dim(self, signature: str) -> int | None:
        try:  # the KServe SDK has no metadata
            definitions = self._request(self._versioned("/metadata"))["metadata"]["signature_def"]["signature_def"]
            dim = int(definitions[signature]["inputs"]["x"]["tensor_shape"]["dim"][1]["size"])
        except (RequestTimeoutError, KeyError, IndexError, TypeError, ValueError, OverflowError):
            return None
        return dim if dim > 0 else None

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        columns = {name: values.tolist() for name, values in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": columns}, separators=(",", ":"))
        answer = self._request(self._versioned(":predict"), body, f" (sent {shapes(inputs)})")
        outputs = answer.get("outputs")
        if not isinstance(outputs, dict):
            raise InputError(f"{self._url.base} answered without outputs: {excerpt(reprlib.repr(answer))}")
        return {name: self._array(name, values) for name, values in outputs.items()}

    def close(self) -> None:
        self._session.close()

    def _versioned(self, route: str) -> str:
        return route if self.version is None else f"/versions/{self.version}{route}"

    def _available_version(self) -> str | None:
        version, label = self._url.version, self._url.label
        route = f"/versions/{version}" if version else f"/labels/{label}" if label else ""
        states = self._request(route).get("model_version_status")
        if states is None:  # a server without versions
            return None
        try:
            available = [_version(state["version"]) for state in states if state["state"] == "AVAILABLE"]
            found = excerpt(", ".join(f"{state['version']} {state['state']}" for state in states)) or "none"
        except (KeyError, TypeError, ValueError, RecursionError):
            unreadable = reprlib.repr(states)
            raise InputError(f"{self._url.base + route} answered with an unreadable status: {unreadable}") from None
        if not available:
            raise InputError(f"{self._url.base + route} has no version that is available (it has {found})")
        return str(max(available))

    def _request(self, route: str, body: str | None = None, sent: str = "") -> dict:
        url = self._url.base + route
        content = retry(lambda: self._content(url, body, sent), self._retry_seconds)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise InputError(f"{url} answered with something else than a JSON object: {excerpt(content)}")
        return answer

    def _content(self, url: str, body: str | None, sent: str) -> bytes:
        """Returns the body of an answer that is no error, whole within the time-out."""
        begun = threading.Event()
        try:
            status, reason, content = within(self._timeout, lambda: self._read(url, body, begun))
        except (requests.RequestException, HTTPError) as error:  # HTTPError: of a host name that is none
            raise self._failure(url, error) from None
        except queue.Empty:
            if not begun.is_set():
                raise self._silent() from None
            raise InputError(
                f"the answer of {self._url.address} began but did not end within {self._timeout:g} s: raise the "
                "time-out by --timeout if the network is slow"
            ) from None
        if status < 400:
            return content
        kind = RequestTimeoutError if status in _TIMED_OUT else BusyError if status in _BUSY else InputError
        raise kind(f"{url} answered {status}: {_message(content) or reason}{sent}")

    def _read(self, url: str, body: str | None, begun: threading.Event) -> tuple[int, str, bytes]:
        method, headers = ("POST", {"Content-Type": "application/json"}) if body else ("GET", None)
        timeout = (min(self._timeout / 2, _CONNECT_SECONDS), self._timeout)
        with self._session.request(method, url, data=body, headers=headers, timeout=timeout, stream=True) as response:
            begun.set()
            content = bytearray()
            for chunk in response.iter_content(1 << 16):
                content += chunk
                if len(content) > MAX_ANSWER:
                    raise InputError(f"{url} answered with more than {MAX_ANSWER >> 20} MiB: send fewer rows")
            return response.status_code, response.reason, bytes(content)

    def _silent(self) -> RequestTimeoutError:
        return RequestTimeoutError(f"no answer from {self._url.address} within {self._timeout:g} s")

    def _failure(self, url: str, error: requests.RequestException | HTTPError) -> Exception:
        cause = error.args[0] if error.args else error
        cause = getattr(cause, "reason", cause)
        if isinstance(error, requests.ReadTimeout) or isinstance(cause, ReadTimeoutError):  # before or in an answer
            return self._silent()
        if not isinstance(error, requests.ConnectionError):
            return InputError(f"{url}: {excerpt(str(cause))}")
        # A host that drops packets costs 10 s a try, so only refused and reset connections are retried.
        kind = InputError if isinstance(error, requests.ConnectTimeout) else BusyError
        return kind(f"no server answers at {self._url.address} ({excerpt(str(cause))}): is it running?")

    def _array(self, name: str, values: object) -> np.ndarray:
        with contextlib.suppress(ValueError, RecursionError):  # rows of different lengths, lists in lists without end
            array = np.asarray(values)
            if array.dtype.kind == "f":
                with np.errstate(over="ignore"):  # a number above 3.4e38 becomes inf
                    return array.astype(np.float32)
            if array.dtype.kind == "i" and np.array_equal(array, array.astype(np.int32)):
                return array.astype(np.int32)
        given = excerpt(reprlib.repr(values))
        raise InputError(f"{self._url.base} answered with {name} that is no array of numbers: {given}")


def _version(text: object) -> int:
    """Returns a version that a server names; raises `ValueError` if it cannot stand in a URL."""
    if not re.fullmatch(r"\d{1,18}", str(text), re.ASCII):
        raise ValueError(text)
    return int(str(text))


def _message(content: bytes) -> str:
    """Returns the server's error, {"error": "..."} of TF Serving and KServe, else the body."""
    try:
        return excerpt(str(json.loads(content)["error"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return excerpt(content)


def excerpt(text: str | bytes) -> str:
    """Returns the beginning of a server's words as one line for an error message, without control characters."""
    text = text[:1000].decode(errors="replace") if isinstance(text, bytes) else text[:1000]
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 300 else line[:300] + "..."
