import concurrent.futures
import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from served import scores_request, through_python
from small_models import binary_images, small_model

import iwae_tf
from iwae_tf import InputError
from iwae_tf.serving import export_saved_model, saved_model
from iwae_tf.serving.model_folder import checksum, versions
from iwae_tf.serving.row import observe
from iwae_tf.serving.warmup import BATCH_SIZES

ROOT = Path(__file__).parents[3]


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


def test_versions_count_up_from_one_and_older_ones_are_left_alone(model, tmp_path, quick):
    first = export_saved_model(model, tmp_path / "m")
    (first / "saved_model.pb").write_bytes(b"old")
    second = export_saved_model(model, tmp_path / "m")
    assert (first, second) == (tmp_path / "m" / "1", tmp_path / "m" / "2")
    assert (first / "saved_model.pb").read_bytes() == b"old"


def test_the_next_version_is_above_the_highest_that_is_there(model, tmp_path, quick):
    for name in ("7", "007", "notes", ".part-x", "1.5"):
        (tmp_path / "m" / name).mkdir(parents=True)
    (tmp_path / "m" / "12").write_text("a file is no version")
    assert versions(tmp_path / "m") == [7, 7]
    assert export_saved_model(model, tmp_path / "m").name == "8"


def test_a_number_that_is_taken_in_between_is_passed_over(model, tmp_path, quick, monkeypatch):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "mine").touch()
    (tmp_path / "m" / "2").mkdir()  # a folder that another export has only just made
    monkeypatch.setattr(saved_model, "versions", lambda _: [])
    assert export_saved_model(model, tmp_path / "m").name == "3"
    assert os.listdir(tmp_path / "m" / "1") == ["mine"]


def test_exports_at_the_same_time_get_versions_of_their_own(model, tmp_path, quick):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: export_saved_model(model, tmp_path / "m"), range(40)))
    assert sorted(int(folder.name) for folder in folders) == list(range(1, 41))
    assert sorted(os.listdir(tmp_path / "m")) == sorted(map(str, range(1, 41)))


def test_a_watching_server_sees_a_version_whole_or_not_at_all(model, tmp_path, monkeypatch):
    """What stands in the model's folder whenever the export writes a file: no folder with a number for a name."""
    seen = []
    write_text, rename = Path.write_text, os.rename

    def watching(function):
        def watched(*arguments, **options):
            seen.append(sorted(os.listdir(tmp_path / "m")))
            return function(*arguments, **options)

        return watched

    monkeypatch.setattr(Path, "write_text", watching(write_text))
    monkeypatch.setattr(saved_model, "write_warmup_requests", watching(saved_model.write_warmup_requests))
    monkeypatch.setattr(os, "rename", watching(rename))
    export_saved_model(model, tmp_path / "m")
    assert len(seen) >= 3
    for names in seen:
        assert [name for name in names if name.isdecimal()] == []
    assert os.listdir(tmp_path / "m") == ["1"]


def test_an_export_that_fails_leaves_nothing(model, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(saved_model, "write_warmup_requests", fail)
    with pytest.raises(OSError, match="disk full"):
        export_saved_model(model, tmp_path / "m")
    assert os.listdir(tmp_path / "m") == []


def test_a_server_that_is_somebody_else_may_read_the_export(model, tmp_path, quick):
    folder = export_saved_model(model, tmp_path / "m")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


# ------------------------------------------------------------------------------------------- what is beside the model


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    run = {"config": {"training": {"k": 50}}, "metrics": {"log_likelihood": -80.5}}
    return export_saved_model(model, tmp_path_factory.mktemp("p") / "digits", num_samples=60, max_samples=90, run=run)


def test_provenance_says_where_the_numbers_come_from(written):
    provenance = json.loads((written / "assets.extra" / "provenance.json").read_text())
    assert provenance["model_name"] == "digits"
    assert (provenance["num_samples"], provenance["max_samples"], provenance["seed"]) == (60, 90, 0)
    assert (provenance["data_dim"], provenance["latent_units"], provenance["likelihood"]) == (12, [5], "bernoulli")
    assert (provenance["input"], provenance["chunk"]) == ("binary", [50, 450])
    assert "philox" in provenance["random_numbers"]
    assert set(provenance["statuses"]) == {"0", "1", "2", "3"}
    assert provenance["config"] == {"training": {"k": 50}}
    assert provenance["metrics"] == {"log_likelihood": -80.5}
    assert provenance["versions"]["tensorflow"] == tf.__version__
    assert provenance["versions"]["iwae-tf"] == iwae_tf.__version__
    assert provenance["checksum"] == checksum(written)


def test_the_most_samples_are_those_of_the_export(written):
    (answer,) = through_python(written, [scores_request(binary_images(3), [90, 91, 60])])
    np.testing.assert_array_equal(answer["status"], [0, 2, 0])


def test_warm_up_has_the_batch_sizes_that_the_batching_file_lets_occur():
    text = (ROOT / "export" / "serving" / "batching_parameters.txt").read_text()
    text = "\n".join(line.split("#")[0] for line in text.splitlines())
    sizes = [int(n) for n in re.findall(r"allowed_batch_sizes: (\d+)", text)]
    (largest,) = re.findall(r"max_execution_batch_size \{ value: (\d+) \}", text)
    assert tuple(n for n in sizes if n <= int(largest)) == BATCH_SIZES


# ------------------------------------------------------------------------------------------- the input rule


def test_the_rules_agree_on_binary_images_and_differ_between(model, tmp_path):
    x = binary_images(4)
    grey = 0.8 * x + 0.1
    request = scores_request(np.concatenate([x, grey]), 400)
    binary, intensity = (
        through_python(export_saved_model(model, tmp_path / rule, input_rule=rule), [request])[0]
        for rule in ("binary", "intensity")
    )
    same = binary["log_prob"] == intensity["log_prob"]
    np.testing.assert_array_equal(same, [True] * 4 + [False] * 4)
    # The expected log-likelihood of grey pixels is that of the model's own estimate at the same intensities.
    expected = model.log_likelihood(grey, 5000).numpy()
    np.testing.assert_allclose(intensity["log_prob"][4:], expected, atol=6 * intensity["standard_error"].max())


def test_drawn_pixels_follow_their_intensity_and_depend_on_the_seed_and_the_image(model):
    draw = tf.function(lambda x, seed: observe(model, x, seed, "binary")[0][0], autograph=False)
    x = np.linspace(0, 1, 12).astype(np.float32)
    draws = np.array([draw(x, tf.constant(seed, tf.int64)) for seed in range(3000)])
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert (draws[:, 0] == 0).all()
    assert (draws[:, -1] == 1).all()
    # 12 means of 3000 draws, each with a standard error of at most 0.0091: 4.5 of them are passed once in 10^4 tests.
    np.testing.assert_allclose(draws.mean(0), x, atol=0.041)
    others = np.array([draw(x + np.float32(1e-3 * (n + 1)) * (x < 0.5), tf.constant(0, tf.int64)) for n in range(100)])
    assert len(np.unique(others[:, 1:-1], axis=0)) > 50


def test_real_numbers_are_scored_as_they_are(tmp_path):
    model = small_model(likelihood="gaussian", gain=1.0)
    folder = export_saved_model(model, tmp_path / "m")
    assert json.loads((folder / "assets.extra" / "provenance.json").read_text())["input"] == "real"
    x = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    (answer,) = through_python(folder, [scores_request(x, 20_000)])
    expected = model.log_likelihood(x, 20_000).numpy()
    np.testing.assert_allclose(answer["log_prob"], expected, atol=6 * answer["standard_error"].max())


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_samples": 0}, "num_samples must be an integer >= 1, got 0"),
        ({"num_samples": 5.5}, "num_samples must be an integer >= 1, got 5.5"),
        ({"max_samples": -1}, "max_samples must be an integer >= 1, got -1"),
        ({"num_samples": 11, "max_samples": 10}, "num_samples must be at most max_samples = 10, got 11"),
        ({"input_rule": "grey"}, "input must be one of binary, intensity, got 'grey'"),
    ],
)
def test_settings_out_of_range_are_refused_and_nothing_is_written(model, tmp_path, options, words):
    with pytest.raises(InputError, match=re.escape(words)):
        export_saved_model(model, tmp_path / "m", **options)
    assert not (tmp_path / "m").exists()


def test_a_rule_for_pixels_is_refused_for_real_numbers(tmp_path):
    model = small_model(likelihood="gaussian")
    with pytest.raises(InputError, match="intensity is for Bernoulli pixels; this model's likelihood is gaussian"):
        export_saved_model(model, tmp_path / "m", input_rule="intensity")


def test_a_folder_that_cannot_be_written_is_named(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/m cannot be written: Not a directory; give another folder"):
        export_saved_model(model, tmp_path / "file" / "m")
