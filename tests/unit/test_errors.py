import numpy as np
import pytest

import iwae_tf
from iwae_tf.errors import InputError, positive_integer, unknown_name


def test_an_input_error_is_a_value_error_and_a_public_name():
    assert issubclass(InputError, ValueError)
    assert iwae_tf.InputError is InputError


@pytest.mark.parametrize(("name", "nearest"), [("iwea", "iwae"), ("drag", "dreg"), ("elbokl", "elbo-kl")])
def test_an_unknown_name_gets_the_nearest_known_one(name, nearest):
    error = unknown_name("objective", name, ["stl", "iwae", "dreg", "elbo-kl"])
    assert isinstance(error, InputError)
    expected = f"unknown objective {name!r}: did you mean {nearest!r}? known: dreg, elbo-kl, iwae, stl"
    assert str(error) == expected


@pytest.mark.parametrize("name", ["quasar", "", 7, None])
def test_a_name_that_is_like_no_other_gets_the_list_alone(name):
    error = unknown_name("data set", name, ("mnist", "digits"))
    assert str(error) == f"unknown data set {name!r}: known: digits, mnist"


def test_the_known_names_may_come_from_any_iterable_once():
    assert "known: a, b" in str(unknown_name("letter", "c", iter(["b", "a"])))


@pytest.mark.parametrize("value", [1, 50, np.int64(3), np.uint8(200), np.array(4)])
def test_positive_integers_of_any_integer_type_come_back_as_int(value):
    number = positive_integer("k", value)
    assert number == value
    assert type(number) is int


@pytest.mark.parametrize(
    "value", [0, -1, 1.0, 2.5, float("nan"), "3", None, True, False, np.True_, np.float32(2), [3], np.array([3, 4])]
)
def test_everything_else_is_refused_by_name_and_value(value):
    with pytest.raises(InputError) as error:
        positive_integer("batch_size", value)
    assert str(error.value) == f"batch_size must be an integer >= 1, got {value!r}"
