"""The backend for TF Serving's gRPC API; importing it imports TensorFlow, whose messages gRPC requests contain."""

import math

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from iwae_tf.data.files import one_line
from iwae_tf.errors import InputError
from iwae_tf.serving.backends import (
    MAX_ANSWER,
    Backend,
    BusyError,
    ModelURL,
    RequestTimeoutError,
    excerpt,
    first_seconds,
    retry,
    shapes,
)


class UnimplementedError(InputError):
    """The server does not implement a call."""


_ERRORS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: RequestTimeoutError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: BusyError,
    grpc.StatusCode.UNAVAILABLE: BusyError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
}
_CHANNEL_OPTIONS = [
    ("grpc.max_reconnect_backoff_ms", 1000),  # gRPC's own 2 minutes are longer than `retry` waits
    ("grpc.max_receive_message_length", MAX_ANSWER),
]


class GrpcBackend(Backend):
    """Predict calls by gRPC, all to the version that the server's first answer names.

    Args: see `iwae_tf.serving.client.ScoringClient`.
    """

    def __init__(self, url: ModelURL, timeout: float, retry_seconds: float):
        self._url, self._timeout, self._retry_seconds = url, timeout, first_seconds(retry_seconds)
        self._channel = grpc.insecure_channel(url.address, options=_CHANNEL_OPTIONS)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self.version = url.version
        self._signatures = self._read_signatures()
        self._retry_seconds = retry_seconds

    def data_dim(self, signature: str) -> int | None:
        dims = self._signatures[signature].inputs["x"].tensor_shape.dim if signature in self._signatures else []
        return dims[1].size if len(dims) == 2 and dims[1].size > 0 else None

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        response = self._call(self._stub.Predict, request, f" (sent {shapes(inputs)})")
        return {name: self._array(name, values) for name, values in response.outputs.items()}

    def close(self) -> None:
        self._channel.close()

    def _array(self, name: str, values) -> np.ndarray:
        """Returns an array of numbers; `make_ndarray` believes any shape, and repeats the last value to fill it."""
        shape = [dim.size for dim in values.tensor_shape.dim]
        try:
            dtype = tf.as_dtype(values.dtype)
            numbers = dtype.is_floating or dtype.is_integer
            if not numbers or min(shape, default=0) < 0 or math.prod(shape) * dtype.size > MAX_ANSWER:
                raise TypeError(f"it is {dtype.name} of shape {shape}")
            return tf.make_ndarray(values)
        except (TypeError, ValueError, IndexError) as error:  # of TensorFlow, too: an unknown type, too few bytes
            raise InputError(
                f"{self._url.base} answered with {name} that is no array of numbers: {one_line(error)}"
            ) from None

    def _read_signatures(self) -> dict:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        try:
            response = self._call(self._stub.GetModelMetadata, request)
        except UnimplementedError:
            return {}
        signatures = get_model_metadata_pb2.SignatureDefMap()
        try:
            response.metadata["signature_def"].Unpack(signatures)
        except DecodeError as error:
            raise InputError(f"{self._url.base} answered with unreadable metadata: {one_line(error)}") from None
        return dict(signatures.signature_def)

    def _call(self, method, request, sent: str = ""):
        spec = request.model_spec
        spec.name = self._url.name
        if self.version is not None:
            spec.version.value = int(self.version)
        elif self._url.label is not None:
            spec.version_label = self._url.label
        response = retry(lambda: self._answer(method, request, sent), self._retry_seconds)
        if self.version is None and response.model_spec.HasField("version"):
            self.version = str(response.model_spec.version.value)
        return response

    def _answer(self, method, request, sent: str):
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            code, details = error.code(), excerpt(error.details() or "")
        hint = ": does a gRPC server run there?" if code == grpc.StatusCode.UNAVAILABLE else ""
        if "larger than max" in details:  # an answer that this client refuses, not a busy server
            code = grpc.StatusCode.OUT_OF_RANGE
        raise _ERRORS.get(code, InputError)(f"{self._url.base} answered {code.name}: {details}{sent}{hint}")
