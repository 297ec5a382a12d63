"""Log importance weights of many samples of many images, a few at a time."""

import tensorflow as tf

from iwae_tf.models.evaluation_noise import SAMPLES_PER_BLOCK, evaluation_noise
from iwae_tf.replicas import num_rows

# Blocks times images that go through the networks at once, 1000 rows. What a layer writes for them, say 784 logits for
# each, the next operation finds in the processor's cache: 0.88 of the time of 10,000 rows at once, on two CPU cores.
BLOCKS_IN_TILE = 20
# Lanes of tiles that are computed side by side. In a lane one tile comes after the other, so that a core ends a tile
# while it has it in its cache: 0.94 of the time of tiles in any order.
LANES = 20


def log_weights_in_tiles(model, x: tf.Tensor, rows: tf.Tensor, blocks: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The log-weights of whole blocks of samples, for evaluation: [50 n, B] for n blocks.

    A tile is as many blocks of one image as fit in, or a few blocks of several images, with its noise.

    Args:
        model: an `IWAE`.
        x: [B, D].
        rows: int [B], number of each image in its data set.
        blocks: int [n], consecutive numbers.
        seed: of the noise, int scalar.
    """
    num_blocks, num_images = num_rows(blocks), num_rows(x)
    pieces = _ceil_divided(num_blocks, BLOCKS_IN_TILE)
    blocks_here = _ceil_divided(num_blocks, pieces)
    images_here = _lesser(BLOCKS_IN_TILE // blocks_here, num_images)
    groups = _ceil_divided(num_images, images_here)
    shared, units = model.shared_terms(x), sum(model.latent_units)

    def tile(number):
        group, piece = number // pieces, number % pieces
        images = tf.minimum(group * images_here + tf.range(images_here), num_images - 1)  # the last one may come twice
        noise = evaluation_noise(
            tf.gather(rows, images), blocks[0] + piece * blocks_here + tf.range(blocks_here), seed, units
        )
        return model.log_weights_from_noise(tf.gather(x, images), noise, shared.at(images))

    log_w = _in_lanes(tile, groups * pieces)
    samples = SAMPLES_PER_BLOCK * blocks_here * pieces
    by_sample = tf.transpose(tf.reshape(log_w, [groups, samples, images_here]), [1, 0, 2])
    return tf.reshape(by_sample, [samples, groups * images_here])[: SAMPLES_PER_BLOCK * num_blocks, :num_images]


def _in_lanes(function, number):
    """A function int -> float32 [...] at 0 to `number` - 1, in each lane one after the other: [number, ...]."""
    length = _ceil_divided(number, LANES)
    lanes = _ceil_divided(number, length)

    def lane(first):  # the last one may go beyond the last number, which is dropped
        numbers = first + tf.range(length)
        return tf.map_fn(function, numbers, parallel_iterations=1, fn_output_signature=tf.float32)

    found = tf.map_fn(lane, length * tf.range(lanes), parallel_iterations=LANES, fn_output_signature=tf.float32)
    return tf.reshape(found, tf.concat([[lanes * length], tf.shape(found)[2:]], axis=0))[:number]


def _lesser(one, other):
    return tf.minimum(one, other) if tf.is_tensor(one) or tf.is_tensor(other) else min(one, other)


def _ceil_divided(number, by):
    return -(-number // by)
