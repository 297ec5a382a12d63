"""Log importance weights for evaluation, as a stream of chunks in fixed memory."""

from collections.abc import Callable, Iterator

import tensorflow as tf

from iwae_tf.errors import InputError, positive_integer
from iwae_tf.models.evaluation_noise import SAMPLES_PER_BLOCK

MAX_ROWS = 200  # images that are evaluated together


def samples_in_chunk(num_images: int, most: int) -> int:
    """How many samples to take at a time, whole blocks of them: `most` is of samples times images."""
    return SAMPLES_PER_BLOCK * max(1, most // (SAMPLES_PER_BLOCK * num_images))


def log_weight_stream(
    log_weights_of_blocks: Callable[..., tf.Tensor],
    x: tf.Tensor,
    rows: tf.Tensor,
    first_sample: int,
    last_sample: int,
    seed: int,
    chunk_size: int,
) -> Iterator[tf.Tensor]:
    """Log-weights of the samples from `first_sample` up to, not including, `last_sample`.

    Args:
        log_weights_of_blocks: (x [B, D], rows [B], blocks [n], seed) -> log-weights of whole blocks, [50 n, B].
        x: [B, D].
        rows: int [B], number of each image in its data set.
        first_sample: >= 0.
        last_sample: > first_sample.
        seed: seed of the noise.
        chunk_size: samples in a chunk, a multiple of 50.

    Yields:
        float32 [c, B].
    """
    if positive_integer("chunk_size", chunk_size) % SAMPLES_PER_BLOCK:
        raise InputError(f"chunk_size must be a multiple of {SAMPLES_PER_BLOCK}, got {chunk_size}")
    begin = first_sample - first_sample % SAMPLES_PER_BLOCK
    for first in range(begin, last_sample, chunk_size):
        wanted = min(chunk_size, last_sample - first)
        blocks = first // SAMPLES_PER_BLOCK + tf.range(-(-wanted // SAMPLES_PER_BLOCK))
        yield log_weights_of_blocks(x, rows, blocks, tf.constant(seed))[max(first_sample - first, 0) : wanted]
