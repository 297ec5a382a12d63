"""The client over REST, against a server that misbehaves."""

import json
import socket
import threading
import time

import numpy as np
import pytest
from scripted_server import QUICK, RESET, ScriptedServer, assert_scores_of, scores_of
from urllib3.exceptions import ProtocolError

from iwae_tf.errors import InputError
from iwae_tf.serving import rest
from iwae_tf.serving.client import ScoringClient

X = np.random.default_rng(0).random((30, 4), dtype=np.float32)


def _message(raised):
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_rows_come_back_in_order_whatever_the_chunks(server, client):
    x = np.random.default_rng(1).random((500, 4), dtype=np.float32)
    done = []
    assert_scores_of(client.score(x, progress=done.append), x)
    assert server.rows() == done
    assert done[:4] == [8, 16, 32, 64]  # begins small and doubles at most
    assert sum(done) == 500


def test_floats_pass_through_json_bit_for_bit(server, client):
    x = np.random.default_rng(0).integers(0, 2**32, (200, 4), dtype=np.uint32).view(np.float32)
    x = np.where(np.isfinite(x), x, np.float32(1e-45))
    client.predict("serving_default", {"x": x})
    np.testing.assert_array_equal(np.array(server.predictions()[0][1]["inputs"]["x"]).astype(np.float32), x)
    answer = {"outputs": {"loc_1": x.tolist()}}
    server.script = [(200, json.dumps(answer))]
    np.testing.assert_array_equal(client.predict("encode", {"x": x})["loc_1"], x)


def test_bare_nan_and_infinity_are_read_and_sent(server, client):
    x = X.copy()
    x[3, 1] = np.nan
    x[5] = 1.0
    scores = client.score(x)
    assert_scores_of(scores, x)
    assert np.isnan(scores.log_prob[3])
    assert scores.status[3] == 1
    assert np.isinf(scores.pareto_k[5])


@pytest.mark.parametrize(("num_samples", "seed"), [(None, 0), (7, 0), (50, 3)])
def test_samples_and_seed_go_to_the_signature_that_takes_them(server, client, num_samples, seed):
    client.score(X[:2], num_samples, seed)
    (body,) = [body for _, body in server.predictions()]
    if num_samples is None:
        assert (body["signature_name"], set(body["inputs"])) == ("serving_default", {"x"})
    else:
        assert body["signature_name"] == "log_prob_k"
        assert body["inputs"]["num_samples"] == [num_samples] * 2
        assert body["inputs"]["seed"] == [seed] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 3), "seed 3 without num_samples"),
        ((0,), "num_samples must be an integer >= 1"),
        ((2**31,), "num_samples must be at most"),
        ((5, -1), "seed must be"),
    ],
)
def test_samples_and_seeds_out_of_range_are_refused_before_anything_is_sent(server, client, arguments, message):
    with pytest.raises(InputError, match=message):
        client.score(X, *arguments)
    assert not server.predictions()


def test_a_busy_server_is_asked_again(server, client):
    server.script = [(503, '{"error": "queue full"}'), (429, ""), (502, "<html>"), RESET]
    assert_scores_of(client.score(X[:8]), X[:8])
    assert server.rows() == [8] * 5


def test_a_server_that_stays_busy_is_given_up_with_its_own_words(server, client):
    server.script = [(503, '{"error": "The batch scheduling queue\\n is full"}')] * 20
    start = time.perf_counter()
    with pytest.raises(InputError) as raised:
        client.score(X)
    assert "answered 503: The batch scheduling queue is full" in _message(raised)
    assert len(server.rows()) == 7
    assert 0.1 < time.perf_counter() - start < 2.0  # 0.2 s of waiting, and the requests themselves


def test_waiting_between_tries_grows_and_stays_within_its_bound():
    retry, waits = rest._retry(30.0), []
    for _ in range(6):
        retry = retry.increment("POST", "/", error=ProtocolError())
        waits.append(retry.get_backoff_time())
    assert waits[0] == 0
    assert waits[1:] == sorted(waits[1:])
    assert 20 < sum(waits) <= 30


def test_a_server_that_starts_late_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    servers = []

    def start():
        servers.append(ScriptedServer(port=port).__enter__())

    timer = threading.Timer(0.3, start)
    timer.start()
    try:
        with ScoringClient(f"http://127.0.0.1:{port}/v1/models/m", timeout=5.0, retry_seconds=4.0) as client:
            assert_scores_of(client.score(X), X)
    finally:
        timer.join()
        servers[0].__exit__()


def test_no_server_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(InputError) as raised:
        ScoringClient(f"http://127.0.0.1:{port}/v1/models/m", **QUICK)
    assert f"no server answers at 127.0.0.1:{port}" in _message(raised)
    assert "refused" in _message(raised)


def test_a_port_that_takes_connections_and_says_nothing_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(InputError) as raised:
        ScoringClient(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/models/m", timeout=0.2, retry_seconds=0.2)
    assert "within 0.2 s" in _message(raised)


@pytest.mark.parametrize("status", [504, 408])
def test_requests_that_time_out_at_the_server_are_halved(server, client, status):
    server.script = [(status, '{"error": "Timed out"}')] * 2
    server.most_rows = 3
    assert_scores_of(client.score(X), X)
    assert server.rows() == [8, 4, 2] + [3] * 9 + [1]  # what took too long once is not sent again


def test_requests_that_time_out_at_the_client_are_halved_and_not_repeated():
    with ScriptedServer() as server, ScoringClient(server.url, timeout=0.3, retry_seconds=5.0) as client:
        server.most_rows, server.hang = 4, 1.0
        assert_scores_of(client.score(X[:6]), X[:6])
        assert server.rows() == [6, 3, 3]


def test_a_single_row_that_times_out_says_what_to_do(server, client):
    server.most_rows = 0
    with pytest.raises(InputError, match=r"single row took too long.*--num-samples.*--rest_api_timeout_in_ms"):
        client.score(X)
    assert server.rows() == [8, 4, 2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'x'", "something else than a JSON object: {'x'"),
        ("<html>hello</html>", "something else than a JSON object: <html>"),
        ("[1, 2]", "something else than a JSON object"),
        ("{}", "answered without outputs"),
        ('{"predictions": [1]}', "answered without outputs"),
        ('{"outputs": {"log_prob": [1.0]}}', "without elbo, standard_error"),
        ('{"outputs": {"log_prob": ["a"]}}', "log_prob that is no array of numbers"),
        ('{"outputs": {"log_prob": [[1.0], [1.0, 2.0]]}}', "log_prob that is no array of numbers"),
    ],
)
def test_answers_that_are_no_scores_are_one_clear_line(server, client, text, message):
    server.script = [(200, text)]
    with pytest.raises(InputError) as raised:
        client.score(X)
    assert message in _message(raised)
    assert len(server.rows()) == 1


def test_an_answer_with_the_wrong_number_of_rows_is_refused(server, client):
    outputs = {name: values.tolist() for name, values in scores_of(X[:5]).items()}
    server.script = [(200, json.dumps({"outputs": outputs}))]
    with pytest.raises(InputError, match=r"log_prob of shape \[5\] for 8 rows"):
        client.score(X)


@pytest.mark.parametrize("status", [400, 404, 500, 501])
def test_what_may_not_be_retried_is_passed_on_at_once(server, client, status):
    server.script = [(status, '{"error": "Serving signature name:\\n not found"}')]
    with pytest.raises(InputError) as raised:
        client.score(X)
    assert f"answered {status}: Serving signature name: not found" in _message(raised)
    assert len(server.rows()) == 1
