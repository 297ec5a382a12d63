"""Objectives on the command line: the list, their flags, what is refused, and runs with them from start to score."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from iwae_tf.commands.main import main
from iwae_tf.objectives import OBJECTIVES

ROOT = Path(__file__).parents[2]
SMALL = ["--hidden-units", "8,8", "--latent-units", "4", "--eval-samples", "60", "--epochs", "2", "--verbose", "0"]


def test_the_list_names_every_objective_with_its_flags_without_tensorflow():
    code = "import sys; from iwae_tf.__main__ import main; main(['objectives']); print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", f"import sys; sys.orig_argv = ['python', '-m', 'iwae_tf']; {code}"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    *lines, last = process.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(OBJECTIVES)
    assert last == "False", process.stderr
    assert "--beta --learn-beta" in next(line for line in lines if line.startswith("ciwae"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--groups", "5"], "objective 'iwae' has no --groups; it belongs to miwae, piwae"),
        (["--objective", "dreg", "--kl-annealing", "5"], "has no --kl-annealing; it belongs to elbo, elbo-kl"),
        (
            ["--objective", "piwae", "--k", "6", "--groups", "4"],
            "groups must divide the number of samples, 6, got 4; 3 does",
        ),
        (["--objective", "ciwae", "--beta", "1.5"], "beta must be in [0, 1], got 1.5"),
        (
            ["--objective", "vr-iwae", "--alpha", "1"],
            "alpha must be below 1, got 1.0: its limit at 1 is the objective elbo",
        ),
        (["--k", "5", "--backward-samples", "6"], "backward_samples must be at most the number of samples, 5, got 6"),
        (
            ["--objective", "vimco", "--k", "1"],
            "vimco needs at least 2 samples, got 1: each is compared with the others; raise --k",
        ),
        (["--latent", "bernoulli"], "use vimco, tvo, rws or rws-sleep"),
        (["--objective", "elbo", "--kl-annealing", "0"], "kl_annealing must be an integer >= 1, got 0"),
        (["--objective", "elbo-kl", "--layers", "2"], "needs a model with one stochastic layer, got 2"),
    ],
)
def test_a_wrong_combination_is_refused_in_one_line_with_what_to_do(tmp_path, capsys, flags, message):
    assert main(["train", "--output-dir", str(tmp_path / "run"), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_objective_with_its_settings_trains_is_written_down_and_resumes_only_as_it_was(tmp_path, capsys):
    flags = [*SMALL, "--objective", "piwae", "--k", "6", "--groups", "3", "--backward-samples", "2"]
    run = ["train", "--output-dir", str(tmp_path / "run"), *flags]
    assert main(run) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["objective"]["groups"] == 3
    assert config["objective"]["beta"] is None
    assert config["training"]["objective_config"] == {"num_samples": 6, "backward_samples": 2, "groups": 3}
    assert main([*run, "--resume", "--groups", "2"]) == 2
    assert "groups is 3 there and 2 here" in capsys.readouterr().err


@pytest.mark.slow
def test_a_learned_beta_falls_and_is_in_the_checkpoint_that_a_run_goes_on_from(tmp_path):
    import keras

    flags = ["--objective", "ciwae", "--k", "6", "--beta", "0.5", "--learn-beta"]
    assert main(["train", "--output-dir", str(tmp_path / "run"), *SMALL, *flags]) == 0
    beta = float(keras.saving.load_model(tmp_path / "run" / "model.keras").objective.current_beta())
    assert 0.3 < beta < 0.49
    from iwae_tf.training.checkpoints import latest_checkpoint

    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    model.objective.state.logit.assign(0.0)
    model.load_weights(latest_checkpoint(tmp_path / "run" / "checkpoints"))
    assert float(model.objective.current_beta()) == beta


@pytest.mark.slow
def test_kl_annealing_reports_the_full_bound(tmp_path):
    bounds = {}
    for epochs in (1, 1000):
        path = tmp_path / str(epochs)
        flags = ["--objective", "elbo", "--k", "2", "--kl-annealing", str(epochs), "--learning-rate", "1e-12"]
        assert main(["train", "--output-dir", str(path), *SMALL, *flags]) == 0
        with (path / "history.csv").open(newline="") as file:
            bounds[epochs] = [float(row["bound"]) for row in csv.DictReader(file)]
    # At a learning rate of nothing the weight could change the value only.
    assert bounds[1] == pytest.approx(bounds[1000], abs=1e-3)


@pytest.mark.slow
def test_a_sigmoid_belief_network_from_training_to_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = [
        "--objective",
        "vimco",
        "--k",
        "6",
        "--latent",
        "bernoulli",
        "--layers",
        "2",
        "--hidden-units",
        "none",
        "8",
    ]
    sizes = ["--latent-units", "6", "4", "--eval-samples", "60", "--epochs", "2", "--verbose", "0"]
    assert main(["train", "--output-dir", "runs/sbn", *flags, *sizes]) == 0
    before = json.loads(Path("runs/sbn/metrics.json").read_text())["log_likelihood"]
    assert main(["evaluate", "runs/sbn", "--num-samples", "60", "--verbose", "0"]) == 0
    assert f"{before:.3f}" in capsys.readouterr().out
    assert main(["export", "runs/sbn", "--name", "sbn", "--num-samples", "50"]) == 0
