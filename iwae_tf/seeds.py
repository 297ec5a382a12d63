"""Stateless keys: every random number is a function of (seed, purpose, counters) alone.

A key is the `seed` argument of `tf.random.stateless_*`. Nothing here holds state, so a resumed run, a split batch and
an image scored alone all see the same numbers.
"""

import enum

import numpy as np
import tensorflow as tf

# Philox is as fast in a plain graph as TensorFlow's default and 8 to 25 times faster under XLA.
ALGORITHM = "philox"
_SCRAMBLING_KEY = 0x02461E293EC8F720  # TensorFlow's, in `stateless_random_ops.cc`
_VECTOR = 16  # float32 numbers in the longest vector registers; a partial vector at the end may round differently


class Purpose(enum.IntEnum):
    """Uses of random numbers; two purposes never share a stream. New purposes go at the end; 5 and 9 are retired."""

    WEIGHTS = 0
    SHUFFLE = 1
    BINARIZE_TRAIN = 2
    BINARIZE_EVALUATION = 3
    TRAIN_NOISE = 4
    EVALUATION_NOISE = 6
    SAMPLE = 7
    ACTIVE_UNITS = 8
    REQUEST_PIXELS = 10
    REQUEST_SAMPLE = 11
    ANNEALING_PILOT = 12
    ANNEALING = 13
    ANNEALING_REVERSE = 14
    SIMULATION = 15
    BACKWARD_SAMPLES = 16
    SLEEP_PHASE = 17
    REFINEMENT = 18
    PILOT = 19
    LOCAL_FIT = 20
    EXPLANATION = 21
    IMPUTATION = 22


def key(seed, purpose: Purpose, major=0, minor=0) -> tf.Tensor:
    """Returns the key of a stream: int64 [2] for scalar counters, int64 [N, 2] for counters of shape [N].

    Args:
        seed: the run's seed, int in [0, 2**31 - 1].
        purpose: use of the numbers.
        major: first counter (a step, an epoch, a row); int or int tensor, 0 <= major < 2**31.
        minor: second counter (a layer, an image, a block of samples); int or int tensor, 0 <= minor < 2**32.
    """
    counters = tf.cast(major, tf.int64) * 2**32 + tf.cast(minor, tf.int64)
    stream = tf.cast(seed, tf.int64) * 256 + int(purpose)
    return tf.stack([tf.broadcast_to(stream, tf.shape(counters)), counters], axis=-1)


def row_streams(seed, x: tf.Tensor) -> tf.Tensor:
    """Returns the streams of rows by their content, int64 [B], for `stream_key`: equal rows share a stream.

    Args:
        seed: int64 scalar or [B], any value.
        x: float32 [B, D].
    """
    content = tf.where(x == 0.0, tf.zeros_like(x), x)  # -0 is 0
    content = tf.where(tf.math.is_nan(x), float("nan"), content)  # NaN has many bit patterns
    fingerprints = tf.bitcast(tf.fingerprint(content), tf.int64)  # [B]
    return tf.bitwise.bitwise_xor(tf.cast(seed, tf.int64), fingerprints)


def stream_key(stream: tf.Tensor, purpose: Purpose, minor=0) -> tf.Tensor:
    """Returns the key of a stream that a row's content or a request's seed identifies: int64 [2].

    Args:
        stream: int64 scalar, any value, such as an element of `row_streams`.
        purpose: use of the numbers.
        minor: counter (a layer); int or int tensor, 0 <= minor < 2**32.
    """
    return tf.stack([stream, int(purpose) * 2**32 + tf.cast(minor, tf.int64)])


def normal(shape, key: tf.Tensor) -> tf.Tensor:
    """Returns standard normal float32 numbers of `shape`, a function of `key` alone."""
    return tf.reshape(row_normals(0, 1, tf.reduce_prod(shape), key), shape)


def row_normals(first, count, width, key: tf.Tensor) -> tf.Tensor:
    """Returns rows of standard normal numbers, each a function of key and number alone, float32 [count, width].

        z = sqrt(-2 log u) cos(2 pi v)  and  sqrt(-2 log u) sin(2 pi v),  u in (0, 1], v in [0, 1)

    Numbering the rows lets any replica, chunk or split of a batch draw its own rows. The largest number is 5.65.

    Args:
        first: number of the first row, int >= 0.
        count: number of rows.
        width: numbers in a row.
        key: of the stream, int64 [2].

    Reference: Box & Muller (1958), A note on the generation of random normal deviates.
    """
    half = -(-width // (2 * _VECTOR)) * _VECTOR
    uniforms = _whole_blocks(first, count, half // 2, key)
    radius = tf.sqrt(-2.0 * tf.math.log(1.0 - uniforms[:, :half]))
    angle = (2.0 * np.pi) * uniforms[:, half:]
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)[:, :width]


def row_uniforms(first, count, width, key: tf.Tensor) -> tf.Tensor:
    """Returns rows of uniform numbers in [0, 1), float32 [count, width]; the arguments are those of `row_normals`."""
    return _whole_blocks(first, count, -(-width // 4), key)[:, :width]


def uniform(shape, key: tf.Tensor) -> tf.Tensor:
    """Returns uniform float32 numbers in [0, 1) of `shape`, a function of `key` alone."""
    return _uniform_from(shape, *_key_and_counter(key))


def int32_pair(key: tf.Tensor) -> tf.Tensor:
    """Returns a seed for `tfp.distributions.Distribution.sample`, int32 [2], a function of `key`."""
    state, counter = _key_and_counter(key)
    philox = tf.random.Algorithm.PHILOX.value
    return tf.raw_ops.StatelessRandomUniformFullIntV2(shape=[2], key=state, counter=counter, dtype=tf.int32, alg=philox)


def _whole_blocks(first, count, blocks, key):
    """Returns [count, 4 * blocks]: the generator counts blocks of four numbers, and row r starts at r * blocks."""
    state, counter = _key_and_counter(key)
    first_block = tf.cast(first, tf.int64) * tf.cast(blocks, tf.int64)
    counter = tf.bitcast(tf.bitcast(counter, tf.int64) + tf.stack([first_block, 0]), tf.uint64)
    return _uniform_from(tf.stack([count, 4 * blocks]), state, counter)


def _uniform_from(shape, state, counter):
    philox = tf.random.Algorithm.PHILOX.value
    return tf.raw_ops.StatelessRandomUniformV2(shape=shape, key=state, counter=counter, alg=philox)


def _key_and_counter(key):
    """Returns key and counter of the generator, uint64 [1] and [2], as `StatelessRandomGetKeyCounter` makes them.

    XLA's version of that operation drops the high 32 bits of both numbers, and with them the step of a training run,
    so that every step would see the same noise. This is the computation of TensorFlow's own version.
    """
    mixed = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[4],
        key=tf.constant([_SCRAMBLING_KEY], tf.uint64),
        counter=tf.bitcast(tf.cast(key, tf.int64), tf.uint64),
        dtype=tf.uint32,
        alg=tf.random.Algorithm.PHILOX.value,
    )
    halves = tf.bitcast(tf.reshape(mixed, [2, 2]), tf.uint64)  # [2]
    return halves[:1], tf.stack([tf.zeros([], tf.uint64), halves[1]])


def initializer_seeds(seed: int):
    """Yields initialiser seeds for the weights of a model, a function of `seed` alone; take them in a fixed order."""
    sequence = np.random.SeedSequence([seed, int(Purpose.WEIGHTS)])
    while True:
        yield int(sequence.spawn(1)[0].generate_state(1)[0] >> 1)
