"""The files in export/serving: servers can read them, and they agree with each other and with the README."""

import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from iwae_tf.serving.saved_model import WARMUP_BATCH_SIZES

EXPORT = Path(__file__).parents[3] / "export"
SERVING = EXPORT / "serving"
MODEL, GRPC, REST = "digits", "8500", "8501"
INTEGER, BOOLEAN = ".google.protobuf.Int64Value", ".google.protobuf.BoolValue"
# The fields of TensorFlow Serving's session_bundle_config.proto, which the package tensorflow-serving-api lacks.
BATCHING = {
    "max_batch_size": INTEGER,
    "batch_timeout_micros": INTEGER,
    "max_enqueued_batches": INTEGER,
    "num_batch_threads": INTEGER,
    "thread_pool_name": ".google.protobuf.StringValue",
    "allowed_batch_sizes": "repeated int64",
    "pad_variable_length_inputs": "bool",
    "enable_large_batch_splitting": BOOLEAN,
    "max_execution_batch_size": INTEGER,
}


def _parse(file: str, **messages: dict[str, str]):
    """Reads a file in protobuf's text format as the first of some messages; numbers of fields do not matter to it."""
    proto = descriptor_pb2.FileDescriptorProto(name=file, package="serving_files", syntax="proto3")
    proto.dependency.append("google/protobuf/wrappers.proto")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in messages.items():
        message = proto.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            added = message.field.add(name=field, number=number, label=3 if kind.startswith("repeated ") else 1)
            kind = kind.removeprefix("repeated ")
            if kind.startswith("."):
                added.type, added.type_name = kinds.TYPE_MESSAGE, kind
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(proto)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"serving_files.{next(iter(messages))}"))
    return text_format.Parse((SERVING / file).read_text(), message())


@pytest.fixture(scope="module")
def batching():
    return _parse("batching_parameters.txt", BatchingParameters=BATCHING)


@pytest.fixture(scope="module")
def service():
    """The service of compose.yaml."""
    (service,) = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"].values()
    return service


@pytest.fixture(scope="module")
def flags(service):
    """The server's flags in compose.yaml."""
    return dict(flag.removeprefix("--").split("=", 1) for flag in service["command"])


def test_one_exported_version_is_enough_for_both_labels_of_the_readme():
    text = (SERVING / "models.config").read_text()
    (config,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == (MODEL, f"/models/{MODEL}", "tensorflow")
    assert list(config.model_version_policy.specific.versions) == [1]
    assert dict(config.version_labels) == {"stable": 1, "canary": 1}
    readme = (EXPORT / "README.md").read_text()
    assert all(f"labels/{label}" in readme for label in config.version_labels)


def test_the_server_takes_the_batching_parameters_and_pads_no_batch(batching):
    # TensorFlow Serving checks these when it loads a model, TensorFlow's batch scheduler when it makes a queue.
    sizes, largest = list(batching.allowed_batch_sizes), batching.max_execution_batch_size.value
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_batch_size.value
    assert batching.enable_large_batch_splitting.value
    assert batching.batch_timeout_micros.value >= 0
    assert batching.num_batch_threads.value >= 1
    assert tuple(size for size in sizes if size <= largest) == tuple(range(1, largest + 1)) == WARMUP_BATCH_SIZES


def test_an_empty_queue_takes_the_largest_request_and_a_full_one_is_done_before_the_time_out(batching, flags):
    rows = batching.max_enqueued_batches.value * batching.max_execution_batch_size.value
    assert 200 <= batching.max_batch_size.value <= rows
    # 17 ms a row alone, 9 in parallel with others: 784 pixels and 5000 samples on two cores.
    assert rows * 17 < int(flags["rest_api_timeout_in_ms"])


def test_metrics_have_a_path():
    prometheus = {"enable": "bool", "path": "string"}
    messages = {"MonitoringConfig": {"prometheus_config": ".serving_files.Prometheus"}, "Prometheus": prometheus}
    config = _parse("monitoring.config", **messages)
    assert config.prometheus_config.enable
    assert config.prometheus_config.path.startswith("/")


def test_compose_mounts_the_files_that_its_flags_name(service, flags):
    volumes = [volume.split(":") for volume in service["volumes"]]
    mounts = {target: (SERVING / source).resolve() for source, target, _ in volumes}
    assert mounts["/models"] == EXPORT / "models"
    assert {mode for *_, mode in volumes} == {"ro"}
    files = {name: Path(path) for name, path in flags.items() if path.startswith("/")}
    assert files.keys() == {"model_config_file", "batching_parameters_file", "monitoring_config_file"}
    assert all((mounts[str(path.parent)] / path.name).is_file() for path in files.values())
    assert flags["allow_version_labels_for_unavailable_models"] == "true"


def test_compose_has_a_thread_for_an_operation_and_as_many_operations_at_once_as_cpus(service, flags, batching):
    assert int(flags["tensorflow_intra_op_parallelism"]) == 1
    assert service["cpus"] == int(flags["tensorflow_inter_op_parallelism"]) == batching.num_batch_threads.value


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


def test_the_readme_names_files_ports_and_models_that_exist():
    text = (EXPORT / "README.md").read_text()
    assert set(re.findall(r"localhost:(\d+)", text)) == {GRPC, REST}
    assert set(re.findall(r"/v1/models/(\w+)", text)) == {MODEL}
    for path in re.findall(r"\bexport/[\w/]+\.\w+", text):
        assert (EXPORT.parent / path).is_file(), path
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (EXPORT / target).exists(), target
