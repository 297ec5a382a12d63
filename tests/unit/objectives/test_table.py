"""The table of objectives: what each claims of itself, and the settings that each has."""

import dataclasses
import inspect
import re

import numpy as np
import pytest
import tensorflow as tf

from iwae_tf import objectives
from iwae_tf.config import ObjectiveConfig
from iwae_tf.errors import InputError
from iwae_tf.objectives import OBJECTIVES, objective_class
from iwae_tf.objectives.registry import PARAMETERS, check_parameters

COMMON = {"num_samples", "backward_samples"}


def _own_parameters(name):
    """The constructor's parameters, those of all objectives left out: name -> default."""
    cls, found = objective_class(name), {}
    for base in cls.__mro__:
        if "__init__" in vars(base) and issubclass(base, objectives.Objective):
            found |= {key: value.default for key, value in inspect.signature(base.__init__).parameters.items()}
    return {key: found[key] for key in found if key not in {"self", "kwargs", *COMMON}}


def _log_w(k=6, batch=4):
    return tf.constant(np.random.default_rng(0).normal(-90.0, 3.0, (k, batch)).astype(np.float32))


def _made(name, k=6):
    return objective_class(name)(k, **({"groups": 2} if "groups" in _own_parameters(name) else {}))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_backward_pass_is_claimed_only_where_the_three_rows_are_the_same(name):
    objective = _made(name)
    generative, path, score, _ = objective.gradient_weights(_log_w())
    rows_there = path is not None and score is not None
    same = rows_there and np.array_equal(generative, path) and np.array_equal(path, -score)
    assert same == objective.single_backward


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_path_is_needed_exactly_where_its_row_is_none(name):
    objective = _made(name)
    for seed in range(3):
        log_w = tf.random.stateless_normal([6, 4], (seed, 0), stddev=10.0**seed)
        assert (objective.gradient_weights(log_w).path is None) == (not objective.needs_path)
    if not objective.needs_path:
        assert not objective.single_backward


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_settings_in_the_table_are_the_constructors(name):
    annealed = {"kl_annealing"} if issubclass(objective_class(name), objectives.ELBO) else set()
    assert set(PARAMETERS.get(name, ())) == set(_own_parameters(name)) | annealed


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_help_of_a_setting_names_its_objectives_and_the_constructors_default(name):
    fields = {field.name: field for field in dataclasses.fields(ObjectiveConfig)}
    assert set(fields) == {"backward_samples", *(p for parameters in PARAMETERS.values() for p in parameters)}
    for parameter, default in _own_parameters(name).items():
        text = fields[parameter].metadata["help"]
        assert re.search(rf"(^|[ ;]){name}[:,]", text)
        if isinstance(default, bool):
            assert fields[parameter].default is default
        else:
            assert f"(default: {default})" in text


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_a_constructor_took_is_in_its_config_and_makes_the_same_again(name):
    objective = objective_class(name)(10, backward_samples=3)
    config = objective.get_config()
    assert set(config) == COMMON | set(_own_parameters(name))
    assert {key: config[key] for key in _own_parameters(name)} == _own_parameters(name)
    again = type(objective).from_config({**config, "num_samples": 20})
    assert again.get_config() == {**config, "num_samples": 20}


def test_settings_that_an_objective_has_are_accepted():
    for name in OBJECTIVES:
        check_parameters(name, dict.fromkeys([*PARAMETERS.get(name, ()), "backward_samples"]))


@pytest.mark.parametrize(
    ("name", "parameter", "owners"),
    [
        ("iwae", "groups", "miwae, piwae"),
        ("miwae", "alpha", "vr-iwae, dreg-alpha"),
        ("iwae", "kl_annealing", "elbo, elbo-kl"),
        ("elbo", "learn_beta", "ciwae"),
    ],
)
def test_a_setting_of_another_objective_is_refused_with_where_it_belongs(name, parameter, owners):
    flag = "--" + parameter.replace("_", "-")
    with pytest.raises(InputError, match=f"objective '{name}' has no {flag}; it belongs to {owners}"):
        check_parameters(name, {parameter: 1})


def test_an_unknown_objective_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'iwae'"):
        objective_class("iawe")


def test_objectives_are_attributes_of_the_module_and_wrong_names_are_not():
    for name, (_, cls, _) in OBJECTIVES.items():
        assert getattr(objectives, cls) is objective_class(name)
    with pytest.raises(AttributeError):
        _ = objectives.Nothing
