import dataclasses
import importlib
import json
import re

import numpy as np
import pytest

from iwae_tf import InputError
from iwae_tf.config import (
    PAPER_EPOCHS,
    PAPER_NETWORKS,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    OutputConfig,
    RunConfig,
    TrainingConfig,
)

CONFIGS = (DataConfig, ModelConfig, TrainingConfig, ObjectiveConfig, EvaluationConfig, OutputConfig)
NAN, INF = float("nan"), float("inf")


def test_the_defaults_are_the_papers_one_layer_network_trained_with_50_samples():
    assert dataclasses.asdict(ModelConfig()) == {
        "layers": 1,
        "latent_units": (50,),
        "hidden_units": ((200, 200),),
        "latent": "gaussian",
        "likelihood": "bernoulli",
        "levels": None,
        "network": "mlp",
        "precision": "float32",
    }
    assert dataclasses.asdict(TrainingConfig()) == {
        "objective": "iwae",
        "k": 50,
        "epochs": 60,
        "batch_size": 20,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "jit": "auto",
        "seed": 0,
        "early_stopping": None,
        "init_from": None,
    }
    assert dataclasses.asdict(EvaluationConfig()) == {"eval_samples": 5000}
    assert dataclasses.asdict(DataConfig()) == {"dataset": "digits", "data_dir": None}
    assert dataclasses.asdict(OutputConfig()) == {
        "output_dir": None,
        "export": False,
        "tensorboard": False,
        "resume": False,
        "overwrite": False,
        "verbose": 1,
    }


def test_two_layers_default_to_the_papers_two_layer_network():
    model = ModelConfig(layers=2)
    assert model.latent_units == (100, 50)
    assert model.hidden_units == ((200, 200), (100, 100))
    assert PAPER_NETWORKS[2] == (model.latent_units, model.hidden_units)


def test_units_that_are_given_stay_and_come_out_as_tuples_of_int():
    model = ModelConfig(layers=2, latent_units=[np.int64(7), 3], hidden_units=[[5], (6, 4)])
    assert model.latent_units == (7, 3)
    assert model.hidden_units == ((5,), (6, 4))
    assert type(model.latent_units[0]) is int
    assert ModelConfig(latent_units=(9,)).hidden_units == ((200, 200),)


def test_the_papers_schedule_takes_3280_epochs_unless_told_otherwise():
    assert PAPER_EPOCHS == 3280
    assert TrainingConfig(schedule="paper").epochs == 3280
    assert TrainingConfig(schedule="paper", epochs=7).epochs == 7
    assert TrainingConfig(epochs=7).epochs == 7


@pytest.mark.parametrize("name", ["k", "batch_size", "epochs"])
@pytest.mark.parametrize("value", [0, -3, 2.5, "5", True])
def test_a_training_count_out_of_range_is_refused_by_name_and_value(name, value):
    with pytest.raises(InputError, match=rf"^{name} must be an integer >= 1, got {value!r}$"):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, None])
def test_eval_samples_out_of_range_is_refused_by_name_and_value(value):
    with pytest.raises(InputError, match=rf"^eval_samples must be an integer >= 1, got {value!r}$"):
        EvaluationConfig(eval_samples=value)


@pytest.mark.parametrize("value", [0.0, -1e-3, NAN, INF, -INF])
def test_a_learning_rate_out_of_range_is_refused_by_name_and_value(value):
    with pytest.raises(InputError, match=f"^learning_rate must be a positive number, got {value!r}$"):
        TrainingConfig(learning_rate=value)


@pytest.mark.parametrize("value", [-1, 2**31, 1.5, True, "0"])
def test_a_seed_out_of_range_is_refused_by_name_and_value(value):
    with pytest.raises(InputError, match=rf"^seed must be an integer in \[0, 2147483647\], got {value!r}$"):
        TrainingConfig(seed=value)


def test_the_ends_of_the_range_of_seeds_are_allowed():
    assert [TrainingConfig(seed=seed).seed for seed in (0, 2**31 - 1)] == [0, 2**31 - 1]


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (ModelConfig, "layers", 0),
        (ModelConfig, "layers", 3),
        (ModelConfig, "layers", "1"),
        (TrainingConfig, "schedule", "papr"),
        (TrainingConfig, "jit", "yes"),
        (OutputConfig, "verbose", 3),
    ],
)
def test_a_value_that_is_not_among_the_choices_is_refused_by_name_and_value(config, name, value):
    with pytest.raises(InputError) as error:
        config(**{name: value})
    assert name in str(error.value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"latent_units": (5,)}, "--latent-units needs 2 entries for --layers 2, got 1"),
        ({"latent_units": (5, 4, 3)}, "--latent-units needs 2 entries for --layers 2, got 3"),
        ({"hidden_units": ((5, 5),)}, "--hidden-units needs 2 entries for --layers 2, got 1"),
        ({"latent_units": (5, 0)}, "latent_units must be an integer >= 1, got 0"),
        ({"latent_units": (5, 2.5)}, "latent_units must be an integer >= 1, got 2.5"),
        ({"hidden_units": ((5, 5), (3, -1))}, "hidden_units must be an integer >= 1, got -1"),
    ],
)
def test_units_that_fit_no_network_of_that_depth_are_refused_by_name_and_value(units, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        ModelConfig(layers=2, **units)


def test_resume_and_overwrite_exclude_each_other():
    with pytest.raises(InputError, match=r"--resume .* --overwrite .*: give one of them"):
        OutputConfig(resume=True, overwrite=True)


def test_to_json_holds_every_setting_and_survives_json():
    config = RunConfig(
        DataConfig("mnist", "/data"),
        ModelConfig(layers=2, latent_units=(7, 3)),
        TrainingConfig("piwae", k=6, schedule="paper", seed=4),
        ObjectiveConfig(groups=3),
        EvaluationConfig(100),
    )
    content = config.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content  # equal: no tuples, no NumPy numbers
    assert content["model"] == {
        "layers": 2,
        "latent_units": [7, 3],
        "hidden_units": [[200, 200], [100, 100]],
        "latent": "gaussian",
        "likelihood": "bernoulli",
        "levels": None,
        "network": "mlp",
        "precision": "float32",
    }
    for section in dataclasses.fields(RunConfig):
        part = getattr(config, section.name)
        assert set(content[section.name]) == {field.name for field in dataclasses.fields(part)}
    assert content["training"]["epochs"] == 3280


def test_settings_rebuilt_from_json_are_the_same_settings():
    config = RunConfig(model=ModelConfig(layers=2), training=TrainingConfig(k=5))
    content = json.loads(json.dumps(config.to_json()))
    again = RunConfig(
        DataConfig(**content["data"]),
        ModelConfig(**content["model"]),
        TrainingConfig(**content["training"]),
        ObjectiveConfig(**content["objective"]),
        EvaluationConfig(**content["evaluation"]),
    )
    assert again == config


@pytest.mark.parametrize("config", CONFIGS)
def test_settings_are_frozen_and_each_has_a_help_text(config):
    for field in dataclasses.fields(config):
        assert len(field.metadata["help"]) > 10
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config(), field.name, None)


def test_every_default_that_is_a_name_is_in_its_registry():
    named = [field for config in CONFIGS for field in dataclasses.fields(config) if "names" in field.metadata]
    assert {field.name for field in named} == {"dataset", "latent", "likelihood", "objective"}
    for field in named:
        module, registry = field.metadata["names"].split(":")
        assert field.default in getattr(importlib.import_module(module), registry)


def test_only_the_settings_of_an_objective_that_were_given_reach_it():
    assert ObjectiveConfig().given == {}
    given = {"beta": 0.0, "learn_beta": True, "backward_samples": 1}  # 0 is a value
    assert ObjectiveConfig(**given).given == given


@pytest.mark.parametrize("epochs", [0, -1, 1.5, True])
def test_a_number_of_epochs_for_kl_annealing_that_is_none_is_refused(epochs):
    with pytest.raises(InputError, match="kl_annealing must be an integer >= 1"):
        ObjectiveConfig(kl_annealing=epochs)
