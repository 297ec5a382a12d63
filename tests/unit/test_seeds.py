import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from iwae_tf import InputError, seeds
from iwae_tf.errors import MAX_SEED, check_seed
from iwae_tf.seeds import Purpose

DRAWS = 200_000


def test_keys_that_differ_in_any_part_are_different():
    counters = np.array(list(itertools.product([0, 1, 2, 255, 256, 2**31 - 1], [0, 1, 2, 255, 256, 2**32 - 1])))
    found = set()
    for seed, purpose in itertools.product([0, 1, 2, 255, 256, 257, 65536, MAX_SEED], Purpose):
        found.update(map(tuple, seeds.key(seed, purpose, counters[:, 0], counters[:, 1]).numpy().tolist()))
    assert len(found) == 8 * len(Purpose) * len(counters)


def test_the_numbers_of_the_purposes_are_what_recorded_runs_used():
    assert [purpose.name for purpose in sorted(Purpose)][:9] == [
        "WEIGHTS",
        "SHUFFLE",
        "BINARIZE_TRAIN",
        "BINARIZE_EVALUATION",
        "TRAIN_NOISE",
        "VALIDATION_NOISE",
        "EVALUATION_NOISE",
        "SAMPLE",
        "ACTIVE_UNITS",
    ]
    assert [int(purpose) for purpose in sorted(Purpose)] == list(range(len(Purpose)))
    assert len(Purpose) <= 256  # more would run into the next seed


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_keys_made_for_many_counters_are_those_made_one_by_one(dtype):
    majors, minors = [0, 5, 2**31 - 1, 7], [0, 9, 3, 2**31 - 1]
    together = seeds.key(3, Purpose.TRAIN_NOISE, tf.constant(majors, dtype), tf.constant(minors, dtype))
    assert together.shape == (4, 2)
    assert together.dtype == tf.int64
    for row, major, minor in zip(together, majors, minors, strict=True):
        np.testing.assert_array_equal(row, seeds.key(3, Purpose.TRAIN_NOISE, major, minor))
    one_step = seeds.key(3, Purpose.TRAIN_NOISE, 5, tf.constant(minors, dtype))  # one epoch, many images
    np.testing.assert_array_equal(one_step[1], seeds.key(3, Purpose.TRAIN_NOISE, 5, 9))


def test_a_key_made_in_a_graph_from_a_step_counter_is_the_same_key():
    @tf.function
    def in_graph(seed, step):
        key = seeds.key(seed, Purpose.TRAIN_NOISE, step)
        return key, seeds.normal([5], key)

    key, draws = in_graph(tf.constant(3), tf.constant(41))
    np.testing.assert_array_equal(key, seeds.key(3, Purpose.TRAIN_NOISE, 41))
    np.testing.assert_allclose(draws, seeds.normal([5], key), rtol=1e-6)  # log and cos may be compiled otherwise


@pytest.mark.parametrize("draw", [seeds.normal, seeds.uniform])
def test_numbers_are_a_function_of_the_key_alone(draw):
    key = seeds.key(3, Purpose.SAMPLE, 1, 2)
    keras.utils.set_random_seed(1)
    first = draw([100], key)
    keras.utils.set_random_seed(2)
    draw([7], seeds.key(4, Purpose.SAMPLE))
    tf.random.normal([3])
    np.testing.assert_array_equal(draw([100], key), first)


@pytest.mark.parametrize("draw", [seeds.normal, seeds.uniform])
def test_neighbouring_keys_give_unrelated_numbers(draw):
    base = {"seed": 3, "purpose": Purpose.TRAIN_NOISE, "major": 1, "minor": 2}
    numbers = draw([DRAWS], seeds.key(**base)).numpy()
    changes = {"seed": 4, "purpose": Purpose.VALIDATION_NOISE, "major": 2, "minor": 3}
    for name, value in changes.items():
        others = draw([DRAWS], seeds.key(**{**base, name: value})).numpy()
        correlation = np.corrcoef(numbers, others)[0, 1]
        assert abs(correlation) < 4.5 / np.sqrt(DRAWS)  # 4.5 standard errors, 1 / sqrt(n), of unrelated numbers


def test_the_generator_is_philox_as_in_recorded_runs():
    draws = seeds.uniform([4], seeds.key(20, Purpose.EVALUATION_NOISE, 3, 7))
    # Drawn on a CPU with TensorFlow 2.21; integers scaled by 2^-23, so they are exact everywhere.
    np.testing.assert_array_equal(draws * 2**23, [1245426, 7181580, 7929441, 7739964])


def test_normal_numbers_have_the_moments_of_a_standard_normal():
    draws = seeds.normal([DRAWS], seeds.key(0, Purpose.SAMPLE)).numpy()
    assert draws.dtype == np.float32
    draws = draws.astype(np.float64)
    # the standard errors of the first four moments are sqrt(1, 2, 15, 96) / sqrt(n)
    for power, moment, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs(np.mean(draws**power) - moment) < 4.0 * np.sqrt(variance / DRAWS)


def test_uniform_numbers_fill_the_interval_from_0_to_below_1_evenly():
    draws = seeds.uniform([DRAWS], seeds.key(0, Purpose.SAMPLE)).numpy()
    assert draws.dtype == np.float32
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    counts = np.bincount((draws * 20).astype(int), minlength=20)
    chi_squared = np.sum((counts - DRAWS / 20) ** 2) / (DRAWS / 20)
    assert chi_squared < 19 + 4 * np.sqrt(38)  # mean 19, variance 38


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), np.uint8(7), 2**31 - 1])
def test_a_seed_may_be_any_integer_from_0_to_two_billion(seed):
    checked = check_seed(seed)
    assert checked == seed
    assert type(checked) is int


@pytest.mark.parametrize("seed", [-1, 2**31, 1.0, np.float32(1), "1", None, True, [1]])
def test_anything_else_is_refused_as_a_seed_by_name_and_value(seed):
    with pytest.raises(InputError, match=r"^seed must be an integer in \[0, 2147483647\], got ") as error:
        check_seed(seed)
    assert str(error.value).endswith(repr(seed))


def test_initializer_seeds_are_reproducible_and_never_repeat():
    def take(seed, n):
        return list(itertools.islice(seeds.initializer_seeds(seed), n))

    np.random.seed(1)
    first = take(3, 100)
    np.random.seed(2)
    assert take(3, 100) == first
    assert take(3, 10) == first[:10]
    assert len(set(first)) == 100
    assert not set(first) & set(take(4, 100))
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in first)


# ---------------------------------------------------------------------------------------------- requests

EXTREME_SEEDS = [-(2**63), -(2**31), -1, 0, 1, 2**31, 2**63 - 1]
CONTENT = np.array([0.25, -3.5, 1e-30, 0.0], np.float32)


def stream_of(content, seed=0):
    return int(seeds.request_stream(tf.constant(seed, tf.int64), tf.constant(content)))


def test_equal_seeds_and_contents_have_equal_streams_in_a_batch_and_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, None], tf.float32)])
    def in_graph(seed, rows):
        return tf.map_fn(lambda row: seeds.request_stream(*row), (seed, rows), fn_output_signature=tf.int64)

    rows = np.stack([CONTENT, CONTENT[::-1], CONTENT])
    streams = in_graph(np.array([3, 3, 3]), rows).numpy().tolist()
    assert streams == [stream_of(row, 3) for row in rows]
    assert streams[0] == streams[2] != streams[1]


def test_every_bit_of_the_content_and_of_the_seed_changes_the_stream():
    bits = np.unpackbits(CONTENT.view(np.uint8))
    changed = [np.packbits(bits ^ flip).view(np.float32) for flip in np.eye(len(bits), dtype=np.uint8)]
    flipped_seeds = [1 << bit for bit in range(63)] + [-(2**63)]
    streams = [stream_of(CONTENT), *map(stream_of, changed), *(stream_of(CONTENT, seed) for seed in flipped_seeds)]
    assert len(set(streams)) == 1 + 128 + 64


def test_contents_that_differ_in_length_alone_have_different_streams():
    assert len({stream_of(np.zeros(length, np.float32)) for length in (1, 2, 3, 12, 64, 784)}) == 6


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint8])
def test_contents_may_be_numbers_of_any_kind(dtype):
    values = np.arange(12, dtype=dtype)
    assert stream_of(values) == stream_of(values.copy()) != stream_of(values + dtype(1))


def test_request_keys_that_differ_in_any_part_are_different():
    minors = [0, 1, 2, 255, 256, 2**31 - 1, 2**32 - 1]
    found = set()
    for stream, purpose, minor in itertools.product(EXTREME_SEEDS, Purpose, minors):
        key = seeds.request_key(tf.constant(stream, tf.int64), purpose, minor)
        assert key.dtype == tf.int64
        found.add(tuple(key.numpy().tolist()))
    assert len(found) == len(EXTREME_SEEDS) * len(Purpose) * len(minors)


def test_a_counter_from_a_loop_gives_the_same_request_key():
    stream = tf.constant(-5, tf.int64)
    expected = seeds.request_key(stream, Purpose.REQUEST_NOISE, 7)
    for dtype in (tf.int32, tf.int64):
        np.testing.assert_array_equal(seeds.request_key(stream, Purpose.REQUEST_NOISE, tf.constant(7, dtype)), expected)


def test_neighbouring_request_keys_give_unrelated_numbers():
    base = {"stream": 7, "purpose": Purpose.REQUEST_NOISE, "minor": 2}

    def draw(change):
        parts = {**base, **change}
        return seeds.normal([DRAWS], seeds.request_key(tf.constant(parts.pop("stream"), tf.int64), **parts)).numpy()

    changes = [{"stream": 8}, {"stream": 7 - 2**63}, {"purpose": Purpose.REQUEST_PIXELS}, {"minor": 3}, {"minor": 1}]
    numbers = draw({})
    for change in changes:
        correlation = np.corrcoef(numbers, draw(change))[0, 1]
        assert abs(correlation) < 4.5 / np.sqrt(DRAWS)  # 4.5 standard errors, 1 / sqrt(n), of unrelated numbers


@pytest.mark.parametrize("seed", EXTREME_SEEDS)
def test_any_64_bits_are_a_seed_of_a_request(seed):
    stream = seeds.request_stream(tf.constant(seed, tf.int64), tf.constant(CONTENT))
    draws = seeds.uniform([DRAWS], seeds.request_key(stream, Purpose.REQUEST_PIXELS)).numpy().astype(np.float64)
    assert abs(draws.mean() - 0.5) < 4.5 / np.sqrt(12 * DRAWS)  # the variance of a uniform number is 1 / 12


def test_equal_requests_have_the_same_stream_in_every_release():
    # Made with TensorFlow 2.21: a 64-bit hash of the bytes (FarmHash), exclusive or the seed.
    assert [stream_of(CONTENT, seed) for seed in (0, -1)] == [495326839347119714, -495326839347119715]


# ---------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("width", [1, 31, 32, 50, 2500])
@pytest.mark.parametrize(("draw_rows", "unique"), [(seeds.row_normals, 0.999), (seeds.row_uniforms, 0.99)])
def test_a_row_is_a_function_of_the_key_and_its_number_alone(draw_rows, unique, width):
    key = seeds.key(3, Purpose.TRAIN_NOISE, 5)
    rows = draw_rows(0, 9, width, key).numpy()
    assert rows.shape == (9, width)
    assert len(np.unique(rows)) > unique * rows.size  # of 2^46 pairs of uniform numbers, and of 2^23 numbers
    np.testing.assert_array_equal(draw_rows(4, 3, width, key), rows[4:7])
    in_graph = tf.function(lambda first, count: draw_rows(first, count, width, key), autograph=False)
    np.testing.assert_allclose(in_graph(tf.constant(4), tf.constant(3)), rows[4:7], rtol=1e-6)
    assert draw_rows(2, 0, width, key).shape == (0, width)


def test_neighbouring_numbers_and_rows_are_unrelated():
    rows = seeds.row_normals(0, 2000, 100, seeds.key(1, Purpose.TRAIN_NOISE)).numpy().astype(np.float64)
    halves = rows[:, :36], rows[:, 64:]  # the cosines and the sines of the same 36 draws
    pairs = [(rows[:, :-1], rows[:, 1:]), (rows[:-1], rows[1:]), halves, (halves[0] ** 2, halves[1] ** 2)]
    for one, other in pairs:
        correlation = np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]
        assert abs(correlation) < 4.5 / np.sqrt(one.size)  # standard errors of unrelated numbers


def test_normal_numbers_follow_the_normal_distribution_far_into_its_tails():
    draws = np.sort(seeds.normal([4_000_000], seeds.key(2, Purpose.SAMPLE)).numpy().astype(np.float64))
    assert stats.kstest(draws[::20], "norm").statistic < 1.63 / np.sqrt(200_000)  # 1 in 100, for this seed fixed
    for bound in (3.0, 4.0):
        expected = 2 * len(draws) * stats.norm.sf(bound)
        assert abs(np.sum(np.abs(draws) > bound) - expected) < 4 * np.sqrt(expected)  # Poisson
    assert np.abs(draws).max() < np.sqrt(2 * 23 * np.log(2)) + 1e-5  # of the smallest uniform number, 2^-23
