"""The trained models in `pretrained/`: complete, small, of one piece, and ready to score and to export."""

import json

import numpy as np
import pyarrow.parquet
import pytest

import iwae_tf
from iwae_tf.commands.main import main
from iwae_tf.training.run_folder import PRETRAINED, model_checksum

NAMES = sorted(folder.name for folder in PRETRAINED.iterdir() if folder.is_dir())


def test_there_are_models():
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_small_and_its_files_are_of_one_model(name):
    folder = PRETRAINED / name
    files = {path.name: path for path in folder.iterdir() if path.suffix}
    assert set(files) >= {"README.md", "config.json", "metrics.json", "model.keras", "scores.parquet"}
    assert sum(path.stat().st_size for path in files.values()) <= 3_000_000
    config, metrics = (json.loads(files[f"{section}.json"].read_text()) for section in ("config", "metrics"))
    assert metrics["model"] == model_checksum(folder)
    assert config["data"]["data_dir"] is None
    paths = (config["data"]["source"], metrics["protocol"]["source"], config["training"]["init_from"] or "")
    assert not any("/" in path for path in paths)  # no path of another machine
    scores = pyarrow.parquet.read_table(files["scores.parquet"])
    assert len(scores) == metrics["num_test"] == 10_000
    for column, mean in {"log_likelihood": metrics["log_likelihood"], "bound_5000": metrics["bounds"]["5000"]}.items():
        assert np.mean(scores[column]) == pytest.approx(mean, abs=1e-9)
    assert np.sum(scores["reliable"]) == metrics["reliability"]["reliable"]
    assert f"{metrics['bounds']['5000']:.3f}" in files["README.md"].read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_model_scores_its_own_draws_and_is_exported(name, tmp_path, capsys):
    model, metrics = iwae_tf.IWAE.from_pretrained(name), json.loads((PRETRAINED / name / "metrics.json").read_text())
    scores = model.log_likelihood(model.sample(200), 50)
    # Draws are stranger than images, by 13 nats for one layer; a model of other weights gives them hundreds less.
    assert metrics["bounds"]["50"] - 25.0 < np.mean(scores) < metrics["bounds"]["50"] + 10.0
    flags = ["--output-dir", str(tmp_path), "--num-samples", "50", "--data-dir", str(tmp_path)]
    assert main(["export", str(PRETRAINED / name), *flags]) == 0
    assert (tmp_path / name / "1" / "saved_model.pb").is_file()
    assert "no p_value" in capsys.readouterr().err  # MNIST is not here, so there are no held-out rows
