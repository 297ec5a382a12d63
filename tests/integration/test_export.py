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
from shared_runs import skip_figures

from iwae_tf.commands.export import held_out_of, name_of_run
from iwae_tf.commands.main import main
from iwae_tf.config import ExportConfig
from iwae_tf.serving import saved_model
from iwae_tf.serving.signatures import signatures
from iwae_tf.training.building import load_data
from iwae_tf.training.run_folder import read_trained
from iwae_tf.training.scores_file import read_columns

ROOT = Path(__file__).parents[2]
SMALL = ["--hidden-units", "6", "--latent-units", "2", "--epochs", "1", "--eval-samples", "60", "--verbose", "0"]


@pytest.fixture(scope="module", autouse=True)
def quick_exports():
    """Exports have one signature of five; tests/integration/test_servable.py is about all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "signatures", lambda *given: {"log_prob_k": signatures(*given)["log_prob_k"]})
        yield


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """The folder in which `train --export` ran, and its output."""
    folder, output = tmp_path_factory.mktemp("trained"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.chdir(folder)
        skip_figures(patch)
        flags = [*SMALL, "--dataset", images, "--batch-size", "50", "--export", "--output-dir", "runs/small"]
        assert main(["train", *flags]) == 0
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
    flags = ["--output-dir", str(tmp_path), "--num-samples", "70", "--input", "intensity"]
    assert main(["export", str(run_folder), *flags]) == 0
    folder = tmp_path / "small" / "1"  # the name is the run folder's
    assert capsys.readouterr().out == f"written: {folder}\n"
    provenance = json.loads((folder / "assets.extra" / "provenance.json").read_text())
    assert (provenance["num_samples"], provenance["input"]) == (70, "intensity")
    for name in ("config", "metrics"):
        assert provenance[name] == json.loads((run_folder / f"{name}.json").read_text())
    x = np.random.default_rng(1).random((3, 30)).astype(np.float32)
    (answer,) = through_python(folder, [scores_request(x, 60)])
    expected = keras.saving.load_model(run_folder / "model.keras").log_likelihood(x, 60)
    np.testing.assert_allclose(answer["log_prob"], expected, rtol=1e-5)  # float32, one row at a time


def test_train_exports_at_the_end_under_a_name_that_it_checks_before(trained, tmp_path, capsys):
    folder, output = trained
    assert "  export/models/small/1" in output
    provenance = folder / "export" / "models" / "small" / "1" / "assets.extra" / "provenance.json"
    assert json.loads(provenance.read_text())["metrics"]["num_samples"] == 60
    assert main(["export", str(folder / "runs" / "small"), "--name", "my run"]) == 2
    assert "got 'my run'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "name"),
    [("tfds:iris-k5", "tfds-iris-k5"), ("my table", "my-table"), (".x_1", "x_1"), ("\u00e4", "model")],
)
def test_the_name_of_a_run_becomes_one_that_a_server_takes(folder, name):
    assert name_of_run(Path("runs") / folder) == name


def test_the_script_answers_from_any_folder_without_tensorflow(tmp_path):
    script = [sys.executable, "-X", "importtime", str(ROOT / "export" / "export_model.py")]
    for arguments, code, line in [
        (["no/run"], 2, "error: there is no run folder no/run; train one with python -m iwae_tf train"),
        (["--help"], 0, "export_model.py [-h] [--name NAME]"),
    ]:
        process = subprocess.run([*script, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert process.returncode == code
        assert line in (process.stdout or process.stderr.splitlines()[-1])
        assert "tensorflow" not in process.stderr


def test_flags_and_folders_that_cannot_be_used_get_one_line(run_folder, tmp_path, capsys):
    capsys.readouterr()
    models = tmp_path / "models"
    for flags, message in [
        ("--num-samples 0", "num_samples must be an integer >= 1, got 0"),
        ("--num-samples many", "invalid integer value: 'many'"),
        ("--num-samples 60000", "num_samples must be at most max_samples = 50000, got 60000"),
        ("--input grey", "invalid choice: 'grey'"),
        ("--name a/b", "letters, digits and . _ - only, got 'a/b'"),
        ("--name .", "letters, digits and . _ - only, got '.'"),
        ("--sample 5", "unknown argument --sample; did you mean --num-samples?"),
    ]:
        assert message in error_of(capsys, run_folder, *flags.split(), "--output-dir", models)
    assert f"did you mean {run_folder}?" in error_of(capsys, run_folder.with_name("smal"))
    assert "is not the folder of a run: it has no config.json" in error_of(capsys, tmp_path)
    for missing in ("model.keras", "metrics.json"):
        shutil.copytree(run_folder, tmp_path / missing)
        (tmp_path / missing / missing).unlink()
        assert f"is not finished: it has no {missing}" in error_of(capsys, tmp_path / missing)
    shutil.copy(run_folder / "metrics.json", tmp_path / "metrics.json")
    for content in (b"", b"PK\x03\x04 cut short"):
        (tmp_path / "metrics.json" / "model.keras").write_bytes(content)
        assert "model.keras cannot be read" in error_of(capsys, tmp_path / "metrics.json", "--output-dir", models)
    assert not models.exists()
    (tmp_path / "file").touch()
    error = error_of(capsys, run_folder, "--output-dir", tmp_path / "file")
    assert "file/small cannot be written: Not a directory; give another folder" in error


def test_held_out_rows_are_the_test_rows_with_the_scores_of_the_run_where_they_are_the_servers(run_folder, capsys):
    trained, test_rows = read_trained(run_folder), load_data(read_trained(run_folder).config["data"]).x_test
    own = trained.metrics["protocol"]["num_samples"]
    refine = "on" if trained.metrics["protocol"]["proposal"] == "refined" else "off"
    other = "off" if refine == "on" else "auto"
    for settings, known in [
        (ExportConfig(num_samples=own, refine=refine), True),
        (ExportConfig(num_samples=own, refine=refine, input="binary"), True),
        (ExportConfig(num_samples=own, refine=refine, input="intensity"), False),
        (ExportConfig(num_samples=own + 1, refine=refine), False),
        (ExportConfig(num_samples=own, refine=other), False),
    ]:
        found = held_out_of(trained, settings, None)
        np.testing.assert_array_equal(found["held_out"], test_rows)
        assert (found["held_out_scores"] is not None) == known
    found = held_out_of(trained, ExportConfig(num_samples=own, refine=refine), None)["held_out_scores"]
    np.testing.assert_array_equal(found, read_columns(run_folder / "scores.parquet")["log_likelihood"])
    config = {**trained.config, "data": {**trained.config["data"], "sha256": {"test": "0"}}}
    assert held_out_of(trained._replace(config=config), ExportConfig(), None) == {}
    assert "no p_value and no explain, for want of held-out rows: the data set is not" in capsys.readouterr().err
