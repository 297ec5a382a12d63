"""Answers of servers that are wrong, endless or slow: one clear line within the time-out, nothing half-written."""

import contextlib
import json
import socket
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from scripted_server import scores_of
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from iwae_tf.commands.main import main
from iwae_tf.errors import InputError
from iwae_tf.serving import backends, scores
from iwae_tf.serving.client import ScoringClient

X = np.random.default_rng(0).random((3, 4), dtype=np.float32)
GOOD = {name: values.tolist() for name, values in scores_of(X).items()}
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def images(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


def score(images, url, capsys, *flags) -> str:
    """The one line that `score` ends with, which writes nothing."""
    assert main(["score", str(images), "--url", url, "--out", str(images.with_name("s.csv")), *flags]) == 2
    output = capsys.readouterr()
    *_, line = output.err.replace("\r", "\n").strip().splitlines()
    assert output.out == ""
    assert line.startswith("error: ")
    assert output.err.count("\nerror: ") <= 1
    assert "Traceback" not in output.err
    assert len(line) < 600
    assert [path.name for path in images.parent.iterdir()] == ["x.npy"]
    return line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_prob": [NAN, -1.0, -1.0]}, "log_prob nan and status 0 for row 0 of the request"),
        ({"log_prob": [-1.0, INF, -1.0]}, "log_prob inf and status 0 for row 1 of the request"),
        ({"log_prob": [-1.0, -1.0, 1e300]}, "log_prob inf and status 0 for row 2 of the request"),
        ({"elbo": [-1.0, -INF, -1.0]}, "elbo -inf and status 0 for row 1"),
        ({"effective_sample_size": [NAN] * 3}, "effective_sample_size nan and status 0"),
        ({"status": [0, 1, 0]}, "and status 1 for row 1 of the request"),
        ({"status": [0, 2**40, 0]}, "status that is no array of numbers"),
        ({"status": [0, 2**64, 0]}, "status that is no array of numbers"),
        ({"status": [0.5, 0, 0]}, "status of type float32; expected int32"),
        ({"status": [NAN, 0, 0]}, "status of type float32; expected int32"),
        ({"status": [True, False, False]}, "status that is no array of numbers"),
        ({"reliable": [0, 7, 0]}, "reliable 7 and status 0 for row 1"),
        ({"p_value": [0.5, 2.0, 0.5]}, "p_value 2.0 and status 0 for row 1"),
        ({"p_value": [0.5, 0.5, 0.0]}, "p_value 0.0 and status 0 for row 2"),
        ({"p_value": ["a"] * 3}, "p_value that is no array of numbers"),
        ({"reliable": []}, "reliable of shape [0] for 3 rows"),
        ({"log_prob": "nested"}, "log_prob that is no array of numbers: [[["),
    ],
)
def test_scores_that_contradict_themselves_are_refused(server, images, capsys, change, message):
    text = json.dumps({"outputs": GOOD | change}).replace('"nested"', "[" * 900 + "]" * 900)
    server.script = [(200, text)]
    assert message in score(images, server.url, capsys)
    assert len(server.rows()) == 1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"outputs": ' + "[" * 900 + "]" * 900 + "}", '{"a":' * 5000])
def test_json_of_a_thousand_levels_is_one_line(server, images, capsys, text):
    server.script = [(200, text)]
    assert "answered with" in score(images, server.url, capsys)
    server.script = [(500, text)]
    assert "answered 500: " in score(images, server.url, capsys)


@pytest.mark.parametrize(
    ("route", "answer", "message"),
    [
        ("", {"model_version_status": [{"version": "1" * 30, "state": "AVAILABLE"}]}, "an unreadable status"),
        ("", {"model_version_status": [{"version": "-1", "state": "AVAILABLE"}]}, "an unreadable status"),
        ("", {"model_version_status": [[[]] * 1000]}, "an unreadable status"),
        ("/versions/1/metadata", {"metadata": {"signature_def": [1]}}, None),
        ("/versions/1/metadata", {"metadata": {"signature_def": {"signature_def": {"serving_default": INF}}}}, None),
    ],
)
def test_a_status_that_cannot_be_read_is_one_line_and_broken_metadata_does_not_matter(
    server, images, capsys, route, answer, message
):
    usual = server.answer
    server.answer = lambda m, path, b: (
        (200, json.dumps(answer)) if path == "/v1/models/m" + route and m == "GET" else usual(m, path, b)
    )
    if message:
        assert message in score(images, server.url, capsys)
    else:
        assert main(["score", str(images), "--url", server.url]) == 0


def test_a_size_of_images_that_is_no_number_does_not_matter(server):
    usual, size = server.answer, {"dim": [{"size": "-1"}, {"size": INF}]}
    definitions = {"serving_default": {"inputs": {"x": {"tensor_shape": size}}}}
    metadata = json.dumps({"metadata": {"signature_def": {"signature_def": definitions}}})
    server.answer = lambda m, path, b: (200, metadata) if path.endswith("/metadata") else usual(m, path, b)
    with ScoringClient(server.url, timeout=5.0) as client:
        assert len(client.score(X).status) == 3


def test_control_characters_of_a_server_do_not_reach_the_terminal(server, images, capsys):
    server.script = [(500, json.dumps({"error": "gone\x1b[2J\x07\nerror: all is well"}))]
    assert score(images, server.url, capsys).endswith("gone [2J error: all is well (sent x [3, 4])")


def test_an_answer_that_does_not_end_is_given_up(server, images, capsys, monkeypatch):
    monkeypatch.setattr(backends, "MAX_ANSWER", 1 << 20)
    server.script = [(200, "[" * (2 << 20))]
    assert "answered with more than 1 MiB" in score(images, server.url, capsys)


@contextlib.contextmanager
def dripping(head: bytes):
    """The URL of a server that sends `head` at once, and then a byte in a tenth of a second for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip(connection):
            with contextlib.suppress(OSError), connection:
                connection.sendall(head)
                for _ in range(300):
                    connection.sendall(b" ")
                    time.sleep(0.1)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=drip, args=[listener.accept()[0]], daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models/m"


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"])
def test_one_byte_at_a_time_ends_at_the_time_out(images, capsys, head):
    start = time.perf_counter()
    with dripping(head) as url:
        assert "within 1 s" in score(images, url, capsys, "--timeout", "1")
    assert time.perf_counter() - start < 4.0  # it dripped for 30 s


def test_a_port_where_no_server_listens_is_given_up_in_seconds(images, capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    start = time.perf_counter()
    assert "no server answers at" in score(images, f"http://127.0.0.1:{port}/v1/models/m", capsys)
    assert time.perf_counter() - start < 8.0  # 5 s of waiting
    assert "does a gRPC server run there" in score(images, f"grpc://127.0.0.1:{port}/m", capsys)
    assert time.perf_counter() - start < 18.0


def test_a_file_without_a_single_score_is_exit_code_1(server, tmp_path, capsys):
    np.save(tmp_path / "bad.npy", np.full([3, 4], np.nan))
    np.save(tmp_path / "some.npy", np.where(np.arange(3)[:, None] == 1, 0.5, np.full([3, 4], np.nan)))
    for name, code in (("bad", 1), ("some", 0)):
        for flags in ([], ["--out", str(tmp_path / f"{name}.csv")]):
            assert main(["score", str(tmp_path / f"{name}.npy"), "--url", server.url, *flags]) == code
        assert (tmp_path / f"{name}.csv").exists()
    assert "3 rows; 3 with status 1" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- gRPC


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers with `outputs` and `metadata`, whatever they are."""

    outputs, metadata = None, b""

    def Predict(self, request, context):  # noqa: N802
        return predict_pb2.PredictResponse(outputs=self.outputs)

    def GetModelMetadata(self, request, context):  # noqa: N802
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(get_model_metadata_pb2.SignatureDefMap())
        response.metadata["signature_def"].value = self.metadata
        return response


@pytest.fixture(scope="module")
def service():
    service, server = Service(), grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    service.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}/m"
    server.start()
    yield service
    server.stop(0).wait()


def proto(values, **change):
    made = tf.make_tensor_proto(values)
    if "size" in change:
        made.tensor_shape.dim[0].size = change["size"]
    if "dtype" in change:
        made.dtype = change["dtype"]
    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_prob": proto(["a", "b", "c"])}, "log_prob that is no array of numbers: it is string"),
        ({"log_prob": proto(scores_of(X)["log_prob"].astype(complex))}, "it is complex128"),
        ({"log_prob": proto([1.0], size=10**12)}, "it is float32 of shape [1000000000000]"),
        ({"log_prob": proto([1.0], size=-5)}, "it is float32 of shape [-5]"),
        ({"log_prob": proto([1.0, 2.0, 3.0], dtype=999)}, "no array of numbers"),
        ({"log_prob": proto([1.0, 2.0, 3.0], dtype=tf.float64.as_datatype_enum)}, "no array of numbers"),
        ({"log_prob": proto([1.0, 2.0, 3.0], size=7)}, "no array of numbers"),
        ({"log_prob": proto([True, False, True])}, "it is bool"),
        ({"status": proto(np.array([0, 2**40, 0]))}, "status outside the range of int32"),
        ({"status": proto([0.0, 0.5, 0.0])}, "status of type float32; expected int32"),
        ({"elbo": proto([NAN, 0.0, 0.0])}, "elbo nan and status 0 for row 0"),
    ],
)
def test_tensors_of_a_wrong_type_or_size_are_refused(service, images, capsys, change, message):
    service.outputs = {name: tf.make_tensor_proto(values) for name, values in scores_of(X).items()} | change
    assert message in score(images, service.url, capsys)


def test_broken_metadata_is_one_line(service, images, capsys, monkeypatch):
    monkeypatch.setattr(service, "metadata", b"\xff\xff\xff")
    assert "unreadable metadata" in score(images, service.url, capsys)


def test_a_version_that_no_server_can_have_is_refused(capsys, images):
    for url in ("grpc://h:1/m/versions/" + "9" * 20, "http://h:1/v1/models/m/versions/" + "9" * 20):
        assert "is not the URL of a model" in score(images, url, capsys)


def test_outputs_are_checked_wherever_they_come_from():
    outputs = {**scores_of(X), "status": np.array([0, 0, 2**40])}
    with pytest.raises(InputError, match="status outside the range of int32"):
        scores.from_outputs(outputs, 3)
