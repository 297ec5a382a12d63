"""Binary images from intensities: pixel d of image i is 1 with probability equal to its intensity."""

import numpy as np
import tensorflow as tf

from iwae_tf import seeds

# Evaluation uses one binarisation of a data set whatever the run's seed, so that runs are scored on the same pixels.
EVALUATION_SEED = 0


def binarize(intensities: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Draws every pixel from its intensity; 0 and 1 stay as they are.

    Args:
        intensities: float32 [B, D] in [0, 1].
        keys: int64 [B, 2], the key of each image, from `iwae_tf.seeds.key`.

    Returns:
        float32 [B, D] of 0 and 1. A row depends on its own key and intensities alone.
    """

    def of_row(row):
        intensities, key = row
        return _drawn(seeds.uniform(tf.shape(intensities), key), intensities)

    return tf.map_fn(of_row, (intensities, keys), fn_output_signature=tf.float32)


def binarize_rows(intensities: tf.Tensor, first, key: tf.Tensor) -> tf.Tensor:
    """`binarize` of rows with the numbers `first`, `first` + 1 ... under one key, at a fraction of the cost."""
    num_rows, width = tf.shape(intensities)[0], intensities.shape[1]
    return _drawn(seeds.row_uniforms(first, num_rows, width, key), intensities)


def _drawn(uniforms, intensities):
    return tf.cast(uniforms < intensities, tf.float32)


def binarize_once(intensities: np.ndarray, part: str) -> np.ndarray:
    """The binarisation used in evaluation, the same in every run: float32 [N, D] -> float32 [N, D].

    Args:
        intensities: in [0, 1].
        part: "valid" or "test"; each has draws of its own.
    """
    if not len(intensities):
        return intensities
    parts = ("train", "valid", "test")
    images = tf.range(len(intensities))
    keys = seeds.key(EVALUATION_SEED, seeds.Purpose.BINARIZE_EVALUATION, parts.index(part), images)
    return tf.function(binarize, autograph=False)(tf.convert_to_tensor(intensities), keys).numpy()
