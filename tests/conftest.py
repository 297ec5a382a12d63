"""Threads as the commands set them, and fixtures that are made once: exported models, and servers for the client."""

import functools

import pytest
from scripted_server import QUICK, ScriptedServer
from shared_runs import (  # noqa: F401 (fixtures)
    images,
    made_once,
    run,
    third_batch,
    trained,
    without_figures,
    without_refinement,
)

from iwae_tf.serving.client import ScoringClient


def pytest_sessionstart(session):
    """Sets up threads before TensorFlow starts, but where pytest-xdist only hands out tests: the import takes 9 s."""
    if not session.config.getoption("numprocesses", None):
        from iwae_tf.replicas import one_thread_per_operation

        one_thread_per_operation()


@pytest.fixture
def server():
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server):
    with ScoringClient(server.url, **QUICK) as client:
        yield client


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """A function: "bernoulli", "gaussian" or "binary units" -> a small model with mild weights, its version's folder.

    Each is exported once, in 4 s, as version 1 of the model "small" with 700 samples; tests only read the folders.
    "bernoulli" knows 30 held-out rows.
    """
    from binary_models import belief_network
    from small_models import binary_images, small_model

    from iwae_tf.serving import export_saved_model

    models = {
        "bernoulli": lambda: small_model(2, gain=1.5),
        "gaussian": lambda: small_model(1, gain=1.5, likelihood="gaussian"),
        "binary units": lambda: belief_network(6, (3, 2), gain=1.0),
    }
    provenance = {"config": {"training": {"k": 50}}, "metrics": {"log_likelihood": -80.5}}

    @functools.cache
    def exported(name):
        model = models[name]()
        held_out = binary_images(30, seed=5) if name == "bernoulli" else None
        folder = made_once(
            tmp_path_factory,
            f"export of {name}",
            lambda folder: export_saved_model(
                model, folder / "small", num_samples=700, held_out=held_out, run=provenance
            ),
        )
        return model, folder / "small" / "1"

    return exported


@pytest.fixture(scope="session")
def small_folder(exports):
    """The version's folder of the Bernoulli model."""
    return exports("bernoulli")[1]
