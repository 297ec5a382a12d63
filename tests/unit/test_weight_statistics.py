import itertools

import numpy as np
import pytest
import reference
import tensorflow as tf

from iwae_tf.weight_statistics import empty_statistics, summarize, update_statistics

NUM_SAMPLES = 60
INF, NAN = float("inf"), float("nan")
# Sums of 60 terms in float64. Standard errors of 0.05 and more lose two digits more: their square is a difference of
# two numbers of order 1 / 60.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}
CHUNKINGS = {"one by one": [1] * NUM_SAMPLES, "uneven": [1, 30, 4, 25], "at once": [NUM_SAMPLES]}
FINITE = slice(0, 7)  # columns of `log_weights` without -inf


def log_weights():
    """One column a difficulty, float32 [60, 8]."""
    rng = np.random.default_rng(0)
    columns = [rng.normal(0.0, 1.0, NUM_SAMPLES), rng.normal(-1000.0, 3.0, NUM_SAMPLES)]
    steps = np.where(np.arange(NUM_SAMPLES) < 40, 0.0, 1e4)
    columns += [rng.normal(0.0, 1.0, NUM_SAMPLES) + steps, rng.normal(0.0, 1.0, NUM_SAMPLES) - steps]
    columns.append(rng.uniform(-1e4, 1e4, NUM_SAMPLES))
    columns.append(np.sort(rng.normal(0.0, 2.0, NUM_SAMPLES)))  # a new maximum every time
    columns.append(rng.normal(1e4, 1.0, NUM_SAMPLES))
    columns.append(np.where(np.arange(NUM_SAMPLES) < 31, -INF, rng.normal(-1000.0, 1.0, NUM_SAMPLES)))
    return np.stack(columns, axis=1).astype(np.float32)


def statistics(log_w, chunks, used=None, max_samples=NUM_SAMPLES):
    used = np.full(log_w.shape, True) if used is None else used
    state = empty_statistics(log_w.shape[1], max_samples)
    for start, stop in itertools.pairwise([0, *np.cumsum(chunks)]):
        state = update_statistics(state, tf.constant(log_w[start:stop]), tf.constant(used[start:stop]))
    return state


def summary_of(log_w, chunks=(NUM_SAMPLES,), used=None, max_samples=NUM_SAMPLES):
    summary = summarize(statistics(log_w, chunks, used, max_samples))
    assert all(value.dtype == tf.float64 for value in summary)
    return {name: value.numpy() for name, value in summary._asdict().items()}


def expected_of(log_w):
    return {
        "log_likelihood": reference.iwae(log_w),
        "elbo": reference.elbo(log_w),
        "standard_error": reference.standard_error(log_w),
        "effective_sample_size": reference.effective_sample_size(log_w),
        "pareto_k": reference.pareto_shape(log_w),
    }


def assert_close(summary, expected):
    assert summary.keys() == expected.keys()
    for name, value in summary.items():
        np.testing.assert_allclose(value, expected[name], **CLOSE, err_msg=name)


# ---------------------------------------------------------------------------------------------- against the reference


@pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS)
def test_the_statistics_are_those_of_the_reference_however_the_stream_is_cut(chunks):
    log_w = log_weights()
    assert_close(summary_of(log_w, chunks), expected_of(log_w))


@pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS)
@pytest.mark.parametrize("junk", [NAN, INF, -INF, 3e4])
def test_samples_that_are_not_used_do_not_count(chunks, junk):
    log_w = log_weights()[:, FINITE]
    used = np.random.default_rng(1).random(log_w.shape) < 0.6
    used[:31, 3] = False  # nothing in the first chunks
    used[31:, 4] = False  # nothing in the last
    summary = summary_of(np.where(used, log_w, np.float32(junk)), chunks, used)
    for column in range(log_w.shape[1]):
        kept = log_w[used[:, column], column][:, None]
        assert_close({name: value[[column]] for name, value in summary.items()}, expected_of(kept))


def test_a_chunk_of_which_nothing_is_used_leaves_the_state_as_it_was():
    log_w = log_weights()
    state = statistics(log_w, [31, 29])
    for name, after, before in zip(
        state._fields, update_statistics(state, tf.constant(log_w), tf.zeros(log_w.shape, tf.bool)), state, strict=True
    ):
        np.testing.assert_array_equal(after, before, err_msg=name)


@pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS)
def test_the_tail_holds_the_largest_of_the_stream_in_falling_order(chunks):
    log_w = log_weights()
    tail = statistics(log_w, chunks, max_samples=1000).tail
    length = reference.tail_length(1000) + 1
    padded = np.vstack([log_w, np.full((length, log_w.shape[1]), -INF)])
    np.testing.assert_array_equal(tail, -np.sort(-padded, axis=0)[:length].T)


def test_room_for_more_samples_than_come_changes_nothing():
    log_w = log_weights()
    assert_close(summary_of(log_w, max_samples=50_000), expected_of(log_w))


def test_in_a_graph_a_loop_over_chunks_gives_the_same_statistics():
    chunk = 7

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([], tf.int32)])
    def in_graph(log_w, num_samples):
        def take(first, state):
            used = tf.broadcast_to((first + tf.range(chunk) < num_samples)[:, None], [chunk, tf.shape(log_w)[1]])
            return first + chunk, update_statistics(state, log_w[first : first + chunk], used)

        start = (0, empty_statistics(tf.shape(log_w)[1], 1000))
        return summarize(tf.while_loop(lambda first, _: first < num_samples, take, start)[1])

    log_w = log_weights()
    padded = np.vstack([log_w, np.full((chunk, log_w.shape[1]), NAN, np.float32)])
    for num_samples, columns in ((NUM_SAMPLES, slice(None)), (45, FINITE), (NUM_SAMPLES, slice(0, 1))):
        summary = in_graph(tf.constant(padded[:, columns]), num_samples)._asdict()
        assert_close(
            {name: value.numpy() for name, value in summary.items()}, expected_of(log_w[:num_samples, columns])
        )


# ---------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("value", [0.0, -1000.0, 1e4])
def test_one_sample_is_its_own_estimate_and_has_no_standard_error(value):
    log_w = np.array([[value], [7.0]], np.float32)
    summary = summary_of(log_w, [2], np.array([[True], [False]]))
    assert summary["log_likelihood"] == summary["elbo"] == value
    assert np.isnan(summary["standard_error"])
    assert summary["effective_sample_size"] == 1.0
    assert summary["pareto_k"] == INF


@pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS)
def test_equal_weights_leave_no_error_and_lose_no_sample(chunks):
    summary = summary_of(np.full((NUM_SAMPLES, 1), -1000.0, np.float32), chunks)
    expected = {"log_likelihood": -1000.0, "elbo": -1000.0, "effective_sample_size": NUM_SAMPLES, "standard_error": 0.0}
    for name, value in expected.items():
        assert summary[name] == value
    assert summary["pareto_k"] == -INF


def test_weights_that_are_equal_but_for_rounding_have_an_error_of_zero_within_it():
    log_w = np.random.default_rng(0).normal(0.0, 1e-9, (NUM_SAMPLES, 200)).astype(np.float32)
    # The square is a difference of two numbers of 1 / 60, each rounded to a few 1e-18; it must not be negative.
    assert summary_of(log_w)["standard_error"].max() < 1e-8


@pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS)
def test_weights_that_are_all_zero_have_an_estimate_of_log_zero_and_leave_other_rows_alone(chunks):
    log_w = log_weights()
    before = summary_of(log_w, chunks)
    log_w[:, 2] = -INF
    summary = summary_of(log_w, chunks)
    assert summary["log_likelihood"][2] == summary["elbo"][2] == -INF
    assert summary["pareto_k"][2] == INF
    for name, value in summary.items():
        np.testing.assert_array_equal(np.delete(value, 2), np.delete(before[name], 2), err_msg=name)


@pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS)
@pytest.mark.parametrize("when", [0, 33, NUM_SAMPLES - 1])
def test_a_nan_among_the_weights_spoils_all_of_its_row_and_no_other(chunks, when):
    log_w = log_weights()
    before = summary_of(log_w, chunks)
    log_w[when, 2] = NAN
    for name, value in summary_of(log_w, chunks).items():
        assert np.isnan(value[2]), name
        np.testing.assert_array_equal(np.delete(value, 2), np.delete(before[name], 2), err_msg=name)


@pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS)
def test_an_infinite_weight_makes_the_estimate_infinite_and_leaves_other_rows_alone(chunks):
    log_w = log_weights()
    before = summary_of(log_w, chunks)
    log_w[33, 2] = INF
    summary = summary_of(log_w, chunks)
    assert summary["log_likelihood"][2] == summary["elbo"][2] == summary["pareto_k"][2] == INF
    for name, value in summary.items():
        np.testing.assert_array_equal(np.delete(value, 2), np.delete(before[name], 2), err_msg=name)


# ---------------------------------------------------------------------------------------------- statistics


def test_the_standard_error_is_the_spread_of_the_estimate_over_seeds_where_many_samples_are_effective():
    rows, num_samples, spread = 4000, 400, 0.5
    log_w = np.random.default_rng(0).normal(-100.0, spread, (num_samples, rows)).astype(np.float32)
    summary = summary_of(log_w, [num_samples], max_samples=num_samples)
    assert summary["effective_sample_size"].min() > 0.5 * num_samples
    squared = np.mean(summary["standard_error"] ** 2)
    # A variance over 4000 rows has a relative standard error of sqrt(2 / 4000) = 2.2 %; the delta method is off by
    # order 1 / 400 of the variance.
    assert (
        abs(squared / np.var(summary["log_likelihood"], ddof=1) - 1.0) < 4.0 * np.sqrt(2.0 / rows) + 2.0 / num_samples
    )
    exact = np.expm1(spread**2) / num_samples  # the variance of a log-normal weight over its squared mean
    np.testing.assert_allclose(squared, exact, rtol=0.02)
