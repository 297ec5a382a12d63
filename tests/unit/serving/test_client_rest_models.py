"""The client over REST: which version of a model is asked, and how large the requests are."""

import re
from pathlib import Path

import numpy as np
import pytest
from scripted_server import QUICK, assert_scores_of

from iwae_tf.errors import InputError
from iwae_tf.serving.client import ScoringClient

X = np.random.default_rng(0).random((30, 4), dtype=np.float32)


def test_an_unknown_model_is_one_clear_line(server):
    with pytest.raises(InputError, match="answered 404: no such route"):
        ScoringClient(server.url + "x", **QUICK)


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
    server.versions = [("1", "AVAILABLE"), ("2", "AVAILABLE")]
    server.labels = {"stable": "1"}
    for suffix in ("/labels/stable", "/versions/1", "/versions/1/"):
        with ScoringClient(server.url + suffix, **QUICK) as client:
            assert client.version == "1"
            assert client.url == server.url
    with pytest.raises(InputError, match="404"):
        ScoringClient(server.url + "/versions/3", **QUICK)


@pytest.mark.parametrize(
    ("versions", "message"),
    [([("1", "LOADING")], "it has 1 LOADING"), ([], "it has none"), ([("one", "AVAILABLE")], "cannot be read")],
)
def test_a_model_without_an_available_version_is_one_clear_line(server, versions, message):
    server.versions = versions
    with pytest.raises(InputError, match=message):
        ScoringClient(server.url, **QUICK)


def test_a_server_without_versions_and_metadata_is_used_as_it_is(server):
    server.versions, server.metadata = None, False
    with ScoringClient(server.url, **QUICK) as client:
        assert_scores_of(client.score(X), X)
        assert client.version is None
        assert {path for path, _ in server.predictions()} == {"/v1/models/m:predict"}
        with pytest.raises(InputError) as raised:
            client.score(X[:, :3])
    assert "input must be 2 dimensional with 4 columns (sent x [8, 3])" in str(raised.value)


def test_the_wrong_image_size_is_found_before_images_are_sent(server, client):
    with pytest.raises(InputError, match=r"images have 3 values each, the model at http.* takes 4"):
        client.score(X[:, :3])
    assert not server.predictions()


def test_a_request_stays_small_in_bytes(server):
    server.dim = 20_000
    with ScoringClient(server.url, **QUICK) as client:
        client.score(np.full((7, 20_000), 0.1, np.float32))
    assert max(server.rows()) == 2  # at 22 bytes a value, 2 rows are the most below 1 MiB


def test_a_request_has_no_more_rows_than_the_batching_of_the_repository_takes(server, client):
    batching = (Path(__file__).parents[3] / "export" / "serving" / "batching_parameters.txt").read_text()
    (most,) = re.findall(r"^max_batch_size { value: (\d+) }", batching, re.MULTILINE)
    client.score(np.zeros((1000, 4), np.float32))
    assert max(server.rows()) == int(most)


def test_a_slow_server_gets_fewer_rows(server, client, monkeypatch):
    monkeypatch.setattr("iwae_tf.serving.chunks.TARGET_SECONDS", 0.1)
    server.seconds = 0.3
    client.score(X[:14])
    assert server.rows()[0] == 8
    assert server.rows()[1] <= 2  # 8 rows took three times the aim
