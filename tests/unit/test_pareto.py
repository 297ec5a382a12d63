import numpy as np
import pytest
import reference
import scipy.stats
import tensorflow as tf

from iwae_tf.pareto import pareto_shape, tail_length

# Sums of up to 671 terms in float64 on both sides; likelihoods of 1e4 nats, which weight the grid, round to 2e-12.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}
INF = float("inf")


def log_weights(num_samples, seed=0):
    """Log-weights [S, 9] that are nearly equal, light-tailed, heavy-tailed, tied, or partly without weight."""
    rng = np.random.default_rng([seed, num_samples])
    columns = [rng.normal(-1000.0, spread, num_samples) for spread in (0.01, 1.0, 10.0, 300.0)]
    columns += [np.log(scipy.stats.genpareto.rvs(c, size=num_samples, random_state=rng)) for c in (-0.4, 0.7, 3.0)]
    columns.append(np.round(2.0 * rng.normal(size=num_samples)))  # ties inside the tail and across its edge
    columns.append(np.where(rng.random(num_samples) < 0.7, -INF, rng.normal(size=num_samples)))
    return np.stack(columns, axis=1).astype(np.float32)


def largest(log_w, size):
    """The `size` largest of log-weights [S, B] in falling order, -inf where there are fewer, float32 [B, size]."""
    padded = np.vstack([log_w, np.full((size, log_w.shape[1]), -INF, np.float32)])
    return -np.sort(-padded, axis=0)[:size].T


def shape_of(log_w, extra=1):
    num_samples, batch = log_w.shape
    tail = largest(log_w, tail_length(num_samples) + extra)
    return pareto_shape(tf.constant(tail), tf.fill([batch], num_samples)).numpy()


# ---------------------------------------------------------------------------------------------- against the reference


def test_the_tail_is_as_long_as_in_the_paper_for_ints_and_tensors_alike():
    numbers = np.arange(1, 50_001)
    expected = [reference.tail_length(number) for number in numbers]
    assert [tail_length(int(number)) for number in numbers] == expected
    lengths = tail_length(tf.constant(numbers, tf.int32))
    assert lengths.dtype == tf.int32
    np.testing.assert_array_equal(lengths, expected)


@pytest.mark.parametrize("num_samples", [20, 21, 25, 100, 5000, 50_000])
def test_the_shape_is_that_of_the_reference(num_samples):
    log_w = log_weights(num_samples)
    shape = shape_of(log_w)
    assert shape.dtype == np.float64
    np.testing.assert_allclose(shape, reference.pareto_shape(log_w), **CLOSE)
    assert np.isfinite(shape).any() == (num_samples > 20)


def test_rows_of_different_numbers_of_samples_share_a_buffer_that_is_longer_than_any_tail():
    numbers = [1, 20, 21, 25, 100, 225, 5000]
    samples = [log_weights(number, seed=1)[:, [1, 3, 5]] for number in numbers]
    tails = np.concatenate([largest(log_w, tail_length(50_000) + 11) for log_w in samples])
    shape = pareto_shape(tf.constant(tails), tf.repeat(numbers, 3))
    expected = np.concatenate([reference.pareto_shape(log_w) for log_w in samples])
    np.testing.assert_allclose(shape, expected, **CLOSE)


def test_a_graph_that_knows_no_size_in_advance_gives_the_same_shape():
    signature = [tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)]
    in_graph = tf.function(pareto_shape, input_signature=signature)
    for num_samples in (25, 500):
        log_w = log_weights(num_samples)
        tail = tf.constant(largest(log_w, tail_length(num_samples) + 1))
        shape = in_graph(tail, tf.fill([9], num_samples))
        np.testing.assert_allclose(shape, reference.pareto_shape(log_w), **CLOSE)


# ---------------------------------------------------------------------------------------------- what it should find


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.5, 0.8, 1.5])
def test_the_shape_of_generalised_pareto_weights_is_found_within_its_sampling_error(shape):
    rows, num_samples = 100, 5000
    w = scipy.stats.genpareto.rvs(shape, size=(num_samples, rows), random_state=np.random.default_rng(3))
    found = shape_of(np.log(w).astype(np.float32))
    n = tail_length(num_samples)  # given the cutoff, the excesses are n independent draws of the same shape
    expected = (n * shape + 5.0) / (n + 10.0)  # what the prior, ten points at 0.5, makes of it
    standard_error = (1.0 + shape) / np.sqrt(n)  # of the most likely shape, for large n
    # The largest of 100 normal deviations exceeds 4.5 in one of 1500 cases; for 213 excesses their ends are longer.
    assert np.abs(found - expected).max() < 6.0 * standard_error
    # The estimate has a bias of order 1 / n, larger for larger shapes.
    assert abs(found.mean() - expected) < 4.0 * standard_error / np.sqrt(rows) + 2.0 * (1.0 + shape) / n


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_a_factor_of_all_weights_changes_nothing(shift):
    log_w = np.random.default_rng(0).normal(0.0, 2.0, (500, 4))
    log_w = (np.round(log_w * 1024.0) / 1024.0).astype(np.float32)  # whole steps of float32 at 1e4: sums are exact
    np.testing.assert_array_equal(shape_of(log_w + np.float32(shift)), shape_of(log_w))


# ---------------------------------------------------------------------------------------------- where nothing is found


@pytest.mark.parametrize("num_samples", [1, 2, 10, 20])
def test_up_to_twenty_samples_have_no_shape(num_samples):
    log_w = np.random.default_rng(0).normal(size=(num_samples, 3)).astype(np.float32)
    log_w[:, 2] = 0.0
    assert shape_of(log_w).tolist() == [INF] * 3


@pytest.mark.parametrize("below", [-1e3, -1e4, -INF])
def test_all_weight_on_a_few_samples_is_the_heaviest_of_tails(below):
    log_w = np.full((1000, 5), below, np.float32)
    for column, few in enumerate([1, 2, 4, 5, 10]):
        log_w[:few, column] = np.linspace(0.0, -1.0, few)
    assert shape_of(log_w)[:3].tolist() == [INF] * 3
    np.testing.assert_allclose(shape_of(log_w)[3:], reference.pareto_shape(log_w[:, 3:]), **CLOSE)


def test_weights_that_are_hundreds_of_nats_apart_are_no_tail():
    log_w = np.linspace(0.0, -1e6, 100, dtype=np.float32)[:, None]
    assert shape_of(log_w).tolist() == [INF]


def test_equal_weights_are_the_lightest_of_tails():
    log_w = np.full((100, 3), -1000.0, np.float32)
    log_w[:50, 1] = -1010.0  # the tail and its cutoff are the same all the same
    log_w[:4, 2] = -999.0  # four stand out: too few
    assert shape_of(log_w).tolist() == [-INF, -INF, INF]


def test_weights_that_are_all_zero_have_no_shape_and_leave_other_rows_alone():
    log_w = log_weights(100)
    expected = shape_of(log_w)
    log_w[:, 1] = -INF
    shape = shape_of(log_w)
    assert shape[1] == INF
    np.testing.assert_array_equal(np.delete(shape, 1), np.delete(expected, 1))
