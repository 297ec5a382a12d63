"""The client over gRPC and on a folder: the same SavedModel with TF Serving's own service definition."""

import shutil
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
from scripted_service import ScriptedService
from served import loaded, meta_graph
from small_models import SMALL_DIM, binary_images
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

from iwae_tf.commands.main import main
from iwae_tf.errors import InputError
from iwae_tf.serving import model_folder
from iwae_tf.serving.client import ScoringClient

QUICK = {"timeout": 20.0, "retry_seconds": 0.3}
X = binary_images(20)
X[3, 2] = np.nan
X[11] = 2.0


@pytest.fixture(scope="module")
def folder_client(small_folder):
    return ScoringClient(small_folder.parent)


@pytest.fixture
def service(small_folder):
    signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=meta_graph(small_folder).signature_def)
    service = ScriptedService(loaded(small_folder), signatures)
    server = grpc.server(futures.ThreadPoolExecutor(4))
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


def _same(one, other):
    for name in one._fields:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype


def test_a_server_and_the_folder_give_the_same_bits(client, folder_client):
    for arguments in ((), (50,), (50, 9)):
        scores = client.score(X, *arguments)
        _same(scores, folder_client.score(X, *arguments))
        assert list(np.flatnonzero(scores.status)) == [3, 11]
        np.testing.assert_array_equal(np.isfinite(scores.log_prob), scores.status == 0)
    for signature, inputs in [("encode", {"x": X[:3]}), ("sample", {"seed": [1, 2]})]:
        ours, theirs = client.predict(signature, inputs), folder_client.predict(signature, inputs)
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name])


def test_requests_that_time_out_are_halved_and_scores_do_not_depend_on_it(service, client, folder_client):
    service.most_rows = 3
    _same(client.score(X), folder_client.score(X))
    assert service.rows()[:3] == [8, 4, 2]
    service.most_rows = 0
    with (
        ScoringClient(service.url, timeout=0.2, retry_seconds=0.0) as impatient,
        pytest.raises(InputError, match=r"single row took too long.*--num-samples"),
    ):
        impatient.score(X[:2])
    assert service.rows()[-2:] == [2, 1]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_busy_server_is_asked_again_and_given_up_with_its_own_words(service, client, folder_client, code):
    service.script = [code, code]
    _same(client.score(X[:8]), folder_client.score(X[:8]))
    assert service.rows() == [8, 8, 8]
    service.script = [code] * 20
    with pytest.raises(InputError, match=f"answered {code.name}: told to say {code.name}"):
        client.score(X)
    assert len(service.requests) == 3 + 7


@pytest.mark.parametrize("name", ["INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "INTERNAL"])
def test_other_errors_are_passed_on_at_once(service, client, name):
    service.script = [grpc.StatusCode[name]]
    with pytest.raises(InputError, match=rf"answered {name}: told to say {name} \(sent x \[8, 12\]\)"):
        client.score(X)
    assert len(service.requests) == 1


def test_an_unknown_model_and_no_server_are_one_clear_line(service):
    with pytest.raises(InputError, match="answered NOT_FOUND: Could not find any versions of model n"):
        ScoringClient(service.url[:-1] + "n", **QUICK)
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"127.0.0.1:1/m answered UNAVAILABLE.*does a gRPC server run there"):
        ScoringClient("grpc://127.0.0.1:1/m", **QUICK)
    assert time.perf_counter() - start < 5.0  # 0.3 s of waiting, on a machine that may be busy


def test_the_version_that_answers_first_is_asked_throughout(service, client):
    assert client.version == "4"
    service.version = 5
    client.score(X)
    assert {request.model_spec.version.value for request in service.requests} == {4}


def test_without_metadata_the_first_scores_pin_the_version(service):
    service.metadata = False
    with ScoringClient(service.url, **QUICK) as client:
        assert client.version is None
        chunks = client.score_chunks(X)
        next(chunks)
        service.version = 5
        list(chunks)
        assert client.version == "4"
    first, *later = [request.model_spec for request in service.requests]
    assert not first.HasField("version")
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


def test_the_newest_version_of_a_folder_is_taken(tmp_path, monkeypatch):
    for name in ("2", "10", ".part-x", "old"):
        (tmp_path / "m" / name).mkdir(parents=True)
        (tmp_path / "m" / name / "saved_model.pb").touch()
    monkeypatch.setattr(model_folder, "load", lambda folder: folder)
    assert [ScoringClient(tmp_path / "m" / name).version for name in ("", "2", "old")] == ["10", "2", None]


def test_folders_that_are_no_models_are_refused(small_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_text("nothing of the kind")
    shutil.copytree(small_folder, tmp_path / "changed" / "1")
    with (tmp_path / "changed" / "1" / "saved_model.pb").open("ab") as file:
        file.write(b"more")
    for name, message in [
        ("changed", "is damaged"),
        ("none", "there is no folder .*none; expected http"),
        ("empty", "holds no version"),
        ("broken", "cannot be loaded as a SavedModel"),
    ]:
        with pytest.raises(InputError, match=message) as raised:
            ScoringClient(tmp_path / name)
        assert "\n" not in str(raised.value).strip()


def test_inputs_that_do_not_fit_are_refused(service, client, folder_client):
    for one in (client, folder_client):
        with pytest.raises(InputError, match=f"images have 5 values each, the model at .* takes {SMALL_DIM}"):
            one.score(X[:, :5])
    assert not service.requests
    with pytest.raises(InputError, match=r"has no signature 'nothing'; it has .*encode"):
        folder_client.predict("nothing", {"x": X})
    with pytest.raises(InputError, match=r"signature encode of .* takes x, got seed"):
        folder_client.predict("encode", {"seed": [1]})
    with pytest.raises(InputError, match=r"sent x \[20, 5\]"):
        folder_client.predict("encode", {"x": X[:, :5]})


def test_a_job_resumes_with_the_version_that_it_began_with(service, folder_client, tmp_path, capsys):
    service.metadata = False
    np.save(tmp_path / "x.npy", X)
    command = ["score", str(tmp_path / "x.npy"), "--url", service.url, "--out", str(tmp_path / "scores.npz")]
    service.script = [None, grpc.StatusCode.INTERNAL]
    assert main(command) == 2
    assert "INTERNAL: told to say INTERNAL (sent x [12, 12]); 8 of 20 rows are in" in capsys.readouterr().err
    service.version = 5
    assert main(command) == 0
    assert service.rows() == [8, 12, 8, 4]  # the second failed
    assert {request.model_spec.version.value for request in service.requests[1:]} == {4}
    with np.load(tmp_path / "scores.npz") as found:
        for name, values in folder_client.score(X)._asdict().items():
            np.testing.assert_array_equal(found[name], values)
