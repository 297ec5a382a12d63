"""Bound and gradient weights of every objective against NumPy float64."""

import numpy as np
import pytest
import reference_objectives
import tensorflow as tf
from objective_table import TABLE, K, declared_settings, filled_rows, made, table_cases

from iwae_tf import objectives
from iwae_tf.evaluation.bias import jackknife
from iwae_tf.objectives import JVI

# Differences of log-weights, and the sums in the values of tvo and jvi and in the baseline of vimco, are rounded to
# 6e-8 of the largest log-weight, some ten times in a row. That is an absolute error of a value, and where it stands in
# an exponent or next to a weight, a relative one of the largest weight.
ROUNDING = 1e-6


def _log_w(k, spread, batch=4, mean=-90.0):
    return (mean + spread * np.random.default_rng(k).standard_normal((k, batch))).astype(np.float32)


def _led(k, lead):
    """One weight of each example above all others by `lead` nats."""
    log_w = _log_w(k, 1.0)
    log_w[np.arange(4) % k, np.arange(4)] += np.float32(lead)
    return log_w


def _tied(k, lead):
    """The first and the last weight equal, above all others by at least `lead` nats."""
    log_w = _log_w(k, 1.0)
    log_w[[0, -1]] = log_w.max(axis=0) + np.float32(lead)
    return log_w


SETS = {
    "all equal": lambda k: _log_w(k, 0.0),
    "ordinary": lambda k: _log_w(k, 3.0),
    "1000 nats apart": lambda k: _log_w(k, 1e3),
    "one leads by 100": lambda k: _led(k, 100.0),
    "one leads by 10000": lambda k: _led(k, 1e4),
    "two are the largest": lambda k: _tied(k, 0.0),
    "two lead by 3": lambda k: _tied(k, 3.0),
    "two lead by 1000": lambda k: _tied(k, 1e3),
}


def test_every_declared_objective_is_a_public_class_with_cases_and_a_reference():
    assert set(TABLE) == set(declared_settings()) == set(reference_objectives.VALUES) == set(reference_objectives.ROWS)
    for entry in TABLE.values():
        assert entry.cls.__name__ in objectives.__all__
    with pytest.raises(AttributeError):
        _ = objectives.Nothing


@pytest.mark.parametrize("log_w_of", SETS.values(), ids=SETS)
@pytest.mark.parametrize("power", [1e-3, 1e-5, 1e-7, 1e-9])
def test_vr_iwae_near_its_limit_is_not_lost_in_rounding(power, log_w_of):
    log_w = log_w_of(50)
    largest = log_w.max(axis=0).astype(np.float64)
    expected = largest + np.log1p(np.mean(np.expm1(power * (log_w - largest)), axis=0)) / power
    found = objectives.VRIWAE(50, alpha=1.0 - power).bound(tf.constant(log_w)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4 + ROUNDING * np.ptp(log_w))
    elbo = objectives.ELBO(50).bound(tf.constant(log_w)).numpy()
    assert (found >= elbo - 1e-4 - ROUNDING * np.ptp(log_w)).all()
    dead = tf.constant([[-np.inf, -np.inf], [-np.inf, -80.0]], tf.float32)
    np.testing.assert_array_equal(np.isneginf(objectives.VRIWAE(2, alpha=0.5).bound(dead)), [True, False])


@pytest.mark.parametrize("log_w_of", SETS.values(), ids=SETS)
@pytest.mark.parametrize(("name", "k", "settings"), table_cases())
def test_bound_and_rows_equal_the_reference(name, k, settings, log_w_of):
    log_w, objective = log_w_of(k), TABLE[name].cls(k, **settings)
    exact, level = log_w.astype(np.float64), np.abs(log_w).max()
    value = reference_objectives.VALUES[name](exact, **settings)
    bound = objective.bound(tf.constant(log_w))
    assert bound.shape == log_w.shape[1:]
    np.testing.assert_allclose(bound, value, rtol=0, atol=ROUNDING * max(level, np.abs(value).max()))
    expected = np.stack(reference_objectives.ROWS[name](exact, **settings))
    scale = np.abs(expected).max(axis=(1, 2)).clip(1.0)[:, None, None]
    np.testing.assert_allclose(filled_rows(objective, log_w) / scale, expected / scale, rtol=0, atol=ROUNDING * level)


@pytest.mark.parametrize("name", TABLE)
def test_the_rows_are_of_the_kind_that_the_table_says(name):
    for spread in (0.0, 1.0, 10.0):
        rows = made(name).gradient_weights(tf.constant(_log_w(K, spread)))
        assert (rows.path is None) == (TABLE[name].kind == "discrete")
        assert TABLE[name].kind != "path" or rows.score is None
        if TABLE[name].kind == "own":
            np.testing.assert_array_equal(rows.path, rows.generative)
            np.testing.assert_array_equal(rows.score, -rows.generative)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("k", "mean"), [(3, -90.0), (7, -90.0), (50, -90.0), (50, -5000.0)])
def test_the_jackknife_in_training_is_that_of_evaluation_and_right_to_the_last_digits(k, mean, order):
    log_w = _log_w(k, 3.0, mean=mean)
    bound = JVI(k, order=order).bound(tf.constant(log_w))
    expected = reference_objectives.jackknife(log_w.astype(np.float64), order)
    # near 5000 neighbouring float32 numbers are 5e-4 apart
    np.testing.assert_allclose(bound, expected, rtol=0, atol=3e-7 * abs(mean))
    np.testing.assert_allclose(bound, jackknife(tf.constant(log_w), order), rtol=0, atol=3e-7 * abs(mean))
