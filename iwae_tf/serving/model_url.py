"""Where a model is: a model's URL or folder, taken apart."""

import dataclasses
import re

from iwae_tf.errors import InputError

_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:?#]+))?/?"
_REST = re.compile(r"(?P<base>https?://(?P<address>[^/?#]+)(?:/[^?#]*)?/v1/models/(?P<name>[^/:?#]+))" + _VERSION)
_GRPC = re.compile(r"(?P<base>grpc://(?P<address>[^/?#]+)/(?P<name>[^/:?#]+))" + _VERSION)
_EXAMPLES = {"http": "{}/v1/models/NAME", "https": "{}/v1/models/NAME", "grpc": "{}/NAME"}


@dataclasses.dataclass(frozen=True)
class ModelURL:
    """A model's place.

    Attributes:
        scheme: "http" (REST, with or without TLS), "grpc" or "folder".
        base: the URL without version and label, or the folder as it was given.
        address: host and port of a server; empty for a folder.
        name: the model's name on the server; empty for a folder.
        version: the version that the URL asks for, or None.
        label: the label that the URL asks for, or None.
    """

    scheme: str
    base: str
    address: str = ""
    name: str = ""
    version: str | None = None
    label: str | None = None

    @property
    def needs_tensorflow(self) -> bool:
        """True for folders, and for gRPC, whose messages hold TensorFlow's own."""
        return self.scheme != "http"


def parse_model_url(url: str) -> ModelURL:
    """Takes a model's URL apart.

    Args:
        url: `http(s)://HOST:PORT/v1/models/NAME` or `grpc://HOST:PORT/NAME`, each with `/versions/N` or `/labels/L` at
            its end or without; anything without a scheme is a folder.

    Returns:
        A `ModelURL`; whether a folder is there is not looked at.

    Raises:
        InputError: another scheme, or a URL that names no model.
    """
    url = str(url)
    scheme, colon, rest = url.partition("://")
    if not colon:
        return ModelURL("folder", url)
    if scheme not in _EXAMPLES:
        raise InputError(f"unknown scheme {scheme!r} of {url}; expected http, https or grpc, or the path of a folder")
    match = (_GRPC if scheme == "grpc" else _REST).fullmatch(url)
    if match is None:
        host = f"{scheme}://{re.split('[/?#]', rest)[0] or 'HOST:PORT'}"
        example = _EXAMPLES[scheme].format(host)
        raise InputError(f"{url} is not the URL of a model; expected {example}, or that with /versions/N or /labels/L")
    return ModelURL("grpc" if scheme == "grpc" else "http", **match.groupdict())
