"""Tanh layers in float16: their gradients beside a float64 formula, from the smallest to the largest."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from iwae_tf.models.mixed_precision import tanh_layers
from iwae_tf.models.networks import MLP

WIDTHS = (9, 7, 6)  # of x and of two layers


def _weights(gain=1.0):
    rng = np.random.default_rng(0)
    kernels = [gain * rng.standard_normal(shape) / 3.0 for shape in itertools.pairwise(WIDTHS)]
    return kernels, [0.3 * rng.standard_normal(n) for n in WIDTHS[1:]]


def _expected(x, upstream, kernels, biases):
    """The values, and the gradients by x, kernels and biases, in float64 by the chain rule."""
    values = [x]
    for kernel, bias in zip(kernels, biases, strict=True):
        values.append(np.tanh(values[-1] @ kernel + bias))
    by_kernels, by_biases = [], []
    for layer in (1, 0):
        before_tanh = upstream * (1.0 - values[layer + 1] ** 2)
        by_kernels.insert(0, np.einsum("nd,nh->dh", values[layer], before_tanh))
        by_biases.insert(0, before_tanh.sum(axis=0))
        upstream = before_tanh @ kernels[layer].T
    return values[-1], [upstream, *by_kernels, *by_biases]


def _computed(x, upstream, kernels, biases):
    x, kernels, biases = tf.nest.map_structure(lambda v: tf.constant(v, tf.float32), (x, kernels, biases))
    with tf.GradientTape() as tape:
        tape.watch([x, kernels, biases])
        value = tanh_layers(x, kernels, biases)
    return value, tape.gradient(value, [x, *kernels, *biases], tf.constant(upstream, tf.float32))


def _relative_error(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


# Every number is rounded to 11 bits a few times: parts in a thousand, less where many are summed.
ROUNDING = 3e-3


@pytest.mark.parametrize("size", [1e-20, 1e-9, 1.0, 1e6, 1e15])
@pytest.mark.parametrize("rows", [3, 20_000])
def test_gradients_are_right_whatever_their_size_and_number(size, rows):
    rng = np.random.default_rng(rows)
    x, upstream = rng.standard_normal((rows, 9)), size * rng.random((rows, 6))  # of one sign: the sums are large
    value, gradients = _computed(x, upstream, *_weights())
    expected_value, expected = _expected(x, upstream, *_weights())
    np.testing.assert_allclose(value, expected_value, atol=2e-3)  # 11 bits, twice
    for one, other in zip(gradients, expected, strict=True):
        assert one.dtype == tf.float32
        assert _relative_error(one.numpy().astype(np.float64), other) < ROUNDING


def test_samples_of_small_weight_count_beside_one_of_large_weight():
    # 5000 rows whose weights fall from 1 to e^-12, as importance weights do: the last hundreds weigh 1e-5 of the first.
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5000, 9))
    upstream = np.exp(-12.0 * np.arange(5000) / 5000)[:, None] * rng.standard_normal((5000, 6)) / 5000
    by_x, expected = _computed(x, upstream, *_weights())[1][0].numpy(), _expected(x, upstream, *_weights())[1][0]
    for part in (slice(0, 500), slice(4500, 5000)):
        assert _relative_error(by_x[part], expected[part]) < 0.05  # of the last ones 5 bits are left


@pytest.mark.parametrize("rows", [1, 400])
@pytest.mark.parametrize(("input_size", "gain"), [(1000.0, 1.0), (1.0, 20.0)])
def test_gradients_of_large_inputs_and_large_weights_do_not_overflow(input_size, gain, rows):
    rng = np.random.default_rng(2)
    x, upstream = input_size * rng.random((rows, 9)), rng.random((rows, 6))
    kernels, biases = _weights()
    kernels[0], kernels[1] = kernels[0] / input_size, gain * kernels[1]
    _, gradients = _computed(x, upstream, kernels, biases)
    for one, other in zip(gradients, _expected(x, upstream, kernels, biases)[1], strict=True):
        assert _relative_error(one.numpy(), other) < 0.1  # 1 - a^2 has few digits where weights drive a to 1


def test_values_are_float16_numbers_in_float32():
    value = _computed(np.random.default_rng(0).standard_normal((50, 9)), np.ones((50, 6)), *_weights())[0].numpy()
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, value.astype(np.float16).astype(np.float32))


def test_a_gradient_of_zeros_stays_one_and_one_that_is_not_finite_is_not_hidden():
    x = np.ones((4, 9))
    for gradient in _computed(x, np.zeros((4, 6)), *_weights())[1]:
        assert not gradient.numpy().any()
    for bad in (np.nan, np.inf):
        upstream = np.zeros((4, 6))
        upstream[1, 2] = bad
        for gradient in _computed(x, upstream, *_weights())[1]:
            assert not np.isfinite(gradient).all()


@pytest.mark.parametrize("jit", [False, True])
def test_samples_and_batch_of_unknown_size_are_rows_like_others(jit):
    rng = np.random.default_rng(3)
    x, (kernels, biases) = rng.standard_normal((4, 5, 9)).astype(np.float32), _weights()
    kernels, biases = tf.nest.map_structure(lambda v: tf.constant(v, tf.float32), (kernels, biases))
    function = tf.function(tanh_layers, jit_compile=jit)
    shaped = tf.TensorSpec([None, None, 9], tf.float32)
    several = function.get_concrete_function(shaped, kernels, biases)(tf.constant(x), *kernels, *biases)
    rows = tanh_layers(tf.constant(x.reshape(20, 9)), kernels, biases)
    assert several.shape == (4, 5, 6)
    np.testing.assert_allclose(tf.reshape(several, [20, 6]), rows, atol=2e-3)  # XLA sums in another order


def test_an_mlp_in_float16_is_the_one_in_float32_but_for_rounding_down_to_its_smallest_gradients():
    half, whole = (MLP((7, 6), iter(range(2)), dtype=dtype) for dtype in ("mixed_float16", "float32"))
    x = tf.constant(np.random.default_rng(4).standard_normal((30, 9)), tf.float32)
    values, gradients = [], []
    for layer in (half, whole):
        layer.build((None, 9))
        with tf.GradientTape() as tape:
            values.append(layer(x))
        weights = [variable.value for variable in layer.trainable_variables]
        gradients.append(tape.gradient(values[-1], weights, tf.fill([30, 6], 1e-9)))
    assert {weight.dtype for weight in half.weights} == {"float32"}
    assert 0.0 < np.abs(values[0] - values[1]).max() < 2e-3  # 11 bits, twice
    for one, other in zip(*gradients, strict=True):
        assert _relative_error(one.numpy(), other.numpy()) < ROUNDING
