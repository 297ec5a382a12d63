"""Drawing samples for the backward pass: every row keeps its mean, and nothing of probability 0 is drawn."""

import numpy as np
import pytest
import tensorflow as tf

from iwae_tf.objectives import OBJECTIVES, IWAEBound, objective_class
from iwae_tf.objectives.backward_samples import draw_backward_samples, gather_samples
from iwae_tf.objectives.objective import GradientWeights

K, REPEATS = 6, 20_000


def _log_w(spread=2.0, batch=1):
    return tf.constant(np.random.default_rng(1).normal(-90.0, spread, (K, batch)).astype(np.float32))


def _rows(name, log_w):
    parameters = {"groups": 2} if name in ("miwae", "piwae") else {}
    return objective_class(name)(K, **parameters).gradient_weights(log_w)


def _uniforms(num_drawn, batch, seed=0):
    return tf.constant(np.random.default_rng(seed).random((num_drawn, batch)).astype(np.float32))


def _repeated(rows, times):
    """Every row [k, 1] as [k, times], to be drawn from with other numbers in each column."""
    return GradientWeights(*(None if row is None else tf.repeat(row, times, axis=1) for row in rows))


def _mean_probability(rows):
    """r_i, written with loops over the rows in use."""
    rows = [np.abs(np.asarray(row, np.float64)) for row in rows[:3] if row is not None]
    return sum(row / row.sum(axis=0) for row in rows) / len(rows)


@pytest.mark.parametrize("num_drawn", [1, 3, K])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_new_rows_summed_over_the_draws_have_the_old_as_their_mean(name, num_drawn):
    rows = _rows(name, _log_w())
    drawn, new = draw_backward_samples(_repeated(rows, REPEATS), _uniforms(num_drawn, REPEATS))
    assert drawn.shape == (num_drawn, REPEATS)
    for row, new_row in zip(rows[:3], new[:3], strict=True):
        assert (row is None) == (new_row is None)
        if row is None:
            continue
        summed = np.zeros((K, REPEATS))
        np.add.at(summed, (drawn.numpy(), np.arange(REPEATS)[None]), new_row.numpy())
        error = summed.std(axis=1) / np.sqrt(REPEATS)
        # 5 standard errors for some hundred means; a sample that is always drawn as often has no spread
        assert (np.abs(summed.mean(axis=1) - row.numpy()[:, 0]) < 5.0 * error + 1e-5).all()
    if rows.path_factor is not None:
        np.testing.assert_allclose(new.path_factor * new.generative, new.path, rtol=1e-5, atol=1e-7)  # float32


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_sample_is_drawn_as_often_as_the_mean_share_of_its_rows_says(name):
    rows = _rows(name, _log_w())
    drawn, _ = draw_backward_samples(_repeated(rows, REPEATS), _uniforms(2, REPEATS))
    counts = np.bincount(drawn.numpy().ravel(), minlength=K) / (2 * REPEATS)
    probability = _mean_probability(rows)[:, 0]
    # 5 standard errors; two strata have less spread than two independent draws
    assert (np.abs(counts - probability) <= 5.0 * np.sqrt(probability / (2 * REPEATS)) + 1e-6).all()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("spread", [0.0, 3.0, 1e3])
def test_no_new_weight_exceeds_the_number_of_rows_times_its_rows_sum_over_m(name, spread):
    rows = _rows(name, _log_w(spread, batch=200))
    _, new = draw_backward_samples(rows, _uniforms(3, 200))
    in_use = sum(row is not None for row in rows[:3])
    for row, new_row in zip(rows[:3], new[:3], strict=True):
        if row is not None:
            limit = in_use * tf.reduce_sum(tf.abs(row), axis=0) / 3
            assert (tf.abs(new_row) <= limit * 1.00001).numpy().all()  # float32


@pytest.mark.parametrize("num_drawn", [1, 2, 5])
def test_of_iwae_every_new_weight_is_one_over_m(num_drawn):
    _, new = draw_backward_samples(_rows("iwae", _log_w(batch=300)), _uniforms(num_drawn, 300))
    np.testing.assert_allclose(new.generative, np.full((num_drawn, 300), 1.0 / num_drawn), rtol=1e-6)  # float32
    np.testing.assert_array_equal(new.path, new.generative)
    np.testing.assert_array_equal(new.score, -new.generative)


def test_as_many_draws_of_equal_weights_as_samples_take_every_sample_once():
    drawn, new = draw_backward_samples(_rows("elbo", _log_w(batch=50)), _uniforms(K, 50) * 0.99 + 0.005)
    np.testing.assert_array_equal(np.sort(drawn, axis=0), np.tile(np.arange(K)[:, None], (1, 50)))
    np.testing.assert_allclose(new.generative, np.full((K, 50), 1.0 / K), rtol=1e-6)


def test_a_dominating_sample_fills_all_draws():
    log_w = _log_w(1.0, batch=20).numpy()
    log_w[4] += 200.0
    drawn, new = draw_backward_samples(_rows("iwae", tf.constant(log_w)), _uniforms(3, 20))
    np.testing.assert_array_equal(drawn, np.full((3, 20), 4))
    np.testing.assert_allclose(tf.reduce_sum(new.generative, axis=0), 1.0, rtol=1e-6)


# The largest float32 below 1, and what the generators of TensorFlow give at most.
NEAR_1 = [0.0, 1.0 - 2.0**-24, 1.0 - 2.0**-23]


@pytest.mark.parametrize("uniform", NEAR_1)
@pytest.mark.parametrize("num_drawn", [1, 2, 3, 50])
def test_a_sample_of_probability_0_is_never_drawn_whatever_the_uniform_number(num_drawn, uniform):
    weights = np.zeros((60, 400), np.float32)
    inner = np.random.default_rng(0).random((40, 400)).astype(np.float32)
    weights[10:50] = inner / inner.sum(axis=0)  # nothing at either end
    weights[20] = 0.0
    row = tf.constant(weights)
    uniforms = tf.fill([num_drawn, 400], np.float32(uniform))
    drawn, new = draw_backward_samples(GradientWeights(row, row, -row), uniforms)
    assert gather_samples(row, drawn).numpy().min() > 0.0
    np.testing.assert_allclose(new.generative.numpy().sum(axis=0), weights.sum(axis=0), rtol=1e-4)  # r = w: 1/m each


def test_what_is_drawn_is_gathered_column_by_column():
    values = tf.constant(np.arange(24, dtype=np.float32).reshape(3, 4, 2))
    drawn = tf.constant([[0, 1, 2, 0], [2, 2, 0, 1]])
    expected = [[values[drawn[i, b], b] for b in range(4)] for i in range(2)]
    np.testing.assert_array_equal(gather_samples(values, drawn), expected)


def test_the_draws_of_an_example_do_not_depend_on_the_others():
    log_w, uniforms = _log_w(batch=8), _uniforms(2, 8)
    together, _ = draw_backward_samples(IWAEBound(K).gradient_weights(log_w), uniforms)
    for b in range(8):
        column = slice(b, b + 1)
        alone, _ = draw_backward_samples(IWAEBound(K).gradient_weights(log_w[:, column]), uniforms[:, column])
        np.testing.assert_array_equal(alone, together[:, column])
