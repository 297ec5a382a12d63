"""The scoring client: addresses, images, requests over REST to a server that fails."""

import json
import socket
import threading
import time

import numpy as np
import PIL.Image
import pytest
from scripted_server import QUICK, RESET, ScriptedServer, assert_scores_of, scores_of

from iwae_tf.errors import InputError
from iwae_tf.serving import backends
from iwae_tf.serving import client as client_module
from iwae_tf.serving.backends import parse_model_url
from iwae_tf.serving.client import ScoringClient, as_rows, read_rows

X = np.random.default_rng(0).random((30, 4), dtype=np.float32)
ERROR = '{"error": "Serving signature name:\\n not found"}'

# ------------------------------------------------------------------------------------------- addresses, images


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("http://h:8501/v1/models/m", ("http", "http://h:8501/v1/models/m", "h:8501", "m", None, None)),
        ("http://h/v1/models/m/", ("http", "http://h/v1/models/m", "h", "m", None, None)),
        ("https://h/a/b/v1/models/m/versions/12", ("http", "https://h/a/b/v1/models/m", "h", "m", "12", None)),
        ("http://h/v1/models/m/labels/stable", ("http", "http://h/v1/models/m", "h", "m", None, "stable")),
        ("grpc://h:8500/m/versions/3", ("grpc", "grpc://h:8500/m", "h:8500", "m", "3", None)),
        ("grpc://[::1]:8500/m/labels/canary", ("grpc", "grpc://[::1]:8500/m", "[::1]:8500", "m", None, "canary")),
        ("export/models/m", ("folder", "export/models/m", "", "", None, None)),
        ("/a/m/3", ("folder", "/a/m/3", "", "", None, None)),
    ],
)
def test_addresses_of_models_are_parsed(url, parsed):
    assert parse_model_url(url) == parsed


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://h:8501", "expected http://h:8501/v1/models/NAME"),
        ("http://h:8501/v1/models/m:predict", "expected http://h:8501/v1/models/NAME"),
        ("http://h:8501/v1/models/m/versions/new", "/versions/N or /labels/L"),
        ("grpc://h:8500", "expected grpc://h:8500/NAME"),
        ("grpc://h:8500/v1/models/m", "expected grpc://h:8500/NAME"),
        ("https://", "expected https://HOST:PORT/v1/models/NAME"),
        ("ftp://h/m", "unknown scheme 'ftp'"),
    ],
)
def test_other_addresses_are_refused_with_the_right_form(url, message):
    with pytest.raises(InputError) as raised:
        parse_model_url(url)
    assert message in str(raised.value)


def test_images_become_float32_rows_of_the_same_values():
    grey = np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(8, 8, 8)
    for values in (grey, grey.astype(np.int64), grey.astype(np.float64)):
        np.testing.assert_array_equal(as_rows(values), grey.reshape(8, 64))
    binary = np.eye(3, dtype=np.uint8)
    for pixels in (binary.astype(bool), binary.astype(np.float64)):
        np.testing.assert_array_equal(as_rows(pixels), binary)
        assert as_rows(pixels).dtype == np.float32
    np.testing.assert_array_equal(as_rows(np.zeros((1, 2, 3, 4))), np.zeros((1, 24)))
    wild = np.array([[np.nan, -3.0, 1e300, 0.1]])
    np.testing.assert_array_equal(as_rows(wild), np.array([[np.nan, -3, np.inf, 0.1]], np.float32))


def test_arrays_that_are_no_images_are_refused():
    for x, message in [
        (np.zeros((0, 4)), "empty"),
        (np.zeros((3, 0)), "empty"),
        (np.zeros(4), r"shape \[4\]"),
        (np.zeros((1, 2, 3, 4, 5)), r"shape \[1, 2, 3, 4, 5\]"),
        (np.zeros((2, 2), complex), "dtype complex128"),
        (np.array([["a"]]), "dtype <U1"),
    ]:
        with pytest.raises(InputError, match=message):
            as_rows(x)


def test_images_are_found_in_their_file_and_other_files_are_refused(tmp_path):
    np.save(tmp_path / "plain.npy", X)
    np.savez(tmp_path / "x.npz", x=X, y=np.arange(3))
    np.savez(tmp_path / "one.npz", images=X)
    np.savez(tmp_path / "two.npz", a=X, b=np.arange(3))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "text.npz").write_text("no images")
    (tmp_path / "image.png").write_text("no array")
    (tmp_path / "CAPITALS.NPY").write_bytes((tmp_path / "plain.npy").read_bytes())
    for name, array in [
        ("plain.npy", None),
        ("CAPITALS.NPY", None),
        ("x.npz", None),
        ("one.npz", None),
        ("two.npz", "a"),
        ("x.npz", "x"),
    ]:
        np.testing.assert_array_equal(read_rows(tmp_path / name, None, array)[0], X)
    for name, array, message in [
        ("none.npy", None, "there is no file or folder .*none.npy: correct the path"),
        ("none", None, "there is no file or folder"),
        ("two.npz", None, "has the arrays a, b"),
        ("two.npz", "c", "has no array 'c'; it has a, b"),
        ("two.npz", "b", r"two.npz: b has shape \[3\]"),
        ("plain.npy", "a", "leave --array out"),
        ("text.npz", None, "cannot be read"),
        ("objects.npy", None, "cannot be read"),
        ("image.png", None, "expected .npy, .npz, .csv or .parquet"),
    ]:
        with pytest.raises(InputError, match=message):
            read_rows(tmp_path / name, {}, array)


def test_folders_of_images_are_read_as_for_training(tmp_path):
    def write(name, shape=(2, 3)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        PIL.Image.fromarray(image).save(tmp_path / name)
        return image

    names = ["test/a/1.png", "test/b/0.png", "train/a/0.png", "train/a/1.png"]
    (image, *_) = [write(f"splits/{name}") for name in names]
    x, ids = read_rows(tmp_path / "splits")
    assert ids.tolist() == names
    np.testing.assert_array_equal(x, np.tile(image.reshape(1, 6), (4, 1)))
    x, _ = read_rows(tmp_path / "splits", {"image_shape": [2, 9], "colours": True})  # of a model of colours
    np.testing.assert_array_equal(x, np.tile(np.repeat(image.reshape(1, 6), 3, axis=1), (4, 1)))
    np.testing.assert_array_equal(read_rows(tmp_path / "splits", {"image_shape": [2, 3]})[0], x[:, ::3])
    for shape, colours in ([3, 2], False), ([2, 9], False):  # as many values, or thrice as many
        with pytest.raises(InputError, match=r"has images of shape \[2, 3\]; the model was trained on \["):
            read_rows(tmp_path / "splits", {"image_shape": shape, "colours": colours})
    write("splits/test/a/2.png", (2, 3, 3))
    assert read_rows(tmp_path / "splits")[0].shape == (5, 18)
    write("deep/train/a/b/0.png")
    with pytest.raises(InputError, match=r"a/b/0\.png is too deep in"):
        read_rows(tmp_path / "deep")
    for number in range(3):
        write(f"flat/{number}.png")
        write(f"valid/train/{number}.png")  # a class of that name
    assert read_rows(tmp_path / "flat")[1].tolist() == ["0.png", "1.png", "2.png"]
    assert read_rows(tmp_path / "valid")[1].tolist() == [f"train/{number}.png" for number in range(3)]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="nothing holds no PNG or JPEG images"):
        read_rows(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"--array x is for .npz files, .*flat is a folder of images: leave it out"):
        read_rows(tmp_path / "flat", array="x")


# ------------------------------------------------------------------------------------------- requests


def test_rows_come_back_in_order_from_requests_that_grow(server, client):
    x = np.random.default_rng(1).random((1000, 4), dtype=np.float32)
    x[3, 1], x[5] = np.nan, 1.0
    done = []
    scores = client.score(x, progress=done.append)
    assert_scores_of(scores, x)  # NaN and infinity pass bare
    assert (scores.status[3], scores.pareto_k[5]) == (1, np.inf)
    assert server.rows() == done
    assert done[:4] == [8, 16, 32, 64]  # begins small and doubles at most
    assert max(done) == client_module.MAX_ROWS


def test_integers_of_a_request_are_never_wrapped_or_cut(server, client):
    x = np.zeros((2, 4))
    client.predict("log_prob_k", {"x": x, "num_samples": np.array([2**32 + 100, -(2**40)]), "seed": [2**40] * 2})
    sent = server.predictions()[0][1]["inputs"]
    assert (sent["num_samples"], sent["seed"]) == ([2**31 - 1, -(2**31)], [2**40, 2**40])
    for name, values, words in (
        ("num_samples", [10.9, 10], r"num_samples must hold integers \(int32\)"),
        ("seed", [2**64, 1], "seed must hold integers"),
        ("seed", ["a", "b"], r"seed must hold integers \(int64\)"),
        ("seed", [1.0, 2.0], "seed must hold integers from"),
    ):
        inputs = {"x": x, "num_samples": [10, 10], "seed": [0, 0]} | {name: values}
        with pytest.raises(InputError, match=words):
            client.predict("log_prob_k", inputs)


def test_floats_pass_through_json_bit_for_bit(server, client):
    x = np.random.default_rng(0).integers(0, 2**32, (200, 4), dtype=np.uint32).view(np.float32)
    x = np.where(np.isfinite(x), x, np.float32(1e-45))
    server.script = [(200, json.dumps({"outputs": {"loc_1": x.tolist(), "status": [0] * 200}}))]
    answer = client.predict("encode", {"x": x})
    np.testing.assert_array_equal(answer["loc_1"], x)
    assert (answer["loc_1"].dtype, answer["status"].dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(np.array(server.predictions()[0][1]["inputs"]["x"]).astype(np.float32), x)


def test_samples_and_seed_go_to_the_signature_that_takes_them(server, client):
    for arguments in ((), (7,), (50, 3)):
        client.score(X[:2], *arguments)
    bodies = [body for _, body in server.predictions()]
    assert [body["signature_name"] for body in bodies] == ["serving_default", "log_prob_k", "log_prob_k"]
    numbers = [{name: v for name, v in body["inputs"].items() if name != "x"} for body in bodies]
    assert numbers == [{}, {"num_samples": [7, 7], "seed": [0, 0]}, {"num_samples": [50, 50], "seed": [3, 3]}]


def test_what_does_not_fit_is_refused_before_anything_is_sent(server, client):
    for x, arguments, message in [
        (X, (None, 3), "seed 3 without num_samples"),
        (X, (0,), "num_samples must be an integer >= 1"),
        (X, (2**31,), "num_samples must be at most"),
        (X, (5, -1), "seed must be"),
        (X[:, :3], (), r"rows have 3 values each, the model at http.* takes 4"),
    ]:
        with pytest.raises(InputError, match=message):
            client.score(x, *arguments)
    for inputs, message in [
        ({"x": [["1", "2", "3", "4"]]}, "x has dtype <U1; expected numbers"),
        ({"x": [[1.0, 2.0], [3.0]]}, "x has rows of different lengths"),
        ({"x": X, "num_samples": [5], "seed": [0, 1]}, "the inputs have different numbers of rows: x "),
    ]:
        with pytest.raises(InputError, match=message):
            client.predict("log_prob_k", inputs)
    assert not server.predictions()


def test_requests_stay_small_in_bytes_and_short_in_time(monkeypatch):
    monkeypatch.setattr(client_module, "TARGET_SECONDS", 0.1)
    with ScriptedServer(dim=20_000) as server, ScoringClient(server.url, **QUICK) as client:
        client.score(np.full((7, 20_000), 0.1, np.float32))
        assert max(server.rows()) == 2  # at 22 bytes a value, 2 rows are the most below 1 MiB
    with ScriptedServer() as server, ScoringClient(server.url, **QUICK) as client:
        server.seconds = 0.3
        client.score(X[:10])
        assert server.rows()[0] == 8
        assert server.rows()[1] <= 2  # 8 rows took three times the aim


# ------------------------------------------------------------------------------------------- servers that fail


def test_a_busy_server_is_asked_again_and_given_up_after_seven_times(server, client):
    server.script = [(503, '{"error": "queue full"}'), (429, ""), (502, "<html>"), RESET]
    assert_scores_of(client.score(X[:8]), X[:8])
    assert server.rows() == [8] * 5
    server.script = [(503, '{"error": "The batch scheduling queue\\n is full"}')] * 20
    start = time.perf_counter()
    with pytest.raises(InputError, match="answered 503: The batch scheduling queue is full"):
        client.score(X)
    assert len(server.rows()) == 5 + 7
    assert 0.1 < time.perf_counter() - start < 2.0  # 0.1 to 0.2 s of waiting, and the requests themselves


def test_waiting_between_tries_doubles_and_stays_within_its_bound(monkeypatch):
    waits = []

    def busy():
        raise backends.BusyError("busy")

    monkeypatch.setattr(backends.time, "sleep", waits.append)
    with pytest.raises(InputError, match="busy"):
        backends.retry(busy, 30.0)
    assert len(waits) == 6
    assert waits[0] == 0
    for wait, most in zip(waits, np.array([0, 2, 4, 8, 16, 32]) * 30 / 62, strict=True):
        assert most / 2 <= wait <= most


def test_a_server_that_starts_late_is_waited_for_and_none_or_a_silent_one_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(InputError, match=r"within 0.2 s.*address"):
            ScoringClient(f"http://127.0.0.1:{port}/v1/models/m", timeout=0.2, retry_seconds=5.0)
    with pytest.raises(InputError, match=f"no server answers at 127.0.0.1:{port} .*refused") as raised:
        ScoringClient(f"http://127.0.0.1:{port}/v1/models/m", **QUICK)
    assert "\n" not in str(raised.value)
    servers = []
    timer = threading.Timer(0.3, lambda: servers.append(ScriptedServer(port=port).__enter__()))
    timer.start()
    try:
        with ScoringClient(f"http://127.0.0.1:{port}/v1/models/m", timeout=5.0, retry_seconds=6.0) as client:
            assert_scores_of(client.score(X), X)
    finally:
        timer.join()
        servers[0].__exit__()


def test_requests_that_time_out_are_halved_and_a_single_row_says_what_to_do(server, client):
    for status in (504, 408):
        server.requests.clear()
        server.script, server.most_rows = [(status, '{"error": "Timed out"}')] * 2, 3
        assert_scores_of(client.score(X), X)
        assert server.rows() == [8, 4, 2] + [3] * 9 + [1]  # a size that timed out is not sent again
    server.requests.clear()
    server.most_rows = 0
    with pytest.raises(InputError, match=r"single row took too long.*--num-samples.*--rest_api_timeout_in_ms"):
        client.score(X)
    assert server.rows() == [8, 4, 2, 1]
    server.requests.clear()
    server.most_rows, server.hang = 4, 1.0
    with ScoringClient(server.url, timeout=0.4, retry_seconds=5.0) as impatient:  # gives up before the server does
        assert_scores_of(impatient.score(X[:6]), X[:6])
    assert server.rows() == [6, 3, 3]


FIVE_ROWS = json.dumps({"outputs": {name: values.tolist() for name, values in scores_of(X[:5]).items()}})


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (400, ERROR, "answered 400: Serving signature name: not found (sent x [8, 4])"),
        (404, ERROR, "answered 404: Serving signature name: not found"),
        (500, "<html>", "answered 500: <html>"),
        (200, "{'x'", "something else than a JSON object: {'x'"),
        (200, "[1, 2]", "something else than a JSON object"),
        (200, '{"predictions": [1]}', "answered without outputs"),
        (200, '{"outputs": {"log_prob": [1.0]}}', "without elbo, standard_error"),
        (200, '{"outputs": {"log_prob": ["a"]}}', "log_prob that is no array of numbers"),
        (200, '{"outputs": {"log_prob": [[1.0], [1.0, 2.0]]}}', "log_prob that is no array of numbers"),
        (200, FIVE_ROWS, "log_prob of shape [5] for 8 rows"),
    ],
)
def test_answers_that_are_no_scores_are_one_clear_line_and_not_asked_for_again(server, client, status, text, message):
    server.script = [(status, text)]
    with pytest.raises(InputError) as raised:
        client.score(X)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(server.rows()) == 1


# ------------------------------------------------------------------------------------------- versions


def test_the_highest_version_that_is_available_is_asked_throughout(server):
    server.versions = [("1", "END"), ("9", "AVAILABLE"), ("10", "AVAILABLE"), ("11", "LOADING")]
    with ScoringClient(server.url, **QUICK) as client:
        chunks = client.score_chunks(X)
        next(chunks)
        server.versions = [("12", "AVAILABLE")]
        list(chunks)
    assert client.version == "10"
    assert {path for path, _ in server.predictions()} == {"/v1/models/m/versions/10:predict"}


def test_a_label_or_a_version_in_the_url_is_followed(server):
    server.versions, server.labels = [("1", "AVAILABLE"), ("2", "AVAILABLE")], {"stable": "1"}
    for suffix in ("/labels/stable", "/versions/1", "/versions/1/"):
        with ScoringClient(server.url + suffix, **QUICK) as client:
            assert (client.version, client.url) == ("1", server.url)


@pytest.mark.parametrize(
    ("suffix", "versions", "message"),
    [
        ("", [("1", "LOADING")], "it has 1 LOADING"),
        ("", [], "it has none"),
        ("", [("one", "AVAILABLE")], "unreadable status"),
        ("/versions/3", [("1", "AVAILABLE")], "answered 404"),
        ("x", [("1", "AVAILABLE")], "answered 404: no such route"),
    ],
)
def test_a_model_without_an_available_version_is_one_clear_line(server, suffix, versions, message):
    server.versions = versions
    with pytest.raises(InputError, match=message):
        ScoringClient(server.url + suffix, **QUICK)


def test_a_server_without_versions_and_metadata_is_used_as_it_is(server):
    server.versions, server.metadata = None, False
    with ScoringClient(server.url, **QUICK) as client:
        assert_scores_of(client.score(X), X)
        assert client.version is None
        assert {path for path, _ in server.predictions()} == {"/v1/models/m:predict"}
        with pytest.raises(InputError, match=r"2 dimensional with 4 columns \(sent x \[8, 3\]\)"):
            client.score(X[:, :3])
