"""`train` with other objectives, likelihoods, networks and plugins: from flags to scores, and what is refused."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import iwae_tf
from iwae_tf import declarations
from iwae_tf.commands import flags as command_flags
from iwae_tf.commands.main import main
from iwae_tf.config import ModelConfig, ScoringConfig, TrainingConfig, objective_config
from iwae_tf.objectives import OBJECTIVES
from iwae_tf.serving import saved_model
from iwae_tf.serving.signatures import signatures

ROOT = Path(__file__).parents[2]
SMALL = ["--hidden-units", "8", "--latent-units", "3", "--k", "6", "--epochs", "2", "--eval-samples", "50"]


@pytest.fixture
def train(images, tmp_path, without_figures, without_refinement):
    """Calls `train` on a few images: a function of the run's name and further flags that returns the exit code."""

    def call(name, *flags):
        path = str(tmp_path / name)
        words = ["--dataset", images, "--batch-size", "10", "--verbose", "0", *SMALL, *flags, "--output-dir", path]
        return main(["train", *words])

    return call


def json_of(path) -> dict:
    return json.loads(path.read_text())


# objectives


def test_the_list_names_every_objective_with_its_flags_without_tensorflow():
    code = "import sys; from iwae_tf.__main__ import main; main(['objectives']); print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", f"import sys; sys.orig_argv = ['python', '-m', 'iwae_tf']; {code}"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    *lines, last = process.stdout.splitlines()
    assert {line.split()[0] for line in lines} == set(OBJECTIVES)
    assert last == "False", process.stderr
    assert "--beta --learn-beta" in next(line for line in lines if line.startswith("ciwae"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--groups 5", "objective 'iwae' has no --groups; it belongs to miwae, piwae"),
        ("--objective dreg --kl-annealing 5", "has no --kl-annealing; it belongs to elbo, elbo-kl"),
        ("--objective piwae --k 6 --groups 4", "groups must divide the number of samples, 6, got 4; 3 does"),
        ("--k 5 --backward-samples 6", "backward_samples must be at most the number of samples, 5, got 6"),
        ("--objective vimco --k 1", "vimco needs at least 2 samples, got 1: each is compared with the others"),
        ("--latent bernoulli", "use vimco, tvo, rws or rws-sleep"),
        ("--objective elbo-kl --layers 2", "needs a model with one stochastic layer, got 2"),
        ("--levels 17", "levels (--levels 17) are for likelihoods over levels, not for bernoulli"),
        (
            "--network conv --precision float16",
            "convolutions take the dtype float32 or mixed_bfloat16, got mixed_float16",
        ),
    ],
)
def test_a_wrong_combination_is_refused_in_one_line_with_what_to_do(tmp_path, capsys, flags, message):
    assert main(["train", "--output-dir", str(tmp_path / "run"), *flags.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_an_objective_with_its_settings_under_a_density_is_written_down_and_resumes_only_as_it_was(
    train, tmp_path, capsys
):
    flags = ["--objective", "piwae", "--groups", "3", "--backward-samples", "2", "--likelihood", "continuous-bernoulli"]
    assert train("run", *flags) == 0
    config, metrics = (json_of(tmp_path / "run" / name) for name in ("config.json", "metrics.json"))
    assert config["objective"]["groups"] == 3
    assert config["objective"].get("beta") is None
    assert config["training"]["objective_config"] == {"num_samples": 6, "backward_samples": 2, "groups": 3}
    assert "bits" not in capsys.readouterr().out + json.dumps(metrics)  # a density has none
    assert train("run", *flags, "--resume", "--groups", "2", "--likelihood", "student-t") == 2
    error = capsys.readouterr().err
    assert "groups is 3 there and 2 here" in error
    assert "likelihood is 'continuous-bernoulli' there and 'student-t' here" in error


@pytest.mark.slow
def test_a_sigmoid_belief_network_is_trained_and_evaluated(train, tmp_path, capsys):
    flags = ["--objective", "vimco", "--latent", "bernoulli", "--layers", "2", "--hidden-units", "none", "8"]
    assert train("sbn", *flags, "--latent-units", "6", "4") == 0
    before = json_of(tmp_path / "sbn" / "metrics.json")["log_likelihood"]
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "sbn"), "--num-samples", "50", "--verbose", "0"]) == 0
    assert f"{before:.3f}" in capsys.readouterr().out


# likelihoods and networks


def test_levels_that_the_images_do_not_have_are_refused_before_training(train, tmp_path, capsys):
    assert train("run", "--dataset", "digits", "--likelihood", "categorical", "--levels", "16") == 2
    error = capsys.readouterr().err
    assert "the 16 levels i / 15, i = 0 ... 15" in error
    assert "give as levels (--levels) the number of values that a pixel can have" in error
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_a_run_over_levels_with_convolutions_has_bits_per_dimension_and_is_exported(
    train, tmp_path, monkeypatch, capsys
):
    def few(*given, **settings):  # all 400 test images take 10 s under convolutions
        digits = iwae_tf.data.load(*given, **settings)
        return dataclasses.replace(digits, x_test=digits.x_test[:40])

    monkeypatch.setattr("iwae_tf.training.building.load", few)
    default = "serving_default"  # refines; the others are exported elsewhere
    monkeypatch.setattr(saved_model, "signatures", lambda *given: {default: signatures(*given)[default]})
    run, flags = tmp_path / "run", ["--dataset", "digits", "--batch-size", "100", "--k", "2", "--network", "conv"]
    flags += ["--likelihood", "categorical"]
    assert train("run", *flags) == 0
    metrics, config = json_of(run / "metrics.json"), json_of(run / "config.json")
    bits = -metrics["log_likelihood"] / (64 * np.log(2.0))
    assert metrics["bits_per_dimension"] == pytest.approx(bits)
    assert 0.0 < bits < 2 * np.log2(17)  # uniform levels cost log2 17
    assert f"bits per dimension {bits:.4f}" in capsys.readouterr().out.splitlines()
    assert (config["model"]["levels"], config["model"]["levels_of_a_pixel"]) == (None, 17)
    assert config["data"]["binarization_train"] == config["data"]["binarization_evaluation"] == "none"
    assert config["model"]["network"] == "conv"
    bounds = [float(row.split(",")[2]) for row in (run / "history.csv").read_text().splitlines()[1:]]
    assert bounds[1] > bounds[0]
    assert main(["export", str(run), "--output-dir", str(tmp_path / "models"), "--num-samples", "5"]) == 0
    capsys.readouterr()
    assert train("other", *flags, "--network", "mlp", "--init-from", str(run)) == 2
    assert "its networks have weights of other shapes" in capsys.readouterr().err
    assert train("run", *flags, "--network", "mlp", "--resume") == 2
    assert "network is 'conv' there and 'mlp' here" in capsys.readouterr().err
    model = keras.saving.load_model(run / "model.keras")
    assert model.reconstruct(iwae_tf.data.load("digits").intensities("test")[:3]).shape == (3, 64)


# flags from settings and declarations


def parsed(settings, *words):
    parser = command_flags.Parser()
    command_flags.add_settings(parser, settings)
    return command_flags.settings_from(parser.parse_args([*words]), settings), parser.format_help()


def test_flags_are_the_settings_one_each_and_hidden_layers_may_be_none():
    model, _ = parsed(ModelConfig, "--layers", "2", "--hidden-units", "20,10", "none", "--precision", "float16")
    assert (model.hidden_units, model.precision) == (((20, 10), ()), "float16")
    for settings in (ModelConfig, TrainingConfig, objective_config()):
        found, text = parsed(settings)
        assert found == settings()
        assert all(f"{command_flags.flag_of(field.name)} " in text for field in dataclasses.fields(settings))


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A module in the current folder that declares an objective with settings, and another that shares one of them."""
    monkeypatch.chdir(tmp_path)
    Path("tempered.py").write_text(
        "from iwae_tf.declarations import declare\n"
        "from iwae_tf.objectives import IWAEBound\n"
        "@declare('objective', 'tempered', 'L_k at a temperature', settings={'temperature': 'of the weights',\n"
        "    'cold': 'start at 0'})\n"
        "class Tempered(IWAEBound):\n"
        "    def __init__(self, num_samples=1, temperature: float = 2.0, cold: bool = False, **kwargs):\n"
        "        super().__init__(num_samples, **kwargs)\n"
        "        self.temperature = temperature\n"
        "@declare('objective', 'hot', 'the same, hotter', settings={'temperature': 'of the weights'})\n"
        "class Hot(Tempered):\n"
        "    def __init__(self, num_samples=1, temperature: float = 2.0, **kwargs):\n"
        "        super().__init__(num_samples, temperature, **kwargs)\n"
    )
    yield "tempered"
    sys.modules.pop("tempered", None)
    for name in ("tempered", "hot"):
        declarations._registered["objective"].pop(name, None)
    sys.path[:] = [folder for folder in sys.path if folder != str(tmp_path)]


def test_the_own_settings_of_a_plugins_objectives_become_flags(plugin):
    assert command_flags.import_given_plugins(["--k", "5", "--plugin", plugin, "--plugin", plugin]) == (plugin,)
    settings, text = parsed(objective_config(), "--temperature", "0", "--cold")
    assert settings.given == {"temperature": 0.0, "cold": True}
    assert parsed(objective_config())[0].given == {}
    assert "--temperature TEMPERATURE" in text
    assert "tempered, hot: of the weights (default: 2.0)" in " ".join(text.split())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs: int = 3", "an objective declares the setting 'epochs', and --epochs exists: rename it"),
        (
            "temperature: int = 3",
            r"the setting 'temperature' with several types \(tempered has float, cool-temperature has int\)",
        ),
    ],
)
def test_a_setting_of_a_plugin_that_cannot_be_a_flag_is_one_line(plugin, setting, words, capsys):
    source = Path("tempered.py").read_text()
    name = setting.partition(":")[0]
    Path("tempered.py").write_text(
        f"{source}@declare('objective', 'cool-{name}', 'the same, cooler', settings={{'{name}': 'a number'}})\n"
        "class Cool(Tempered):\n"
        f"    def __init__(self, num_samples=1, {setting}):\n"
        "        super().__init__(num_samples)\n"
    )
    try:
        assert main(["train", "--plugin", plugin]) == 2
        assert re.search(words, capsys.readouterr().err)
    finally:
        declarations._registered["objective"].pop(f"cool-{name}", None)


def test_a_default_of_0_is_named_and_a_field_may_have_another_flag():
    settings, text = parsed(ScoringConfig, "--part", "valid")
    assert (settings.split, settings.seed) == ("valid", 0)
    assert "seed of the importance samples (default: 0)" in " ".join(text.split())


def test_the_plugins_of_a_run_are_imported_again_when_it_is_resumed(plugin, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"plugins": [plugin]}))
    words = ["--objective", "tempered", "--output-dir", str(tmp_path / "run")]
    assert command_flags.import_given_plugins(words) == ()
    assert command_flags.import_given_plugins([*words, "--resume"]) == (plugin,)
    assert declarations.find("objective", "tempered").settings["temperature"].default == 2.0


def test_a_field_of_declared_names_takes_those_alone_and_lists_them(plugin):
    command_flags.import_given_plugins(["--plugin", plugin])
    settings, text = parsed(TrainingConfig, "--objective", "tempered")
    assert settings.objective == "tempered"
    assert "--objective NAME" in text
    assert "hot: the same, hotter" in text
    with pytest.raises(iwae_tf.InputError, match="unknown objective 'temperd': did you mean 'tempered'"):
        parsed(TrainingConfig, "--objective", "temperd")
