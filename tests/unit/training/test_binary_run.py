"""Runs with binary units: settings and flags, what `config.json` says, and what an evaluation leaves out."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from binary_models import with_prior

from iwae_tf import InputError
from iwae_tf.commands import flags
from iwae_tf.config import DataConfig, ModelConfig, RunConfig, WorkersConfig
from iwae_tf.data import load
from iwae_tf.objectives import IWAEBound
from iwae_tf.scoring_config import ScoringConfig
from iwae_tf.training.building import build_model
from iwae_tf.training.evaluation import evaluate_run
from iwae_tf.training.manifest import manifest
from iwae_tf.training.run_folder import check_same_settings, write_json
from iwae_tf.training.trained import TrainedRun
from iwae_tf.training.workers import gather_workers

ALONE = gather_workers(WorkersConfig())


def parsed(*words) -> ModelConfig:
    parser = flags.Parser()
    flags.add_settings(parser, ModelConfig)
    return flags.settings_from(parser.parse_args([*words]), ModelConfig)


# ------------------------------------------------------------------------------------------- settings


def test_units_are_gaussian_unless_told_otherwise():
    assert parsed().latent == "gaussian"
    assert parsed("--latent", "bernoulli").latent == "bernoulli"
    with pytest.raises(InputError, match="unknown latent 'bernouli': did you mean 'bernoulli'"):
        parsed("--latent", "bernouli")


def test_hidden_layers_can_be_none_below_any_stochastic_layer():
    assert parsed("--hidden-units", "none").hidden_units == ((),)
    assert parsed("--layers", "2", "--hidden-units", "none", "none").hidden_units == ((), ())
    assert parsed("--layers", "2", "--hidden-units", "20,10", "none").hidden_units == ((20, 10), ())
    assert parsed().hidden_units == ((200, 200),)
    for words in (["none,20"], ["None"], [""]):
        with pytest.raises(InputError, match="hidden-units"):
            parsed("--hidden-units", *words)


def test_hidden_layers_that_are_none_are_an_entry_for_their_layer():
    with pytest.raises(InputError, match="--hidden-units needs 2 entries for --layers 2, got 1"):
        parsed("--layers", "2", "--hidden-units", "none")


@pytest.mark.parametrize(("latent", "refused"), [("gaussian", False), ("bernoulli", True)])
def test_a_run_from_before_there_were_kinds_of_units_is_a_gaussian_one(tmp_path, latent, refused):
    config = RunConfig(model=ModelConfig(latent=latent, latent_units=(7,)))
    stored = config.to_json()
    del stored["model"]["latent"]
    write_json(tmp_path / "config.json", stored)
    if refused:
        with pytest.raises(InputError, match="latent is 'gaussian' there and 'bernoulli' here"):
            check_same_settings(tmp_path, config)
    else:
        check_same_settings(tmp_path, config)


def test_a_missing_setting_counts_as_its_default_and_one_that_is_there_as_itself(tmp_path):
    stored = RunConfig(model=ModelConfig(latent="bernoulli")).to_json()
    del stored["evaluation"]
    write_json(tmp_path / "config.json", stored)
    with pytest.raises(InputError, match=r"settings: latent is 'bernoulli' there and 'gaussian' here$"):
        check_same_settings(tmp_path, RunConfig())


# ------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "mine.npz"
    rng = np.random.default_rng(0)
    np.savez(path, **{f"x_{part}": rng.random((n, 30)) for part, n in (("train", 50), ("valid", 7), ("test", 20))})
    return str(path)


@pytest.fixture
def run(images, tmp_path):
    """A finished run with two binary units that never was trained."""
    config = RunConfig(DataConfig(images), ModelConfig(latent="bernoulli", latent_units=(2,), hidden_units=((8,),)))
    dataset = load(images)
    model = with_prior(build_model(config, dataset))
    return TrainedRun(tmp_path, manifest_of(config, dataset, model), {}, model)


def manifest_of(config, dataset, model) -> dict:
    """What `config.json` would hold, had the model been compiled."""
    compiled = SimpleNamespace(
        generative_network=model.generative_network,
        optimizer=keras.optimizers.Adam(),
        objective=IWAEBound(2),
        uses_xla=False,
    )
    return json.loads(json.dumps(manifest(config, dataset, compiled, 3)))


def test_the_settings_reach_the_model(images):
    config = RunConfig(DataConfig(images), ModelConfig(latent="bernoulli", latent_units=(2,), hidden_units=((),)))
    model = build_model(config, load(images))
    assert (model.latent, model.latent_units, model.hidden_units) == ("bernoulli", (2,), ((),))


@pytest.mark.parametrize(
    ("latent", "likelihood", "prior", "has_scales"),
    [
        ("gaussian", "bernoulli", "N(0, I)", True),
        ("bernoulli", "bernoulli", "independent Bernoulli, learned logits that start at 0", False),
        ("bernoulli", "gaussian", "independent Bernoulli, learned logits that start at 0", True),
    ],
)
def test_config_json_names_the_units_their_prior_and_how_scales_are_bounded(
    images, latent, likelihood, prior, has_scales
):
    config = RunConfig(DataConfig(images), ModelConfig(latent=latent, likelihood=likelihood, latent_units=(2,)))
    dataset = load(images)
    content = manifest_of(config, dataset, build_model(config, dataset))["model"]
    assert (content["latent"], content["prior"]) == (latent, prior)
    assert ("log_scale" in content) == has_scales


def test_an_evaluation_scores_binary_units_and_draws_no_density_of_them(run):
    report, folder = evaluate_run(run, ScoringConfig(num_samples=60, jackknife=True), False, 0, ALONE)
    assert np.isfinite(report["log_likelihood"])
    names = {path.name for path in folder.iterdir()}
    assert {"report.json", "per_example.parquet", "activities.png", "scores.png"} <= names
    assert "posteriors.png" not in names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"annealed": 3}, "--annealed exists for Gaussian units, this model's are bernoulli: .* leave it out"),
        ({"prune": True}, "--prune exists for Gaussian units, this model's are bernoulli: .* leave it out"),
    ],
)
def test_extras_that_do_not_exist_are_refused_before_anything_is_scored(run, settings, message):
    with pytest.raises(InputError, match=message):
        evaluate_run(run, ScoringConfig(num_samples=60, **settings), False, 0, ALONE)
    assert list(run.path.iterdir()) == []
