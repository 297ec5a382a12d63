"""An export in the real TensorFlow Serving, with the image and the files of export/serving."""

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow as tf
import yaml
from small_models import SMALL_DIM, binary_images, small_model

from iwae_tf.serving import export_saved_model

SERVING = Path(__file__).parents[2] / "export" / "serving"
pytestmark = [pytest.mark.docker, pytest.mark.slow]


def _docker(*arguments, check: bool = True) -> str:
    process = subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert process.returncode == 0 or not check, process.stderr
    return process.stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of models, with version 1 of `digits` in it; skips where no Docker engine answers."""
    try:
        engine = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no Docker: {error}")
    if engine.returncode != 0:
        pytest.skip(f"no Docker engine answers: {engine.stderr.strip().splitlines()[-1]}")
    model = small_model(gain=1.0)  # a usual one: its estimates are not of a single sample
    model.log_likelihood(binary_images(1), num_samples=1)
    models = tmp_path_factory.mktemp("docker") / "models"
    export_saved_model(model, models / "digits", num_samples=500)
    return models


@pytest.fixture(scope="module")
def server(folder):
    """Host and ports of a container started as by compose.yaml, on free ports."""
    (service,) = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"].values()
    volumes = ["--volume", f"{folder}:/models:ro", "--volume", f"{SERVING}:/config:ro"]
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


@pytest.fixture(scope="module")
def saved_model(folder):
    """The export, loaded here."""
    return tf.saved_model.load(str(folder / "digits" / "1"))


def _predict(url: str, **request) -> dict:
    answer = requests.post(f"{url}:predict", data=json.dumps(request), timeout=60)  # json=... would refuse NaN
    assert answer.status_code == 200, answer.text
    return {name: np.array(values) for name, values in answer.json()["outputs"].items()}


def _assert_close(answer: dict, expected: dict):
    # Another build of TensorFlow adds up float32 numbers in another order. Switching oneDNN off, which does the same,
    # changes log_prob and elbo by 2e-6 nats, pareto_k by 8e-6 and the effective sample size, a few hundred, by 2e-4;
    # pixels are 0 and 1, so that none is drawn and turns over. A hundred times that is left; another key or other
    # weights would change log_prob by its standard error of 0.05.
    assert answer.keys() == expected.keys()
    np.testing.assert_array_equal(answer["status"], expected["status"])
    for name, values in expected.items():
        tolerance = 2e-2 if name == "effective_sample_size" else 1e-3
        np.testing.assert_allclose(answer[name], values.numpy(), rtol=0, atol=tolerance, err_msg=name)


def test_rest_answers_with_the_scores_of_the_export(rest, saved_model):
    # 200 rows: more than a batch holds, so that the server cuts the request up and puts it together again.
    x = binary_images(200)
    _assert_close(_predict(rest, inputs={"x": x.tolist()}), saved_model.signatures["serving_default"](x=tf.constant(x)))


def test_rest_takes_samples_and_seeds(rest, saved_model):
    x = binary_images(3)
    inputs = {"x": x, "num_samples": np.array([30, 60, 0], np.int32), "seed": np.array([1, 2, 3])}
    request = {name: values.tolist() for name, values in inputs.items()}
    answer = _predict(rest, signature_name="log_prob_k", inputs=request)
    _assert_close(answer, saved_model.signatures["log_prob_k"](**{k: tf.constant(v) for k, v in inputs.items()}))
    assert answer["status"].tolist() == [0, 0, 2]


def test_a_bad_row_leaves_its_neighbours_alone(rest, saved_model):
    x = binary_images(3)
    x[1, 0] = np.nan
    _assert_close(_predict(rest, inputs={"x": x.tolist()}), saved_model.signatures["serving_default"](x=tf.constant(x)))


@pytest.mark.parametrize("label", ["stable", "canary"])
def test_labels_lead_to_the_version(rest, label):
    x = binary_images(2).tolist()
    labelled, numbered = (_predict(f"{rest}/{where}", inputs={"x": x}) for where in (f"labels/{label}", "versions/1"))
    np.testing.assert_array_equal(labelled["log_prob"], numbered["log_prob"])


def test_a_wrong_size_is_refused(rest):
    answer = requests.post(f"{rest}:predict", json={"instances": [[0.0] * (SMALL_DIM + 1)]}, timeout=60)
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_metrics_are_there(server):
    metrics = requests.get(f"http://{server['8501']}/monitoring/prometheus/metrics", timeout=60)
    assert metrics.status_code == 200
    assert ":tensorflow:" in metrics.text


def test_grpc_answers_with_the_scores_of_the_export(server, saved_model):
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    x = binary_images(20)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "digits"
    request.model_spec.version_label = "stable"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    with grpc.insecure_channel(server["8500"]) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    assert answer.model_spec.version.value == 1
    outputs = {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}
    _assert_close(outputs, saved_model.signatures["serving_default"](x=tf.constant(x)))
