"""The folder of an exported model: versions, provenance, checksums, and the rule for pixels between 0 and 1."""

import concurrent.futures
import dataclasses
import json
import os
import re
import shutil
import stat
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from served import scores_request, through_function
from small_models import SMALL_DIM, binary_images, small_model

import iwae_tf
from iwae_tf import IWAE, InputError
from iwae_tf.data import Dataset
from iwae_tf.serving import export_saved_model, saved_model
from iwae_tf.serving.model_folder import checksum, find_version, load
from iwae_tf.serving.row import RowSettings, observe
from iwae_tf.serving.signatures import signatures


@pytest.fixture(scope="module")
def model():
    return small_model(gain=1.5)


@pytest.fixture
def quick(monkeypatch):
    """Exports that write one small file, for tests of the folder alone."""

    def write(model, folder, name, settings, run):
        (folder / "saved_model.pb").write_bytes(b"whole")

    monkeypatch.setattr(saved_model, "_write", write)


# ------------------------------------------------------------------------------------------- versions


def test_versions_count_up_from_the_highest_and_older_ones_are_left_alone(model, tmp_path, quick):
    first = export_saved_model(model, tmp_path / "m")
    (first / "saved_model.pb").write_bytes(b"old")
    assert export_saved_model(model, tmp_path / "m") == tmp_path / "m" / "2"
    for name in ("7", "007", "notes", ".part-x", "1.5"):
        (tmp_path / "m" / name).mkdir()
    (tmp_path / "m" / "12").write_text("a file is no version")
    last = export_saved_model(model, tmp_path / "m")
    assert last.name == "8"
    assert stat.S_IMODE(last.stat().st_mode) == 0o755  # a server runs as another user
    assert (first / "saved_model.pb").read_bytes() == b"old"


def test_a_number_that_another_export_takes_at_the_same_time_is_passed_over(model, tmp_path, quick, monkeypatch):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "mine").touch()
    (tmp_path / "m" / "2").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(saved_model, "versions", lambda _: [])
        assert export_saved_model(model, tmp_path / "m").name == "3"
        (tmp_path / "late" / "1" / "theirs").mkdir(parents=True)
        patch.setattr(Path, "exists", lambda _: False)  # taken after it was looked for
        assert export_saved_model(model, tmp_path / "late").name == "2"
    assert os.listdir(tmp_path / "m" / "1") == ["mine"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: export_saved_model(model, tmp_path / "m"), range(40)))
    assert sorted(int(folder.name) for folder in folders) == list(range(4, 44))
    assert sorted(map(int, os.listdir(tmp_path / "m"))) == list(range(1, 44))


def test_a_watching_server_sees_a_version_whole_or_not_at_all(model, tmp_path, monkeypatch):
    """Whenever the export writes a file, no folder with a number for a name exists; and a failure leaves nothing."""
    seen = []

    def watching(function):
        def watched(*arguments, **options):
            seen.append(sorted(os.listdir(tmp_path / "m")))
            return function(*arguments, **options)

        return watched

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(saved_model, "signatures", lambda *given: {"sample": signatures(*given)["sample"]})  # quicker
    monkeypatch.setattr(Path, "write_text", watching(Path.write_text))
    monkeypatch.setattr(saved_model, "write_warmup_requests", watching(saved_model.write_warmup_requests))
    monkeypatch.setattr(Path, "rename", watching(Path.rename))
    export_saved_model(model, tmp_path / "m")
    assert len(seen) >= 3
    assert [name for names in seen for name in names if name.isdecimal()] == []
    monkeypatch.setattr(saved_model, "checksum", fail)
    with pytest.raises(OSError, match="disk full"):
        export_saved_model(model, tmp_path / "m")
    assert os.listdir(tmp_path / "m") == ["1"]


def test_the_newest_version_is_found_under_the_name_of_its_folder(tmp_path):
    folder = tmp_path / "small"
    for name in ("2", "10", "new", ".part-x", "1.5"):
        (folder / name).mkdir(parents=True)
    for name in ("2", "10"):
        (folder / name / "saved_model.pb").touch()
    (folder / "12").write_text("a file is no version")
    for path, found in ((folder, "10"), (folder / "2", "2"), (folder / "new" / "..", "10")):
        assert find_version(path) == ("small", folder / found)
    (folder / "broken" / "11").mkdir(parents=True)
    for path, message in [
        ("none", "there is no folder"),
        ("12", "there is no folder"),
        ("new", "holds no version"),
        ("broken", "11 is no SavedModel"),
    ]:
        with pytest.raises(InputError, match=message):
            find_version(folder / path)
    with pytest.raises(InputError, match="10 cannot be loaded as a SavedModel") as raised:
        load(folder / "10")
    assert "\n" not in str(raised.value).strip()


# ------------------------------------------------------------------------------------------- provenance, checksum


def test_provenance_says_where_the_numbers_come_from(small_folder):
    provenance = json.loads((small_folder / "assets.extra" / "provenance.json").read_text())
    expected = {
        "model_name": "small",
        "data_dim": SMALL_DIM,
        "latent_units": [5, 3],
        "latent": "gaussian",
        "likelihood": "bernoulli",
        "input": "binary",
        "scale": 1.0,
        "values": "as they are",
        "num_samples": 700,
        "max_samples": 50_000,
        "seed": 0,
        "chunk": [50, 500],
        "config": {"training": {"k": 50}},
        "metrics": {"log_likelihood": -80.5},
        "checksum": checksum(small_folder),
    }
    assert {name: provenance[name] for name in expected} == expected
    assert "philox" in provenance["random_numbers"]
    assert set(provenance["statuses"]) == {"0", "1", "2", "3"}
    assert provenance["versions"]["tensorflow"] == tf.__version__
    assert provenance["versions"]["iwae-tf"] == iwae_tf.__version__


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("saved_model.pb", "is damaged: its files have changed since the export"),
        ("variables/variables.data-00000-of-00001", "is damaged: its files have changed since the export"),
        ("assets.extra/tf_serving_warmup_requests", "is damaged: its files have changed since the export"),
        ("assets.extra/provenance.json", r"provenance.json cannot be read; export the model again"),
    ],
)
def test_a_file_with_a_changed_byte_is_found(small_folder, tmp_path, name, message):
    shutil.copytree(small_folder, tmp_path / "1")
    content = bytearray((tmp_path / "1" / name).read_bytes())
    content[len(content) // 2 if name != "assets.extra/provenance.json" else 0] ^= 1
    (tmp_path / "1" / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "1")


def test_the_checksum_changes_with_every_file_and_name(tmp_path):
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"3")
    sums = [checksum(tmp_path)]
    (tmp_path / "assets.extra" / "provenance.json").write_text("the checksum itself is written here")
    assert checksum(tmp_path) == sums[0]
    for path, content in (("a", b"1"), ("b", b"23"), ("a", b"12"), ("c", b"")):
        (tmp_path / path).write_bytes(content)
        sums.append(checksum(tmp_path))
    (tmp_path / "c").rename(tmp_path / "d")
    sums.append(checksum(tmp_path))
    assert len(set(sums)) == len(sums)


# ------------------------------------------------------------------------------------------- the input rule


def test_the_rules_agree_on_binary_images_and_differ_between(model):
    x = binary_images(2)
    grey = 0.8 * x + 0.1
    request = scores_request(np.concatenate([x, grey]), [50, 51, 50, 20])
    binary, intensity = (
        through_function(signatures(model, RowSettings(60, 50, rule))["log_prob_k"], request)
        for rule in ("binary", "intensity")
    )
    for answer in (binary, intensity):
        np.testing.assert_array_equal(answer["status"], [0, 2, 0, 0])  # max_samples is the last that is allowed
    np.testing.assert_array_equal(binary["log_prob"] == intensity["log_prob"], [True, False, False, False])  # NaN
    # The expected log-likelihood of grey pixels is that of the model's own estimate at the same intensities.
    expected = model.log_likelihood(grey[:1], 50)
    np.testing.assert_allclose(intensity["log_prob"][2:3], expected, rtol=1e-5)  # float32, one row at a time


@pytest.mark.parametrize("scale", [16, 255])
def test_an_export_takes_the_integers_of_the_data_and_divides_them_as_training_did(model, tmp_path, scale):
    copy = type(model).from_config({**model.get_config(), "scale": scale})
    copy.set_weights(model.get_weights())
    copy.save(tmp_path / "model.keras")
    scaled = keras.saving.load_model(tmp_path / "model.keras")
    settings, integers = RowSettings(60, 50, "intensity"), np.random.default_rng(0).integers(0, scale + 1, (3, 12))
    images = {"x_train": integers.astype(np.uint8), "x_test": integers.astype(np.uint8)}
    divided = dataclasses.replace(Dataset.from_arrays("d", images, "", ""), scale=float(scale)).intensities("test")
    for name in ("log_prob_k", "encode", "reconstruct", "sample"):
        inputs = {"x": divided, "num_samples": np.full(3, 50, np.int32), "seed": np.arange(3)}
        expected = through_function(signatures(model, settings)[name], (name, inputs))
        answer = through_function(signatures(scaled, settings)[name], (name, inputs | {"x": np.float32(integers)}))
        for output in expected:
            unit = scale if output in ("x", "x_mean") else 1
            np.testing.assert_allclose(answer[output], unit * expected[output], rtol=1e-6, err_msg=output)
    wild = np.zeros((5, 12), np.float32)
    wild[:, 3] = [1.5, -1, scale + 1, np.nan, scale]
    answer = through_function(signatures(scaled, settings)["reconstruct"], ("", {"x": wild}))
    np.testing.assert_array_equal(answer["status"], [1, 1, 1, 1, 0])


def test_drawn_grey_values_are_the_integers_that_the_model_takes():
    model = IWAE(12, 2, 4, likelihood="discretized-logistic", levels=256, scale=255)
    served = signatures(model, RowSettings(60, 50, "real"))
    drawn = tf.function(served["sample"].function, autograph=False)(tf.range(50, dtype=tf.int64))["x"]
    np.testing.assert_array_equal(drawn, np.round(drawn))
    answer = through_function(served["reconstruct"], ("", {"x": drawn.numpy()}))
    np.testing.assert_array_equal(answer["status"], np.zeros(50))


def test_drawn_pixels_follow_their_intensity_and_depend_on_the_seed_and_the_image(model):
    @tf.function(autograph=False)
    def draw(x, seeds):  # [N, 12], [N]
        rows = lambda row: observe(model, row[0], row[1], "binary")[0][0]  # noqa: E731
        return tf.map_fn(rows, (x, seeds), fn_output_signature=tf.float32)

    x = np.linspace(0, 1, SMALL_DIM).astype(np.float32)
    draws = draw(np.tile(x, (3000, 1)), tf.range(3000, dtype=tf.int64)).numpy()
    assert set(np.unique(draws)) == {0.0, 1.0}
    # 12 means of 3000 draws, each with a standard error of at most 0.0091: 4.5 of them are passed once in 10^4 tests.
    np.testing.assert_allclose(draws.mean(0), x, atol=0.041)
    np.testing.assert_array_equal(draws.mean(0)[[0, -1]], [0, 1])
    others = x + np.float32(1e-3) * np.arange(1, 101, dtype=np.float32)[:, None] * (x < 0.5)
    assert len(np.unique(draw(others, tf.zeros(100, tf.int64))[:, 1:-1], axis=0)) > 50


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be an integer >= 1, got 0"),
        ({"num_samples": 5.5}, "num_samples must be an integer >= 1, got 5.5"),
        ({"max_samples": -1}, "max_samples must be an integer >= 1, got -1"),
        ({"num_samples": 11, "max_samples": 10}, "num_samples must be at most max_samples = 10, got 11"),
        ({"input_rule": "grey"}, "input must be one of binary, intensity, got 'grey'"),
        ({"likelihood": "gaussian", "input_rule": "intensity"}, "this model's likelihood is gaussian"),
    ],
)
def test_settings_out_of_range_are_refused_and_nothing_is_written(model, tmp_path, options, message):
    options = dict(options)
    if "likelihood" in options:
        model = small_model(likelihood=options.pop("likelihood"))
    with pytest.raises(InputError, match=re.escape(message)):
        export_saved_model(model, tmp_path / "m", **options)
    assert not (tmp_path / "m").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/m cannot be written: Not a directory; give another folder"):
        export_saved_model(model, tmp_path / "file" / "m")
