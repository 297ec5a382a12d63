"""Bernoulli pixels: huge logits, and the log-likelihood from features in few passes against TFP's formula."""

import numpy as np
import pytest
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.distributions.bernoulli import Bernoulli, bernoulli_log_prob


def built(units, positions=(), features=5):
    head = Bernoulli(units, seeds.initializer_seeds(0), mean=np.linspace(0.1, 0.9, units))
    head.build((None, *positions, features))
    return head


@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0 - 2.0**-23])  # the ends of the generator's range
def test_a_certain_pixel_is_drawn_as_such_every_time(monkeypatch, draw):
    monkeypatch.setattr("iwae_tf.seeds.uniform", lambda shape, key: tf.fill(shape, draw))
    draws = Bernoulli.sample(tf.constant([100.0, -200.0]), seeds.key(0, seeds.Purpose.SAMPLE))
    np.testing.assert_array_equal(draws, [1.0, 0.0])


# ------------------------------------------------------------------------------------------- fused with the product


def arguments(num_pixels, scale=1.0, binary=False, seed=0):
    """features [3, 4, 5], kernel [5, D], bias [D], value [4, D], float64; logits of about the scale."""
    rng = np.random.default_rng(seed)
    value = rng.random((4, num_pixels))
    return (
        np.tanh(rng.normal(size=(3, 4, 5))),
        scale * rng.normal(size=(5, num_pixels)),
        scale * rng.normal(size=num_pixels),
        np.round(value) if binary else value,
    )


def plain(features, kernel, bias, value):
    logits = features @ kernel + bias
    return np.sum(value * logits - np.logaddexp(0.0, logits), axis=-1)


def in_float32(arrays):
    return [tf.constant(array, tf.float32) for array in arrays]


def rounded(array):
    """Float64 numbers rounded to bfloat16."""
    return tf.cast(tf.cast(array, tf.bfloat16), tf.float64).numpy()


@pytest.mark.parametrize(("num_pixels", "binary"), [(16, True), (48, False), (784, True), (1600, False), (2032, True)])
def test_the_fused_value_is_that_of_tfp(num_pixels, binary):
    inputs = in_float32(arguments(num_pixels, binary=binary))
    logits = tf.matmul(inputs[0], inputs[1][None]) + inputs[2]
    found = bernoulli_log_prob(*inputs)
    # A sum of D numbers of about 1, and products of five: rounding of float32 some ten times over.
    tolerance = {"rtol": 1e-6, "atol": num_pixels * 2e-6}
    np.testing.assert_allclose(found, plain(*arguments(num_pixels, binary=binary)), **tolerance)
    tfp = built(num_pixels).distribution(logits).log_prob(inputs[3])
    np.testing.assert_allclose(found, tfp, **tolerance)


@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_large_logits_neither_overflow_nor_lose_the_value(scale):
    arrays = arguments(64, scale=scale, binary=True)
    expected = plain(*arrays)
    assert expected.min() < -20 * scale
    np.testing.assert_allclose(bernoulli_log_prob(*in_float32(arrays)), expected, rtol=1e-5)


@pytest.mark.parametrize(("num_pixels", "compiled"), [(16, False), (32, True)])
def test_the_gradient_is_that_of_the_plain_formula(num_pixels, compiled):
    upstream = np.random.default_rng(1).normal(size=(3, 4))

    def softplus(features, kernel, bias, value):
        logits = tf.linalg.matmul(features, tf.broadcast_to(kernel, [3, *kernel.shape])) + bias
        return tf.reduce_sum(value * logits - tf.nn.softplus(logits), axis=-1)

    def gradients(function, inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            target = tf.reduce_sum(tf.cast(upstream, inputs[0].dtype) * function(*inputs))
        return tape.gradient(target, inputs)

    expected = gradients(softplus, [tf.constant(array) for array in arguments(num_pixels)])  # float64
    function = tf.function(lambda *inputs: gradients(bernoulli_log_prob, list(inputs)), autograph=False)
    inputs = in_float32(arguments(num_pixels))
    found = function(*inputs) if compiled else gradients(bernoulli_log_prob, inputs)
    for mine, its in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-5)  # float32 sums of up to 30 numbers of about 1


def test_bfloat16_features_have_the_value_of_logits_from_rounded_products():
    features, kernel, bias, value = in_float32([rounded(a) for a in arguments(784, binary=True)])
    in_bfloat16 = [tf.cast(v, tf.bfloat16) for v in (tf.reshape(features, [-1, 5]), kernel, bias)]
    found = tf.function(bernoulli_log_prob, autograph=False)(tf.cast(features, tf.bfloat16), kernel, bias, value)
    assert found.dtype == tf.float32
    distances, exact = [], tf.matmul(features, kernel[None]) + bias
    product = tf.function(lambda f, k, b: tf.nn.bias_add(tf.matmul(f, k), b), autograph=False)
    for logits in (product(*in_bfloat16), product.python_function(*in_bfloat16), tf.reshape(exact, [-1, 784])):
        logits = tf.reshape(tf.cast(logits, tf.float32), exact.shape)
        distances.append(np.abs(found - built(784).distribution(logits).log_prob(value)).max())
    # A processor rounds products and sums once or twice, in a graph or eagerly: one of the two has the same logits.
    assert min(distances[:2]) < 2e-3 < 0.05 < distances[2]


def test_one_image_by_bfloat16_products_has_the_value_that_it_has_among_others():
    features, kernel, bias, value = in_float32(arguments(784))
    features = tf.cast(features, tf.bfloat16)
    alone = bernoulli_log_prob(features[:, 2:3], kernel, bias, value[2:3])
    np.testing.assert_allclose(alone, bernoulli_log_prob(features, kernel, bias, value)[:, 2:3], rtol=1e-6)  # float32


def test_rounding_to_bfloat16_costs_a_well_explained_image_nothing():
    rng = np.random.default_rng(0)
    features, signs = tf.ones([1, 2, 3], tf.bfloat16), rng.choice([-1.0, 1.0], size=64)
    kernel = tf.constant(signs * rng.uniform(15.0, 25.0, size=(3, 64)), tf.float32)  # logits of 45 to 75, 0.25 apart
    value = tf.constant(np.tile(signs > 0, (2, 1)), tf.float32)
    np.testing.assert_allclose(bernoulli_log_prob(features, kernel, tf.zeros([64]), value), 0.0, atol=3e-4)


def test_the_gradient_by_bfloat16_products_is_near_that_of_float32():
    arrays, gradients = in_float32([rounded(a) for a in arguments(784)]), []
    for dtype in (tf.float32, tf.bfloat16):
        inputs = [tf.cast(arrays[0], dtype), *arrays[1:]]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            target = tf.reduce_sum(bernoulli_log_prob(*inputs))
        gradients.append(tape.gradient(target, inputs))
        assert [g.dtype for g in gradients[-1]] == [i.dtype for i in inputs]
    for exact, near in zip(*gradients, strict=True):
        assert 0.0 < float(tf.norm(tf.cast(near, tf.float32) - exact) / tf.norm(exact)) < 0.01  # 8 bits


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
def test_a_layer_keeps_float16_features_out_of_the_products(dtype):
    head, rng = built(64), np.random.default_rng(0)
    features = tf.cast(rounded(rng.uniform(0.1, 1.0, size=(30, 4, 5))), dtype)  # exact in all three
    value = tf.constant(rng.random((4, 64)), tf.float32)
    exact = head.log_prob_of_features(tf.cast(features, tf.float32), value)
    changed = np.abs(head.log_prob_of_features(features, value) - exact).max()
    assert (changed > 0.0) == (dtype == tf.bfloat16)


@pytest.mark.parametrize("shape", [(50, 4), (None, 4), (50, None), (None, None)])
def test_the_bits_do_not_depend_on_which_shapes_a_graph_knows(shape):
    # TensorFlow rewrites chains of additions where it knows that shapes are equal.
    rng = np.random.default_rng(0)
    inputs = in_float32(
        [np.tanh(rng.normal(size=(50, 4, 8))), rng.normal(size=(8, 48)), rng.normal(size=48), rng.random((4, 48))]
    )
    signature = [tf.TensorSpec([*shape, 8]), tf.TensorSpec([8, 48]), tf.TensorSpec([48]), tf.TensorSpec([shape[1], 48])]
    compiled = tf.function(bernoulli_log_prob, input_signature=signature, autograph=False)
    np.testing.assert_array_equal(compiled(*inputs), bernoulli_log_prob(*inputs))


@pytest.mark.parametrize("leading", [(3, 4), (4,), (2, 3, 4)])
@pytest.mark.parametrize("num_images", [1, 4])
@pytest.mark.parametrize("num_pixels", [16, 30])  # 30 make no groups
def test_a_layer_takes_features_and_pixels_of_any_shapes_that_go_together(leading, num_images, num_pixels):
    head, rng = built(num_pixels), np.random.default_rng(0)
    features = tf.constant(rng.normal(size=(*leading, 5)), tf.float32)
    value = tf.constant(rng.random((num_images, num_pixels)), tf.float32)
    expected = head.log_prob(head(features), value)
    np.testing.assert_allclose(head.log_prob_of_features(features, value), expected, rtol=2e-6)


def test_features_for_each_position_are_not_taken_for_samples():
    """Four positions and four images: the fused product of features [k, B, F] would take one for the other."""
    head = built(32, positions=(4,), features=3)
    features = tf.random.stateless_normal([4, 4, 3], [0, 1])
    value = tf.cast(tf.random.stateless_uniform([4, 32], [0, 2]) < 0.5, tf.float32)
    log_prob = head.log_prob_of_features(features, value)
    np.testing.assert_array_equal(log_prob, head.log_prob(head(features), value))
    assert log_prob.shape == (4,)
