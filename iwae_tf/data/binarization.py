"""Binary images from intensities: pixel d of image i is 1 with probability equal to its intensity."""

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.data.dataset import SPLITS

# Evaluation uses one binarisation of a data set whatever the run's seed, so that runs are scored on the same pixels.
EVALUATION_SEED = 0


def binarize_rows(intensities: tf.Tensor, first, key: tf.Tensor) -> tf.Tensor:
    """Draws every pixel from its intensity; 0 and 1 stay as they are.

    Args:
        intensities: float32 [B, D] in [0, 1].
        first: number of the first row; a row's pixels depend on the key, its number and its intensities alone.
        key: of the stream, int64 [2], from `iwae_tf.seeds.key`.

    Returns:
        float32 [B, D] of 0 and 1.
    """
    num_rows, width = tf.shape(intensities)[0], intensities.shape[1]
    return tf.cast(seeds.row_uniforms(first, num_rows, width, key) < intensities, tf.float32)


def binarize_once(intensities: np.ndarray, split: str) -> np.ndarray:
    """Returns the binarisation used in evaluation, the same in every run: float32 [N, D] -> float32 [N, D].

    Args:
        intensities: in [0, 1].
        split: "train", "valid" or "test"; each has its own stream.
    """
    if not len(intensities):
        return intensities
    images = tf.range(len(intensities))
    keys = seeds.key(EVALUATION_SEED, seeds.Purpose.BINARIZE_EVALUATION, SPLITS.index(split), images)
    return _binarize_by_keys(tf.convert_to_tensor(intensities), keys).numpy()


@tf.function(autograph=False, reduce_retracing=True)
def _binarize_by_keys(intensities, keys):
    """One key per image, `keys` int64 [N, 2]: slower than `binarize_rows`, and the pixels of all published scores."""

    def binarize_image(image):
        pixels, key = image
        return tf.cast(seeds.uniform(tf.shape(pixels), key) < pixels, tf.float32)

    return tf.map_fn(binarize_image, (intensities, keys), fn_output_signature=tf.float32)
