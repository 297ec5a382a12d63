"""Training batches as a function of the step: the same run whether it is interrupted or not."""

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.data.binarization import binarize_batch
from iwae_tf.data.dataset import Dataset


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Steps of one pass over the images; the last batch of a pass is smaller where it does not come out even."""
    return -(-num_images // batch_size)


def training_batches(
    dataset: Dataset, batch_size: int, seed: int, first_step: int = 0, binarized: bool = True
) -> tf.data.Dataset:
    """Batches of training images without end, shuffled anew in every pass.

    Pixels are drawn anew every time an image is seen. Batch number s depends on (seed, s) alone.

    Args:
        dataset: where the training images come from.
        batch_size: images in a batch.
        seed: seed of order and pixels.
        first_step: number of the first batch; a resumed run starts at its step.
        binarized: False leaves intensities as they are.

    Returns:
        A `tf.data.Dataset` of float32 [B, D].
    """
    first_epoch, first_batch = divmod(first_step, steps_per_epoch(len(dataset.x_train), batch_size))
    with tf.device("CPU"):  # where tf.data runs
        images = tf.constant(dataset.x_train)
    scale = tf.constant(dataset.scale, tf.float32)

    @tf.autograph.experimental.do_not_convert
    def indices_of_epoch(epoch):
        numbers = tf.range(len(dataset.x_train), dtype=tf.int64)
        order = tf.random.experimental.stateless_shuffle(
            numbers, seeds.key(seed, seeds.Purpose.SHUFFLE, epoch), alg=seeds.ALGORITHM
        )
        skipped = tf.where(tf.equal(epoch, first_epoch), tf.cast(first_batch, tf.int64), 0)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate().skip(skipped)
        return batches.map(lambda number, indices: (epoch, number, indices))

    @tf.autograph.experimental.do_not_convert
    def pixels(epoch, number, indices):
        x = tf.cast(tf.gather(images, indices), tf.float32) / scale
        if not binarized:
            return x
        return binarize_batch(x, seeds.key(seed, seeds.Purpose.BINARIZE_TRAIN, epoch, number))

    epochs = tf.data.Dataset.range(first_epoch, 2**31)
    batches = epochs.flat_map(indices_of_epoch).map(pixels, num_parallel_calls=2, deterministic=True).prefetch(4)
    # Threads of their own, and no search for better settings: batches take 0.73 of the time on two CPU cores, and wait
    # for no thread that computes a step.
    options = tf.data.Options()
    options.threading.private_threadpool_size = 2
    options.autotune.enabled = False
    return batches.with_options(options)
