"""The processes and devices that share the work of a run, through `tf.distribute`."""

import contextlib
from typing import NamedTuple

import tensorflow as tf

from iwae_tf.config import WorkersConfig
from iwae_tf.errors import WorkerLostError
from iwae_tf.training.cluster import Cluster, meet, read_cluster


class Workers(NamedTuple):
    """Who shares the work.

    Attributes:
        strategy: of `tf.distribute`; the default one for a single device.
        cluster: the workers, or None for this process alone.
    """

    strategy: tf.distribute.Strategy
    cluster: Cluster | None = None

    @property
    def is_chief(self) -> bool:
        """True on the one worker that reads and writes the run folder."""
        return self.cluster is None or self.cluster.is_chief

    def agree(self, number: int) -> int:
        """The chief's number, on every worker; none returns before all have asked."""
        variable = tf.Variable(number, dtype=tf.int64)
        self.share_variables([variable])
        return int(variable)

    def share_variables(self, variables: list[tf.Variable]) -> None:
        """Sets variables on every worker to what they are on the chief."""
        if self.cluster is None:
            return

        def chiefs(values):
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group, 0)
            mine = [tf.where(first, value, tf.zeros_like(value)) for value in values]
            return [context.all_reduce(tf.distribute.ReduceOp.SUM, value) for value in mine]

        values = [tf.convert_to_tensor(variable) for variable in variables]
        shared = self.strategy.run(tf.function(chiefs, autograph=False), args=(values,))
        for variable, value in zip(variables, shared, strict=True):
            variable.assign(self.strategy.experimental_local_results(value)[0])


def gather_workers(config: WorkersConfig, settings: dict | None = None) -> Workers:
    """Finds the devices or workers.

    Args:
        config: which.
        settings: what has to be the same on all workers, plain types.

    Raises:
        InputError: `TF_CONFIG` is malformed, a worker does not come, or has other settings.
    """
    if config.strategy == "multiworker":
        cluster = read_cluster()
        if len(cluster.addresses) > 1:
            meet(cluster, settings or {}, config.worker_timeout)
            return Workers(tf.distribute.MultiWorkerMirroredStrategy(), cluster)
    if config.strategy == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        if len(devices) > 1:
            return Workers(tf.distribute.MirroredStrategy([device.name for device in devices]))
    return Workers(tf.distribute.get_strategy())


@contextlib.contextmanager
def plain_losses(how_to_go_on: str):
    """Turns the errors by which TensorFlow says that another worker has gone into `WorkerLostError`.

    Args:
        how_to_go_on: what to start all workers again with.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError):
        raise WorkerLostError(
            f"another worker has stopped or cannot be reached; see what it said, then start all again {how_to_go_on}"
        ) from None
