"""Shares of a batch: on the replicas of `tf.distribute`, and as sub-batches that few cores compute concurrently."""

import itertools
import os
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

MAX_CORES = 4  # more have not been measured
ROWS_IN_SUB_BATCH = 500  # samples times images: the output of a layer for these rows stays in a core's cache


class Share(NamedTuple):
    """A range of rows of a step's batch.

    Attributes:
        size: B, rows of the whole batch; int or int32 scalar, as the others.
        here: rows in this share.
        first: number of the first of them in the whole batch.
    """

    size: int | tf.Tensor
    here: int | tf.Tensor
    first: int | tf.Tensor = 0

    def of(self, values: tf.Tensor) -> tf.Tensor:
        """Selects this share of values for the whole batch: [S, B, ...] -> [S, here, ...]."""
        return values if self.here is self.size else values[:, self.first : self.first + self.here]

    def split(self, x: tf.Tensor, number: int) -> list[tuple[tf.Tensor, "Share"]]:
        """Splits the rows x of this share, [here, ...], into `number` shares of nearly equal size."""
        if number == 1:
            return [(x, self)]
        ends = [self.here * part // number for part in range(number + 1)]
        return [
            (x[begin:end], Share(self.size, end - begin, self.first + begin)) for begin, end in itertools.pairwise(ends)
        ]


def whole(x: tf.Tensor) -> Share:
    """Returns the share of all rows of x [B, ...]."""
    rows = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
    return Share(rows, rows)


def share_of_batch(x: tf.Tensor) -> Share:
    """Returns the share of this replica, which has the rows x, [here, ...]; shares are in the order of the replicas."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return whole(x)
    here, number = tf.shape(x)[0], context.replica_id_in_sync_group
    mine = tf.one_hot(number, context.num_replicas_in_sync) * tf.cast(here, tf.float32)
    sizes = tf.cast(sum_over_replicas(mine), tf.int32)
    return Share(tf.reduce_sum(sizes), here, tf.reduce_sum(sizes[:number]))


def sum_over_replicas(values: tf.Tensor) -> tf.Tensor:
    """Returns the sum over all replicas, the same on each."""
    context = tf.distribute.get_replica_context()
    return values if context.num_replicas_in_sync == 1 else context.all_reduce(tf.distribute.ReduceOp.SUM, values)


class BoundTracker(keras.metrics.Metric):
    """Mean of the bound over the examples seen, of all replicas, and the same on each.

    Keras' own `Mean` keeps a sum for each replica, which can only be read by all workers together: a worker that saves
    alone would wait for the others.
    """

    def __init__(self, name: str = "bound"):
        super().__init__(name=name)
        self.total, self.count = (
            keras.Variable(0.0, trainable=False, aggregation="only_first_replica", name=sum_name)
            for sum_name in ("total", "count")
        )

    def update_state(self, bound_sum, num_examples):
        """Adds the sum of the bound over `num_examples` examples of all replicas together."""
        self.total.assign_add(bound_sum)
        self.count.assign_add(num_examples)

    def result(self):
        return self.total / self.count

    def reset_state(self):
        self.total.assign(0.0)
        self.count.assign(0.0)


def split_rows(strategy: tf.distribute.Strategy, function: Callable) -> Callable:
    """Compiles a function of rows so that each replica computes its share of them.

    Args:
        strategy: the model's.
        function: (x [B, ...], *others) -> nest of tensors [B, ...], each row computed by itself.

    Returns:
        A function of the same arguments and, on every worker, the same values.
    """
    replicas = strategy.num_replicas_in_sync

    def split(x, *others):
        def on_replica():
            context = tf.distribute.get_replica_context()
            size = -(-tf.shape(x)[0] // replicas)  # equal sizes: the last row may be repeated
            mine = tf.minimum(context.replica_id_in_sync_group * size + tf.range(size), tf.shape(x)[0] - 1)
            own = function(tf.gather(x, mine), *others)
            # Workers gather no bool.
            numbers = tf.nest.map_structure(lambda v: tf.cast(v, tf.int32) if v.dtype == tf.bool else v, own)
            whole = context.all_gather(numbers, axis=0)
            return tf.nest.map_structure(lambda values, like: tf.cast(values, like.dtype), whole, own)

        on_all = strategy.run(on_replica)
        return tf.nest.map_structure(
            lambda values: strategy.experimental_local_results(values)[0][: tf.shape(x)[0]], on_all
        )

    return tf.function(function if replicas == 1 else split, reduce_retracing=True, autograph=False)


def one_thread_per_operation() -> None:
    """Sets TensorFlow up to run each operation in one thread, and as many operations at once as there are cores.

    By default all cores share each operation and wait for each other at its end, hundreds of times in a training step.
    With one thread for each operation and sub-batches that are computed concurrently, a step of 20 images on two cores
    takes 0.67 of the time with k = 1 and 0.74 with k = 50. Call it before TensorFlow has computed anything; it does
    nothing later, with more than four cores, with a GPU, or where `TF_NUM_INTRAOP_THREADS` is set.
    """
    on_gpu = tf.config.list_physical_devices("GPU")
    cores = available_cores()
    if not 1 < cores <= MAX_CORES or "TF_NUM_INTRAOP_THREADS" in os.environ or on_gpu:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
    except RuntimeError:  # TensorFlow has started
        return


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_sub_batches(num_samples: int, batch_size: int | None) -> int:
    """Returns the number of sub-batches of a step; 1 unless each operation has one thread.

    Args:
        num_samples: k.
        batch_size: B, None if the graph is for any.
    """
    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        return 1
    concurrent = tf.config.threading.get_inter_op_parallelism_threads() or available_cores()  # 0: TensorFlow chooses
    if batch_size is None:
        return concurrent if num_samples > 10 else 1
    number = num_samples * batch_size // ROWS_IN_SUB_BATCH
    return min(batch_size, -(-number // concurrent) * concurrent) if number > 1 else 1
