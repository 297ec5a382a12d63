"""Scores by a SavedModel, as a server or the client computes them."""

import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from iwae_tf.serving.saved_model import export_saved_model


def served(model, x: np.ndarray, num_samples: int) -> dict[str, Callable[[], object]]:
    """The log p(x) of each signature that scores, by name.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [B, D].
        num_samples: of every image.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = export_saved_model(model, folder, num_samples=num_samples)
        loaded = tf.saved_model.load(str(path))
    batch = {
        "x": tf.constant(x),
        "num_samples": tf.fill([len(x)], num_samples),
        "seed": tf.zeros([len(x)], tf.int64),
    }
    ways = {}
    for name, signature in loaded.signatures.items():
        _, inputs = signature.structured_input_signature
        if "log_prob" in signature.structured_outputs and inputs.keys() <= batch.keys():
            own = {key: batch[key] for key in inputs}
            # The signature holds the variables only as long as the loaded model lives.
            ways[name] = lambda signature=signature, own=own, loaded=loaded: signature(**own)["log_prob"].numpy()
    return ways
