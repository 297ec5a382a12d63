"""Requests that a server replays before it takes real ones, so that the first real one is not slow."""

from pathlib import Path

import numpy as np
import tensorflow as tf

FILE = "tf_serving_warmup_requests"
# The batches that a server makes with export/serving/batching_parameters.txt.
BATCH_SIZES = (1, 2, 3, 4)
# The first call of a graph is the slow one; it need not be a long one as well.
NUM_SAMPLES = 500


def write_warmup_requests(folder: Path, model_name: str, signatures: dict, max_samples: int) -> None:
    """Writes `assets.extra/tf_serving_warmup_requests`: each signature at each batch size.

    Args:
        folder: the version's folder.
        model_name: what the server calls the model.
        signatures: from `iwae_tf.serving.signatures.signatures`.
        max_samples: the most samples that the export allows.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2  # slow to import

    values = {"x": 0.0, "num_samples": min(NUM_SAMPLES, max_samples), "seed": 0}
    path = folder / "assets.extra" / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, signature in signatures.items():
            for size in BATCH_SIZES:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = model_name
                request.model_spec.signature_name = name
                for spec in signature.inputs:
                    value = np.full([size, *spec.shape[1:]], values[spec.name], spec.dtype.as_numpy_dtype)
                    request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(value))
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())
