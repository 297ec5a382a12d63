"""Products of 16 bits: float16 layers that scale their gradients, and models under Keras' mixed dtype policies."""

import itertools

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import binary_images, by_layer, reference_weights, small_model, standard_noise, with_policy

import iwae_tf
from iwae_tf.models.gradients import bound_and_gradients
from iwae_tf.models.mixed_precision import tanh_layers
from iwae_tf.models.networks import MLP
from iwae_tf.objectives import STL, IWAEBound

WIDTHS = (9, 7, 6)  # of x and of two layers
# Every number is rounded to 11 bits a few times: parts in a thousand, less where many are summed.
ROUNDING = 3e-3
MIXED = {"mixed_bfloat16": tf.bfloat16, "mixed_float16": tf.float16}
EVERY = pytest.mark.parametrize("policy", MIXED)


def weights():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s) / 3.0 for s in itertools.pairwise(WIDTHS)], [
        0.3 * rng.standard_normal(n) for n in WIDTHS[1:]
    ]


def exact(x, upstream, kernels, biases):
    """The values, and the gradients by x, kernels and biases, in float64 by the chain rule."""
    values = [x]
    for kernel, bias in zip(kernels, biases, strict=True):
        values.append(np.tanh(values[-1] @ kernel + bias))
    by_kernels, by_biases = [], []
    for layer in (1, 0):
        before_tanh = upstream * (1.0 - values[layer + 1] ** 2)
        by_kernels.insert(0, values[layer].T @ before_tanh)
        by_biases.insert(0, before_tanh.sum(axis=0))
        upstream = before_tanh @ kernels[layer].T
    return values[-1], [upstream, *by_kernels, *by_biases]


def computed(x, upstream, kernels, biases):
    x, kernels, biases = tf.nest.map_structure(lambda v: tf.constant(v, tf.float32), (x, kernels, biases))
    with tf.GradientTape() as tape:
        tape.watch([x, kernels, biases])
        value = tanh_layers(x, kernels, biases)
    gradients = tape.gradient(value, [x, *kernels, *biases], tf.constant(upstream, tf.float32))
    assert {gradient.dtype for gradient in gradients} == {tf.float32}
    return value, [np.float64(gradient) for gradient in gradients]


def relative_error(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e15])
@pytest.mark.parametrize("rows", [3, 20_000])
def test_gradients_are_right_whatever_their_size_and_number(size, rows):
    rng = np.random.default_rng(rows)
    x, upstream = rng.standard_normal((rows, 9)), size * rng.random((rows, 6))  # of one sign: the sums are large
    (value, gradients), (expected_value, expected) = (f(x, upstream, *weights()) for f in (computed, exact))
    np.testing.assert_allclose(value, expected_value, atol=2e-3)  # 11 bits, twice
    np.testing.assert_array_equal(value, value.numpy().astype(np.float16).astype(np.float32))
    assert all(relative_error(one, other) < ROUNDING for one, other in zip(gradients, expected, strict=True))


def test_samples_of_small_weight_count_besides_one_of_large_weight():
    # 5000 rows whose weights fall from 1 to e^-12, as importance weights do: the last hundreds weigh 1e-5 of the first.
    rng = np.random.default_rng(1)
    x, falling = rng.standard_normal((5000, 9)), np.exp(-12.0 * np.arange(5000) / 5000)[:, None]
    upstream = falling * rng.standard_normal((5000, 6)) / 5000
    by_x, expected = (f(x, upstream, *weights())[1][0] for f in (computed, exact))
    for rows in (slice(0, 500), slice(4500, 5000)):
        assert relative_error(by_x[rows], expected[rows]) < 0.05  # of the last ones 5 bits are left


@pytest.mark.parametrize("rows", [1, 400])
@pytest.mark.parametrize(("input_size", "gain"), [(1000.0, 1.0), (1.0, 20.0)])
def test_gradients_of_large_inputs_and_large_weights_do_not_overflow(input_size, gain, rows):
    rng = np.random.default_rng(2)
    x, upstream = input_size * rng.random((rows, 9)), rng.random((rows, 6))
    kernels, biases = weights()
    kernels[0], kernels[1] = kernels[0] / input_size, gain * kernels[1]
    gradients, expected = (f(x, upstream, kernels, biases)[1] for f in (computed, exact))
    # 1 - a^2 has few digits where weights drive a to 1
    assert all(relative_error(one, other) < 0.1 for one, other in zip(gradients, expected, strict=True))


def test_inputs_beyond_float16_give_numbers():
    x = np.tile([[7e4, -7e4, 1e38, -1e38, 0.0, 1.0, -3.0, 65504.0, -65505.0]], (3, 1))
    values, gradients = computed(x, np.ones((3, 6)), *weights())
    assert np.isfinite(values).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_a_gradient_of_zeros_stays_one_and_one_that_is_not_finite_is_not_hidden():
    x, upstream = np.ones((4, 9)), np.zeros((4, 6))
    assert not any(gradient.any() for gradient in computed(x, upstream, *weights())[1])
    for bad in (np.nan, np.inf):
        upstream[1, 2] = bad
        assert not any(np.isfinite(gradient).all() for gradient in computed(x, upstream, *weights())[1])


@pytest.mark.parametrize("jit", [False, True])
def test_samples_and_batch_of_unknown_size_are_rows_like_others(jit):
    x = np.random.default_rng(3).standard_normal((4, 5, 9)).astype(np.float32)
    kernels, biases = tf.nest.map_structure(lambda v: tf.constant(v, tf.float32), weights())
    function, shaped = tf.function(tanh_layers, jit_compile=jit), tf.TensorSpec([None, None, 9], tf.float32)
    several = function.get_concrete_function(shaped, kernels, biases)(tf.constant(x), *kernels, *biases)
    rows = tanh_layers(tf.constant(x.reshape(20, 9)), kernels, biases)
    np.testing.assert_allclose(tf.reshape(several, [20, 6]), rows, atol=2e-3)  # XLA sums in another order
    assert several.shape == (4, 5, 6)


def test_an_mlp_in_float16_is_the_one_in_float32_but_for_rounding_down_to_its_smallest_gradients():
    half, whole = (MLP((7, 6), iter(range(2)), dtype=dtype) for dtype in ("mixed_float16", "float32"))
    x, values, gradients = tf.constant(np.random.default_rng(4).standard_normal((30, 9)), tf.float32), [], []
    for layer in (half, whole):
        layer.build((None, 9))
        with tf.GradientTape() as tape:
            values.append(layer(x))
        sources = [variable.value for variable in layer.trainable_variables]
        gradients.append(tape.gradient(values[-1], sources, tf.fill([30, 6], 1e-9)))
    assert 0.0 < np.abs(values[0] - values[1]).max() < 2e-3  # 11 bits, twice
    for one, other in zip(*gradients, strict=True):
        assert relative_error(np.float64(one), np.float64(other)) < ROUNDING


@pytest.fixture
def set_policy():
    """`keras.config.set_dtype_policy`, put back at the end."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(("layers", "likelihood"), [(1, "bernoulli"), (3, "gaussian")])
@EVERY
def test_under_a_mixed_policy_only_the_hidden_layers_are_of_16_bits(policy, layers, likelihood, set_policy):
    set_policy(policy)
    model, x = small_model(layers, likelihood=likelihood), binary_images(4)
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    for stage in (*model.inference_network.stages, *model.generative_network.stages):
        condition = tf.ones([2, stage.hidden.dense[0].kernel.shape[0]])
        hidden = stage.hidden(condition)
        assert stage.hidden.compute_dtype == MIXED[policy].name
        np.testing.assert_array_equal(tf.cast(hidden, tf.float32), tf.cast(tf.cast(hidden, MIXED[policy]), tf.float32))
        assert {parameter.dtype for parameter in tf.nest.flatten(stage(condition))} == {tf.float32}
    log_w = model.log_weights_from_noise(x, standard_noise(model, 3, 4))
    assert log_w.dtype == model.reconstruct(x).dtype == model.sample(2).dtype == tf.float32
    given = with_policy(small_model(layers, likelihood=likelihood, dtype="float32"), policy)
    np.testing.assert_array_equal(given.log_weights_from_noise(x, standard_noise(model, 3, 4)), log_w)


@pytest.mark.parametrize(
    ("policy", "error", "layers"),
    [("mixed_bfloat16", 0.05, 1), ("mixed_float16", 0.05 / 8, 2)],
)
def test_scores_under_a_mixed_policy_are_near_those_of_float64(policy, error, layers):
    # Hidden values have 8 bits, so the parameters are off by parts in a thousand, and the log-weights by what they
    # multiply; float16 has three bits more. A sum over pixels in bfloat16, or log-weights in it, would be off by 2
    # nats and more at 1000 nats, in float16 by a quarter of a nat.
    units, hidden = {1: ((8,), ((30, 20),)), 2: ((8, 6), ((30, 20), (10,)))}[layers]
    model = iwae_tf.IWAE(1500, units, hidden, dtype=policy)
    for stage in (*model.inference_network.stages, *model.generative_network.stages):
        if hasattr(stage.head, "log_scale"):  # scales near 1, so that the pixels make the nats
            stage.head.log_scale.kernel.assign(0.1 * stage.head.log_scale.kernel)
    x, noise = binary_images(20, 1500), standard_noise(model, 100, 20, seed=0)
    expected = reference.iwae_log_weights(x, by_layer(model, noise), **reference_weights(model))
    assert expected.max() < -1000.0
    log_w = model.log_weights_from_noise(x, tf.constant(noise)).numpy()
    assert error / 500 < np.std(log_w - expected) < error
    scores = reference.log_mean_exp(log_w) - reference.log_mean_exp(expected)
    assert np.abs(scores).max() < error


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_saved_model_keeps_its_policy_whatever_the_global_one_is(policy, set_policy, tmp_path):
    model, x = with_policy(small_model(2), policy), binary_images(4)
    model.save(tmp_path / "m.keras")
    expected = model.log_weights_from_noise(x, standard_noise(model, 6, 4))
    set_policy("mixed_bfloat16" if policy == "float32" else "float32")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.dtype_policy.name == policy
    np.testing.assert_array_equal(loaded.log_weights_from_noise(x, standard_noise(model, 6, 4)), expected)


@pytest.mark.parametrize(
    ("layers", "likelihood", "objective"), [(1, "bernoulli", IWAEBound(20)), (2, "gaussian", STL(20))]
)
# 8 bits: parts in a thousand, summed; 11 bits: an eighth of it.
@pytest.mark.parametrize(("policy", "error"), [("mixed_bfloat16", 0.03), ("mixed_float16", 0.03 / 8)])
def test_gradients_under_a_mixed_policy_point_where_those_of_float32_do(policy, error, objective, likelihood, layers):
    model, x = small_model(layers, gain=1.0, likelihood=likelihood), tf.constant(binary_images(20))
    noise, gradients = tf.constant(standard_noise(model, 20, 20)), []
    for name in ("float32", policy):
        bound, parts = bound_and_gradients(with_policy(model, name), objective, x, noise)
        assert bound.dtype == tf.float32
        assert all(gradient.dtype == tf.float32 and np.isfinite(gradient).all() for gradient in parts)
        gradients.append(np.concatenate([np.ravel(gradient) for gradient in parts]))
    assert 0.0 < np.linalg.norm(gradients[1] - gradients[0]) < error * np.linalg.norm(gradients[0])


@pytest.mark.parametrize(
    "optimizer",
    [keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), keras.optimizers.Adam(loss_scale_factor=8.0)],
    ids=["LossScaleOptimizer", "loss_scale_factor"],
)
def test_an_optimizer_that_divides_by_a_scale_of_the_loss_is_refused(optimizer):
    with pytest.raises(iwae_tf.InputError, match="the optimizer expects the gradient of a scaled loss"):
        small_model(1, dtype="mixed_float16").compile(optimizer)


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64"])
def test_other_policies_are_refused_by_name(policy, set_policy):
    message = f"the dtype policy must be float32, mixed_bfloat16 or mixed_float16, got '{policy}'"
    with pytest.raises(iwae_tf.InputError, match=message):
        small_model(1, dtype=policy)
    set_policy(policy)
    with pytest.raises(iwae_tf.InputError, match=message):
        small_model(1)
    small_model(1, dtype="float32")
