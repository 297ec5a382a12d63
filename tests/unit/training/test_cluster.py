"""What `TF_CONFIG` may say, and how workers find each other."""

import json
import socket
import threading
import time

import pytest

from iwae_tf import InputError
from iwae_tf.config import WorkersConfig
from iwae_tf.training.cluster import Cluster, meet, read_cluster
from iwae_tf.training.workers import gather_workers


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
    assert read_cluster() == Cluster(addresses, index)
    assert read_cluster().is_chief == (index == 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'needs TF_CONFIG in the environment, for example {"cluster"'),
        ("{", "TF_CONFIG cannot be read .JSONDecodeError"),
        ("[]", "TF_CONFIG cannot be read .TypeError"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG cannot be read .KeyError: 'task'"),
        (_config({"worker": ["a:1"]}, index="x"), "TF_CONFIG cannot be read .ValueError"),
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


def _meet_all(addresses, settings, seconds=20.0, delays=(0.0, 0.0, 0.0), absent=()) -> list[str]:
    """What each worker is told: "met" or the message of its error."""
    told = ["absent"] * len(addresses)

    def one(index):
        time.sleep(delays[index])
        try:
            meet(Cluster(addresses, index), settings[index], seconds)
            told[index] = "met"
        except InputError as error:
            told[index] = str(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(addresses)) if i not in absent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


@pytest.mark.parametrize("delays", [(0.0, 0.0, 0.0), (0.6, 0.0, 0.3), (0.0, 0.6, 0.0)])
def test_workers_meet_in_whatever_order_they_come(delays):
    assert _meet_all(_addresses(3), [{"k": 5, "units": (3, 2)}] * 3, delays=delays) == ["met"] * 3


def test_a_worker_with_other_settings_stops_all_by_name():
    addresses = _addresses(3)
    told = _meet_all(addresses, [{"k": 5, "seed": 1}, {"k": 5, "seed": 1}, {"k": 50, "seed": 1}], delays=(0, 0, 0.5))
    words = f"worker {addresses[2]} was started with other settings: k is 50 there and 5 at the chief"
    assert told == [words] * 3


def test_the_worker_that_does_not_come_is_named_to_all_after_the_time_stated():
    addresses = _addresses(3)
    begin = time.monotonic()
    told = _meet_all(addresses, [{}] * 3, seconds=1.0, absent=(2,))
    assert told[:2] == [f"worker {addresses[2]} did not come within 1 s; is it started?"] * 2
    assert 1.0 <= time.monotonic() - begin < 5.0


def test_a_chief_that_does_not_come_is_named():
    addresses = _addresses(2)
    told = _meet_all(addresses, [{}] * 2, seconds=0.5, absent=(0,))
    assert told[1] == f"the chief, worker {addresses[0]}, could not be reached within 0.5 s; is it started?"


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"the port of {address}, this worker's in TF_CONFIG, cannot be used"):
            meet(Cluster((address, "127.0.0.1:1"), 0), {}, 1.0)


def test_something_else_that_knocks_at_the_chiefs_port_is_not_heard():
    addresses = _addresses(2)

    def knock():
        for said in (b"GET / HTTP/1.0\n", b"[]\n", b""):
            with socket.create_connection(("127.0.0.1", int(addresses[0].split(":")[1]))) as connection:
                connection.sendall(said)

    threading.Timer(0.3, knock).start()
    assert _meet_all(addresses, [{}] * 2, delays=(0.0, 1.0)) == ["met"] * 2
