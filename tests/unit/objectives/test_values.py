"""Bound and gradient weights of every objective against NumPy float64, and where objectives meet."""

import numpy as np
import pytest
import reference_objectives
import tensorflow as tf
from objective_table import TABLE, K, declared_settings, filled_rows, made, table_cases

from iwae_tf import objectives
from iwae_tf.evaluation.bias import jackknife
from iwae_tf.objectives import CIWAE, ELBO, JVI, MIWAE, PIWAE, STL, TVO, VRIWAE, DReG, DReGAlpha, IWAEBound, VRMax

# Differences of log-weights, and the sums in the values of tvo and jvi and in the baseline of vimco, are rounded to
# 6e-8 of the largest log-weight, some ten times in a row. That is an absolute error of a value, and where it stands in
# an exponent or next to a weight, a relative one of the largest weight.
ROUNDING = 1e-6
FLOAT32 = {"rtol": 1e-5, "atol": 2e-6}  # exp of float32 numbers, in another order


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


@pytest.mark.parametrize(("name", "k", "settings"), table_cases(k=K))
def test_the_generative_row_is_the_derivative_of_the_bound(name, k, settings):
    log_w, objective = tf.constant(_log_w(k, 3.0, mean=0.0)), TABLE[name].cls(k, **settings)
    with tf.GradientTape() as tape:
        tape.watch(log_w)
        bound = objective.bound(log_w)
    np.testing.assert_allclose(
        objective.gradient_weights(log_w).generative, tape.gradient(bound, log_w), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("k", "mean"), [(3, -90.0), (7, -90.0), (50, -90.0), (50, -5000.0)])
def test_the_jackknife_in_training_is_that_of_evaluation_and_right_to_the_last_digits(k, mean, order):
    log_w = _log_w(k, 3.0, mean=mean)
    bound = JVI(k, order=order).bound(tf.constant(log_w))
    expected = reference_objectives.jackknife(log_w.astype(np.float64), order)
    # near 5000 neighbouring float32 numbers are 5e-4 apart
    np.testing.assert_allclose(bound, expected, rtol=0, atol=3e-7 * abs(mean))
    np.testing.assert_allclose(bound, jackknife(tf.constant(log_w), order), rtol=0, atol=3e-7 * abs(mean))


SAME = {
    "miwae of one group is iwae": (MIWAE(6, groups=1), IWAEBound(6)),
    "miwae of groups of one is elbo": (MIWAE(6, groups=6), ELBO(6)),
    "piwae of one group is iwae": (PIWAE(6, groups=1), IWAEBound(6)),
    "ciwae without elbo is iwae": (CIWAE(6, beta=0.0), IWAEBound(6)),
    "ciwae of elbo alone is elbo": (CIWAE(6, beta=1.0), ELBO(6)),
    "a learned beta starts at the given one": (CIWAE(6, beta=0.3, learn_beta=True), CIWAE(6, beta=0.3)),
    "vr-iwae of order 0 is iwae": (VRIWAE(6, alpha=0.0), IWAEBound(6)),
    "dreg-alpha at 0 is dreg": (DReGAlpha(6, alpha=0.0), DReG(6)),
    "dreg-alpha at 1 is rws-dreg": (DReGAlpha(6, alpha=1.0), objectives.RWSDReG(6)),
    "dreg of one sample is stl": (DReG(1), STL(1)),
    "iwae of one sample is elbo": (IWAEBound(1), ELBO(1)),
    "vr-max of one sample is elbo": (VRMax(1), ELBO(1)),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_the_same_bound_and_rows(one, other):
    log_w = _log_w(one.num_samples, 3.0, 50, mean=0.0)
    np.testing.assert_allclose(one.bound(tf.constant(log_w)), other.bound(tf.constant(log_w)), **FLOAT32)
    np.testing.assert_allclose(filled_rows(one, log_w), filled_rows(other, log_w), **FLOAT32)


def test_the_ends_of_the_thermodynamic_and_the_renyi_bound_are_the_elbo_and_iwae():
    log_w = tf.constant(_log_w(50, 3.0, mean=0.0))
    elbo, iwae = ELBO(50).bound(log_w), IWAEBound(50).bound(log_w)
    np.testing.assert_allclose(TVO(50, points=1).bound(log_w), elbo, **FLOAT32)
    # The integral over beta in [0, 1] of the mean of log w under w^beta is log mean w; the left sum is 0.02 below it.
    np.testing.assert_allclose(TVO(50, points=3000).bound(log_w), iwae, atol=0.03)
    # To first order in 1 - alpha the gap is (1 - alpha) / 2 times the variance; rounding is 1e-6 over 1 - alpha.
    gap = VRIWAE(50, alpha=0.9999).bound(log_w) - elbo
    np.testing.assert_allclose(gap, 0.5e-4 * np.var(log_w, axis=0), atol=5e-3)
