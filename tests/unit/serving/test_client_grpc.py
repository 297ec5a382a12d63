"""The client over gRPC, to a server that fails as a test tells it to, and on the folder of a SavedModel."""

import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from scripted_server import assert_scores_of, scores_of
from served import scores_request, through_python
from small_models import SMALL_DIM, binary_images
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from iwae_tf.commands.main import main
from iwae_tf.errors import InputError
from iwae_tf.serving import model_folder
from iwae_tf.serving.client import ScoringClient

QUICK = {"timeout": 20.0, "retry_seconds": 0.3}
X = np.random.default_rng(0).random((20, 4), dtype=np.float32)
X[3, 2] = np.nan


class ScriptedService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TF Serving's service with the model "m" of 4 values an image.

    Attributes:
        requests: of all predict calls, in order.
        script: status codes of the next predict calls, None for an answer.
        version: the newest one of the model.
        metadata: whether the server implements that call.
        most_rows: requests with more rows time out; with 0 they are not answered before `released`.
    """

    def __init__(self):
        self.requests, self.script = [], []
        self.version, self.metadata, self.most_rows = 4, True, None
        self.released = threading.Event()

    def rows(self) -> list[int]:
        """The number of rows of each predict call."""
        return [request.inputs["x"].tensor_shape.dim[0].size for request in self.requests]

    def Predict(self, request, context):  # noqa: N802
        self.requests.append(request)
        code = self.script.pop(0) if self.script else None
        if code is not None:
            context.abort(code, f"told to say {code.name}")
        if self.most_rows == 0:
            self.released.wait(10)
        elif self.most_rows is not None and self.rows()[-1] > self.most_rows:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        scores = scores_of(tf.make_ndarray(request.inputs["x"]))
        outputs = {name: tf.make_tensor_proto(values) for name, values in scores.items()}
        return self._with_version(request, predict_pb2.PredictResponse(outputs=outputs))

    def GetModelMetadata(self, request, context):  # noqa: N802
        if not self.metadata:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no metadata")
        if request.model_spec.name != "m":
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model n")
        signatures, response = (
            get_model_metadata_pb2.SignatureDefMap(),
            get_model_metadata_pb2.GetModelMetadataResponse(),
        )
        for size in (-1, 4):
            signatures.signature_def["serving_default"].inputs["x"].tensor_shape.dim.add(size=size)
        response.metadata["signature_def"].Pack(signatures)
        return self._with_version(request, response)

    def _with_version(self, request, response):
        spec = request.model_spec
        response.model_spec.version.value = spec.version.value if spec.HasField("version") else self.version
        return response


@pytest.fixture
def service():
    service, server = ScriptedService(), grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    service.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}/m"
    server.start()
    yield service
    service.released.set()
    server.stop(0).wait()


@pytest.fixture
def client(service):
    with ScoringClient(service.url, **QUICK) as client:
        yield client


def test_scores_pass_bit_for_bit_and_numbers_in_the_types_of_the_signature(service, client):
    for arguments in ((), (50,), (50, 9)):
        assert_scores_of(client.score(X, *arguments), X)
    first, seeded = service.requests[0], service.requests[-1]
    assert (first.model_spec.signature_name, set(first.inputs)) == ("serving_default", {"x"})
    assert (seeded.model_spec.signature_name, set(seeded.inputs)) == ("log_prob_k", {"x", "num_samples", "seed"})
    for name, dtype, value in (("num_samples", np.int32, 50), ("seed", np.int64, 9)):
        sent = tf.make_ndarray(seeded.inputs[name])
        assert sent.dtype == dtype
        assert sent.tolist() == [value] * 12
    assert client.predict("encode", {"x": X[:3]}).keys() == scores_of(X).keys()


def test_requests_that_time_out_are_halved(service, client):
    service.most_rows = 3
    assert_scores_of(client.score(X), X)
    assert service.rows()[:3] == [8, 4, 2]
    service.most_rows = 0
    with (
        ScoringClient(service.url, timeout=0.2, retry_seconds=0.0) as impatient,
        pytest.raises(InputError, match=r"single row took too long.*--num-samples"),
    ):
        impatient.score(X[:2])
    assert service.rows()[-2:] == [2, 1]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_busy_server_is_asked_again_and_given_up_with_its_own_words(service, client, code):
    service.script = [code, code]
    assert_scores_of(client.score(X[:8]), X[:8])
    assert service.rows() == [8, 8, 8]
    service.script = [code] * 20
    with pytest.raises(InputError, match=f"answered {code.name}: told to say {code.name}"):
        client.score(X)
    assert len(service.requests) == 3 + 7


@pytest.mark.parametrize("name", ["INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "INTERNAL"])
def test_other_errors_are_passed_on_at_once(service, client, name):
    service.script = [grpc.StatusCode[name]]
    with pytest.raises(InputError, match=rf"answered {name}: told to say {name} \(sent x \[8, 4\]\)"):
        client.score(X)
    assert len(service.requests) == 1


def test_an_unknown_model_no_server_and_images_of_another_size_are_one_clear_line(service, client):
    with pytest.raises(InputError, match="answered NOT_FOUND: Could not find any versions of model n"):
        ScoringClient(service.url[:-1] + "n", **QUICK)
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"127.0.0.1:1/m answered UNAVAILABLE.*does a gRPC server run there"):
        ScoringClient("grpc://127.0.0.1:1/m", **QUICK)
    assert time.perf_counter() - start < 5.0  # 0.3 s of waiting, on a machine that may be busy
    with pytest.raises(InputError, match=r"rows have 3 values each, the model at .* takes 4"):
        client.score(X[:, :3])
    assert not service.requests


@pytest.mark.parametrize("metadata", [True, False])
def test_the_version_that_answers_first_is_asked_throughout(service, metadata):
    service.metadata = metadata
    with ScoringClient(service.url, **QUICK) as client:
        assert client.version == ("4" if metadata else None)
        chunks = client.score_chunks(X)
        next(chunks)
        service.version = 5
        list(chunks)
        assert client.version == "4"
    first, *later = [request.model_spec for request in service.requests]
    assert first.HasField("version") == metadata
    assert {spec.version.value for spec in later} == {4}


def test_a_label_or_a_version_in_the_url_is_followed(service):
    service.metadata = False
    with ScoringClient(service.url + "/labels/stable", **QUICK) as client:
        client.score(X[:10])
    first, second = [request.model_spec for request in service.requests]
    assert first.version_label == "stable"
    assert (second.version.value, second.version_label) == (4, "")
    with ScoringClient(service.url + "/versions/2", **QUICK) as client:
        client.score(X[:1])
    assert service.requests[-1].model_spec.version.value == 2


def test_a_job_resumes_with_the_version_that_it_began_with(service, tmp_path, capsys):
    service.metadata = False
    np.save(tmp_path / "x.npy", X)
    command = ["score", str(tmp_path / "x.npy"), "--url", service.url, "--out", str(tmp_path / "scores.npz")]
    service.script = [None, grpc.StatusCode.INTERNAL]
    assert main(command) == 2
    assert "INTERNAL: told to say INTERNAL (sent x [12, 4]); 8 of 20 rows are in" in capsys.readouterr().err
    service.version = 5
    assert main(command) == 0
    assert service.rows() == [8, 12, 8, 4]  # the second failed
    assert {request.model_spec.version.value for request in service.requests[1:]} == {4}
    with np.load(tmp_path / "scores.npz") as found:
        for name, values in scores_of(X).items():
            np.testing.assert_array_equal(found[name], values)


# ------------------------------------------------------------------------------------------- folders


def test_a_folder_gives_the_bits_of_its_signatures_and_refuses_what_does_not_fit(small_folder):
    x, client = binary_images(12), ScoringClient(small_folder.parent)
    x[3, 2], x[11] = np.nan, 2.0
    calls = [("serving_default", {"x": x}), scores_request(x, 50, 9)]
    for arguments, expected in zip(((), (50, 9)), through_python(small_folder, calls), strict=True):
        scores = client.score(x, *arguments)
        assert list(np.flatnonzero(scores.status)) == [3, 11]
        for name, values in expected.items():
            np.testing.assert_array_equal(getattr(scores, name), values)
            assert getattr(scores, name).dtype == values.dtype
    with pytest.raises(InputError, match=f"rows have 5 values each, the model at .* takes {SMALL_DIM}"):
        client.score(x[:, :5])
    with pytest.raises(InputError, match=r"has no signature 'nothing'; it has .*encode"):
        client.predict("nothing", {"x": x})
    with pytest.raises(InputError, match=r"signature encode of .* takes x, got seed"):
        client.predict("encode", {"seed": [1]})
    with pytest.raises(InputError, match=r"sent x \[12, 5\]"):
        client.predict("encode", {"x": x[:, :5]})


def test_the_newest_version_of_a_folder_is_taken(tmp_path, monkeypatch):
    for name in ("2", "10", ".part-x", "old"):
        (tmp_path / "m" / name).mkdir(parents=True)
        (tmp_path / "m" / name / "saved_model.pb").touch()
    monkeypatch.setattr(model_folder, "load", lambda folder: folder)
    assert [ScoringClient(tmp_path / "m" / name).version for name in ("", "2", "old")] == ["10", "2", None]
    with pytest.raises(InputError, match=r"there is no folder .*none; expected http"):
        ScoringClient(tmp_path / "none")
