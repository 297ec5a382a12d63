"""Fixtures of the tests of the scoring client: a server whose answers a test decides, and a client of it."""

import pytest
from scripted_server import QUICK, ScriptedServer

from iwae_tf.serving.client import ScoringClient


@pytest.fixture
def server():
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server):
    with ScoringClient(server.url, **QUICK) as client:
        yield client
