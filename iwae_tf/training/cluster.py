"""The workers that `TF_CONFIG` names, and how they find each other before TensorFlow connects them.

TensorFlow waits for a missing worker for many minutes without a word and cannot be interrupted. So all workers first
come to the chief, which tells all to begin, or what is wrong: who is missing, or was started with other settings.
"""

import contextlib
import json
import os
import re
import socket
import time
from typing import NamedTuple

from iwae_tf.errors import InputError

EXAMPLE = '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": "worker", "index": 0}}'
_ADDRESS = re.compile(r"(.+):(\d{1,5})")
_BEGIN = "begin"


class Cluster(NamedTuple):
    """The addresses HOST:PORT of all workers, the chief's first, and the number of this one among them."""

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """True on the worker that writes files."""
        return self.index == 0


def read_cluster() -> Cluster:
    """The cluster in the environment variable `TF_CONFIG`; raises `InputError` that says what is wrong with it."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise InputError(f"--strategy multiworker needs TF_CONFIG in the environment, for example {EXAMPLE}")
    try:
        content = json.loads(text)
        groups = {kind: [str(address) for address in addresses] for kind, addresses in content["cluster"].items()}
        kind, index = content["task"]["type"], int(content["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"TF_CONFIG cannot be read ({type(error).__name__}: {error}), got {text!r}, expected a form like {EXAMPLE}"
        ) from None
    return _checked(groups, kind, index)


def _checked(groups: dict[str, list[str]], kind: str, index: int) -> Cluster:
    unknown = sorted(set(groups) - {"chief", "worker"})
    if unknown:
        raise InputError(f"TF_CONFIG: tasks are 'chief' and 'worker', got {unknown[0]!r}; leave it out of the cluster")
    if not 0 <= index < len(groups.get(kind, [])):
        raise InputError(f"TF_CONFIG: the cluster has no task {kind!r} number {index}; it has {groups}")
    addresses = (*groups.get("chief", []), *groups.get("worker", []))
    for address in addresses:
        found = _ADDRESS.fullmatch(address)
        if not found or not 0 < int(found[2]) < 2**16:
            raise InputError(f"TF_CONFIG: an address is HOST:PORT, got {address!r}")
    if len(set(addresses)) < len(addresses):
        raise InputError(f"TF_CONFIG: an address stands twice in {', '.join(addresses)}")
    return Cluster(addresses, index + (len(groups.get("chief", [])) if kind == "worker" else 0))


def meet(cluster: Cluster, settings: dict, seconds: float) -> None:
    """Returns once all workers are there and have the same settings.

    Args:
        cluster: who they are.
        settings: plain types; what has to be the same on all.
        seconds: how long to wait.

    Raises:
        InputError: naming the worker that did not come, or the setting that differs; on all workers that came.
    """
    deadline = time.monotonic() + seconds
    with _listener(cluster) as listener:
        if cluster.is_chief:
            _gather(cluster, listener, settings, deadline, seconds)
        else:
            _report(cluster, settings, deadline, seconds)


def _listener(cluster: Cluster) -> socket.socket:
    """The port of this worker, held until TensorFlow takes it."""
    address = cluster.addresses[cluster.index]
    try:
        return socket.create_server(("", _host_and_port(address)[1]), backlog=len(cluster.addresses))
    except OSError as error:
        raise InputError(
            f"the port of {address}, this worker's in TF_CONFIG, cannot be used: {error.strerror}"
        ) from None


def _gather(cluster: Cluster, listener: socket.socket, settings: dict, deadline: float, seconds: float) -> None:
    """The chief's part: hears every worker, then answers all."""
    came: dict[int, socket.socket] = {}
    verdict = _BEGIN
    with contextlib.ExitStack() as stack:
        while len(came) < len(cluster.addresses) - 1 and verdict == _BEGIN:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection = stack.enter_context(listener.accept()[0])
                connection.settimeout(5.0)
                said = json.loads(_read_line(connection))
                came[said["index"]] = connection
                verdict = _difference(cluster, said, settings) or verdict
            except TimeoutError:
                if time.monotonic() >= deadline:
                    missing = [a for number, a in enumerate(cluster.addresses) if number and number not in came]
                    verdict = f"worker {', '.join(missing)} did not come within {seconds:g} s; is it started?"
            except (OSError, ValueError, KeyError, TypeError):
                continue  # something else knocked at the port
        for connection in came.values():
            with contextlib.suppress(OSError):
                connection.sendall(f"{verdict}\n".encode())
    if verdict != _BEGIN:
        raise InputError(verdict)


def _report(cluster: Cluster, settings: dict, deadline: float, seconds: float) -> None:
    """Every other worker's part: says that it is there, and waits for the chief's answer."""
    chief = cluster.addresses[0]
    hello = json.dumps({"index": cluster.index, "settings": settings}) + "\n"
    while True:
        with contextlib.suppress(OSError), socket.create_connection(_host_and_port(chief), timeout=1.0) as connection:
            connection.sendall(hello.encode())
            connection.settimeout(max(0.01, deadline + 5.0 - time.monotonic()))  # the chief names who is missing
            verdict = _read_line(connection)
            if verdict == _BEGIN:
                return
            if verdict:
                raise InputError(verdict)
        if time.monotonic() >= deadline:
            raise InputError(f"the chief, worker {chief}, could not be reached within {seconds:g} s; is it started?")
        time.sleep(0.2)


def _difference(cluster: Cluster, said: dict, settings: dict) -> str | None:
    mine, its = json.loads(json.dumps(settings)), said["settings"]
    names = sorted(name for name in {*mine, *its} if mine.get(name) != its.get(name))
    if not names:
        return None
    parts = [f"{name} is {its.get(name)!r} there and {mine.get(name)!r} at the chief" for name in names]
    return f"worker {cluster.addresses[said['index']]} was started with other settings: {'; '.join(parts)}"


def _read_line(connection: socket.socket) -> str:
    with connection.makefile("r", encoding="utf-8") as file:
        return file.readline().strip()


def _host_and_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)
