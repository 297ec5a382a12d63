"""`train.py --likelihood`: runs under the likelihoods over levels, and what is refused before training."""

import json

import numpy as np
import pytest

import iwae_tf
from iwae_tf.commands.main import main

SMALL = ["--hidden-units", "8", "--latent-units", "3", "--k", "2", "--epochs", "1", "--eval-samples", "60"]
SMALL += ["--verbose", "0", "--batch-size", "100"]


def train(path, *flags) -> int:
    return main(["train", *SMALL, *flags, "--output-dir", str(path)])


def error_of(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["categorical", "discretized-logistic"])
def test_a_run_over_levels_has_bits_per_dimension_wherever_log_p_is(tmp_path, capsys, likelihood):
    run = tmp_path / "run"
    assert train(run, "--likelihood", likelihood) == 0
    metrics, config = (json.loads((run / f"{name}.json").read_text()) for name in ("metrics", "config"))
    bits = -metrics["log_likelihood"] / (64 * np.log(2.0))
    assert metrics["bits_per_dimension"] == pytest.approx(bits)
    assert 0.0 < bits < 2 * np.log2(17)  # uniform levels cost log2 17
    assert f"bits per dimension {bits:.4f}" in capsys.readouterr().out.splitlines()
    assert (config["model"]["levels"], config["model"]["levels_of_a_pixel"]) == (None, 17)
    assert config["data"]["binarization_train"] == config["data"]["binarization_evaluation"] == "none"
    assert main(["evaluate", str(run), "--num-samples", "60", "--verbose", "0"]) == 0
    report = json.loads((run / "evaluation" / "report.json").read_text())
    bits = -report["log_likelihood"] / (64 * np.log(2.0))
    assert report["bits_per_dimension"] == pytest.approx(bits)
    assert f"bits per dimension {bits:.4f}" in capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_a_run_under_a_density_has_no_bits_and_goes_on(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, "--likelihood", "continuous-bernoulli") == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert "bits_per_dimension" not in metrics
    assert "bits" not in capsys.readouterr().out
    for name in ("model.keras", "metrics.json"):
        (run / name).unlink()
    assert train(run, "--likelihood", "continuous-bernoulli", "--resume") == 0
    again = json.loads((run / "metrics.json").read_text())
    assert again["log_likelihood"] == metrics["log_likelihood"]
    assert train(run, "--likelihood", "student-t", "--resume") == 2
    assert "likelihood is 'continuous-bernoulli' there and 'student-t' here" in capsys.readouterr().err


def test_levels_that_the_images_do_not_have_are_refused_before_training(tmp_path, capsys):
    assert train(tmp_path / "run", "--likelihood", "categorical", "--levels", "16") == 2
    error = error_of(capsys)
    assert "the 16 levels i / 15, i = 0 ... 15" in error
    assert "give as levels (--levels) the number of values that a pixel can have" in error


def test_floats_have_no_levels_of_their_own(tmp_path, capsys):
    x = np.random.default_rng(0).integers(0, 4, (10, 9)) / 3
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x)
    flags = ["--dataset", str(tmp_path / "x.npz"), "--likelihood", "discretized-logistic"]
    assert train(tmp_path / "run", *flags) == 2
    assert "needs levels (--levels), the number of values" in error_of(capsys)
    assert train(tmp_path / "other", *flags, "--levels", "4") == 0
    capsys.readouterr()


def test_levels_without_a_likelihood_over_them_are_refused(tmp_path, capsys):
    assert train(tmp_path / "run", "--levels", "17") == 2
    assert "levels (--levels 17) are for likelihoods over levels, not for bernoulli" in error_of(capsys)


def test_the_data_sets_read_from_integers_know_their_levels():
    digits = iwae_tf.data.load("digits")
    assert digits.levels == 17
    assert set(np.unique(np.rint(digits.intensities("test") * 16))) <= set(range(17))
