"""Log-space arithmetic on log importance weights."""

import numpy as np
import pytest
import reference
import tensorflow as tf

from iwae_tf.numerics import is_largest, log_mean_exp, log_sum_of_others, normalized_weights

INF = float("inf")
# Log-weights lie at 1e4 at most, where float32 rounds to 6e-8 of the value; three such roundings follow one another
# (log-sum, log k, difference). The sum of exponentials adds about 1e-6 in absolute terms for 50 samples.
FLOAT32 = {"rtol": 3e-7, "atol": 3e-6}
# Differences of log-weights are exact in float32; exp, sum and quotient of 50 terms are not.
WEIGHTS = {"rtol": 1e-5, "atol": 1e-7}


def _log_w(shift=0.0, spread=5.0, k=50):
    return (np.random.default_rng(0).normal(0.0, spread, (k, 4)) + shift).astype(np.float32)


def _with_minus_infinity():
    log_w = _log_w(-1000.0)
    log_w[3, 0] = log_w[:49, 1] = -INF  # one sample without weight; one sample with weight
    return log_w


CASES = {
    "at 0 nats": _log_w(),
    "at -1000 nats": _log_w(-1000.0),
    "at -1e4 nats": _log_w(-1e4),
    "at 1e4 nats": _log_w(1e4),
    "from -1e4 to 1e4 nats": np.random.default_rng(1).uniform(-1e4, 1e4, (50, 4)).astype(np.float32),
    "with -inf among them": _with_minus_infinity(),
    "of a single sample": _log_w(-1000.0, k=1),
}


@pytest.mark.parametrize("log_w", CASES.values(), ids=CASES)
def test_log_mean_exp_and_its_gradient_the_normalized_weights_equal_the_reference_in_float32(log_w):
    x = tf.constant(log_w)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = log_mean_exp(x)
    assert value.dtype == tf.float32
    np.testing.assert_allclose(value, reference.log_mean_exp(log_w), **FLOAT32)
    np.testing.assert_allclose(tape.gradient(value, x), reference.normalized_weights(log_w), **WEIGHTS)
    weights = normalized_weights(x).numpy()
    np.testing.assert_allclose(weights, reference.normalized_weights(log_w), **WEIGHTS)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, atol=1e-6)  # 50 float32 terms
    assert (weights[log_w == -INF] == 0.0).all()
    for axis in (1, -1):
        np.testing.assert_array_equal(log_mean_exp(tf.transpose(x), axis=axis), value)


def test_log_mean_exp_of_weights_that_are_all_zero_is_log_zero_and_leaves_other_examples_alone():
    log_w = _log_w(-1000.0)
    log_w[:, 2] = -INF
    np.testing.assert_allclose(log_mean_exp(tf.constant(log_w)), reference.log_mean_exp(log_w), **FLOAT32)
    assert log_mean_exp(tf.constant(log_w))[2] == -INF


def test_the_largest_is_one_of_each_column_the_first_of_several():
    log_w = tf.constant([[1.0, 5.0, -INF], [3.0, 5.0, -1e4], [2.0, 5.0, -INF]])
    expected = [[False, True, False], [True, False, True], [False, False, False]]
    np.testing.assert_array_equal(is_largest(log_w), expected)


def _led(k, lead):
    log_w = _log_w(k=k, spread=1.0)
    log_w[1] = log_w.max(axis=0) + np.float32(lead)
    return log_w


OTHERS = {name: log_w for name, log_w in CASES.items() if len(log_w) > 1} | {
    f"of {k}, one leads by {lead}": _led(k, lead) for k in (2, 3, 50) for lead in (0.0, 1e-3, 10.0, 17.0, 100.0, 1e4)
}


@pytest.mark.parametrize("log_w", OTHERS.values(), ids=OTHERS)
def test_the_sum_of_the_others_equals_the_reference(log_w):
    others = [reference.log_mean_exp(np.delete(log_w, i, axis=0)) + np.log(len(log_w) - 1) for i in range(len(log_w))]
    np.testing.assert_allclose(log_sum_of_others(tf.constant(log_w)), others, **FLOAT32)


def test_the_gradient_of_the_sum_of_the_others_is_the_weights_normalized_without_each_also_where_one_has_all_weight():
    log_w = _log_w(k=5, spread=3.0)
    log_w[2, 0], log_w[3, 1] = 40.0, 1e3
    x = tf.constant(log_w)
    for i in range(5):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = log_sum_of_others(x)[i]
        expected = np.insert(reference.normalized_weights(np.delete(log_w, i, axis=0)), i, 0.0, axis=0)
        # that of sample i itself is a difference of two float32 numbers near 1
        np.testing.assert_allclose(tape.gradient(value, x), expected, rtol=1e-5, atol=1e-6)
