"""Noise for evaluation: that of an image depends on nothing else in its batch, nor on how samples are cut in chunks."""

import tensorflow as tf

from iwae_tf import seeds

SAMPLES_PER_BLOCK = 50  # the numbers of a block fill whole vectors of the processor, so that chunks do not change bits


def evaluation_noise(rows: tf.Tensor, blocks: tf.Tensor, seed: tf.Tensor, units: int) -> tf.Tensor:
    """Standard normal noise of whole blocks of samples, a function of (seed, row, block).

    Args:
        rows: int [B], numbers of the images in their data set.
        blocks: int [n], consecutive numbers of the blocks.
        seed: int scalar.
        units: H, units of all stochastic layers together.

    Returns:
        float32 [50 n, B, H].
    """
    keys = seeds.key(seed, seeds.Purpose.EVALUATION_NOISE, rows)

    def of_image(key):  # -> [n, 50 H]
        return seeds.row_normals(blocks[0], tf.size(blocks), SAMPLES_PER_BLOCK * units, key)

    if rows.shape[0] == 1:  # no loop
        return tf.reshape(of_image(keys[0]), [-1, 1, units])
    draws = tf.map_fn(of_image, keys, fn_output_signature=tf.float32)  # [B, n, 50 H]
    noise = tf.reshape(draws, [tf.shape(rows)[0], -1, units])  # [B, 50 n, H]
    return tf.transpose(noise, [1, 0, 2])
