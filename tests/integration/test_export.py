"""From a run folder to a SavedModel, as a user meets it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from served import scores_request, through_python

import iwae_tf
from iwae_tf.commands.main import main

ROOT = Path(__file__).parents[2]
SMALL = ["--hidden-units", "20,20", "--latent-units", "5", "--epochs", "1", "--eval-samples", "60", "--verbose", "0"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", *SMALL, "--output-dir", str(path)]) == 0
    return path


def error_of(capsys, *arguments) -> str:
    """The one line that `export` ends with."""
    assert main(["export", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_run_becomes_a_version_that_scores_as_the_model_does(run_folder, tmp_path, capsys):
    arguments = ["export", str(run_folder), "--output-dir", str(tmp_path), "--num-samples", "70"]
    assert main([*arguments, "--name", "digits"]) == 0
    folder = tmp_path / "digits" / "1"
    assert capsys.readouterr().out == f"written: {folder}\n"
    provenance = json.loads((folder / "assets.extra" / "provenance.json").read_text())
    assert provenance["config"] == json.loads((run_folder / "config.json").read_text())
    assert provenance["metrics"] == json.loads((run_folder / "metrics.json").read_text())
    x = (iwae_tf.data.load("digits").intensities("test")[:3] > 0.5).astype(np.float32)
    (answer,) = through_python(folder, [scores_request(x, 20_000)])
    import keras

    expected = keras.saving.load_model(run_folder / "model.keras").log_likelihood(x, 20_000).numpy()
    np.testing.assert_allclose(answer["log_prob"], expected, atol=8 * answer["standard_error"].max())


def test_the_name_is_the_run_folders_unless_given(run_folder, tmp_path):
    for _ in range(2):
        assert main(["export", str(run_folder), "--output-dir", str(tmp_path)]) == 0
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == ["1", "2"]


def test_train_exports_at_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL, "--export", "--output-dir", "runs/mine"]) == 0
    folder = Path("export/models/mine/1")
    assert f"  {folder}" in capsys.readouterr().out
    assert (folder / "saved_model.pb").is_file()
    assert json.loads((folder / "assets.extra" / "provenance.json").read_text())["metrics"]["num_samples"] == 60


def test_train_refuses_a_name_that_cannot_be_served_before_it_trains(tmp_path, capsys):
    assert main(["train", *SMALL, "--export", "--output-dir", str(tmp_path / "my run")]) == 2
    assert "got 'my run'" in capsys.readouterr().err
    assert not (tmp_path / "my run").exists()


@pytest.mark.slow
def test_the_script_answers_without_tensorflow(tmp_path):
    """`export/export_model.py` from any folder, and its errors at once."""
    script = [sys.executable, "-X", "importtime", str(ROOT / "export" / "export_model.py")]
    process = subprocess.run([*script, "no/run"], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1] == "error: there is no run folder no/run; train one with train.py"
    assert "tensorflow" not in process.stderr
    process = subprocess.run([*script, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0
    assert "export_model.py [-h] [--name NAME]" in process.stdout
    assert "tensorflow" not in process.stderr


# ------------------------------------------------------------------------------------------- bad input


def test_a_run_that_is_not_there_is_named_with_the_nearest(run_folder, capsys):
    assert f"did you mean {run_folder}?" in error_of(capsys, run_folder.with_name("smal"))


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert "is not the folder of a run: it has no config.json" in error_of(capsys, tmp_path)


@pytest.mark.parametrize("missing", ["model.keras", "metrics.json"])
def test_a_run_that_is_not_finished_is_refused(run_folder, tmp_path, capsys, missing):
    shutil.copytree(run_folder, tmp_path / "part")
    (tmp_path / "part" / missing).unlink()
    assert f"is not finished: it has no {missing}; go on with it" in error_of(capsys, tmp_path / "part")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_a_damaged_model_is_refused(run_folder, tmp_path, capsys, content):
    shutil.copytree(run_folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "model.keras").write_bytes(content)
    models = tmp_path / "models"
    assert "model.keras cannot be read" in error_of(capsys, tmp_path / "damaged", "--output-dir", models)
    assert not models.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num-samples", "0"], "num_samples must be an integer >= 1, got 0"),
        (["--num-samples", "many"], "invalid integer value: 'many'"),
        (["--num-samples", "60000"], "num_samples must be at most max_samples = 50000, got 60000"),
        (["--input", "grey"], "invalid choice: 'grey'"),
        (["--name", "a/b"], "letters, digits and . _ - only, got 'a/b'"),
        (["--name", "."], "letters, digits and . _ - only, got '.'"),
        (["--sample", "5"], "unknown argument --sample; did you mean --num-samples?"),
    ],
)
def test_flags_that_cannot_be_used_get_one_line(run_folder, tmp_path, capsys, flags, words):
    assert words in error_of(capsys, run_folder, *flags, "--output-dir", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_folder_that_cannot_be_written_gets_one_line(run_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    error = error_of(capsys, run_folder, "--output-dir", tmp_path / "file")
    assert "file/small cannot be written: Not a directory; give another folder" in error
