"""The files in export/serving: that servers can read them, and that they agree with each other and with the README."""

import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

EXPORT = Path(__file__).parents[3] / "export"
SERVING = EXPORT / "serving"
MODEL = "digits"
GRPC, REST = "8500", "8501"


def _message(name: str, fields: dict[str, str]):
    """A message of these fields; their numbers do not matter to the text format."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="serving_files", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    message = file.message_type.add(name=name)
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, (field, kind) in enumerate(fields.items(), start=1):
        repeated = kind.startswith("repeated ")
        added = message.field.add(name=field, number=number, label=3 if repeated else 1)
        kind = kind.removeprefix("repeated ")
        if kind.startswith("."):
            added.type, added.type_name = kinds.TYPE_MESSAGE, kind
        else:
            added.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    return pool, file


def _class(pool, file):
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"serving_files.{file.message_type[0].name}"))


@pytest.fixture(scope="module")
def models():
    """models.config, read with the server's own message."""
    return text_format.Parse((SERVING / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())


@pytest.fixture(scope="module")
def batching():
    """batching_parameters.txt, read with the fields of TensorFlow Serving's session_bundle_config.proto.

    The package tensorflow-serving-api does not hold that message.
    """
    integer, boolean = ".google.protobuf.Int64Value", ".google.protobuf.BoolValue"
    fields = {
        "max_batch_size": integer,
        "batch_timeout_micros": integer,
        "max_enqueued_batches": integer,
        "num_batch_threads": integer,
        "thread_pool_name": ".google.protobuf.StringValue",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": boolean,
        "max_execution_batch_size": integer,
    }
    parameters = _class(*_message("BatchingParameters", fields))
    return text_format.Parse((SERVING / "batching_parameters.txt").read_text(), parameters())


@pytest.fixture(scope="module")
def service():
    """The service of compose.yaml."""
    (service,) = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"].values()
    return service


@pytest.fixture(scope="module")
def flags(service):
    """The server's flags in compose.yaml."""
    return dict(flag.removeprefix("--").split("=", 1) for flag in service["command"])


def test_one_exported_version_is_enough_for_both_labels(models):
    (config,) = models.model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == (MODEL, f"/models/{MODEL}", "tensorflow")
    assert list(config.model_version_policy.specific.versions) == [1]
    assert dict(config.version_labels) == {"stable": 1, "canary": 1}


def test_the_server_takes_the_batching_parameters(batching):
    # What TensorFlow Serving checks when it loads a model, and TensorFlow's batch scheduler when it makes a queue.
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_batch_size.value
    assert batching.enable_large_batch_splitting.value
    assert 1 <= batching.max_execution_batch_size.value <= batching.max_batch_size.value
    assert batching.batch_timeout_micros.value >= 0
    assert batching.max_enqueued_batches.value >= 1
    assert batching.num_batch_threads.value >= 1


def test_an_empty_queue_takes_a_request_of_200_rows_and_the_largest(batching):
    assert batching.max_batch_size.value >= 200
    places = batching.max_enqueued_batches.value * batching.max_execution_batch_size.value
    assert places >= batching.max_batch_size.value


def test_no_batch_is_filled_up_with_rows_that_cost_time(batching):
    assert set(range(1, batching.max_execution_batch_size.value + 1)) <= set(batching.allowed_batch_sizes)


def test_work_that_waits_is_done_before_the_time_out(batching, flags):
    # 17 ms a row alone, 9 beside others: 784 pixels and 5000 samples on two cores.
    rows = batching.max_enqueued_batches.value * batching.max_execution_batch_size.value
    assert rows * 17 < int(flags["rest_api_timeout_in_ms"])


def test_metrics_have_a_path():
    pool, file = _message("MonitoringConfig", {"prometheus_config": ".serving_files.MonitoringConfig.Prometheus"})
    nested = file.message_type[0].nested_type.add(name="Prometheus")
    nested.field.add(name="enable", number=1, label=1, type=8)  # bool
    nested.field.add(name="path", number=2, label=1, type=9)  # string
    config = text_format.Parse((SERVING / "monitoring.config").read_text(), _class(pool, file)())
    assert config.prometheus_config.enable
    assert config.prometheus_config.path.startswith("/")


def test_compose_mounts_what_its_flags_name(service, flags):
    mounts = {target: (SERVING / source).resolve() for source, target, _ in map(_volume, service["volumes"])}
    assert mounts["/models"] == EXPORT / "models"
    assert {mode for *_, mode in map(_volume, service["volumes"])} == {"ro"}
    files = {name: path for name, path in flags.items() if path.startswith("/")}
    assert files.keys() == {"model_config_file", "batching_parameters_file", "monitoring_config_file"}
    for path in map(Path, files.values()):
        assert (mounts[str(path.parent)] / path.name).is_file()


def _volume(text: str) -> list[str]:
    return text.split(":")


def test_compose_lets_labels_be_set_before_the_models_are_loaded(flags):
    assert flags["allow_version_labels_for_unavailable_models"] == "true"


def test_compose_has_a_thread_for_an_operation_and_as_many_operations_at_once_as_cpus(service, flags, batching):
    assert int(flags["tensorflow_intra_op_parallelism"]) == 1
    assert service["cpus"] == int(flags["tensorflow_inter_op_parallelism"]) == batching.num_batch_threads.value


def test_compose_asks_for_the_model_that_models_config_names(service):
    assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in (GRPC, REST)]
    check = service["healthcheck"]["test"][-1]
    assert f"/dev/tcp/127.0.0.1/{REST} " in check
    assert f"/v1/models/{MODEL} " in check


def test_docker_and_kubernetes_run_the_same_server(service):
    kserve = yaml.safe_load((SERVING / "kserve.yaml").read_text())
    tag = kserve["spec"]["predictor"]["model"]["runtimeVersion"]
    assert service["image"] == f"tensorflow/serving:{tag}"


def test_kserve_serves_the_same_model():
    kserve = yaml.safe_load((SERVING / "kserve.yaml").read_text())
    assert kserve["kind"] == "InferenceService"
    assert kserve["metadata"]["name"] == MODEL
    model = kserve["spec"]["predictor"]["model"]
    assert model["modelFormat"]["name"] == "tensorflow"
    assert model["storageUri"].endswith(f"/{MODEL}")


def test_the_readme_names_files_ports_and_models_that_are_there(models):
    text = (EXPORT / "README.md").read_text()
    assert set(re.findall(r"localhost:(\d+)", text)) == {GRPC, REST}
    assert set(re.findall(r"/v1/models/(\w+)", text)) == {MODEL}
    for path in re.findall(r"\bexport/[\w/]+\.\w+", text):
        assert (EXPORT.parent / path).is_file(), path
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (EXPORT / target).exists(), target
    assert all(f"labels/{label}" in text for label in models.model_config_list.config[0].version_labels)


def test_exports_warm_up_the_batch_sizes_that_occur(batching):
    warmup = pytest.importorskip("iwae_tf.serving.warmup")
    occur = {size for size in batching.allowed_batch_sizes if size <= batching.max_execution_batch_size.value}
    assert occur <= set(warmup.BATCH_SIZES) <= set(batching.allowed_batch_sizes)
