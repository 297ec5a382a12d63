"""Log importance weights of many samples of many images, a few at a time."""

import tensorflow as tf

from iwae_tf.models.evaluation_noise import SAMPLES_PER_BLOCK, evaluation_noise
from iwae_tf.replicas import num_rows

# Blocks times images that go through the networks at once, 1000 rows. What a layer writes for them, say 784 logits for
# each, the next operation finds in the processor's cache: 0.88 of the time of 10,000 rows at once, on two CPU cores.
BLOCKS_IN_TILE = 20


def log_weights_in_tiles(model, x: tf.Tensor, rows: tf.Tensor, blocks: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The log-weights of whole blocks of samples, for evaluation: [50 n, B] for n blocks.

    A tile is as many blocks of one image as fit in, or a few blocks of several images, with its noise. Tiles wait for
    nothing and are computed side by side.

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
    parameters, units = model.inference_network.first_parameters(x), sum(model.latent_units)

    def tile(number):
        piece, group = number // groups, number % groups
        images = tf.minimum(group * images_here + tf.range(images_here), num_images - 1)  # the last one may come twice
        noise = evaluation_noise(
            tf.gather(rows, images), blocks[0] + piece * blocks_here + tf.range(blocks_here), seed, units
        )
        of_images = tf.nest.map_structure(lambda values: tf.gather(values, images), parameters)
        return model.log_weights_from_noise(tf.gather(x, images), noise, of_images)

    log_w = tf.map_fn(tile, tf.range(pieces * groups), fn_output_signature=tf.float32)
    samples_here = SAMPLES_PER_BLOCK * blocks_here
    by_piece = tf.transpose(tf.reshape(log_w, [pieces, groups, samples_here, images_here]), [0, 2, 1, 3])
    whole_tiles = tf.reshape(by_piece, [pieces * samples_here, groups * images_here])
    return whole_tiles[: SAMPLES_PER_BLOCK * num_blocks, :num_images]


def _lesser(one, other):
    return tf.minimum(one, other) if tf.is_tensor(one) or tf.is_tensor(other) else min(one, other)


def _ceil_divided(number, by):
    return -(-number // by)
