"""TF Serving's REST API, which the KServe SDK answers as well."""

import json

import numpy as np
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, ReadTimeoutError
from urllib3.util import Retry

from iwae_tf.errors import InputError
from iwae_tf.serving.backend import RequestTimeoutError, shapes
from iwae_tf.serving.model_url import ModelURL

_RETRIES = 6
_RETRIED = (429, 502, 503)  # too many requests, bad gateway, and what TF Serving says while its queue is full
_TIMED_OUT = (408, 504)
_CONNECT_SECONDS = 10.0


class RestBackend:
    """Predict calls in JSON, all to the one version that is chosen when this is made.

    Args:
        url: the model's URL.
        timeout: seconds to wait for an answer.
        retry_seconds: seconds spent waiting between tries, at most.
    """

    bytes_per_value = 22  # float32 values are written with all digits of their float64, at most 21, and a comma

    def __init__(self, url: ModelURL, timeout: float, retry_seconds: float):
        self._base = url.base
        self._address = url.address
        self._timeout = (min(timeout, _CONNECT_SECONDS), timeout)
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_retry(retry_seconds)))
        self.version = self._served_version(url)

    def data_dim(self, signature: str) -> int | None:
        """D, from the server's metadata; None where it has none, as the KServe SDK."""
        try:
            metadata = self._request("GET", self._url() + "/metadata")["metadata"]
            x = metadata["signature_def"]["signature_def"][signature]["inputs"]["x"]
            dim = int(x["tensor_shape"]["dim"][1]["size"])
        except (InputError, KeyError, IndexError, TypeError, ValueError):
            return None
        return dim if dim > 0 else None

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend.predict`."""
        columns = {name: values.tolist() for name, values in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": columns}, separators=(",", ":"))
        answer = self._request("POST", self._url() + ":predict", body, f" (sent {shapes(inputs)})")
        outputs = answer.get("outputs")
        if not isinstance(outputs, dict):
            raise InputError(f"{self._base} answered without outputs: {_excerpt(json.dumps(answer))}")
        return {name: _array(values, name, self._base) for name, values in outputs.items()}

    def close(self) -> None:
        """See `Backend.close`."""
        self._session.close()

    def _url(self) -> str:
        return self._base if self.version is None else f"{self._base}/versions/{self.version}"

    def _served_version(self, url: ModelURL) -> str | None:
        asked = f"/versions/{url.version}" if url.version else f"/labels/{url.label}" if url.label else ""
        states = self._request("GET", self._base + asked).get("model_version_status")
        if states is None:  # a server without versions
            return None
        try:
            available = [int(state["version"]) for state in states if state["state"] == "AVAILABLE"]
            found = ", ".join(f"{state['version']} {state['state']}" for state in states)
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{self._base + asked} answered with a status that cannot be read: {states!r}") from None
        if not available:
            raise InputError(f"{self._base + asked} has no version that is available (it has {found or 'none'})")
        return str(max(available))

    def _request(self, method: str, url: str, body: str | None = None, sent: str = "") -> dict:
        response = self._response(method, url, body)
        if response.status_code in _TIMED_OUT:
            raise RequestTimeoutError(f"{url} answered {response.status_code}: {_message(response)}")
        if not response.ok:
            raise InputError(f"{url} answered {response.status_code}: {_message(response)}{sent}")
        try:
            answer = json.loads(response.content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise InputError(f"{url} answered with something else than a JSON object: {_excerpt(_text(response))}")
        return answer

    def _response(self, method: str, url: str, body: str | None) -> requests.Response:
        headers = {"Content-Type": "application/json"} if body else None
        try:
            return self._session.request(method, url, data=body, headers=headers, timeout=self._timeout)
        except requests.ReadTimeout:
            raise RequestTimeoutError(f"no answer from {self._address} within {self._timeout[1]:g} s") from None
        except requests.ConnectionError as error:
            if error.args and isinstance(error.args[0], ReadTimeoutError):  # in the middle of an answer
                raise RequestTimeoutError(f"no answer from {self._address} within {self._timeout[1]:g} s") from None
            raise InputError(f"no server answers at {self._address} ({_cause(error)}): is it running?") from None
        except requests.RequestException as error:
            raise InputError(f"{url}: {_cause(error)}") from None


class _Retry(Retry):
    """urllib3's own, except that what took too long is not tried again as it was."""

    def increment(self, method=None, url=None, response=None, error=None, _pool=None, _stacktrace=None):
        if isinstance(error, ReadTimeoutError):
            raise error
        # A refused connection is a NewConnectionError, which is a ConnectTimeoutError only in name.
        if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
            raise MaxRetryError(_pool, url, error) from error
        return super().increment(method, url, response, error, _pool, _stacktrace)


def _retry(seconds: float) -> Retry:
    # urllib3 sleeps 0, 2f, 4f, 8f, 16f and 32f before its six retries, and up to the jitter on top of the last five.
    factor = seconds / (62 + 5 * 2)
    return _Retry(
        total=_RETRIES,
        backoff_factor=factor,
        backoff_jitter=2 * factor,
        status_forcelist=_RETRIED,
        allowed_methods=None,  # POST too: a score asked for twice is the same score
        raise_on_status=False,
        respect_retry_after_header=False,  # could ask for hours
    )


def _array(values: object, name: str, where: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "if":
        raise InputError(f"{where} answered with {name} that is no array of numbers: {_excerpt(json.dumps(values))}")
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


def _message(response: requests.Response) -> str:
    """The server's own words: {"error": "..."} as TF Serving and KServe write it, else the body."""
    try:
        return _excerpt(str(json.loads(response.content)["error"]))
    except (ValueError, KeyError, TypeError):
        return _excerpt(_text(response)) or response.reason


def _cause(error: Exception) -> str:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return _excerpt(str(reason or error))


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:300] + "..."


def _text(response: requests.Response) -> str:
    return response.content.decode(errors="replace")  # requests' own `text` guesses encodings
