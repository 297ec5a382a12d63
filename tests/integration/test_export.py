"""From a run folder to a SavedModel, as a user meets it."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from served import scores_request, through_python

import iwae_tf
from iwae_tf.commands.main import main

ROOT = Path(__file__).parents[2]
SMALL = ["--hidden-units", "20,20", "--latent-units", "5", "--epochs", "1", "--eval-samples", "60", "--verbose", "0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder in which `train --export` ran, and its output."""
    folder, output = tmp_path_factory.mktemp("trained"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.chdir(folder)
        assert main(["train", *SMALL, "--export", "--output-dir", "runs/small"]) == 0
    return folder, output.getvalue()


@pytest.fixture(scope="module")
def run_folder(trained):
    return trained[0] / "runs" / "small"


def error_of(capsys, *arguments) -> str:
    """The one line that `export` ends with."""
    assert main(["export", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_run_becomes_a_version_that_scores_as_the_model_does(run_folder, tmp_path, capsys):
    capsys.readouterr()
    assert main(["export", str(run_folder), "--output-dir", str(tmp_path), "--num-samples", "70"]) == 0
    folder = tmp_path / "small" / "1"  # the name is the run folder's
    assert capsys.readouterr().out == f"written: {folder}\n"
    provenance = json.loads((folder / "assets.extra" / "provenance.json").read_text())
    assert provenance["num_samples"] == 70
    for name in ("config", "metrics"):
        assert provenance[name] == json.loads((run_folder / f"{name}.json").read_text())
    x = (iwae_tf.data.load("digits").intensities("test")[:3] > 0.5).astype(np.float32)
    (answer,) = through_python(folder, [scores_request(x, 20_000)])
    expected = keras.saving.load_model(run_folder / "model.keras").log_likelihood(x, 20_000).numpy()
    np.testing.assert_allclose(answer["log_prob"], expected, atol=8 * answer["standard_error"].max())


def test_train_exports_at_the_end_under_a_name_that_it_checks_before(trained, tmp_path, capsys):
    folder, output = trained
    assert "  export/models/small/1" in output
    provenance = folder / "export" / "models" / "small" / "1" / "assets.extra" / "provenance.json"
    assert json.loads(provenance.read_text())["metrics"]["num_samples"] == 60
    assert main(["train", *SMALL, "--export", "--output-dir", str(tmp_path / "my run")]) == 2
    assert "got 'my run'" in capsys.readouterr().err
    assert not (tmp_path / "my run").exists()


def test_the_script_answers_from_any_folder_without_tensorflow(tmp_path):
    script = [sys.executable, "-X", "importtime", str(ROOT / "export" / "export_model.py")]
    for arguments, code, line in [
        (["no/run"], 2, "error: there is no run folder no/run; train one with train.py"),
        (["--help"], 0, "export_model.py [-h] [--name NAME]"),
    ]:
        process = subprocess.run([*script, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert process.returncode == code
        assert line in (process.stdout or process.stderr.splitlines()[-1])
        assert "tensorflow" not in process.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
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
def test_flags_that_cannot_be_used_get_one_line(run_folder, tmp_path, capsys, flags, message):
    capsys.readouterr()
    assert message in error_of(capsys, run_folder, *flags, "--output-dir", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_folders_that_cannot_be_used_get_one_line(run_folder, tmp_path, capsys):
    capsys.readouterr()
    assert f"did you mean {run_folder}?" in error_of(capsys, run_folder.with_name("smal"))
    assert "is not the folder of a run: it has no config.json" in error_of(capsys, tmp_path)
    for missing in ("model.keras", "metrics.json"):
        shutil.copytree(run_folder, tmp_path / missing)
        (tmp_path / missing / missing).unlink()
        assert f"is not finished: it has no {missing}" in error_of(capsys, tmp_path / missing)
    for content in (b"", b"PK\x03\x04 cut short"):
        (tmp_path / "metrics.json" / "model.keras").write_bytes(content)
        shutil.copy(run_folder / "metrics.json", tmp_path / "metrics.json")
        error = error_of(capsys, tmp_path / "metrics.json", "--output-dir", tmp_path / "models")
        assert "model.keras cannot be read" in error
        assert not (tmp_path / "models").exists()
    (tmp_path / "file").touch()
    error = error_of(capsys, run_folder, "--output-dir", tmp_path / "file")
    assert "file/small cannot be written: Not a directory; give another folder" in error
