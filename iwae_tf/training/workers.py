"""The processes and devices that share the work of a run, through `tf.distribute`."""

import contextlib
import json
import os
import re
import socket
import time
import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from iwae_tf.config import WorkersConfig
from iwae_tf.errors import InputError, WorkerLostError

EXAMPLE = '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": "worker", "index": 0}}'
_ADDRESS = re.compile(r"(.+):(\d{1,5})")


def read_cluster() -> tuple[tuple[str, ...], int]:
    """Returns the HOST:PORT of all workers, the chief worker's first, and the index of this one, from `TF_CONFIG`.

    Raises:
        InputError: the environment variable is missing or malformed.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise InputError(f"--strategy multiworker needs TF_CONFIG in the environment, for example {EXAMPLE}")
    try:
        content = json.loads(text)
        tasks = {kind: [str(address) for address in addresses] for kind, addresses in content["cluster"].items()}
        kind, index = content["task"]["type"], int(content["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"TF_CONFIG cannot be read ({type(error).__name__}: {error}), got {text!r}, expected a form like {EXAMPLE}"
        ) from None
    for unknown in sorted(set(tasks) - {"chief", "worker"}):
        raise InputError(f"TF_CONFIG: tasks are 'chief' and 'worker', got {unknown!r}; leave it out of the cluster")
    if not 0 <= index < len(tasks.get(kind, [])):
        raise InputError(f"TF_CONFIG: the cluster has no task {kind!r} number {index}; it has {tasks}")
    chiefs = tasks.get("chief", [])
    addresses = (*chiefs, *tasks.get("worker", []))
    for address in addresses:
        found = _ADDRESS.fullmatch(address)
        if not found or not 0 < int(found[2]) < 2**16:
            raise InputError(f"TF_CONFIG: an address is HOST:PORT, got {address!r}")
    if len(set(addresses)) < len(addresses):
        raise InputError(f"TF_CONFIG: an address stands twice in {', '.join(addresses)}")
    return addresses, index + (len(chiefs) if kind == "worker" else 0)


def wait_for_workers(addresses: tuple[str, ...], index: int, seconds: float) -> None:
    """Returns once every worker of the cluster accepts connections at its address.

    TensorFlow waits for a missing worker for minutes without a message and cannot be interrupted. Each worker listens
    at its own port until it has reached all others; then TensorFlow listens there.

    Raises:
        InputError: a worker cannot be reached within `seconds`, or the port of this worker is in use.
    """
    deadline, own = time.monotonic() + seconds, addresses[index]
    missing = [address for address in addresses if address != own]
    try:
        listener = socket.create_server(("", _host_and_port(own)[1]), backlog=128)
    except OSError as error:
        raise InputError(f"the port of {own}, this worker's in TF_CONFIG, cannot be used: {error.strerror}") from None
    with listener:
        while missing := [address for address in missing if not _accepts_connections(address)]:
            if time.monotonic() >= deadline:
                raise InputError(f"worker {', '.join(missing)} did not come within {seconds:g} s; is it started?")
            time.sleep(0.1)


def _accepts_connections(address: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(_host_and_port(address), timeout=1.0):
        return True
    return False


def _host_and_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


class Workers(NamedTuple):
    """The devices and processes that share the work.

    Attributes:
        strategy: of `tf.distribute`; the default one for a single device.
        index: number of this worker, 0 for the chief worker; None without other workers.
    """

    strategy: tf.distribute.Strategy
    index: int | None = None

    @property
    def is_chief(self) -> bool:
        """True on the chief worker, which alone reads and writes the run folder."""
        return not self.index

    def agree(self, number: int) -> int:
        """Returns the chief worker's number on every worker, once all have called."""
        return int(self._sum([tf.constant(number, tf.int64)], of_chief=True)[0])

    def share_variables(self, variables: list[tf.Variable]) -> None:
        """Sets variables on every worker to their values on the chief worker."""
        if self.index is not None:
            values = [tf.convert_to_tensor(variable) for variable in variables]
            for variable, value in zip(variables, self._sum(values, of_chief=True), strict=True):
                variable.assign(value)

    def same_numbers(self, values: np.ndarray) -> np.ndarray:
        """Returns the chief worker's values, float64 of one shape everywhere, on every worker."""
        return np.asarray(self._sum([tf.constant(values, tf.float64)], of_chief=True)[0])

    def check_same(self, settings: dict, remedy: str) -> None:
        """Raises `InputError` on every worker, with what to do, unless all have the same settings."""
        checksum = zlib.crc32(json.dumps(settings, sort_keys=True).encode())
        total = self._sum([tf.constant(checksum, tf.int64)], of_chief=False)[0]
        if int(total) != checksum * self.strategy.num_replicas_in_sync:
            raise InputError(f"the workers were started with different {remedy}")

    def _sum(self, values: list[tf.Tensor], of_chief: bool) -> list[tf.Tensor]:
        """Returns sums over all replicas, or the values of the chief worker's first replica, on every worker."""
        if self.index is None:
            return values

        def on_replica(values):
            context = tf.distribute.get_replica_context()
            counts = tf.equal(context.replica_id_in_sync_group, 0) if of_chief else True
            # `tf.where` even for True: an all-reduce needs tensors with a device, and arguments have none.
            mine = [tf.where(counts, value, tf.zeros_like(value)) for value in values]
            return [context.all_reduce(tf.distribute.ReduceOp.SUM, value) for value in mine]

        sums = self.strategy.run(tf.function(on_replica, autograph=False), args=(values,))
        return [self.strategy.experimental_local_results(value)[0] for value in sums]


def gather_workers(config: WorkersConfig, settings: dict | None = None) -> Workers:
    """Returns the devices or workers that a command shares its work with.

    Args:
        config: whether there are several.
        settings: plain types that must be equal on all workers.

    Raises:
        InputError: `TF_CONFIG` is malformed, a worker does not come, or the workers have different settings.
    """
    if config.strategy == "multiworker":
        addresses, index = read_cluster()
        if len(addresses) > 1:
            wait_for_workers(addresses, index, config.worker_timeout)
            workers = Workers(tf.distribute.MultiWorkerMirroredStrategy(), index)
            workers.check_same(settings or {}, "settings: give all the same command")
            return workers
    if config.strategy != "none":  # a cluster of one worker has devices of its own
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        if len(devices) > 1:
            return Workers(tf.distribute.MirroredStrategy([device.name for device in devices]))
    return Workers(tf.distribute.get_strategy())


@contextlib.contextmanager
def worker_loss_errors(remedy: str):
    """Turns TensorFlow's errors about an unreachable worker into `WorkerLostError`.

    Args:
        remedy: how to start all workers again, e.g. "with --resume".
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError):
        raise WorkerLostError(
            f"another worker has stopped or cannot be reached; see its message, then start all again {remedy}"
        ) from None
