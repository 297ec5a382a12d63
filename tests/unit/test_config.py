"""Settings: defaults, the values they take, their flags, and `config.json`."""

import dataclasses
import json

import numpy as np
import pytest

from iwae_tf import InputError
from iwae_tf.config import (
    PAPER_EPOCHS,
    PAPER_NETWORKS,
    DataConfig,
    EvaluationConfig,
    ExportConfig,
    ModelConfig,
    ObjectiveConfig,
    OutputConfig,
    RunConfig,
    ScoringConfig,
    TrainingConfig,
    WorkersConfig,
    most_samples,
    objective_config,
)
from iwae_tf.declarations import declared

NAN, INF = float("nan"), float("inf")
OFF = {"resume": False, "overwrite": False, "export": False, "tensorboard": False}
DEFAULTS = {
    DataConfig: {"dataset": "digits", "data_dir": None, "columns": None, "drop": ()}
    | {"id_column": None, "label_column": None, "split_shares": None},
    ModelConfig: {"layers": 1, "latent_units": (50,), "hidden_units": ((200, 200),), "latent": "gaussian"}
    | {"likelihood": "auto", "column_likelihoods": (), "scaling": "standard", "missing": False}
    | {"levels": None, "network": "mlp", "precision": "float32"},
    TrainingConfig: {"objective": "iwae", "k": 50, "epochs": 60, "batch_size": 20, "learning_rate": 1e-3}
    | {"optimizer": "adam", "schedule": "constant", "jit": "auto", "seed": 0, "early_stopping": None}
    | {"init_from": None},
    EvaluationConfig: {"eval_samples": 5000},
    OutputConfig: {"output_dir": None, **OFF, "verbose": 1},
    WorkersConfig: {"strategy": "none", "worker_timeout": 300},
    ScoringConfig: {"split": "test", "num_samples": 5000, "target_standard_error": None, "max_samples": None, "seed": 0}
    | {"refine": "auto"}
    | {
        "gap": False,
        "prune": False,
        "jackknife": False,
        "annealed": 0,
        "inference_gap": 0,
        "deviation": False,
        "data_dir": None,
    },
    ExportConfig: {"num_samples": 5000, "max_samples": 50_000, "input": None, "refine": "auto"},
}


@pytest.mark.parametrize("config", [*DEFAULTS, ObjectiveConfig])
def test_settings_are_frozen_and_each_has_a_help_text_and_the_default_of_the_paper_and_the_documents(config):
    expected = DEFAULTS.get(config, dict.fromkeys(ObjectiveConfig.__dataclass_fields__) | {"learn_beta": False})
    assert dataclasses.asdict(config()) == expected
    for field in dataclasses.fields(config):
        assert len(field.metadata["help"]) > 10
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config(), field.name, None)
        if "declared" in field.metadata:
            assert field.metadata["declared"] in {"dataset", "latent", "likelihood", "objective"}
            assert field.default in {"auto", *declared(field.metadata["declared"])}


def test_units_are_the_papers_unless_given_and_come_out_as_tuples_of_int():
    model = ModelConfig(layers=2)
    assert PAPER_NETWORKS[2] == (model.latent_units, model.hidden_units) == ((100, 50), ((200, 200), (100, 100)))
    model = ModelConfig(layers=2, latent_units=[np.int64(7), 3], hidden_units=[[5], (6, 4)])
    assert model.latent_units == (7, 3)
    assert model.hidden_units == ((5,), (6, 4))
    assert type(model.latent_units[0]) is int
    assert ModelConfig(latent_units=(9,)).hidden_units == ((200, 200),)
    parse = ModelConfig.__dataclass_fields__["hidden_units"].metadata["parse"]  # of the flag
    assert [parse(text) for text in ("200,100", "7", "none")] == [(200, 100), (7,), ()]


def test_the_papers_schedule_takes_3280_epochs_unless_told_otherwise():
    assert PAPER_EPOCHS == 3280 == TrainingConfig(schedule="paper").epochs
    assert TrainingConfig(seed=2**31 - 1).seed == 2**31 - 1
    assert TrainingConfig(schedule="paper", epochs=7).epochs == TrainingConfig(epochs=7).epochs == 7


INTEGERS = {
    TrainingConfig: ("k", "batch_size", "epochs", "early_stopping"),
    EvaluationConfig: ("eval_samples",),
    ScoringConfig: ("num_samples",),
    ExportConfig: ("num_samples", "max_samples"),
    WorkersConfig: ("worker_timeout",),
    ModelConfig: ("levels",),
}
CHOICES = [
    *((ModelConfig, "layers", value) for value in (0, 3, "1", True)),
    (TrainingConfig, "schedule", "papr"),
    (TrainingConfig, "jit", "yes"),
    (OutputConfig, "verbose", 3),
    (ScoringConfig, "split", "all"),
    (ScoringConfig, "refine", "yes"),
    (ExportConfig, "input", "grey"),
    (ExportConfig, "refine", True),
    (WorkersConfig, "strategy", "tpu"),
]


def refused(config, message, **arguments):
    with pytest.raises(InputError, match=message):
        config(**arguments)


def test_a_value_out_of_range_is_refused_by_name_and_value():
    for config, names in INTEGERS.items():
        for name in names:
            for value in (0, -3, 2.5, "5", True, *([] if getattr(config, name) is None else [None])):
                refused(config, f"^{name} must be an integer >= 1, got {value!r}$", **{name: value})
    for config, name, value in CHOICES:
        refused(config, f"^{name} must be one of .*, got {value!r}$", **{name: value})
    for value in (0.0, -1e-3, NAN, INF, -INF, True, "1"):
        message = f"^learning_rate must be a positive number, got {value!r}$"
        refused(TrainingConfig, message, learning_rate=value)
    assert type(TrainingConfig(learning_rate=np.float32(0.5)).learning_rate) is float
    for config in (TrainingConfig, ScoringConfig):
        for seed in (-1, 2**31, 1.5, True, "0"):
            refused(config, rf"^seed must be an integer in \[0, 2147483647\], got {seed!r}$", seed=seed)
    for value in (-1, 1.5, True):
        for name in ("annealed", "inference_gap"):
            refused(ScoringConfig, f"{name} must be a number of rows >= 0, got {value}", **{name: value})
    refused(OutputConfig, r"--resume .* --overwrite .*: give one of them", resume=True, overwrite=True)
    refused(ExportConfig, "num_samples must be at most max_samples = 10, got 11", num_samples=11, max_samples=10)
    refused(ScoringConfig, "max_samples = 10 without target_standard_error", max_samples=10)

    for split in (
        (0.8, 0.1),
        (0.8, 0.1, 0.2),
        (1.1, -0.2, 0.1),
        (0, 0.5, 0.5),
        (0.9, 0.1, 0),
        ("a", 0, 1),
        0.8,
        (NAN, 0, 1),
        (0.8, NAN, 0.2),
    ):
        refused(DataConfig, r"^split \(--split\) must be the shares of train, valid and test", split_shares=split)

    refused(DataConfig, r"^columns \(--columns\) names no column", columns=())

    for name, units, message in (
        ("latent_units", (5, 4, 3), "--latent-units needs 2 entries for --layers 2, got 3"),
        ("hidden_units", ((5, 5),), "--hidden-units needs 2 entries for --layers 2, got 1"),
        ("latent_units", (5, 2.5), "latent_units must be an integer >= 1, got 2.5"),
        ("hidden_units", ((5, 5), (3, -1)), "hidden_units must be an integer >= 1, got -1"),
    ):
        refused(ModelConfig, f"^{message}$", layers=2, **{name: units})


def test_the_most_samples_are_forty_times_the_first_with_a_target_unless_given():
    assert most_samples(60, None, None) == 60
    assert most_samples(60, 0.1, None) == 2400
    assert most_samples(60, 1, 60) == 60


def test_every_setting_of_a_declared_objective_is_a_field_with_the_names_and_defaults_of_its_objectives():
    fields = {field.name: field for field in dataclasses.fields(objective_config())}
    own = {name for declaration in declared("objective").values() for name in declaration.settings}
    assert set(fields) == {*own, "backward_samples"}
    assert fields["groups"].metadata["help"] == "miwae, piwae: M, groups of k / M samples (default: 5)"
    text = fields["alpha"].metadata["help"]
    assert text.startswith("vr-iwae: order, 0 is iwae, near 1 elbo (default: 0.5); dreg-alpha:")
    types = {name: field.metadata.get("parse", bool) for name, field in fields.items()}
    assert types["groups"] is types["kl_annealing"] is int
    assert types["beta"] is types["alpha"] is float
    assert types["learn_beta"] is bool
    assert ObjectiveConfig().given == {}
    given = {"beta": 0.0, "learn_beta": True, "backward_samples": 1}  # 0 is a value
    assert ObjectiveConfig(**given).given == given


def test_to_json_holds_every_setting_and_can_be_read_back():
    config = RunConfig(
        DataConfig("table.csv", "/data", columns=("a", "b"), drop=["c"], split_shares=(0.5, 0.25, 0.25)),
        ModelConfig(layers=2, latent_units=(7, 3)),
        TrainingConfig("piwae", k=6, schedule="paper", seed=4),
        ObjectiveConfig(groups=3),
        EvaluationConfig(100),
        plugins=("my_objectives",),
        callbacks=("my_callbacks:logger",),
    )
    content = config.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content  # equal: no tuples, no NumPy numbers
    assert (content["model"]["latent_units"], content["model"]["hidden_units"]) == ([7, 3], [[200, 200], [100, 100]])
    assert (content["training"]["epochs"], content["plugins"]) == (3280, ["my_objectives"])
    again = RunConfig(
        DataConfig(**content["data"]),
        ModelConfig(**content["model"]),
        TrainingConfig(**content["training"]),
        ObjectiveConfig(**content["objective"]),
        EvaluationConfig(**content["evaluation"]),
        tuple(content["plugins"]),
        tuple(content["callbacks"]),
    )
    assert again == config
    for section in dataclasses.fields(RunConfig)[:-2]:
        own = getattr(config, section.name)
        assert set(content[section.name]) == {field.name for field in dataclasses.fields(own)}
