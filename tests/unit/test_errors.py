"""Checks of values, and hints for unknown names."""

import sys

import keras
import numpy as np
import pytest

import iwae_tf
from iwae_tf.errors import MAX_SEED, InputError, check_seed, positive_integer, unknown_name

NO_INTEGERS = [1.0, float("nan"), np.float32(1), "1", None, True, np.True_, [1], np.array([3, 4])]


def test_an_input_error_is_a_value_error_and_a_public_name():
    assert issubclass(InputError, ValueError)
    assert iwae_tf.InputError is InputError


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("iwea", "did you mean 'iwae'? "),
        ("drag", "did you mean 'dreg'? "),
        ("elbokl", "did you mean 'elbo-kl'? "),
        *((name, "") for name in ("quasar", "", 7, None)),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_one_if_there_is_one_and_the_list(name, hint):
    error = unknown_name("objective", name, iter(["stl", "iwae", "dreg", "elbo-kl"]))
    assert isinstance(error, InputError)
    assert str(error) == f"unknown objective {name!r}: {hint}known: dreg, elbo-kl, iwae, stl"


@pytest.mark.parametrize(
    ("check", "good", "bad", "text"),
    [
        (
            lambda value: positive_integer("batch_size", value),
            [1, 50, np.int64(3), np.uint8(200), np.array(4)],
            [0, -1, *NO_INTEGERS],
            "batch_size must be an integer >= 1, got ",
        ),
        (
            check_seed,
            [0, 7, np.int64(7), np.uint8(7), MAX_SEED],
            [-1, 2**31, *NO_INTEGERS],
            "seed must be an integer in [0, 2147483647], got ",
        ),
    ],
    ids=["positive_integer", "check_seed"],
)
def test_integers_of_any_type_are_returned_as_int_and_other_values_refused_by_name_and_value(check, good, bad, text):
    for value in good:
        assert check(value) == value
        assert type(check(value)) is int
    for value in bad:
        with pytest.raises(InputError) as error:
            check(value)
        assert str(error.value) == text + repr(value)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [("backend", "jax", "backend is jax, and tensorflow"), ("floatx", "float16", "floatx is float16.*set float32")],
)
def test_settings_of_keras_that_do_not_go_are_named(setting, value, words, monkeypatch):
    iwae_tf.check_keras()
    monkeypatch.setattr(keras.config, setting, lambda: value)
    with pytest.raises(InputError, match=words):
        iwae_tf.check_keras()


def test_keras_without_its_backend_is_one_line(monkeypatch):
    class WithoutJax:
        def find_spec(self, name, path=None, target=None):
            if name == "keras":
                raise ModuleNotFoundError("No module named 'jax'", name="jax")

    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(sys, "meta_path", [WithoutJax(), *sys.meta_path])
    with pytest.raises(InputError, match=r"cannot be imported \(ModuleNotFoundError: .*KERAS_BACKEND, or keras.json"):
        iwae_tf.check_keras()


def test_an_environment_without_keras_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(InputError, match="needs tensorflow, which is not installed: run pip install tensorflow"):
        iwae_tf.check_keras()
