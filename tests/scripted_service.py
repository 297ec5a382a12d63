"""TF Serving's gRPC service over a loaded SavedModel, which misbehaves as a test tells it to."""

import threading

import grpc
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc


class ScriptedService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers by a loaded SavedModel; `script` holds status codes for the next predict calls, None for none."""

    def __init__(self, model, signatures):
        self._model, self._signatures = model, signatures
        self.requests, self.script = [], []
        self.version = 4
        self.metadata = True
        self.most_rows = None
        self.released = threading.Event()

    def Predict(self, request, context):  # noqa: N802
        self.requests.append(request)
        code = self.script.pop(0) if self.script else None
        if code is not None:
            context.abort(code, f"told to say {code.name}")
        if self.most_rows == 0:
            self.released.wait(10)
        elif self.most_rows is not None and _num_rows(request) > self.most_rows:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        if request.model_spec.name != "m":
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(n)")
        inputs = {name: tf.make_ndarray(values) for name, values in request.inputs.items()}
        try:
            outputs = self._model.signatures[request.model_spec.signature_name](**inputs)
        except (KeyError, TypeError, ValueError, tf.errors.OpError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{type(error).__name__} for the inputs")
        response = predict_pb2.PredictResponse()
        for name, values in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        self._say_version(request, response)
        return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        if not self.metadata:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no metadata")
        if request.model_spec.name != "m":
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model n")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(self._signatures)
        self._say_version(request, response)
        return response

    def _say_version(self, request, response):
        spec = request.model_spec
        response.model_spec.version.value = spec.version.value if spec.HasField("version") else self.version

    def rows(self):
        """The number of rows of each predict call."""
        return [_num_rows(request) for request in self.requests]


def _num_rows(request):
    return next(iter(request.inputs.values())).tensor_shape.dim[0].size
