"""Drawing samples for the backward pass: every row keeps its mean, and no sample of probability 0 is drawn."""

import numpy as np
import pytest
import tensorflow as tf
from objective_table import TABLE, K, draw_backward_samples, gather_samples, made, row_list

from iwae_tf.objectives import GradientWeights

REPEATS = 20_000


def _log_w(spread=2.0, batch=1):
    return tf.constant(np.random.default_rng(1).normal(-90.0, spread, (K, batch)).astype(np.float32))


def _rows(name, log_w):
    return made(name).gradient_weights(log_w)


def _uniforms(num_drawn, batch):
    return tf.constant(np.random.default_rng(0).random((num_drawn, batch)).astype(np.float32))


@pytest.mark.parametrize(("name", "num_drawn"), [*((name, 3) for name in TABLE), ("iwae", 1), ("vimco", K)])
def test_the_drawn_rows_have_the_old_as_their_mean_and_each_sample_is_drawn_by_the_mean_share_of_its_rows(
    name, num_drawn
):
    rows = [None if row is None else row.numpy() for row in row_list(_rows(name, _log_w()))]
    repeated = GradientWeights(*(None if row is None else tf.repeat(row, REPEATS, axis=1) for row in rows))
    drawn, new = draw_backward_samples(repeated, _uniforms(num_drawn, REPEATS))
    assert drawn.shape == (num_drawn, REPEATS)
    for row, new_row in zip(rows, row_list(new), strict=True):
        assert (row is None) == (new_row is None)
        if row is None:
            continue
        summed = np.zeros((K, REPEATS))
        np.add.at(summed, (drawn.numpy(), np.arange(REPEATS)[None]), new_row.numpy())
        error = summed.std(axis=1) / np.sqrt(REPEATS)
        # 5 standard errors for some hundred means; a sample that is always drawn as often has no spread
        assert (np.abs(summed.mean(axis=1) - row[:, 0]) < 5.0 * error + 1e-5).all()
    shares = [np.abs(row[:, 0]) / np.abs(row).sum() for row in rows if row is not None]
    counts, probability = np.bincount(drawn.numpy().ravel(), minlength=K), sum(shares) / len(shares)
    error = np.sqrt(probability / (num_drawn * REPEATS))  # strata have less spread than independent draws
    assert (np.abs(counts / drawn.numpy().size - probability) <= 5.0 * error + 1e-6).all()


@pytest.mark.parametrize("name", TABLE)
def test_no_new_weight_exceeds_the_number_of_rows_times_the_sum_of_its_row_over_m(name):
    for spread in (0.0, 3.0, 1e3):
        rows = _rows(name, _log_w(spread, batch=200))
        _, new = draw_backward_samples(rows, _uniforms(3, 200))
        in_use = [(row, new_row) for row, new_row in zip(row_list(rows), row_list(new), strict=True) if row is not None]
        for row, new_row in in_use:
            limit = len(in_use) * tf.reduce_sum(tf.abs(row), axis=0) / 3
            assert (tf.abs(new_row) <= limit * 1.00001).numpy().all()  # float32


@pytest.mark.parametrize("num_drawn", [1, 2, 5])
def test_for_iwae_every_new_weight_is_one_over_m(num_drawn):
    _, new = draw_backward_samples(_rows("iwae", _log_w(batch=300)), _uniforms(num_drawn, 300))
    np.testing.assert_allclose(new.generative, np.full((num_drawn, 300), 1.0 / num_drawn), rtol=1e-6)  # float32
    np.testing.assert_array_equal(new.path, new.generative)
    np.testing.assert_array_equal(new.score, -new.generative)


def test_equal_weights_are_drawn_once_each_and_a_dominating_one_every_time():
    drawn, new = draw_backward_samples(_rows("elbo", _log_w(batch=50)), _uniforms(K, 50) * 0.99 + 0.005)
    np.testing.assert_array_equal(np.sort(drawn, axis=0), np.tile(np.arange(K)[:, None], (1, 50)))
    np.testing.assert_allclose(new.generative, np.full((K, 50), 1.0 / K), rtol=1e-6)
    log_w = _log_w(1.0, batch=20).numpy() + 200.0 * (np.arange(K) == 4)[:, None].astype(np.float32)
    drawn, _ = draw_backward_samples(_rows("iwae", tf.constant(log_w)), _uniforms(3, 20))
    np.testing.assert_array_equal(drawn, np.full((3, 20), 4))


@pytest.mark.parametrize("name", ["dreg", "dreg-alpha", "rws-dreg", "stl", "rws"])
def test_where_one_weight_dominates_every_sum_stays(name):
    """It dominates so far that a row such as w~ (1 - w~) is 0, in every place of a vector instruction."""
    log_w = np.full((K, 20), -300.0, np.float32)
    log_w[2] = 0.0
    rows = _rows(name, tf.constant(log_w))
    _, new = draw_backward_samples(rows, _uniforms(3, 20))
    for row, new_row in zip(row_list(rows), row_list(new), strict=True):
        if row is not None:
            np.testing.assert_allclose(tf.reduce_sum(new_row, axis=0), tf.reduce_sum(row, axis=0), rtol=2e-5, atol=1e-5)


def test_a_row_of_exact_zeros_is_not_in_use():
    weights, zeros = tf.one_hot([1, 3], K, axis=0), tf.zeros([K, 2])
    drawn, new = draw_backward_samples(GradientWeights(weights, zeros, -weights), _uniforms(2, 2))
    np.testing.assert_array_equal(drawn, [[1, 3], [1, 3]])
    np.testing.assert_array_equal(new.generative, np.full((2, 2), 0.5))
    np.testing.assert_array_equal(new.path, np.zeros((2, 2)))


# The largest float32 below 1, and the largest number that TensorFlow's generators return.
@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-24, 1.0 - 2.0**-23])
@pytest.mark.parametrize("num_drawn", [1, 2, 3, 50])
def test_a_sample_of_probability_0_is_never_drawn_whatever_the_uniform_number(num_drawn, uniform):
    weights = np.zeros((60, 400), np.float32)
    inner = np.random.default_rng(0).random((40, 400)).astype(np.float32)
    weights[10:50] = inner / inner.sum(axis=0)  # zeros at both ends
    weights[20] = 0.0
    row = tf.constant(weights)
    drawn, new = draw_backward_samples(GradientWeights(row, row, -row), tf.fill([num_drawn, 400], np.float32(uniform)))
    assert gather_samples(row, drawn).numpy().min() > 0.0
    np.testing.assert_allclose(new.generative.numpy().sum(axis=0), weights.sum(axis=0), rtol=1e-4)  # m times 1/m


def test_the_draws_of_an_example_depend_on_no_other_and_are_gathered_by_column():
    log_w, uniforms = _log_w(batch=8), _uniforms(2, 8)
    together, _ = draw_backward_samples(_rows("iwae", log_w), uniforms)
    for b in range(8):
        alone, _ = draw_backward_samples(_rows("iwae", log_w[:, b : b + 1]), uniforms[:, b : b + 1])
        np.testing.assert_array_equal(alone, together[:, b : b + 1])
    values, drawn = np.arange(24.0).reshape(3, 4, 2), np.array([[0, 1, 2, 0], [2, 2, 0, 1]], np.int32)
    np.testing.assert_array_equal(gather_samples(tf.constant(values), tf.constant(drawn)), values[drawn, np.arange(4)])
