"""TF Serving's gRPC API; importing this imports TensorFlow, whose messages it is made of."""

import json

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from iwae_tf.errors import InputError
from iwae_tf.serving.backend import RequestTimeoutError, shapes
from iwae_tf.serving.model_url import ModelURL


class GrpcBackend:
    """Predict calls by gRPC, all to the one version that the server's first answer names.

    Args:
        url: the model's URL.
        timeout: seconds to wait for an answer.
        retry_seconds: seconds spent waiting between tries, at most.
    """

    bytes_per_value = 4

    def __init__(self, url: ModelURL, timeout: float, retry_seconds: float):
        self._url = url
        # gRPC's deadline is for all tries together.
        self._seconds = timeout + retry_seconds
        self._channel = grpc.insecure_channel(url.address, options=_channel_options(retry_seconds))
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self.version = url.version
        self._signatures = self._metadata()

    def data_dim(self, signature: str) -> int | None:
        """D, from the server's metadata; None where it has none."""
        dims = self._signatures[signature].inputs["x"].tensor_shape.dim if signature in self._signatures else []
        return dims[1].size if len(dims) == 2 and dims[1].size > 0 else None

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend.predict`."""
        request = predict_pb2.PredictRequest()
        self._fill(request.model_spec)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        response = self._call(self._stub.Predict, request, f" (sent {shapes(inputs)})")
        self._pin(response.model_spec)
        return {name: tf.make_ndarray(values) for name, values in response.outputs.items()}

    def close(self) -> None:
        """See `Backend.close`."""
        self._channel.close()

    def _metadata(self) -> dict:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec)
        try:
            response = self._call(self._stub.GetModelMetadata, request)
        except NotImplementedError:
            return {}
        self._pin(response.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return dict(signatures.signature_def)

    def _fill(self, spec) -> None:
        spec.name = self._url.name
        if self.version is not None:
            spec.version.value = int(self.version)
        elif self._url.label is not None:
            spec.version_label = self._url.label

    def _pin(self, spec) -> None:
        if self.version is None and spec.HasField("version"):
            self.version = str(spec.version.value)

    def _call(self, method, request, sent: str = ""):
        try:
            return method(request, timeout=self._seconds)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise RequestTimeoutError(f"no answer from {self._url.address} in time: {details}")
        if code == grpc.StatusCode.UNIMPLEMENTED and not sent:
            raise NotImplementedError(details)
        if code == grpc.StatusCode.UNAVAILABLE:
            raise InputError(f"{self._url.address} is not available ({details}): does a gRPC server run there?")
        raise InputError(f"{self._url.base} answered {code.name}: {details}{sent}")


def _channel_options(retry_seconds: float) -> list[tuple[str, object]]:
    # gRPC tries five times at most; the four waits between, each twice the last, add up to 15 times the first.
    first = max(retry_seconds / 15, 0.001)
    retry = {
        "maxAttempts": 5,
        "initialBackoff": f"{first:.3f}s",
        "maxBackoff": f"{8 * first:.3f}s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    service = {"methodConfig": [{"name": [{"service": "tensorflow.serving.PredictionService"}], "retryPolicy": retry}]}
    reconnect = max(int(1000 * first), 1)  # else a refused connection is not tried again for a second or more
    return [
        ("grpc.service_config", json.dumps(service)),
        ("grpc.initial_reconnect_backoff_ms", reconnect),
        ("grpc.max_reconnect_backoff_ms", reconnect),
        ("grpc.max_receive_message_length", -1),  # the requests are bounded, and so are the answers
    ]
