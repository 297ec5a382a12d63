"""The signature that takes the rows of a table by column: names, categories, scores, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from served import assert_same_bits, meta_graph, through_c_api
from tensorflow_serving.apis import prediction_log_pb2

from iwae_tf import IWAE
from iwae_tf.data import Column
from iwae_tf.data.tables import from_tables, read_rows, rows_of_table
from iwae_tf.errors import InputError
from iwae_tf.layers import ColumnModel
from iwae_tf.serving import export_saved_model, local_server
from iwae_tf.serving.client import ScoringClient
from iwae_tf.serving.model_card import MODEL_CARD
from iwae_tf.serving.model_folder import PROVENANCE, load
from iwae_tf.serving.operations import refused_operations
from iwae_tf.serving.row import HeldOut, RowSettings
from iwae_tf.serving.signatures import category_index, signatures

LIKELIHOODS = {
    "real": "student-t",
    "binary": "bernoulli",
    "count": "negative-binomial",
    "category": "categorical",
}
COLUMNS = (  # names that TensorFlow would change, or take for the same, and the names of other inputs
    Column("mean radius", "real"),
    Column("colour", "category", ("blue", "größe", "red")),
    Column("Colour", "category", ("red", "yellow")),
    Column("a b", "binary"),
    Column("a_b", "count"),
    Column("größe/7", "real"),
    Column("1", "category", (" x", "1", "True", "x")),
    Column("column_0", "real"),
    Column("seed", "real"),
    Column("self", "real"),
)
NAMES = [column.name for column in COLUMNS]
TEXTS = {"colour": "größe", "Colour": "yellow", "1": "True"}
ROW = {name: TEXTS.get(name, float(i)) for i, name in enumerate(NAMES)} | {"a b": 1.0}
X = [[0.0, 1.0, 1.0, 1.0, 4.0, 5.0, 2.0, 7.0, 8.0, 9.0]]  # the same row


def model_of(columns, missing: bool) -> IWAE:
    models = [ColumnModel(c.name, LIKELIHOODS[c.kind], 0.0, 1.0, len(c.categories) or None) for c in columns]
    return IWAE(len(columns), (2,), ((8,),), likelihood="columns", columns=models, missing=missing, seed=1)


def run_on(columns) -> dict:
    return {"config": {"data": {"table_columns": [column._asdict() for column in columns]}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The version of a model of missing values."""
    path, held_out = tmp_path_factory.mktemp("served") / "m", np.repeat(np.float32(X), 9, 0)
    held_out[:, 0] = range(9)
    settings = {"num_samples": 100, "refine": "off", "held_out": held_out, "run": run_on(COLUMNS)}
    return export_saved_model(model_of(COLUMNS, missing=True), path, **settings)


@pytest.fixture(scope="module")
def served(folder):
    """Its signatures."""
    return load(folder).signatures


@pytest.fixture(scope="module")
def client(folder):
    with ScoringClient(folder.parent) as client:
        yield client


def numpy(outputs: dict) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in outputs.items()}


def by_column(rows: list[dict]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows], None if name in TEXTS else np.float32) for name in NAMES}


# ------------------------------------------------------------------------------------------- categories


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array(["red", "blue", None, ""]), ["red", "blue", "", ""]),
        (pa.array(["red", "Red", " red", "red ", "\tred"]), ["red", "Red", " red", "red ", "\tred"]),
        (pa.array(["größe", "gro\u0308ße", "日本", "😀"]), ["größe", "gro\u0308ße", "日本", "😀"]),
        (pa.array(["NA", "nan", "1", "1.0"]), ["NA", "nan", "1", "1.0"]),
        (pa.array([3, 1, None, 20]).dictionary_encode(), ["3", "1", "", "20"]),
        (pa.array([True, False, None]).dictionary_encode(), ["true", "false", ""]),
        (pa.array([1.0, 0.5, None, 1e20]).dictionary_encode(), ["1", "0.5", "", "1e+20"]),
    ],
    ids=["text", "whitespace", "unicode", "words of missing values", "integers", "booleans", "floats"],
)
def test_a_category_has_the_index_that_a_table_gives_it(values, texts):
    table = pa.table({"name": values, "y": range(len(values))})
    (column, _) = from_tables("t", dict.fromkeys(("train", "test"), table), {"train": "a", "test": "b"}, "s").columns
    other = ["", "other", *(text.upper() for text in texts), *(text + "\0" for text in texts), *column.categories]
    for known in (column.categories[1:], ("else", *column.categories), column.categories):
        changed = column._replace(categories=known)
        asked = pa.table({"name": pa.array([*texts, *other])})
        expected, _ = rows_of_table(asked, "t", [changed])
        found = category_index(tf.constant([*texts, *other]), known)
        np.testing.assert_array_equal(found, expected[:, 0])
        of_file, _ = rows_of_table(table, "t", [changed])  # the column itself has the texts above
        np.testing.assert_array_equal(found[: len(texts)], of_file[:, 0])
    assert {-1.0, 0.0, 1.0} < set(found.numpy().tolist())
    assert np.isnan(found[len(texts)])


def test_a_csv_file_says_what_is_missing_before_the_same_rule(tmp_path):
    (tmp_path / "t.csv").write_text('name,y\nred,1\n red ,2\n"",3\nNA,4\nblue,5\n')
    found, _ = read_rows(tmp_path / "t.csv", [Column("name", "category", ("blue", "red"))])
    texts = tf.constant(["red", " red ", "", "", "blue"])
    np.testing.assert_array_equal(category_index(texts, ("blue", "red")), found[:, 0])


# ------------------------------------------------------------------------------------------- names and scores


def test_inputs_have_the_names_of_the_columns_and_outputs_are_those_of_the_default(folder, served, client, tmp_path):
    graph = meta_graph(folder)
    definition, default = (graph.signature_def[name] for name in ("score_columns", "serving_default"))
    texts = {name for name, info in definition.inputs.items() if info.dtype == tf.string.as_datatype_enum}
    assert (set(definition.inputs), texts) == (set(NAMES), set(TEXTS))
    assert {info.tensor_shape.dim[0].size for info in definition.inputs.values()} == {-1}
    assert set(definition.outputs) == set(default.outputs) >= {"p_value"}
    assert refused_operations(graph) == []
    rows = [ROW | {"mean radius": 0.25 * i} for i in range(3)]
    x = np.float32([[0.25 * i, *X[0][1:]] for i in range(3)])
    requests = [("score_columns", by_column(rows)), ("serving_default", {"x": x})]
    (columns, expected), _ = through_c_api(folder, requests, tmp_path)
    assert_same_bits(columns, expected)
    assert expected["status"].tolist() == [0, 0, 0]
    assert len(set(expected["log_prob"])) == 3
    for name, inputs in requests:
        assert_same_bits(numpy(served[name](**inputs)), expected)
    lists = {name: values.tolist() for name, values in by_column(rows).items()}
    objects = {name: np.array(values, object) if name in TEXTS else values for name, values in lists.items()}
    for inputs in (lists, objects):
        assert_same_bits(client.predict("score_columns", inputs), expected)


def test_a_server_replays_warm_up_requests_that_are_scored(folder, tmp_path):
    records = tf.data.TFRecordDataset(str(folder / "assets.extra/tf_serving_warmup_requests")).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    requests = []
    for log in logs:
        if log.model_spec.signature_name == "score_columns":
            arrays = {name: tf.make_ndarray(proto) for name, proto in log.inputs.items()}
            arrays |= {name: arrays[name].astype(str) for name in TEXTS}
            assert {*arrays["colour"]} == {"blue"}
            requests.append(("score_columns", arrays))
    assert [len(inputs["seed"]) for _, inputs in requests] == [1, 2, 3, 4]
    answers, _ = through_c_api(folder, requests, tmp_path)
    assert [answer["status"].tolist() for answer in answers] == [[0] * n for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("missing", [True, False])
def test_an_unseen_category_and_a_hole_are_a_matter_of_their_row(missing):
    rows = [ROW, ROW | {"colour": "blu"}, ROW | {"Colour": "blue"}, ROW | {"colour": ""}, ROW | {"seed": np.nan}]
    rows += [
        ROW | {"seed": np.inf},
        ROW | {"1": " x"},
        ROW | {"1": "1.0"},
        ROW | {"a_b": -1.0},
        ROW | {"a b": 2.0},
        ROW,
    ]
    held_out = HeldOut(np.float32([-30, -20]), None)
    settings = RowSettings(100, 100, "real", held_out=held_out, columns=COLUMNS)
    of_model = signatures(model_of(COLUMNS, missing), settings)
    answer = numpy(tf.function(of_model["score_columns"].function)(*map(tf.constant, by_column(rows).values())))
    hole = 0 if missing else 1
    assert answer["status"].tolist() == [0, 1, 1, hole, hole, 1, 0, 1, 1, 1, 0]
    np.testing.assert_array_equal(np.isnan(answer["log_prob"]), answer["status"] != 0)
    np.testing.assert_array_equal(np.isnan(answer["p_value"]), answer["status"] != 0)
    x = np.repeat(np.float32(X), 3, 0)
    x[0, 1], x[1, 8], x[2, 6] = np.nan, np.nan, 0.0
    expected = numpy(of_model["serving_default"].function(tf.constant(x)))
    assert_same_bits({name: values[[3, 4, 6]] for name, values in answer.items()}, expected)


def test_the_version_says_how_to_ask_by_column(folder):
    card = (folder / MODEL_CARD).read_text()
    assert (
        "- rows by column: signature score_columns, with text for colour, Colour, 1 and numbers for the others\n"
        in card
    )
    assert "score_columns" in json.loads((folder / PROVENANCE).read_text())["signatures"]


# ------------------------------------------------------------------------------------------- requests


def test_a_request_by_row_has_the_scores_of_x(served):
    rows = [ROW, ROW | {"colour": "", "seed": np.nan}, ROW | {"colour": "\ud800"}, ROW | {"colour": "red\0"}]
    body = json.dumps({"signature_name": "score_columns", "instances": rows}).encode()
    answer = json.loads(local_server.predict(body, served))["predictions"]
    x = np.repeat(np.float32(X), 4, 0)
    x[1, [1, 8]], x[2:, 1] = np.nan, -1
    expected = numpy(served["serving_default"](x=x))
    assert_same_bits({k: np.array([row[k] for row in answer], v.dtype) for k, v in expected.items()}, expected)


def test_requests_that_do_not_fit_the_columns_are_one_line(served):
    without = {name: value for name, value in ROW.items() if name != "seed"}
    for rows, message in [
        ([without], r"instances\[0\] must have the inputs .*seed.*, got"),
        ([ROW, ROW | {"new": 1}], r"instances\[1\] must have the inputs .*, got .*new"),
        ([ROW | {"seed": "tall"}], r"seed must hold numbers, and NaN where one is missing"),
        ([ROW, ROW | {"seed": "8"}], r"seed must hold numbers"),
        ([ROW | {"seed": None}], r"seed must hold numbers"),
        ([ROW | {"seed": [1.0]}], r"seed must have shape \[rows\]"),
        ([ROW | {"colour": 1}], r"colour must hold text, one for each row, empty where one is missing"),
        ([ROW, ROW | {"colour": None}], r"colour must hold text"),
        ([ROW | {"colour": ["red"]}], r"colour must hold text"),
        ([list(ROW.values())], r"must have the inputs .*, got no names"),
    ]:
        body = json.dumps({"signature_name": "score_columns", "instances": rows}).encode()
        with pytest.raises(InputError, match=message) as caught:
            local_server.predict(body, served)
        assert "\n" not in str(caught.value)
    columns = {name: [value] for name, value in ROW.items()}
    for change, message in [
        ({"colour": "red"}, "must hold text"),
        ({"colour": []}, "text"),
        ({"1": ["x", "x"]}, "rows"),
    ]:
        body = json.dumps({"signature_name": "score_columns", "inputs": columns | change}).encode()
        with pytest.raises(InputError, match=message):
            local_server.predict(body, served)


def test_a_client_refuses_what_is_neither_numbers_nor_text(client):
    columns = {name: [value] for name, value in ROW.items()}
    for change, message in [
        ({"new": [1.0]}, "takes .*, got .*new"),
        ({"seed": ["tall"]}, "score_columns: .*string"),
        ({"colour": [1.0]}, "score_columns: .*string"),
        ({"colour": [None]}, "column 'colour' has dtype object; expected numbers or text, all of one kind"),
        ({"colour": ["red", None]}, "column 'colour' has dtype object"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            client.predict("score_columns", columns | change)
        assert "\n" not in str(caught.value)
    del columns["seed"]
    with pytest.raises(InputError, match=r"takes .*seed.*, got"):
        client.predict("score_columns", columns)
