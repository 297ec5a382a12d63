"""The log-likelihood of Bernoulli pixels in few passes: the same number and gradient as the plain formula."""

import numpy as np
import pytest
import tensorflow as tf
from iwae_tf.layers.bernoulli import Bernoulli
from iwae_tf.layers.bernoulli_density import bernoulli_log_prob, shared_terms
from iwae_tf.layers.shared_terms import NO_TERMS


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


def _bfloat16(array):
    """Float64 numbers rounded to bfloat16."""
    return tf.cast(tf.cast(array, tf.bfloat16), tf.float64).numpy()


def test_bfloat16_features_have_the_value_of_logits_from_rounded_products():
    features, kernel, bias, value = (_bfloat16(a) for a in _arguments(784, binary=True))
    compiled = tf.function(bernoulli_log_prob, autograph=False)
    found = compiled(tf.cast(features, tf.bfloat16), *_in_float32([kernel, bias, value]))
    assert found.dtype == tf.float32
    products = features @ kernel
    differences = []
    for logits in (_bfloat16(products + bias), _bfloat16(_bfloat16(products) + bias)):  # in one kernel, or in two
        expected = np.sum(value * logits - np.logaddexp(0.0, logits), axis=-1)
        differences.append(np.abs(found - expected).max())
    # Sums in another order end in another bfloat16 number now and then; the other rounding is 0.2 off.
    assert min(differences) < 0.1


@pytest.mark.parametrize("images", [1, 4])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_shared_terms_computed_before_change_neither_value_nor_gradient(dtype, images):
    features, *others = _in_float32(_arguments(48))
    inputs = [tf.cast(features[:, :images], dtype), *others[:2], others[2][:images]]
    results = []
    for shared in (NO_TERMS, shared_terms(*inputs[1:], dtype)):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            log_p = bernoulli_log_prob(*inputs, shared)
        results.append([log_p, *tape.gradient(log_p, inputs)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(tf.cast(one, tf.float32), tf.cast(other, tf.float32))


def test_one_image_by_bfloat16_products_has_the_value_that_it_has_among_others():
    features, kernel, bias, value = _in_float32(_arguments(784))
    features = tf.cast(features, tf.bfloat16)
    together = bernoulli_log_prob(features, kernel, bias, value)
    for image in range(4):
        one = slice(image, image + 1)
        alone = bernoulli_log_prob(features[:, one], kernel, bias, value[one])
        np.testing.assert_allclose(alone, together[:, one], rtol=1e-6)  # float32


def test_rounding_to_bfloat16_costs_a_well_explained_image_nothing():
    rng = np.random.default_rng(0)
    features, signs = tf.ones([1, 2, 3], tf.bfloat16), rng.choice([-1.0, 1.0], size=64)
    kernel = tf.constant(signs * rng.uniform(15.0, 25.0, size=(3, 64)), tf.float32)  # logits of 45 to 75, 0.25 apart
    value = tf.constant(np.tile(signs > 0, (2, 1)), tf.float32)
    np.testing.assert_allclose(bernoulli_log_prob(features, kernel, tf.zeros([64]), value), 0.0, atol=3e-4)


def test_the_gradient_by_bfloat16_products_is_near_that_of_float32():
    arguments = _in_float32([_bfloat16(a) for a in _arguments(784)])
    gradients = {}
    for dtype in (tf.float32, tf.bfloat16):
        inputs = [tf.cast(arguments[0], dtype), *arguments[1:]]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            target = tf.reduce_sum(bernoulli_log_prob(*inputs))
        gradients[dtype] = tape.gradient(target, inputs)
        assert [g.dtype for g in gradients[dtype]] == [i.dtype for i in inputs]
    for exact, rounded in zip(gradients[tf.float32], gradients[tf.bfloat16], strict=True):
        difference = tf.norm(tf.cast(rounded, tf.float32) - exact) / tf.norm(exact)
        assert 0.0 < float(difference) < 0.01  # 8 bits


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
def test_a_layer_keeps_float16_features_out_of_the_products(dtype):
    layer = Bernoulli(64, iter(range(9)), mean=np.linspace(0.1, 0.9, 64))
    layer.build((None, 5))
    rng = np.random.default_rng(0)
    features = tf.cast(_bfloat16(rng.uniform(0.1, 1.0, size=(30, 4, 5))), dtype)  # exact in all three
    value = tf.constant(rng.random((4, 64)), tf.float32)
    exact = layer.log_prob_of_features(tf.cast(features, tf.float32), value)
    changed = np.abs(layer.log_prob_of_features(features, value) - exact).max()
    assert (changed > 0.0) == (dtype == tf.bfloat16)


@pytest.mark.parametrize("shape", [(50, 4), (None, 4), (50, None), (None, None)])
def test_the_bits_do_not_depend_on_which_shapes_a_graph_knows(shape):
    # TensorFlow rewrites chains of additions where it knows that shapes are equal.
    rng = np.random.default_rng(0)
    arguments = np.tanh(rng.normal(size=(50, 4, 8))), rng.normal(size=(8, 48)), rng.normal(size=48), rng.random((4, 48))
    inputs = _in_float32(arguments)
    signature = [tf.TensorSpec([*shape, 8]), tf.TensorSpec([8, 48]), tf.TensorSpec([48]), tf.TensorSpec([shape[1], 48])]
    compiled = tf.function(bernoulli_log_prob, input_signature=signature, autograph=False)
    np.testing.assert_array_equal(compiled(*inputs), bernoulli_log_prob(*inputs))


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
