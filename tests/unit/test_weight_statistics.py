"""Statistics of a stream of log-weights: summary, Pareto shape of the tail, and bounds of groups."""

import itertools

import numpy as np
import pytest
import reference
import scipy.stats
import tensorflow as tf

from iwae_tf.weight_statistics import (
    empty_grouped_bounds,
    empty_statistics,
    grouped_bounds,
    pareto_shape,
    summarize,
    tail_length,
    update_grouped_bounds,
    update_statistics,
)

NUM_SAMPLES = 60
INF, NAN = float("inf"), float("nan")
# Sums of 60 to 671 terms in float64. Standard errors of 0.05 and more lose two digits more: their square is a
# difference of two numbers of order 1 / 60. Likelihoods of 1e4 nats, which weight the grid, round to 2e-12.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}
CHUNKINGS = {"one by one": [1] * NUM_SAMPLES, "uneven": [1, 30, 4, 25], "at once": [NUM_SAMPLES]}
FINITE = slice(0, 7)  # columns of `_log_w` without -inf

chunked = pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS)


def _log_w():
    """One difficulty in each column, float32 [60, 8]."""
    rng = np.random.default_rng(0)
    columns = [rng.normal(0.0, 1.0, NUM_SAMPLES), rng.normal(-1000.0, 3.0, NUM_SAMPLES)]
    steps = np.where(np.arange(NUM_SAMPLES) < 40, 0.0, 1e4)
    columns += [rng.normal(0.0, 1.0, NUM_SAMPLES) + steps, rng.normal(0.0, 1.0, NUM_SAMPLES) - steps]
    columns.append(rng.uniform(-1e4, 1e4, NUM_SAMPLES))
    columns.append(np.sort(rng.normal(0.0, 2.0, NUM_SAMPLES)))  # a new maximum every time
    columns.append(rng.normal(1e4, 1.0, NUM_SAMPLES))
    columns.append(np.where(np.arange(NUM_SAMPLES) < 31, -INF, rng.normal(-1000.0, 1.0, NUM_SAMPLES)))
    return np.stack(columns, axis=1).astype(np.float32)


def _state(log_w, chunks, max_samples=NUM_SAMPLES):
    state = empty_statistics(log_w.shape[1], max_samples)
    for start, stop in itertools.pairwise([0, *np.cumsum(chunks)]):
        state = update_statistics(state, tf.constant(log_w[start:stop]))
    return state


def _summary(log_w, chunks=(NUM_SAMPLES,), max_samples=NUM_SAMPLES):
    summary = summarize(_state(log_w, chunks, max_samples))
    assert all(value.dtype == tf.float64 for value in summary)
    return {name: value.numpy() for name, value in summary._asdict().items()}


def _assert_of(summary, log_w):
    expected = {
        "log_likelihood": reference.iwae(log_w),
        "elbo": reference.elbo(log_w),
        "standard_error": reference.standard_error(log_w),
        "effective_sample_size": reference.effective_sample_size(log_w),
        "pareto_k": reference.pareto_shape(log_w),
    }
    assert summary.keys() == expected.keys()
    for name, value in summary.items():
        np.testing.assert_allclose(value, expected[name], **CLOSE, err_msg=name)


@chunked
@pytest.mark.parametrize("max_samples", [NUM_SAMPLES, 50_000])
def test_the_statistics_are_those_of_the_reference_however_the_stream_is_cut(chunks, max_samples):
    _assert_of(_summary(_log_w(), chunks, max_samples=max_samples), _log_w())


def test_an_empty_chunk_changes_nothing():
    log_w = _log_w()
    whole, with_empty = _summary(log_w), _summary(log_w, (0, 30, 0, 30, 0))
    for name, values in whole.items():
        np.testing.assert_allclose(with_empty[name], values, **CLOSE)


@pytest.mark.parametrize("value", [0.0, -1000.0, 1e4])
def test_one_sample_is_its_own_estimate_without_a_standard_error_and_equal_ones_have_an_error_of_0(value):
    summary = _summary(np.array([[value]], np.float32), [1])
    assert summary["log_likelihood"] == summary["elbo"] == value
    assert np.isnan(summary["standard_error"])
    assert summary["effective_sample_size"] == 1.0
    assert summary["pareto_k"] == INF
    for chunks in CHUNKINGS.values():
        summary = _summary(np.full((NUM_SAMPLES, 1), value, np.float32), chunks)
        assert [number.item() for number in summary.values()] == [value, value, 0.0, NUM_SAMPLES, -INF]
    nearly = np.random.default_rng(0).normal(0.0, 1e-9, (NUM_SAMPLES, 200)).astype(np.float32)
    # The square is a difference of two numbers of 1 / 60, each rounded to a few 1e-18; it must not be negative.
    assert _summary(nearly)["standard_error"].max() < 1e-8


@chunked
@pytest.mark.parametrize(
    ("rows", "value", "expected"),
    [
        (slice(None), -INF, {"log_likelihood": -INF, "elbo": -INF, "pareto_k": INF}),
        (33, INF, {"log_likelihood": INF, "elbo": INF, "pareto_k": INF}),
        *((when, NAN, dict.fromkeys(_summary(_log_w()), NAN)) for when in (0, 33, NUM_SAMPLES - 1)),
    ],
    ids=["all zero", "one infinite", "first nan", "one nan", "last nan"],
)
def test_zero_infinite_and_nan_weights_show_in_their_example_and_in_no_other(chunks, rows, value, expected):
    log_w = _log_w()
    before = _summary(log_w, chunks)
    log_w[rows, 2] = value
    summary = _summary(log_w, chunks)
    for name, number in expected.items():
        np.testing.assert_equal(summary[name][2], number)
    for name, values in summary.items():
        np.testing.assert_array_equal(np.delete(values, 2), np.delete(before[name], 2), err_msg=name)


# ---------------------------------------------------------------------------------------------- shape of the tail


def _tails(num_samples, seed=0):
    """Log-weights [S, 9] that are nearly equal, light-tailed, heavy-tailed, tied, or partly without weight."""
    rng = np.random.default_rng([seed, num_samples])
    columns = [rng.normal(-1000.0, spread, num_samples) for spread in (0.01, 1.0, 10.0, 300.0)]
    columns += [np.log(scipy.stats.genpareto.rvs(c, size=num_samples, random_state=rng)) for c in (-0.4, 0.7, 3.0)]
    columns.append(np.round(2.0 * rng.normal(size=num_samples)))  # ties inside the tail and across its edge
    columns.append(np.where(rng.random(num_samples) < 0.7, -INF, rng.normal(size=num_samples)))
    return np.stack(columns, axis=1).astype(np.float32)


def _largest(log_w, size):
    """The `size` largest of log-weights [S, B] in falling order, -inf where there are fewer, float32 [B, size]."""
    padded = np.vstack([log_w, np.full((size, log_w.shape[1]), -INF, np.float32)])
    return -np.sort(-padded, axis=0)[:size].T


def _shape(log_w):
    num_samples, batch = log_w.shape
    tail = _largest(log_w, tail_length(num_samples) + 1)
    return pareto_shape(tf.constant(tail), tf.fill([batch], num_samples)).numpy()


def test_the_tail_is_as_long_as_in_the_paper_for_ints_and_tensors_alike():
    numbers = [*range(1, 400), *range(400, 50_001, 97)]
    expected = [reference.tail_length(number) for number in numbers]
    assert [tail_length(number) for number in numbers] == expected
    np.testing.assert_array_equal(tail_length(tf.constant(numbers, tf.int32)), expected)


@pytest.mark.parametrize("num_samples", [20, 21, 25, 100, 5000, 50_000])
def test_the_shape_is_that_of_the_reference(num_samples):
    log_w = _tails(num_samples)
    np.testing.assert_allclose(_shape(log_w), reference.pareto_shape(log_w), **CLOSE)
    assert np.isfinite(_shape(log_w)).any() == (num_samples > 20)


def test_examples_of_different_numbers_of_samples_share_a_long_buffer_in_a_graph_of_unknown_sizes():
    signature = [tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)]
    in_graph = tf.function(pareto_shape, input_signature=signature)
    numbers = [1, 20, 21, 25, 100, 225, 5000]
    samples = [_tails(number, seed=1)[:, [1, 3, 5]] for number in numbers]
    tails = np.concatenate([_largest(log_w, tail_length(50_000) + 11) for log_w in samples])
    expected = np.concatenate([reference.pareto_shape(log_w) for log_w in samples])
    np.testing.assert_allclose(in_graph(tf.constant(tails), np.repeat(numbers, 3).astype(np.int32)), expected, **CLOSE)


def test_equal_excesses_have_the_shape_of_nearly_equal_ones():
    log_w = np.full((5000, 13), -1.0, np.float32)
    for column, number in enumerate([*range(100, 112), 120]):  # from 100 to 120 the grid holds the exponential, theta 0
        log_w[:number, column] = 0.0
    nearly = log_w + np.random.default_rng(0).uniform(0.0, 1e-4, log_w.shape).astype(np.float32) * (log_w == 0.0)
    np.testing.assert_allclose(_shape(log_w), _shape(nearly), rtol=0.01)


def test_where_no_tail_stands_out_the_shape_is_infinite():
    for num_samples in (1, 2, 10, 20):  # too few samples
        assert _shape(np.random.default_rng(0).normal(size=(num_samples, 2)).astype(np.float32)).tolist() == [INF] * 2
        assert _shape(np.zeros((num_samples, 1), np.float32)).tolist() == [INF]
    for below in (-1e3, -1e4, -INF):  # all weight on few samples
        log_w = np.full((1000, 5), below, np.float32)
        for column, few in enumerate([1, 2, 4, 5, 10]):
            log_w[:few, column] = np.linspace(0.0, -1.0, few)
        assert _shape(log_w)[:3].tolist() == [INF] * 3
        np.testing.assert_allclose(_shape(log_w)[3:], reference.pareto_shape(log_w[:, 3:]), **CLOSE)
    log_w = np.full((100, 5), -1000.0, np.float32)
    log_w[:50, 1] = -1010.0  # the tail and its cutoff are equal all the same
    log_w[:4, 2] = -999.0  # four stand out: too few
    log_w[:, 3] = np.linspace(0.0, -1e6, 100)  # hundreds of nats apart
    log_w[:, 4] = -INF
    assert _shape(log_w).tolist() == [-INF, -INF, INF, INF, INF]


# ---------------------------------------------------------------------------------------------- bounds of groups

STREAM = _log_w()[:23, FINITE]  # a prime number: every group size but 1 and 23 leaves a rest


def _grouped(log_w, sizes, chunk):
    """The bounds after chunks of these sizes, or of one size."""
    chunks = chunk if isinstance(chunk, list) else [chunk] * -(-len(log_w) // chunk)
    state = empty_grouped_bounds(len(sizes), log_w.shape[1])
    for end, size in zip(np.cumsum(chunks), chunks, strict=True):
        state = update_grouped_bounds(state, tf.constant(log_w[end - size : end]), sizes)
    return grouped_bounds(state)


@pytest.mark.parametrize("sizes", [(1, 2, 3, 5, 7, 8, 11, 12, 22, 23), (7,), (22, 1)])
def test_grouped_bounds_equal_the_reference_for_every_group_size_and_chunk(sizes):
    expected = [reference.grouped_bound(STREAM, k) for k in sizes]
    for chunk in (1, 5, 8, 23, 40, [1, 9, 2, 11], [10, 1, 1, 1, 1, 1, 8], [22, 1]):
        bounds = _grouped(STREAM, sizes, chunk)
        assert bounds.dtype == tf.float64
        np.testing.assert_allclose(bounds, expected, rtol=1e-12)  # sums of 23 terms in float64


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 6, 8, 12])
def test_weights_of_zero_count_as_samples_in_a_grouped_bound_and_an_incomplete_group_does_not(chunk):
    log_w = STREAM[:14, :4].copy()
    log_w[0, 0] = log_w[5, 0] = -INF  # first of a group, last but one of a group
    log_w[:3, 1] = -INF  # a group that has no weight until its last sample
    log_w[9:12, 2] = -INF  # a group that loses all weight after its first sample
    log_w[4:8, 3] = -INF  # a group without any weight: log 0
    log_w[12:] = 2e4
    bound = _grouped(log_w, (4,), chunk)[0]
    np.testing.assert_allclose(bound, reference.grouped_bound(log_w[:12], 4), rtol=1e-12)
    assert bound[3] == -INF
    assert np.isfinite(bound[:3]).all()
