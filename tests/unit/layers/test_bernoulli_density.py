"""The log-likelihood of Bernoulli pixels in few passes: the same number and gradient as the plain formula."""

import numpy as np
import pytest
import tensorflow as tf

from iwae_tf.layers.bernoulli import Bernoulli
from iwae_tf.layers.bernoulli_density import bernoulli_log_prob


def _arguments(num_pixels, scale=1.0, binary=False, seed=0):
    """features [3, 4, 5], kernel [5, D], bias [D], value [4, D], float64; logits of about the scale."""
    rng = np.random.default_rng(seed)
    value = rng.random((4, num_pixels))
    value = np.round(value) if binary else value
    return (
        np.tanh(rng.normal(size=(3, 4, 5))),
        scale * rng.normal(size=(5, num_pixels)),
        scale * rng.normal(size=num_pixels),
        value,
    )


def _reference(features, kernel, bias, value):
    logits = features @ kernel + bias
    return np.sum(value * logits - np.logaddexp(0.0, logits), axis=-1)


def _in_float32(arguments):
    return [tf.constant(argument, tf.float32) for argument in arguments]


@pytest.mark.parametrize("num_pixels", [16, 48, 64, 784, 1600, 2032])
@pytest.mark.parametrize("binary", [True, False])
def test_the_value_is_that_of_the_plain_formula(num_pixels, binary):
    arguments = _arguments(num_pixels, binary=binary)
    expected = _reference(*arguments)
    # A sum of D numbers of about 1, and products of five: rounding of float32 some ten times over.
    np.testing.assert_allclose(bernoulli_log_prob(*_in_float32(arguments)), expected, rtol=1e-6, atol=num_pixels * 2e-6)


@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_large_logits_neither_overflow_nor_lose_the_value(scale):
    arguments = _arguments(64, scale=scale, binary=True)
    expected = _reference(*arguments)
    assert expected.min() < -20 * scale
    np.testing.assert_allclose(bernoulli_log_prob(*_in_float32(arguments)), expected, rtol=1e-5)


def test_a_certain_pixel_costs_nothing():
    features, value = tf.zeros([1, 2, 3]), tf.constant([[0.0] * 8 + [1.0] * 8] * 2)
    bias = tf.constant([-80.0] * 8 + [80.0] * 8)
    assert bernoulli_log_prob(features, tf.zeros([3, 16]), bias, value).numpy().tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("num_pixels", [16, 32])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_gradient_is_that_of_the_plain_formula(num_pixels, compiled):
    arguments = _arguments(num_pixels)
    upstream = np.random.default_rng(1).normal(size=(3, 4))

    def plain(features, kernel, bias, value):
        logits = tf.linalg.matmul(features, tf.broadcast_to(kernel, [3, *kernel.shape])) + bias
        return tf.reduce_sum(value * logits - tf.nn.softplus(logits), axis=-1)

    def gradients(function, inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            target = tf.reduce_sum(tf.cast(upstream, inputs[0].dtype) * function(*inputs))
        return tape.gradient(target, inputs)

    expected = gradients(plain, [tf.constant(argument) for argument in arguments])  # float64
    function = tf.function(lambda *inputs: gradients(bernoulli_log_prob, list(inputs)), autograph=False)
    inputs = _in_float32(arguments)
    found = function(*inputs) if compiled else gradients(bernoulli_log_prob, inputs)
    for mine, its in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-5)  # float32 sums of up to 30 numbers of about 1


@pytest.mark.parametrize("leading", [(3, 4), (4,), (2, 3, 4)])
@pytest.mark.parametrize("num_images", [1, 4])
@pytest.mark.parametrize("num_pixels", [16, 30])  # 30 make no groups
def test_a_layer_takes_features_and_pixels_of_any_shapes_that_go_together(leading, num_images, num_pixels):
    layer = Bernoulli(num_pixels, iter(range(9)), mean=np.linspace(0.1, 0.9, num_pixels))
    layer.build((None, 5))
    rng = np.random.default_rng(0)
    features = tf.constant(rng.normal(size=(*leading, 5)), tf.float32)
    value = tf.constant(rng.random((num_images, num_pixels)), tf.float32)
    expected = layer.log_prob(layer(features), value)
    np.testing.assert_allclose(layer.log_prob_of_features(features, value), expected, rtol=2e-6)
