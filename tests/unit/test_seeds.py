"""Keys that never meet, and numbers that are a function of their key alone."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from iwae_tf import seeds
from iwae_tf.errors import MAX_SEED
from iwae_tf.seeds import Purpose

DRAWS = 100_000
ANY_64_BITS = [-(2**63), -(2**31), -1, 0, 1, 2**31, 2**63 - 1]
CONTENT = np.array([0.25, -3.5, 1e-30, 0.0], np.float32)
UNRELATED = 4.5 / np.sqrt(DRAWS)  # 4.5 standard errors of the correlation of unrelated numbers


def _stream_key(stream, purpose, minor=0):
    return seeds.stream_key(tf.constant(stream, tf.int64), purpose, minor)


def _stream(content, seed=0):
    return int(seeds.row_streams(tf.constant(seed, tf.int64), tf.constant(content)[None])[0])


def test_keys_that_differ_in_any_argument_are_different():
    counters = np.array(list(itertools.product([0, 1, 2, 255, 256, 2**31 - 1], [0, 1, 2, 255, 256, 2**32 - 1])))
    found = set()
    for seed, purpose in itertools.product([0, 1, 2, 255, 256, 257, 65536, MAX_SEED], Purpose):
        found.update(map(tuple, seeds.key(seed, purpose, counters[:, 0], counters[:, 1]).numpy().tolist()))
    assert len(found) == 8 * len(Purpose) * len(counters)
    minors = [0, 1, 2, 255, 256, 2**31 - 1, 2**32 - 1]
    requests = itertools.product(ANY_64_BITS, Purpose, minors)
    assert len({tuple(_stream_key(*request).numpy().tolist()) for request in requests}) == 49 * len(Purpose)


def test_the_numbers_of_the_purposes_are_those_of_recorded_runs():
    recorded = {"SHUFFLE": 1, "BINARIZE_TRAIN": 2, "BINARIZE_EVALUATION": 3, "TRAIN_NOISE": 4, "EVALUATION_NOISE": 6}
    assert {name: int(Purpose[name]) for name in recorded} == recorded
    assert len({int(purpose) for purpose in Purpose}) == len(Purpose)
    assert max(Purpose) < 256  # more would run into the next seed


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_keys_of_many_counters_are_those_made_one_by_one_and_those_of_a_graph(dtype):
    majors, minors = [0, 5, 2**31 - 1, 7], [0, 9, 3, 2**31 - 1]
    arguments = tf.constant(majors, dtype), tf.constant(minors, dtype)
    together = seeds.key(3, Purpose.TRAIN_NOISE, *arguments)
    assert together.dtype == tf.int64
    one_by_one = [seeds.key(3, Purpose.TRAIN_NOISE, *pair) for pair in zip(majors, minors, strict=True)]
    np.testing.assert_array_equal(together, one_by_one)
    in_graph = tf.function(lambda seed, *counters: seeds.key(seed, Purpose.TRAIN_NOISE, *counters))
    np.testing.assert_array_equal(in_graph(tf.constant(3), *arguments), together)
    one_epoch = seeds.key(3, Purpose.TRAIN_NOISE, 5, arguments[1])  # and many images
    np.testing.assert_array_equal(one_epoch[1], seeds.key(3, Purpose.TRAIN_NOISE, 5, 9))


@pytest.mark.parametrize("draw", [seeds.normal, seeds.uniform])
def test_numbers_are_a_function_of_the_key_alone_and_those_of_neighbouring_keys_are_unrelated(draw):
    base = {"seed": 3, "purpose": Purpose.TRAIN_NOISE, "major": 1, "minor": 2}
    keras.utils.set_random_seed(1)
    numbers = draw([DRAWS], seeds.key(**base)).numpy()
    keras.utils.set_random_seed(2)
    tf.random.normal([3])
    np.testing.assert_array_equal(draw([DRAWS], seeds.key(**base)), numbers)
    changes = {"seed": 4, "purpose": Purpose.EVALUATION_NOISE, "major": 2, "minor": 3}
    for name, value in changes.items():
        assert abs(np.corrcoef(numbers, draw([DRAWS], seeds.key(**{**base, name: value})))[0, 1]) < UNRELATED
    numbers = draw([DRAWS], _stream_key(7, Purpose.REQUEST_PIXELS, 2)).numpy()
    for other in [(8, 10, 2), (7 - 2**63, 10, 2), (7, 11, 2), (7, 10, 3)]:  # 10 is REQUEST_PIXELS
        assert abs(np.corrcoef(numbers, draw([DRAWS], _stream_key(*other)))[0, 1]) < UNRELATED


def test_numbers_are_those_of_recorded_runs():
    draws = seeds.uniform([4], seeds.key(20, Purpose.EVALUATION_NOISE, 3, 7))
    # Philox on a CPU with TensorFlow 2.21; integers scaled by 2^-23, so they are exact everywhere.
    np.testing.assert_array_equal(draws * 2**23, [1245426, 7181580, 7929441, 7739964])
    # TensorFlow 2.21's FarmHash of the bytes, exclusive or the seed.
    assert [_stream(CONTENT, seed) for seed in (0, -1)] == [495326839347119714, -495326839347119715]


def test_normal_numbers_follow_the_normal_distribution_far_into_its_tails():
    draws = np.sort(seeds.normal([4_000_000], seeds.key(2, Purpose.SAMPLE)).numpy())
    assert draws.dtype == np.float32
    draws = draws.astype(np.float64)
    assert stats.kstest(draws[::20], "norm").statistic < 1.63 / np.sqrt(200_000)  # 1 in 100, for this fixed seed
    # the standard errors of the first four moments are sqrt(1, 2, 15, 96) / sqrt(n)
    for power, moment, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs(np.mean(draws**power) - moment) < 4.0 * np.sqrt(variance / len(draws))
    for bound in (3.0, 4.0):
        expected = 2 * len(draws) * stats.norm.sf(bound)
        assert abs(np.sum(np.abs(draws) > bound) - expected) < 4 * np.sqrt(expected)  # Poisson
    assert np.abs(draws).max() < np.sqrt(2 * 23 * np.log(2)) + 1e-5  # of the smallest uniform number, 2^-23


@pytest.mark.parametrize("seed", ANY_64_BITS)
def test_uniform_numbers_fill_the_interval_from_0_to_below_1_evenly(seed):
    draws = seeds.uniform([DRAWS], _stream_key(seed, Purpose.REQUEST_PIXELS)).numpy()
    assert draws.dtype == np.float32
    assert 0.0 <= draws.min() < draws.max() < 1.0
    counts = np.bincount((draws * 20).astype(int), minlength=20)
    assert np.sum((counts - DRAWS / 20) ** 2) / (DRAWS / 20) < 19 + 4 * np.sqrt(38)  # chi-squared: mean 19, variance 38


@pytest.mark.parametrize("width", [1, 31, 32, 50, 2500])
@pytest.mark.parametrize("draw_rows", [seeds.row_normals, seeds.row_uniforms])
def test_a_row_is_a_function_of_the_key_and_its_number_alone(draw_rows, width):
    key = seeds.key(3, Purpose.TRAIN_NOISE, 5)
    rows = draw_rows(0, 9, width, key).numpy()
    assert rows.shape == (9, width)
    assert len(np.unique(rows)) > 0.99 * rows.size  # of 2^23 uniform numbers
    np.testing.assert_array_equal(draw_rows(4, 3, width, key), rows[4:7])
    in_graph = tf.function(lambda first, count: draw_rows(first, count, width, key), autograph=False)
    np.testing.assert_allclose(in_graph(tf.constant(4), tf.constant(3)), rows[4:7], rtol=1e-6)
    assert draw_rows(2, 0, width, key).shape == (0, width)


def test_neighbouring_numbers_and_rows_are_unrelated():
    rows = seeds.row_normals(0, 2000, 100, seeds.key(1, Purpose.TRAIN_NOISE)).numpy().astype(np.float64)
    halves = rows[:, :36], rows[:, 64:]  # the cosines and the sines of the same 36 draws
    pairs = [(rows[:, :-1], rows[:, 1:]), (rows[:-1], rows[1:]), halves, (halves[0] ** 2, halves[1] ** 2)]
    for one, other in pairs:
        assert abs(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]) < 4.5 / np.sqrt(one.size)


def test_initializer_seeds_are_reproducible_and_never_repeat():
    def take(seed, n):
        return list(itertools.islice(seeds.initializer_seeds(seed), n))

    first = take(3, 100)
    np.random.seed(2)
    assert take(3, 10) == first[:10]
    assert len(set(first) | set(take(4, 100))) == 200
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in first)


def test_equal_seeds_and_contents_have_equal_streams_in_a_batch_and_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, None], tf.float32)])
    def in_graph(seed, rows):
        return seeds.row_streams(seed, rows)

    rows = np.stack([CONTENT, CONTENT[::-1], CONTENT])
    streams = in_graph(np.array([3, 3, 3]), rows).numpy().tolist()
    assert streams == [_stream(row, 3) for row in rows]
    assert streams[0] == streams[2] != streams[1]


def test_every_bit_and_the_length_of_the_content_and_every_bit_of_the_seed_change_the_stream():
    content = np.array([0.25, -3.5, 1e-20, 7.0], np.float32)
    bits = np.unpackbits(content.view(np.uint8))
    changed = [np.packbits(bits ^ flip).view(np.float32) for flip in np.eye(len(bits), dtype=np.uint8)]
    flipped_seeds = [1 << bit for bit in range(63)] + [-(2**63)]
    streams = [_stream(content), *map(_stream, changed), *(_stream(content, seed) for seed in flipped_seeds)]
    assert len(set(streams)) == 1 + 128 + 64
    assert len({_stream(np.zeros(length, np.float32)) for length in (1, 2, 3, 12, 64, 784)}) == 6
    assert _stream(-np.zeros(3, np.float32)) == _stream(np.zeros(3, np.float32))
    values = np.arange(12, dtype=np.float32)
    assert _stream(values) == _stream(values.copy()) != _stream(values + 1)


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: seeds.row_normals(0, 2, 3, key),
        lambda key: seeds.row_uniforms(0, 2, 3, key),
        lambda key: seeds.uniform([6], key),
        seeds.int32_pair,
    ],
)
def test_numbers_under_xla_differ_between_steps(draw):
    # XLA's StatelessRandomGetKeyCounter drops the high words of a key, where the step is
    compiled = tf.function(lambda step: draw(seeds.key(1, Purpose.TRAIN_NOISE, step)), jit_compile=True)
    draws = [compiled(tf.constant(step)).numpy() for step in (0, 1, 7)]
    assert len({tuple(np.ravel(numbers)) for numbers in draws}) == 3


def test_the_generators_key_and_counter_are_those_of_tensorflow():
    for step in (0, 5):
        key = seeds.key(2**31 - 1, Purpose.SLEEP_PHASE, step, 2**32 - 1)
        state, counter = seeds._key_and_counter(key)
        expected = tf.raw_ops.StatelessRandomGetKeyCounter(seed=key)
        np.testing.assert_array_equal(state, expected.key)
        np.testing.assert_array_equal(counter, expected.counter)
