"""Noise for evaluation: that of an image depends on nothing else in its batch, nor on how samples are cut in chunks."""

import tensorflow as tf

from iwae_tf import seeds

SAMPLES_PER_BLOCK = 50  # each block of samples of an image has a key of its own


def evaluation_noise(rows: tf.Tensor, blocks: tf.Tensor, seed: tf.Tensor, units: int) -> tf.Tensor:
    """Standard normal noise of whole blocks of samples, keyed by (seed, row, block).

    Args:
        rows: int [B], numbers of the images in their data set.
        blocks: int [n], numbers of the blocks.
        seed: int scalar.
        units: H, units of all stochastic layers together.

    Returns:
        float32 [50 n, B, H].
    """
    major, minor = tf.meshgrid(rows, blocks, indexing="ij")  # [B, n]
    keys = seeds.key(seed, seeds.Purpose.EVALUATION_NOISE, tf.reshape(major, [-1]), tf.reshape(minor, [-1]))
    draws = tf.map_fn(
        lambda key: seeds.normal([SAMPLES_PER_BLOCK, units], key), keys, fn_output_signature=tf.float32
    )  # [B n, 50, H]
    noise = tf.reshape(draws, [tf.shape(rows)[0], -1, units])  # [B, 50 n, H]
    return tf.transpose(noise, [1, 0, 2])
