"""Damaged files, odd command lines, requests and answers, some thousand with a fixed seed: one clear line, or a result.

Nothing but `InputError` may leave a door, and `main` prints it as one line with exit code 2.
"""

import json
import time
from concurrent import futures

import grpc
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf
from PIL import Image
from run_files import config_of, history_of, metrics_of, write_run
from run_files import scores_of as scores_of_run
from scripted_server import scores_of
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from iwae_tf.commands.main import COMMANDS, main
from iwae_tf.data import Column, load
from iwae_tf.data.tables import read_rows
from iwae_tf.errors import InputError
from iwae_tf.report.record import read_record
from iwae_tf.serving import local_server
from iwae_tf.serving.backends import parse_model_url
from iwae_tf.serving.client import ScoringClient
from iwae_tf.serving.scores import DTYPES, from_outputs

LONGEST = 30.0  # seconds for one input
JUNK = ["", "--", "-1", "nan", "1e999", "\0", "ä" * 5000, "../..", "=", "{}", "[1,2", "0x10", "--out=--", "9" * 30]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content cut, with bytes changed, doubled or put in."""
    content, size = bytearray(content), max(len(content), 1)
    for _ in range(rng.integers(1, 4)):
        place, kind = int(rng.integers(size)), rng.integers(6)
        if kind == 0:
            del content[place:]
        elif kind == 1:
            content[place : place + 1] = bytes([rng.integers(256)])
        elif kind == 2:
            content[place:place] = rng.bytes(int(rng.integers(1, 20)))
        elif kind == 3:
            content += content[place:]
        elif kind == 4:
            content[place : place + 8] = b""
        else:
            odd = [b",", b'"', b"\n", b"NaN", b"\xff\xfe", b"[" * 3000, b"1e400", b"{"]
            content[place:place] = odd[rng.integers(len(odd))]
    return bytes(content)


def opens(door, *arguments) -> bool:
    """Whether a door takes its arguments; fails for any error but `InputError` of one line, and for hanging."""
    begin, message = time.monotonic(), None
    try:
        door(*arguments)
    except InputError as error:
        message = str(error)
    assert message is None or message.strip()
    assert time.monotonic() - begin < LONGEST
    return message is None


def sources(folder):
    """Good files of every kind, and how each is read."""
    rng = np.random.default_rng(0)
    table = {
        "id": [f"r{i}" for i in range(60)],
        "a": rng.normal(size=60).tolist(),
        "b": rng.integers(0, 9, 60).tolist(),
        "c": rng.choice(["x", "y"], 60).tolist(),
    }
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]
    (folder / "t.csv").write_text("\n".join(lines))
    pyarrow.parquet.write_table(pyarrow.table(table), folder / "t.parquet")
    np.save(folder / "a.npy", rng.normal(size=(60, 3)))
    np.savez(folder / "a.npz", x_train=rng.random((9, 4)), x_test=rng.random((5, 4)))
    (folder / "pictures").mkdir()
    for number in range(40):
        Image.fromarray(rng.integers(0, 255, (4, 4), dtype=np.uint8)).save(folder / "pictures" / f"{number}.png")
    columns = [Column("a", "real"), Column("b", "count"), Column("c", "category", ("x", "y"))]
    return {
        "t.csv": [load, lambda path: read_rows(path, columns, "id")],
        "t.parquet": [load, lambda path: read_rows(path, columns, "id")],
        "a.npy": [load],
        "a.npz": [load],
        "pictures/0.png": [lambda path: load(path.parent)],
    }


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "a.npy", "a.npz", "pictures/0.png"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_data_are_read_or_refused(name, tmp_path):
    rng, path = np.random.default_rng(1), tmp_path / name
    doors = sources(tmp_path)[name]
    good, taken = path.read_bytes(), 0
    for door in doors:
        assert opens(door, path)
        for _ in range(150):
            path.write_bytes(damaged(good, rng))
            taken += opens(door, path)
        path.write_bytes(good)
    assert taken < 150 * len(doors)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "history.csv", "scores.parquet"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_of_a_run_are_read_or_refused(name, tmp_path):
    rng = np.random.default_rng(2)
    run = write_run(
        tmp_path / "run", config_of(), metrics_of(), history_of(4), scores_of_run(np.linspace(-40, -20, 20))
    )
    path = run / name
    good = path.read_bytes()
    assert opens(read_record, run)
    for content in (b"[" * 100_000, b'{"a":' * 100_000, "{}".encode("utf-16"), b"", b"null", b"\x00" * 100):
        path.write_bytes(content)
        opens(read_record, run)
    for _ in range(250):
        path.write_bytes(damaged(good, rng))
        opens(read_record, run)


def test_odd_command_lines_end_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    flags = ["--k", "--dataset", "--epochs", "--seed", "--latent-units", "--hidden-units", "--split", "--columns"]
    flags += ["--likelihood", "--column-likelihoods", "--objective", "--num-samples", "--out", "--url", "--plugin"]
    flags += ["--output-dir", "--data-dir", "--output", "--name", "--seeds", "--group", "--init-from", "--data-of"]
    flags += [f"{flag}={junk}" for flag in flags for junk in JUNK]
    for _ in range(600):
        command = str(rng.choice([*COMMANDS, *JUNK])) if rng.random() < 0.95 else "trian"
        words = [str(rng.choice([*flags, *JUNK])) for _ in range(rng.integers(0, 6))]
        words = [word for word in words if word not in ("-h", "--help")]
        if command in ("train", "sweep", "reproduce", "objectives"):  # nothing may be trained
            words += ["--dataset", "nowhere.csv"] if command in ("train", "sweep") else ["--no-such-flag"]
        code = main([command, *words])
        error = capsys.readouterr().err
        assert code == 2, (command, words)
        assert error.startswith("error: ")
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        "train --dataset {}",
        "train --dataset nowhere.csv --output-dir {}",
        "train --output-dir {} --resume",
        "train --init-from {}",
        "train --plugin {}",
        "evaluate {}",
        "compare {0} {0}",
        "compare --group {0} --group {0}",
        "report {}",
        "export {}",
        "serve {}",
        "score x.npy --url {}",
        "score x.npy --url http://h/v1/models/m --out {}.csv",
        "score x.npy --url http://h/v1/models/m --out={}",
        "score {}.npy --url http://h/v1/models/m",
    ],
)
@pytest.mark.parametrize("name", ["n" * 5000, "n/" * 2500, "ä" * 200, "--", "\0"], ids=["long", "deep", "ä", "--", "0"])
def test_names_that_no_file_can_have_end_in_one_short_line(command, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros([2, 4]))
    assert main(command.format(name).split(" ")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert len(error) < 1100
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_odd_addresses_are_refused():
    rng = np.random.default_rng(4)
    for _ in range(500):
        good = rng.choice(["http://h:8501/v1/models/m/versions/3", "grpc://h:8500/m/labels/a", "export/models/m"])
        opens(parse_model_url, damaged(good.encode(), rng).decode(errors="replace"))
    assert not opens(ScoringClient, f"http://{'n' * 5000}/v1/models/m")


def odd_value(rng: np.random.Generator, depth: int = 0):
    """A random JSON value."""
    simple = [None, True, 0, -1, 2**63, 10**400, 0.5, float("nan"), float("inf"), "", "1", "ä" * 50]
    kind = rng.integers(3) if depth < 3 else 0
    if kind == 0:
        return simple[rng.integers(len(simple))]
    values = [odd_value(rng, depth + 1) for _ in range(rng.integers(0, 4))]
    return values if kind == 1 else {f"{i}": value for i, value in enumerate(values)}


def test_answers_of_a_server_are_scores_or_refused():
    rng, taken = np.random.default_rng(5), 0
    for _ in range(500):
        outputs = {name: np.zeros(3, dtype) for name, dtype in DTYPES.items()}
        for name in rng.choice(list(outputs), rng.integers(0, 3), replace=False):
            dtype = rng.choice([np.float64, np.int64, np.float32, np.int8, bool, "U3", complex, object])
            shape = [(3,), (), (2,), (3, 1), (0,)][rng.integers(5)]
            with np.errstate(all="ignore"):
                outputs[name] = np.full(shape, rng.choice([0.0, 1.0, -5.0, 1e300, np.nan, np.inf])).astype(dtype)
        taken += opens(from_outputs, outputs, 3)
    assert 0 < taken < 500


def odd_tensor(rng: np.random.Generator):
    """A tensor of a random type and declared shape, with content that may not belong to it."""
    tensor = tensor_pb2.TensorProto(dtype=int(rng.integers(0, 140)))
    for _ in range(rng.integers(0, 4)):
        tensor.tensor_shape.dim.add(size=int(rng.choice([3, 1, 0, -1, 10**12])))
    if rng.random() < 0.5:
        tensor.tensor_content = rng.bytes(int(rng.integers(0, 30)))
    tensor.float_val.extend(rng.normal(size=rng.integers(0, 4)))
    tensor.string_val.extend([b"a"] * int(rng.integers(0, 2)))
    return tensor


def test_answers_over_grpc_are_scores_or_refused():
    rng, taken = np.random.default_rng(7), 0
    definitions = get_model_metadata_pb2.SignatureDefMap()
    definitions.signature_def["serving_default"].inputs["x"].tensor_shape.dim.add(size=4)
    metadata, good = get_model_metadata_pb2.GetModelMetadataResponse(), predict_pb2.PredictResponse()
    metadata.metadata["signature_def"].Pack(definitions)
    for name, values in scores_of(np.zeros([3, 4])).items():
        good.outputs[name].CopyFrom(tf.make_tensor_proto(values))
    answers = {"Predict": good.SerializeToString(), "GetModelMetadata": metadata.SerializeToString()}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(lambda request, context, name=name: answers[name]) for name in answers
    }
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers)
    server.add_generic_rpc_handlers([service])
    url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}/m"
    server.start()
    with ScoringClient(url, timeout=5.0, retry_seconds=0.0) as client:
        assert opens(client.score, np.zeros([3, 4]))
        for number in range(400):
            answer = predict_pb2.PredictResponse()
            answer.CopyFrom(good)
            for name in rng.choice(list(DTYPES), rng.integers(1, 3)):
                answer.outputs[name].CopyFrom(odd_tensor(rng))
            content = answer.SerializeToString()
            answers["Predict"] = damaged(good.SerializeToString(), rng) if number % 2 else content
            taken += opens(client.score, np.zeros([3, 4]))
    assert taken < 400
    for _ in range(100):
        answers["GetModelMetadata"] = damaged(metadata.SerializeToString(), rng)
        opens(lambda: ScoringClient(url, timeout=5.0, retry_seconds=0.0).close())
    server.stop(0)


@pytest.mark.filterwarnings("ignore")
def test_bodies_of_requests_are_answered_or_refused(small_folder):
    signatures = local_server.load(small_folder).signatures
    rng, row = np.random.default_rng(6), [0.0] * 12
    good = json.dumps({"signature_name": "encode", "inputs": {"x": [row, row]}}).encode()
    assert json.loads(local_server.predict(good, signatures))["outputs"]
    for number in range(600):
        if number % 2:
            body = damaged(good, rng)
        else:
            content = {"signature_name": "encode", "inputs": {"x": [row]}}
            content[str(rng.choice(list(content)))] = odd_value(rng)
            body = json.dumps(content if rng.random() < 0.8 else odd_value(rng)).encode()
        opens(lambda body=body: local_server.predict(body, signatures))
