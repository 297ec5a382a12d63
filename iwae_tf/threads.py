"""Few cores: one thread for an operation, and several operations at once on parts of a batch."""

import os

import tensorflow as tf

MOST_CORES = 4  # more have not been measured
ROWS_IN_PART = 500  # samples times images: what a layer writes for them stays near the core


def one_thread_for_an_operation() -> None:
    """Sets TensorFlow up to compute an operation in one thread, and as many operations at once as there are cores.

    TensorFlow's own way is that all cores share each operation, and wait for each other at its end, some hundred times
    in a training step. With one thread for each, a step of 20 images on two cores takes 0.67 of the time with k = 1,
    and 0.74 with k = 50, in parts that are computed at once. To be called before TensorFlow has computed anything; it
    does nothing after that, with more than four cores, with a GPU, or where `TF_NUM_INTRAOP_THREADS` has been set.
    """
    on_gpu = tf.config.list_physical_devices("GPU")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not 1 < cores <= MOST_CORES or "TF_NUM_INTRAOP_THREADS" in os.environ or on_gpu:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
    except RuntimeError:  # TensorFlow has started
        return


def parts_of_step(num_samples: int, batch_size: int | None) -> int:
    """In how many parts to compute a step: 1 unless operations have one thread each.

    Args:
        num_samples: k.
        batch_size: B, None if the graph is for any.
    """
    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        return 1
    at_once = tf.config.threading.get_inter_op_parallelism_threads()
    if batch_size is None:
        return at_once if num_samples > 10 else 1
    parts = num_samples * batch_size // ROWS_IN_PART
    return min(batch_size, -(-parts // at_once) * at_once) if parts > 1 else 1
