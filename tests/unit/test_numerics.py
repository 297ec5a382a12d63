import numpy as np
import pytest
import reference
import tensorflow as tf

from iwae_tf.numerics import (
    empty_grouped_bound,
    grouped_bound,
    is_largest,
    log_mean_exp,
    log_sum_of_others,
    normalized_weights,
    update_grouped_bound,
)

# Log-weights lie at 1e4 at most, where float32 rounds to 6e-8 of the value; three such roundings follow one another
# (log-sum, log k, difference). The sum of exponentials adds about 1e-6 in absolute terms for 50 samples.
FLOAT32 = {"rtol": 3e-7, "atol": 3e-6}
# Differences of log-weights are exact in float32; exp, sum and quotient of 50 terms are not.
WEIGHTS = {"rtol": 1e-5, "atol": 1e-7}
# Sums of 23 terms in float64.
FLOAT64 = {"rtol": 1e-12}

INF = float("inf")


def log_weights(shift=0.0, spread=5.0, k=50, batch=4, seed=0):
    log_w = np.random.default_rng(seed).normal(0.0, spread, (k, batch)) + shift
    return log_w.astype(np.float32)


def with_minus_infinity():
    log_w = log_weights(-1000.0)
    log_w[3, 0] = log_w[:49, 1] = -INF  # one sample without weight; one sample with weight
    return log_w


CASES = {
    "at 0 nats": log_weights(),
    "at -1000 nats": log_weights(-1000.0),
    "at -1e4 nats": log_weights(-1e4),
    "at 1e4 nats": log_weights(1e4),
    "from -1e4 to 1e4 nats": np.random.default_rng(1).uniform(-1e4, 1e4, (50, 4)).astype(np.float32),
    "with -inf among them": with_minus_infinity(),
    "of a single sample": log_weights(-1000.0, k=1),
}


@pytest.fixture(params=CASES)
def log_w(request):
    return CASES[request.param]


# ---------------------------------------------------------------------------------------------- log-mean-exp


def test_log_mean_exp_equals_the_reference_in_float32(log_w):
    value = log_mean_exp(tf.constant(log_w))
    assert value.dtype == tf.float32
    np.testing.assert_allclose(value, reference.log_mean_exp(log_w), **FLOAT32)


def test_log_mean_exp_takes_any_sample_axis():
    log_w = log_weights(-1000.0)
    np.testing.assert_array_equal(log_mean_exp(tf.constant(log_w.T), axis=1), log_mean_exp(tf.constant(log_w)))
    np.testing.assert_array_equal(log_mean_exp(tf.constant(log_w.T), axis=-1), log_mean_exp(tf.constant(log_w)))


def test_log_mean_exp_of_weights_that_are_all_zero_is_log_zero_and_leaves_other_examples_alone():
    log_w = log_weights(-1000.0)
    log_w[:, 2] = -INF
    value = log_mean_exp(tf.constant(log_w)).numpy()
    assert value[2] == -INF
    kept = [0, 1, 3]
    np.testing.assert_allclose(value[kept], reference.log_mean_exp(log_w[:, kept]), **FLOAT32)


@pytest.mark.parametrize(("log_weight", "naive_error"), [(-103.4, 0.1), (-104.0, INF)])
def test_without_the_shift_float32_is_wrong_at_103_nats_and_lost_at_104(log_weight, naive_error):
    log_w = np.full((8, 1), log_weight, np.float32)
    with np.errstate(divide="ignore"):
        in_numpy = np.log(np.mean(np.exp(log_w), axis=0))
    in_tensorflow = tf.math.log(tf.reduce_mean(tf.exp(log_w), axis=0)).numpy()
    for naive in (in_numpy, in_tensorflow):
        assert np.abs(naive - log_weight) >= naive_error
    # the sum of 8 equal terms and the quotient by 8 are exact powers of two: one rounding of 104, 8e-6
    np.testing.assert_allclose(log_mean_exp(tf.constant(log_w)), [log_weight], atol=2e-5)


def test_the_gradient_of_log_mean_exp_is_the_normalized_weights(log_w):
    x = tf.constant(log_w)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = log_mean_exp(x)
    gradient = tape.gradient(value, x)
    np.testing.assert_allclose(gradient, reference.normalized_weights(log_w), **WEIGHTS)
    np.testing.assert_allclose(gradient, normalized_weights(x), **WEIGHTS)


# ---------------------------------------------------------------------------------------------- weights


def test_normalized_weights_equal_the_reference_in_float32(log_w):
    np.testing.assert_allclose(normalized_weights(tf.constant(log_w)), reference.normalized_weights(log_w), **WEIGHTS)


def test_normalized_weights_sum_to_one_over_the_samples(log_w):
    total = tf.reduce_sum(normalized_weights(tf.constant(log_w)), axis=0)
    np.testing.assert_allclose(total, 1.0, atol=1e-6)  # 50 float32 terms


def test_a_sample_without_weight_gets_exactly_none():
    weights = normalized_weights(tf.constant(with_minus_infinity())).numpy()
    assert weights[3, 0] == 0.0
    np.testing.assert_array_equal(weights[:, 1], [0.0] * 49 + [1.0])


# ---------------------------------------------------------------------------------------------- the others


def test_the_largest_is_one_of_each_column_the_first_of_several():
    log_w = tf.constant([[1.0, 5.0, -INF], [3.0, 5.0, -1e4], [2.0, 5.0, -INF]])
    expected = [[False, True, False], [True, False, True], [False, False, False]]
    np.testing.assert_array_equal(is_largest(log_w), expected)


def others_one_by_one(log_w):
    return np.stack([reference.log_mean_exp(np.delete(log_w, i, axis=0)) for i in range(len(log_w))]) + np.log(
        len(log_w) - 1
    )


@pytest.mark.parametrize("case", [name for name in CASES if name != "of a single sample"])
def test_the_sum_of_the_others_equals_the_reference(case):
    log_w = CASES[case]
    np.testing.assert_allclose(log_sum_of_others(tf.constant(log_w)), others_one_by_one(log_w), **FLOAT32)


@pytest.mark.parametrize("lead", [0.0, 1e-3, 10.0, 17.0, 100.0, 1e4])
@pytest.mark.parametrize("k", [2, 3, 50])
def test_without_the_largest_what_little_is_left_is_summed(k, lead):
    log_w = log_weights(k=k, spread=1.0)
    log_w[1] = log_w.max(axis=0) + np.float32(lead)
    value = log_sum_of_others(tf.constant(log_w))
    np.testing.assert_allclose(value, others_one_by_one(log_w), **FLOAT32)


def test_the_sum_of_the_others_of_equal_weights_is_that_of_all_but_one():
    value = log_sum_of_others(tf.fill([8, 2], -1000.0))
    np.testing.assert_allclose(value, np.full((8, 2), -1000.0 + np.log(7.0)), **FLOAT32)


def test_the_gradient_of_the_sum_of_the_others_is_the_weights_normalized_without_each():
    log_w = log_weights(k=5, spread=3.0)
    log_w[2, 0] = 40.0
    x = tf.constant(log_w)
    for i in range(5):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = log_sum_of_others(x)[i]
        expected = np.insert(reference.normalized_weights(np.delete(log_w, i, axis=0)), i, 0.0, axis=0)
        # that of sample i itself is a difference of two float32 numbers near 1
        np.testing.assert_allclose(tape.gradient(value, x), expected, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------------------------- grouped bounds

NUM_SAMPLES = 23  # a prime: every group size but 1 and 23 leaves a rest


def stream(log_w, k, chunk):
    """The bound after the samples came in chunks; a list of sizes, or one size for all."""
    log_w = np.asarray(log_w)
    sizes = chunk if isinstance(chunk, list) else [chunk] * -(-len(log_w) // chunk)
    state = empty_grouped_bound(log_w.shape[1])
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        state = update_grouped_bound(state, tf.constant(log_w[end - size : end]), k)
    return grouped_bound(state)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 22, 23, 40])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 7, 8, 11, 12, 22, 23])
@pytest.mark.parametrize("shift", [-1000.0, 1e4])
def test_the_grouped_bound_equals_the_reference_for_every_group_size_and_chunk(k, chunk, shift):
    log_w = log_weights(shift, k=NUM_SAMPLES)
    bound = stream(log_w, k, chunk)
    assert bound.dtype == tf.float64
    np.testing.assert_allclose(bound, reference.grouped_bound(log_w, k), **FLOAT64)


@pytest.mark.parametrize("k", [1, 4, 6, 23])
def test_the_grouped_bound_does_not_depend_on_where_an_uneven_stream_is_cut(k):
    log_w = log_weights(-1000.0, k=NUM_SAMPLES)
    for sizes in ([1, 9, 2, 11], [10, 1, 1, 1, 1, 1, 8], [4, 19], [22, 1], [1, 22], [6, 6, 6, 5]):
        np.testing.assert_allclose(stream(log_w, k, sizes), reference.grouped_bound(log_w, k), **FLOAT64)


@pytest.mark.parametrize("chunk", [1, 7, 23, 40])
def test_a_group_of_all_samples_gives_their_log_mean_exp(chunk):
    log_w = log_weights(-1000.0, k=NUM_SAMPLES)
    np.testing.assert_allclose(stream(log_w, NUM_SAMPLES, chunk), reference.iwae(log_w), **FLOAT64)


def test_groups_of_one_give_the_elbo():
    log_w = log_weights(-1000.0, k=NUM_SAMPLES)
    np.testing.assert_allclose(stream(log_w, 1, 5), reference.elbo(log_w), **FLOAT64)


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 6, 8, 12])
def test_weights_of_zero_count_as_samples_in_a_grouped_bound(chunk):
    log_w = log_weights(-1000.0, k=12)
    log_w[0, 0] = log_w[5, 0] = -INF  # first of a group, last but one of a group
    log_w[:3, 1] = -INF  # a group that has no weight until its last sample
    log_w[9:, 2] = -INF  # a group that loses all weight after its first sample
    log_w[4:8, 3] = -INF  # a group without any weight: log 0
    bound = stream(log_w, 4, chunk)
    np.testing.assert_allclose(bound, reference.grouped_bound(log_w, 4), **FLOAT64)
    assert bound[3] == -INF
    assert np.isfinite(bound[:3]).all()


@pytest.mark.parametrize("chunk", [1, 5, 23])
def test_samples_of_an_incomplete_group_are_not_used(chunk):
    log_w = log_weights(-1000.0, k=NUM_SAMPLES)
    heavier = log_w.copy()
    heavier[21:] = 1e4  # 21 = 3 groups of 7
    np.testing.assert_array_equal(stream(heavier, 7, chunk), stream(log_w, 7, chunk))
