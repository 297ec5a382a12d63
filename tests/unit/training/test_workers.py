"""The content of `TF_CONFIG`, and how workers wait for each other."""

import concurrent.futures
import json
import socket
import time
import types

import pytest
import tensorflow as tf

from iwae_tf import InputError
from iwae_tf.config import WorkersConfig
from iwae_tf.errors import WorkerLostError
from iwae_tf.training.workers import Workers, gather_workers, read_cluster, wait_for_workers, worker_loss_errors


def _config(cluster, kind="worker", index=0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "addresses", "index"),
    [
        (_config({"worker": ["a:1", "b:2"]}, index=1), ("a:1", "b:2"), 1),
        (_config({"worker": ["b:2", "c:3"], "chief": ["a:1"]}, "worker", 0), ("a:1", "b:2", "c:3"), 1),
        (_config({"worker": ["b:2"], "chief": ["a:1"]}, "chief", 0), ("a:1", "b:2"), 0),
        (_config({"worker": ["[::1]:1", "[::1]:2"]}), ("[::1]:1", "[::1]:2"), 0),
    ],
)
def test_the_chief_comes_first_among_the_workers(monkeypatch, text, addresses, index):
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_cluster() == (addresses, index)
    assert Workers(None, index).is_chief == (index == 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'needs TF_CONFIG in the environment, for example {"cluster"'),
        ("{", "TF_CONFIG cannot be read .JSONDecodeError"),
        ("[]", "TF_CONFIG cannot be read .TypeError"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG cannot be read .KeyError: 'task'"),
        (_config({"worker": ["a:1"]}, index=1), "no task 'worker' number 1"),
        (_config({"worker": ["a:1"]}, index=-1), "no task 'worker' number -1"),
        (_config({"worker": ["a:1"]}, "chief"), "no task 'chief' number 0"),
        (_config({"worker": ["a:1"], "ps": ["b:1"]}), "tasks are 'chief' and 'worker', got 'ps'"),
        (_config({"worker": ["a"]}), "an address is HOST:PORT, got 'a'"),
        (_config({"worker": ["a:0"]}), "an address is HOST:PORT, got 'a:0'"),
        (_config({"worker": ["a:65536"]}), "an address is HOST:PORT, got 'a:65536'"),
        (_config({"worker": ["a:1", "a:1"]}), "an address stands twice"),
    ],
)
def test_a_malformed_tf_config_says_what_is_wrong(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=message):
        read_cluster()


def test_one_worker_alone_needs_no_network(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", _config({"worker": ["nowhere.invalid:1"]}))
    workers = gather_workers(WorkersConfig(strategy="multiworker"))
    assert workers.is_chief
    assert workers.strategy.num_replicas_in_sync == 1
    assert workers.agree(7) == 7


def _addresses(number: int) -> tuple[str, ...]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    addresses = tuple(f"127.0.0.1:{s.getsockname()[1]}" for s in sockets)
    for s in sockets:
        s.close()
    return addresses


def _wait_all(addresses, seconds, delays, present) -> list[str]:
    """The outcome for each worker: "met" or the message of its error."""
    servers = []

    def outcome(index):
        time.sleep(delays[index])
        try:
            wait_for_workers(addresses, index, seconds)
        except InputError as error:
            return str(error)
        servers.append(socket.create_server(("", int(addresses[index].split(":")[1]))))  # as TensorFlow keeps the port
        return "met"

    with concurrent.futures.ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(outcome, present))
    for server in servers:
        server.close()
    return outcomes


@pytest.mark.parametrize("delays", [(0.6, 0.0, 0.3), (0.0, 0.6, 0.0)])
def test_workers_meet_in_whatever_order_they_come(delays):
    assert _wait_all(_addresses(3), 20.0, delays, (0, 1, 2)) == ["met"] * 3


@pytest.mark.parametrize("absent", [0, 2])
def test_the_worker_that_does_not_come_is_named_to_all_after_the_time_stated(absent):
    addresses, begin = _addresses(3), time.monotonic()
    outcomes = _wait_all(addresses, 0.6, (0.0, 0.2, 0.1), {0, 1, 2} - {absent})
    assert outcomes == [f"worker {addresses[absent]} did not come within 0.6 s; is it started?"] * 2
    assert 0.6 <= time.monotonic() - begin < 5.0


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"the port of {address}, this worker's in TF_CONFIG, cannot be used"):
            wait_for_workers((address, "127.0.0.1:1"), 0, 1.0)


def test_workers_with_different_settings_are_refused(monkeypatch):
    """Two replicas, of which the other has the settings `theirs`."""
    strategy = types.SimpleNamespace(num_replicas_in_sync=2)
    checksums = []
    monkeypatch.setattr(Workers, "_sum", lambda self, values, of_chief: checksums.append(int(values[0])) or [0])
    for settings in ({"k": 5, "seed": 1}, {"seed": 1, "k": 5}, {"k": 50, "seed": 1}):
        with pytest.raises(InputError, match="started with different settings: give all the same command"):
            Workers(strategy, 0).check_same(settings, "settings: give all the same command")
    assert checksums[0] == checksums[1] != checksums[2]
    monkeypatch.setattr(Workers, "_sum", lambda self, values, of_chief: [2 * values[0]])
    Workers(strategy, 1).check_same({"k": 5}, "settings")


@pytest.mark.parametrize("error", [tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError])
def test_the_loss_of_a_worker_is_one_line_with_a_remedy(error):
    with pytest.raises(WorkerLostError, match="start all again with --resume"), worker_loss_errors("with --resume"):
        raise error(None, None, "Socket closed")
