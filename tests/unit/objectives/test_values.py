"""Bound and gradient weights of every objective against NumPy float64, at ordinary and at extreme log-weights."""

import numpy as np
import pytest
import reference_objectives
import tensorflow as tf

from iwae_tf.objectives import OBJECTIVES, objective_class

# name -> (k, own parameters): the smallest k there is, one in between, and 50
CASES = {
    "elbo": [(1, {}), (6, {}), (50, {})],
    "elbo-kl": [(1, {}), (6, {}), (50, {})],
    "iwae": [(1, {}), (6, {}), (50, {})],
    "dreg": [(1, {}), (6, {}), (50, {})],
    "stl": [(1, {}), (6, {}), (50, {})],
    "miwae": [(1, {"groups": 1}), (6, {"groups": 2}), (6, {"groups": 3}), (50, {"groups": 5})],
    "piwae": [(1, {"groups": 1}), (6, {"groups": 2}), (6, {"groups": 3}), (50, {"groups": 5})],
    "ciwae": [(1, {"beta": 0.05}), (6, {"beta": 0.6}), (50, {"beta": 0.05}), (6, {"beta": 0.3, "learn_beta": True})],
    "vr-iwae": [(1, {"alpha": 0.5}), (6, {"alpha": 0.9}), (50, {"alpha": 0.5})],
    "vr-max": [(1, {}), (6, {}), (50, {})],
    "jvi": [(k, {"order": order}) for order in (1, 2) for k in (order + 1, 6, 50)],
    "dreg-alpha": [(1, {"alpha": 0.5}), (6, {"alpha": 0.3}), (50, {"alpha": 0.5})],
    "rws-dreg": [(2, {}), (6, {}), (50, {})],
    "rws": [(2, {}), (6, {}), (50, {})],
    "rws-sleep": [(1, {}), (6, {}), (50, {})],
    "vimco": [(2, {}), (6, {}), (50, {})],
    "tvo": [(2, {"points": 1}), (6, {"points": 2}), (50, {"points": 5})],
}
FLAT = [
    pytest.param(name, k, parameters, id="-".join([name, str(k), *map(str, parameters.values())]))
    for name, cases in CASES.items()
    for k, parameters in cases
]
# Differences of log-weights, and the sums that the values of tvo and jvi and the baseline of vimco are made of, are
# rounded to 6e-8 of the largest log-weight; some ten such roundings follow one another. It is an absolute error of
# a value, and where it stands in an exponent or beside a weight a relative one of the largest weight.
ROUNDING = 1e-6


def _log_w(k, spread, batch=4, mean=-90.0):
    return (mean + spread * np.random.default_rng(k).standard_normal((k, batch))).astype(np.float32)


def _assert_equals_reference(name, k, parameters, log_w):
    objective, exact = objective_class(name)(k, **parameters), log_w.astype(np.float64)
    level = np.abs(log_w).max()
    value = reference_objectives.VALUES[name](exact, **parameters)
    bound = objective.bound(tf.constant(log_w))
    assert bound.shape == log_w.shape[1:]
    np.testing.assert_allclose(bound, value, rtol=0, atol=ROUNDING * max(level, np.abs(value).max()))
    rows = objective.gradient_weights(tf.constant(log_w))
    for row, expected in zip(rows[:3], reference_objectives.ROWS[name](exact, **parameters), strict=True):
        row = np.zeros(log_w.shape) if row is None else row
        np.testing.assert_allclose(row, expected, rtol=0, atol=ROUNDING * level * max(1.0, np.abs(expected).max()))
    if rows.path_factor is not None:
        np.testing.assert_allclose(rows.path_factor * rows.generative, rows.path, rtol=1e-6, atol=1e-7)  # float32
    assert (rows.path is None) == (not objective.needs_path)


def test_every_objective_has_cases_and_a_reference():
    assert set(CASES) == set(OBJECTIVES) == set(reference_objectives.VALUES) == set(reference_objectives.ROWS)


@pytest.mark.parametrize(("name", "k", "parameters"), FLAT)
@pytest.mark.parametrize("spread", [0.0, 3.0, 1e3])
def test_bound_and_rows_equal_the_reference(name, k, parameters, spread):
    _assert_equals_reference(name, k, parameters, _log_w(k, spread))


@pytest.mark.parametrize(("name", "k", "parameters"), [case for case in FLAT if case.values[1] > 1])
@pytest.mark.parametrize("lead", [100.0, 1e4])
def test_bound_and_rows_equal_the_reference_where_one_weight_is_far_above_all_others(name, k, parameters, lead):
    log_w = _log_w(k, 1.0)
    log_w[np.arange(4) % k, np.arange(4)] += np.float32(lead)
    _assert_equals_reference(name, k, parameters, log_w)


@pytest.mark.parametrize(("name", "k", "parameters"), [case for case in FLAT if case.values[1] > 1])
@pytest.mark.parametrize("lead", [0.0, 3.0, 1e3])
def test_bound_and_rows_equal_the_reference_where_the_two_largest_weights_are_equal(name, k, parameters, lead):
    log_w = _log_w(k, 1.0)
    log_w[[0, -1]] = log_w.max(axis=0) + np.float32(lead)
    _assert_equals_reference(name, k, parameters, log_w)


@pytest.mark.parametrize("order", [1, 2])
def test_the_rows_of_the_jackknife_are_its_derivative(order):
    log_w, step = _log_w(5, 2.0).astype(np.float64), 1e-5
    rows = objective_class("jvi")(5, order=order).gradient_weights(tf.constant(log_w))  # float64 too
    for i in range(5):
        moved = np.zeros_like(log_w)
        moved[i] = step
        above, below = (reference_objectives.jackknife(log_w + sign * moved, order) for sign in (1, -1))
        # rounding 1e-13 of sums of coefficients of 25 at 90 nats, over the step
        np.testing.assert_allclose(rows.generative[i], (above - below) / (2.0 * step), atol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_the_jackknife_of_large_log_weights_is_right_to_the_last_digits(order):
    log_w = _log_w(50, 3.0, mean=-5000.0)
    expected = reference_objectives.jackknife(log_w.astype(np.float64), order)
    bound = objective_class("jvi")(50, order=order).bound(tf.constant(log_w))
    np.testing.assert_allclose(bound, expected, atol=1.5e-3, rtol=0)  # neighbouring float32 numbers are 5e-4 apart


@pytest.mark.parametrize("name", ["elbo", "iwae", "miwae", "ciwae", "vr-iwae", "vr-max", "jvi"])
def test_where_one_pass_is_enough_the_rows_are_the_derivative_of_the_bound(name):
    log_w = tf.constant(_log_w(6, 3.0))
    objective = objective_class(name)(6, **CASES[name][1][1])
    with tf.GradientTape() as tape:
        tape.watch(log_w)
        bound = objective.bound(log_w)
    weights = objective.gradient_weights(log_w).generative
    np.testing.assert_allclose(weights, tape.gradient(bound, log_w), rtol=1e-5, atol=1e-6)  # float32


def test_bounds_survive_log_weights_at_the_ends_of_the_range():
    log_w = tf.constant([[-1e4, 1e4, -np.inf], [-1e4 - 1, -1e4, -1000.0]], tf.float32)
    rows = objective_class("iwae")(2).gradient_weights(log_w)
    bound = objective_class("iwae")(2).bound(log_w)
    expected = [-1e4 + np.log((1 + np.exp(-1)) / 2), 1e4 - np.log(2), -1000 - np.log(2)]
    np.testing.assert_allclose(bound, expected, rtol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(rows.generative, axis=0), 1.0, rtol=1e-6)
