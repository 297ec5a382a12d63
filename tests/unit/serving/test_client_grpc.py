"""The client over gRPC and on a folder: the same SavedModel behind TF Serving's own service definition."""

import shutil
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from scripted_service import ScriptedService
from small_models import SMALL_DIM, binary_images, small_model
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    prediction_service_pb2_grpc,
)

from iwae_tf.commands.main import main
from iwae_tf.errors import InputError
from iwae_tf.serving.client import ScoringClient
from iwae_tf.serving.saved_model import export_saved_model

QUICK = {"timeout": 20.0, "retry_seconds": 0.3}
X = binary_images(20)
X[3, 2] = np.nan
X[11] = 2.0


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A version's folder: 2 layers, 30 samples."""
    folder = tmp_path_factory.mktemp("models") / "m"
    return export_saved_model(small_model(2), folder, num_samples=30, max_samples=1000)


@pytest.fixture(scope="module")
def folder_client(exported):
    return ScoringClient(exported.parent)


@pytest.fixture(scope="module")
def loaded(exported):
    """The SavedModel, and its signatures as the server's metadata gives them."""
    graph = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes()).meta_graphs[0]
    return tf.saved_model.load(str(exported)), get_model_metadata_pb2.SignatureDefMap(signature_def=graph.signature_def)


@pytest.fixture
def service(loaded):
    service = ScriptedService(*loaded)
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


@pytest.mark.parametrize(("num_samples", "seed"), [(None, 0), (50, 0), (50, 9)])
def test_a_server_and_the_folder_say_the_same_bits(client, folder_client, num_samples, seed):
    scores = client.score(X, num_samples, seed)
    _same(scores, folder_client.score(X, num_samples, seed))
    assert list(np.flatnonzero(scores.status)) == [3, 11]
    assert np.isnan(scores.log_prob[3])
    assert np.isfinite(scores.log_prob[scores.status == 0]).all()


def test_samples_and_seed_matter(folder_client):
    scores = [folder_client.score(X[:2], *arguments).log_prob for arguments in [(50,), (50, 9), (60,)]]
    assert len({tuple(values) for values in scores}) == 3


def test_scores_do_not_depend_on_the_chunks(service, client, folder_client):
    whole = folder_client.score(X)
    service.most_rows = 3
    _same(client.score(X), whole)
    assert service.rows()[:3] == [8, 4, 2]


def test_the_other_signatures_answer_by_name(client, folder_client):
    for signature, inputs in [("encode", {"x": X[:3]}), ("sample", {"seed": [1, 2]})]:
        ours, theirs = client.predict(signature, inputs), folder_client.predict(signature, inputs)
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name])


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_busy_server_is_asked_again(service, client, folder_client, code):
    service.script = [code, code]
    _same(client.score(X[:8]), folder_client.score(X[:8]))
    assert service.rows() == [8, 8, 8]


def test_a_server_that_stays_busy_is_given_up_with_its_own_words(service, client):
    service.script = [grpc.StatusCode.UNAVAILABLE] * 20
    with pytest.raises(InputError, match=r"not available .told to say UNAVAILABLE"):
        client.score(X)
    assert len(service.requests) == 5


@pytest.mark.parametrize("name", ["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "INTERNAL"])
def test_what_may_not_be_retried_is_passed_on_at_once(service, client, name):
    service.script = [grpc.StatusCode[name]]
    with pytest.raises(InputError, match=rf"answered {name}: told to say {name} \(sent x \[8, 12\]\)"):
        client.score(X)
    assert len(service.requests) == 1


def test_a_single_row_that_times_out_says_what_to_do(service):
    service.most_rows = 0
    with (
        ScoringClient(service.url, timeout=0.2, retry_seconds=0.0) as client,
        pytest.raises(InputError, match=r"single row took too long.*--num-samples"),
    ):
        client.score(X[:2])
    assert service.rows() == [2, 1]


def test_an_unknown_model_is_one_clear_line(service):
    with pytest.raises(InputError, match="answered NOT_FOUND: Could not find any versions of model n"):
        ScoringClient(service.url[:-1] + "n", **QUICK)


def test_no_server_is_one_clear_line_and_is_given_up_in_time():
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"127.0.0.1:1 is not available .*does a gRPC server run there"):
        ScoringClient("grpc://127.0.0.1:1/m", **QUICK)
    assert time.perf_counter() - start < 3.0  # 0.3 s of waiting, on a machine that may be busy


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
    assert later
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


def test_the_wrong_image_size_is_found_before_images_are_sent(service, client, folder_client):
    for one in (client, folder_client):
        with pytest.raises(InputError, match=f"images have 5 values each, the model at .* takes {SMALL_DIM}"):
            one.score(X[:, :5])
    assert not service.requests


def test_the_newest_version_of_a_folder_is_taken(exported, tmp_path):
    for name in ("2", "10", ".part-x", "old"):
        shutil.copytree(exported, tmp_path / "m" / name)
    assert ScoringClient(tmp_path / "m").version == "10"
    with ScoringClient(tmp_path / "m" / "2") as client:
        assert client.version == "2"
        assert client.score(X[:1]).status[0] == 0


def test_folders_that_are_no_models_are_refused(exported, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_text("nothing of the kind")
    shutil.copytree(exported, tmp_path / "changed" / "1")
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


def test_a_folder_refuses_what_its_signatures_do_not_take(folder_client):
    with pytest.raises(InputError, match=r"has no signature 'nothing'; it has .*encode"):
        folder_client.predict("nothing", {"x": X})
    with pytest.raises(InputError, match=r"signature encode of .* takes x, got seed"):
        folder_client.predict("encode", {"seed": [1]})
    with pytest.raises(InputError, match=r"sent x \[20, 5\]"):
        folder_client.predict("encode", {"x": X[:, :5]})


def test_the_command_goes_on_with_the_version_that_it_began_with(service, folder_client, tmp_path, capsys):
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
