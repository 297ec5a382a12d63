"""The files in export/serving: servers can read them, and they agree with each other and with the documents."""

import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from iwae_tf.serving.client import MAX_ROWS
from iwae_tf.serving.saved_model import WARMUP_BATCH_SIZES

EXPORT = Path(__file__).parents[3] / "export"
DEPLOY = EXPORT.parent / "docs" / "deploy.md"
SERVING = EXPORT / "serving"
MODEL, GRPC, REST = "digits", "8500", "8501"
# Fields of session_bundle_config.proto, which the package tensorflow-serving-api lacks: value { } around all but a list
BATCHING = {"max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"}
BATCHING |= {"enable_large_batch_splitting", "max_execution_batch_size"}


@pytest.fixture(scope="module")
def batching():
    """The batching parameters; `allowed_batch_sizes` is a list."""
    lines = (SERVING / "batching_parameters.txt").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    wrapped = [re.fullmatch(r"(\w+) \{ value: (\d+|true) \}", line) for line in lines if "{" in line]
    fields = {field: yaml.safe_load(value) for field, value in (match.groups() for match in wrapped)}
    assert fields.keys() == BATCHING
    sizes = [re.fullmatch(r"allowed_batch_sizes: (\d+)", line)[1] for line in lines if "{" not in line]
    return fields | {"allowed_batch_sizes": list(map(int, sizes))}


@pytest.fixture(scope="module")
def service():
    """The service of compose.yaml."""
    (service,) = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"].values()
    return service


@pytest.fixture(scope="module")
def flags(service):
    """The server's flags in compose.yaml."""
    return dict(flag.removeprefix("--").split("=", 1) for flag in service["command"])


def test_one_exported_version_is_enough_for_both_labels_of_the_documents():
    text = (SERVING / "models.config").read_text()
    (config,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == (MODEL, f"/models/{MODEL}", "tensorflow")
    assert list(config.model_version_policy.specific.versions) == [1]
    assert dict(config.version_labels) == {"stable": 1, "canary": 1}
    assert all(f"labels/{label}" in DEPLOY.read_text() for label in config.version_labels)


def test_the_server_pads_no_batch_and_its_queue_takes_the_largest_request_within_the_time_out(batching, flags):
    # TensorFlow Serving checks these when it loads a model, TensorFlow's batch scheduler when it makes a queue.
    sizes, largest = batching["allowed_batch_sizes"], batching["max_execution_batch_size"]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching["max_batch_size"] == MAX_ROWS  # the client sends no more
    assert batching["enable_large_batch_splitting"] is True
    assert batching["batch_timeout_micros"] >= 0
    assert tuple(size for size in sizes if size <= largest) == tuple(range(1, largest + 1)) == WARMUP_BATCH_SIZES
    rows = batching["max_enqueued_batches"] * largest
    assert 200 <= batching["max_batch_size"] <= rows
    # 17 ms a row alone, 9 in parallel with others: 784 pixels and 5000 samples on two cores.
    assert rows * 17 < int(flags["rest_api_timeout_in_ms"])


def test_compose_mounts_the_files_that_its_flags_name_and_has_an_operation_for_each_cpu(service, flags, batching):
    volumes = [volume.split(":") for volume in service["volumes"]]
    mounts = {target: (SERVING / source).resolve() for source, target, _ in volumes}
    assert mounts["/models"] == EXPORT / "models"
    assert {mode for *_, mode in volumes} == {"ro"}
    files = {name: Path(path) for name, path in flags.items() if path.startswith("/")}
    assert files.keys() == {"model_config_file", "batching_parameters_file", "monitoring_config_file"}
    assert all((mounts[str(path.parent)] / path.name).is_file() for path in files.values())
    assert flags["allow_version_labels_for_unavailable_models"] == "true"
    assert int(flags["tensorflow_intra_op_parallelism"]) == 1
    assert service["cpus"] == int(flags["tensorflow_inter_op_parallelism"]) == batching["num_batch_threads"]
    monitoring = re.sub("#.*", "", (SERVING / "monitoring.config").read_text())
    assert re.fullmatch(r'\s*prometheus_config {\s*enable: true\s*path: "/[\w/]+"\s*}\s*', monitoring)


def test_compose_and_kserve_serve_the_model_of_models_config_by_the_same_server(service):
    assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in (GRPC, REST)]
    check = service["healthcheck"]["test"][-1]
    assert f"/dev/tcp/127.0.0.1/{REST} " in check
    assert f"/v1/models/{MODEL} " in check
    kserve = yaml.safe_load((SERVING / "kserve.yaml").read_text())
    model = kserve["spec"]["predictor"]["model"]
    assert (kserve["kind"], kserve["metadata"]["name"]) == ("InferenceService", MODEL)
    assert model["modelFormat"]["name"] == "tensorflow"
    assert model["storageUri"].endswith(f"/{MODEL}")
    assert service["image"] == f"tensorflow/serving:{model['runtimeVersion']}"


def test_the_document_names_files_ports_and_models_that_exist():
    text = DEPLOY.read_text()
    assert set(re.findall(r"localhost:(\d+)", text)) == {GRPC, REST}
    assert set(re.findall(r"/v1/models/(\w+)", text)) == {MODEL, "cells"}  # the latter of the readme
    for path in re.findall(r"\bexport/[\w/]+\.\w+", text):
        assert (EXPORT.parent / path).is_file(), path


def test_the_readme_names_every_file_of_the_folder():
    text = (EXPORT / "README.md").read_text()
    files = [*EXPORT.glob("*.py"), *SERVING.iterdir()]
    assert [path.name for path in files if f"{path.name}`" not in text] == []
