"""Threads as the commands set them, and fixtures of the tests of the scoring client: a scripted server, a client."""

import pytest
from scripted_server import QUICK, ScriptedServer
from shared_runs import images, run, trained, without_figures  # noqa: F401 (fixtures)

from iwae_tf.serving.client import ScoringClient
from iwae_tf.threads import one_thread_for_an_operation

one_thread_for_an_operation()


@pytest.fixture
def server():
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server):
    with ScoringClient(server.url, **QUICK) as client:
        yield client
