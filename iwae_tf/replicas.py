"""Several replicas of a model under `tf.distribute`: which rows each has, and sums over all of them."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Share(NamedTuple):
    """The rows of a step's batch that one replica has.

    Attributes:
        size: B, rows of the whole batch, over all replicas; int32 scalar.
        here: rows on this replica; int32 scalar.
        first: number of the first of them in the whole batch; None for the whole batch on one replica.
    """

    size: tf.Tensor
    here: tf.Tensor
    first: tf.Tensor | None = None

    def of(self, values: tf.Tensor) -> tf.Tensor:
        """This replica's part of random numbers drawn for the whole batch: [S, B, ...] -> [S, here, ...].

        Every replica draws all numbers and keeps its own, so that an example sees the same numbers on any number of
        replicas, and no two replicas see the same.
        """
        return values if self.first is None else values[:, self.first : self.first + self.here]


def whole(x: tf.Tensor) -> Share:
    """The share of a single replica: all rows of x [B, ...]."""
    return Share(tf.shape(x)[0], tf.shape(x)[0])


def share_of_batch(x: tf.Tensor) -> Share:
    """The share of this replica, which has the rows x of the batch: [here, ...]. Replicas hold it in their order."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return whole(x)
    here, number = tf.shape(x)[0], context.replica_id_in_sync_group
    mine = tf.one_hot(number, context.num_replicas_in_sync) * tf.cast(here, tf.float32)
    sizes = tf.cast(sum_over_replicas(mine), tf.int32)
    return Share(tf.reduce_sum(sizes), here, tf.reduce_sum(sizes[:number]))


def sum_over_replicas(values: tf.Tensor) -> tf.Tensor:
    """The sum over all replicas, the same on each."""
    context = tf.distribute.get_replica_context()
    return values if context.num_replicas_in_sync == 1 else context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def split_rows(strategy: tf.distribute.Strategy, function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """A function of the rows of a batch as a graph, computed on all replicas, each with a part of the rows.

    Args:
        strategy: where the replicas are; every worker has to call with the same arguments.
        function: (x [B, D], rows [B], *others) -> [S, B]; a column of it depends on its own row alone.

    Returns:
        A function of the same arguments and, on every worker, the same values.
    """
    replicas = strategy.num_replicas_in_sync

    def split(x, rows, *others):
        def on_replica():
            context = tf.distribute.get_replica_context()
            size = -(-tf.shape(x)[0] // replicas)  # all parts are of one size: the last row is repeated
            mine = tf.minimum(context.replica_id_in_sync_group * size + tf.range(size), tf.shape(x)[0] - 1)
            return context.all_gather(function(tf.gather(x, mine), tf.gather(rows, mine), *others), axis=1)

        everywhere = strategy.experimental_local_results(strategy.run(on_replica))
        return everywhere[0][:, : tf.shape(x)[0]]

    return tf.function(function if replicas == 1 else split, reduce_retracing=True, autograph=False)
