"""A batch in parts, on the replicas of `tf.distribute` or one after the other: which rows each has, sums over all."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Share(NamedTuple):
    """Rows of a step's batch.

    Attributes:
        size: B, rows of the whole batch; int or int32 scalar, as the others.
        here: rows in this share.
        first: number of the first of them in the whole batch.
    """

    size: int | tf.Tensor
    here: int | tf.Tensor
    first: int | tf.Tensor = 0

    def of(self, values: tf.Tensor) -> tf.Tensor:
        """This share of random numbers drawn for the whole batch: [S, B, ...] -> [S, here, ...].

        An example sees the same numbers in any share.
        """
        return values if self.here is self.size else values[:, self.first : self.first + self.here]

    def split(self, x: tf.Tensor, number: int) -> list[tuple[tf.Tensor, "Share"]]:
        """The rows x of this share, [here, ...], in so many parts, their sizes as even as can be."""
        if number == 1:
            return [(x, self)]
        ends = [self.here * part // number for part in range(number + 1)]
        return [
            (x[begin:end], Share(self.size, end - begin, self.first + begin)) for begin, end in itertools.pairwise(ends)
        ]


def num_rows(x: tf.Tensor) -> int | tf.Tensor:
    """B of x [B, ...]: an int where the graph knows it, else an int32 scalar."""
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


def whole(x: tf.Tensor) -> Share:
    """The share that is all rows of x [B, ...]."""
    return Share(num_rows(x), num_rows(x))


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
