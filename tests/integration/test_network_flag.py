"""`train.py --network conv`: a run from flags to evaluation, and what is refused."""

import json

import keras
import numpy as np
import pytest

import iwae_tf
from iwae_tf.commands.main import main

SMALL = ["--network", "conv", "--latent-units", "3", "--k", "2", "--eval-samples", "60", "--verbose", "0"]
SMALL += ["--batch-size", "100"]


def train(path, *flags) -> int:
    return main(["train", *SMALL, *flags, "--output-dir", str(path)])


@pytest.mark.slow
def test_a_run_with_convolutions_is_scored_exported_gone_on_with_and_started_from(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, "--epochs", "2", "--seed", "1") == 0
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["network"] == "conv"
    bounds = [float(row.split(",")[1]) for row in (run / "history.csv").read_text().splitlines()[1:]]
    assert bounds[1] > bounds[0] + 1.0
    assert main(["evaluate", str(run), "--num-samples", "60", "--verbose", "0"]) == 0
    assert main(["export", str(run), "--output-dir", str(tmp_path / "models")]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("model.keras", "metrics.json"):
        (run / name).unlink()
    assert train(run, "--epochs", "2", "--seed", "1", "--resume") == 0
    assert json.loads((run / "metrics.json").read_text())["log_likelihood"] == metrics["log_likelihood"]
    capsys.readouterr()
    assert train(run, "--epochs", "2", "--seed", "1", "--network", "mlp", "--resume") == 2
    assert "network is 'conv' there and 'mlp' here" in capsys.readouterr().err
    assert train(tmp_path / "next", "--epochs", "1", "--init-from", str(run)) == 0
    assert train(tmp_path / "other", "--epochs", "1", "--network", "mlp", "--init-from", str(run)) == 2
    assert "its networks have weights of other shapes" in capsys.readouterr().err
    model = keras.saving.load_model(run / "model.keras")
    x = iwae_tf.data.load("digits").intensities("test")[:3]
    assert model.reconstruct(x).shape == (3, 64)


def test_rows_that_are_no_images_are_refused(tmp_path, capsys):
    x = np.random.default_rng(0).random((10, 7))
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x)
    assert train(tmp_path / "run", "--epochs", "1", "--dataset", str(tmp_path / "x.npz")) == 2
    assert "--network conv needs images, and x has rows of 7 values: use mlp" in capsys.readouterr().err


def test_convolutions_in_float16_are_refused(tmp_path, capsys):
    assert train(tmp_path / "run", "--epochs", "1", "--precision", "float16") == 2
    assert "convolutions in float16 would lose small gradients" in capsys.readouterr().err
