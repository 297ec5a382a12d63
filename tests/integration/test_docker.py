"""An export in the real TensorFlow Serving, with the image and the files of export/serving."""

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import yaml
from served import scores_request, through_python
from small_models import SMALL_DIM, binary_images, small_model

from iwae_tf.serving import export_saved_model
from iwae_tf.serving.client import ScoringClient

SERVING = Path(__file__).parents[2] / "export" / "serving"
pytestmark = [pytest.mark.docker, pytest.mark.slow]


def _docker(*arguments, check: bool = True) -> str:
    process = subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert process.returncode == 0 or not check, process.stderr
    return process.stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Version 1 of the model `digits`; skips where no Docker engine answers."""
    try:
        engine = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no Docker: {error}")
    if engine.returncode != 0:
        pytest.skip(f"no Docker engine answers: {engine.stderr.strip().splitlines()[-1]}")
    model = small_model(gain=1.0)  # its estimates rest on more than one sample
    return export_saved_model(model, tmp_path_factory.mktemp("docker") / "models" / "digits", num_samples=500)


@pytest.fixture(scope="module")
def server(folder):
    """Host and ports of a container started as by compose.yaml, on free ports."""
    (service,) = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"].values()
    volumes = ["--volume", f"{folder.parents[1]}:/models:ro", "--volume", f"{SERVING}:/config:ro"]
    ports = ["--publish", "127.0.0.1::8500", "--publish", "127.0.0.1::8501"]
    platform = ["--platform", service["platform"]]
    container = _docker("run", "--detach", *platform, *volumes, *ports, service["image"], *service["command"])
    try:
        addresses = {port: _docker("port", container, port).splitlines()[0] for port in ("8500", "8501")}
        _wait(container, f"http://{addresses['8501']}/v1/models/digits")
        yield addresses
    finally:
        _docker("rm", "--force", container, check=False)


def _wait(container: str, url: str, seconds: float = 120) -> None:
    last = "nothing"
    for _ in range(int(seconds)):
        try:
            last = requests.get(url, timeout=5).text
        except requests.RequestException as error:
            last = str(error)
        if '"AVAILABLE"' in last:
            return
        if _docker("inspect", "--format", "{{.State.Running}}", container) != "true":
            break
        time.sleep(1)
    logs = subprocess.run(["docker", "logs", "--tail", "50", container], capture_output=True, text=True)
    pytest.fail(f"the server does not serve the model; it last said {last}; its log:\n{logs.stdout}{logs.stderr}")


@pytest.fixture(scope="module")
def rest(server):
    """The model's URL."""
    return f"http://{server['8501']}/v1/models/digits"


def _predict(url: str, signature: str, inputs: dict) -> dict:
    columns = {name: values.tolist() for name, values in inputs.items()}
    body = json.dumps({"signature_name": signature, "inputs": columns})  # json=... would refuse NaN
    answer = requests.post(f"{url}:predict", data=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return {name: np.array(values) for name, values in answer.json()["outputs"].items()}


def _assert_close(answer: dict, expected: dict):
    # Another build of TensorFlow adds up float32 numbers in another order. Switching oneDNN off, which does the same,
    # changes log_prob and elbo by 2e-6 nats, pareto_k by 8e-6 and the effective sample size, a few hundred, by 2e-4;
    # pixels are 0 and 1, so that no draw turns over. The tolerance is a hundred times that; another key or other
    # weights would change log_prob by its standard error of 0.05.
    assert answer.keys() == expected.keys()
    np.testing.assert_array_equal(answer["status"], expected["status"])
    for name, values in expected.items():
        tolerance = 2e-2 if name == "effective_sample_size" else 1e-3
        np.testing.assert_allclose(answer[name], values, rtol=0, atol=tolerance, err_msg=name)


def test_rest_answers_with_the_scores_of_the_export(rest, folder):
    # 200 rows: more than a batch holds, so that the server splits the request and joins the answers.
    x = binary_images(200)
    x[1, 0] = np.nan  # leaves its neighbours alone
    calls = [("serving_default", {"x": x}), scores_request(binary_images(3), [30, 60, 0], [1, 2, 3])]
    for call, expected in zip(calls, through_python(folder, calls), strict=True):
        _assert_close(_predict(rest, *call), expected)


def test_labels_lead_to_the_version_a_wrong_size_is_refused_and_there_are_metrics(server, rest):
    inputs = {"x": binary_images(2)}
    routes = ("versions/1", "labels/stable", "labels/canary")
    version, *labels = (_predict(f"{rest}/{route}", "serving_default", inputs)["log_prob"] for route in routes)
    np.testing.assert_array_equal(labels, [version, version])
    answer = requests.post(f"{rest}:predict", json={"instances": [[0.0] * (SMALL_DIM + 1)]}, timeout=60)
    assert answer.status_code == 400
    assert "error" in answer.json()
    metrics = requests.get(f"http://{server['8501']}/monitoring/prometheus/metrics", timeout=60)
    assert metrics.status_code == 200
    assert ":tensorflow:" in metrics.text


def test_the_client_scores_over_both_protocols(server, rest, folder):
    x = binary_images(20)
    (expected,) = through_python(folder, [("serving_default", {"x": x})])
    for url in (rest, f"grpc://{server['8500']}/digits/labels/stable"):
        with ScoringClient(url) as client:
            _assert_close(client.score(x)._asdict(), expected)
            assert client.version == "1"
