"""Keras' dtype policies: what is bfloat16 under mixed_bfloat16, what it costs, and which are refused."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import SMALL_NETWORKS, binary_images, reference_weights, small_model

import iwae_tf
from iwae_tf.objectives import STL, IWAEBound
from iwae_tf.objectives.gradients import bound_and_gradients


@pytest.fixture
def set_policy():
    """`keras.config.set_dtype_policy`, put back at the end."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def with_policy(model, policy):
    """The same model with another dtype policy."""
    other = type(model).from_config({**model.get_config(), "dtype": policy})
    other.set_weights(model.get_weights())
    return other


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_under_mixed_bfloat16_only_the_hidden_layers_are_bfloat16(layers, likelihood, set_policy):
    set_policy("mixed_bfloat16")
    model, x = small_model(layers, likelihood=likelihood), binary_images(4)
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    for stage in (*model.inference_network.stages, *model.generative_network.stages):
        condition = tf.ones([2, stage.hidden.dense[0].kernel.shape[0]])
        assert stage.hidden(condition).dtype == tf.bfloat16
        assert {parameter.dtype for parameter in tf.nest.flatten(stage(condition))} == {tf.float32}
    assert model.log_weights(x, 3).dtype == tf.float32
    assert model.reconstruct(x).dtype == model.sample(2).dtype == tf.float32
    assert model.posterior(x).sample(2, seed=(0, 1))[0].dtype == tf.float32


@pytest.mark.parametrize("layers", [1, 2])
def test_scores_under_mixed_bfloat16_are_near_those_of_float64(layers):
    # Hidden values have 8 bits, so the parameters are off by parts in a thousand, and the log-weights by what they
    # multiply. A sum over pixels in bfloat16, or log-weights in it, would be off by 2 nats and more at 1000 nats.
    units, hidden = {1: ((8,), ((30, 20),)), 2: ((8, 6), ((30, 20), (10,)))}[layers]
    model = iwae_tf.IWAE(1500, units, hidden, dtype="mixed_bfloat16")
    for stage in (*model.inference_network.stages, *model.generative_network.stages):
        if hasattr(stage.head, "log_scale"):  # scales near 1, so that the pixels make the nats
            stage.head.log_scale.kernel.assign(0.1 * stage.head.log_scale.kernel)
    x, k = binary_images(20, 1500), 100
    noise = np.random.default_rng(0).standard_normal((k, 20, sum(units))).astype(np.float32)
    split = np.split(noise.astype(np.float64), np.cumsum(units)[:-1], axis=-1)
    expected = reference.iwae_log_weights(x, split, **reference_weights(model))
    assert expected.max() < -1000.0
    log_w = model.log_weights_from_noise(x, tf.constant(noise)).numpy()
    assert 1e-4 < np.std(log_w - expected) < 0.05  # seen 0.02
    scores = reference.log_mean_exp(log_w) - reference.log_mean_exp(expected)
    assert np.abs(scores).max() < 0.05  # seen 0.016


def test_without_hidden_layers_mixed_bfloat16_changes_no_bit():
    model, x = small_model(2, hidden_units=((), ())), binary_images(4)
    mixed = with_policy(model, "mixed_bfloat16")
    np.testing.assert_array_equal(mixed.log_weights(x, 60), model.log_weights(x, 60))


def test_the_dtype_argument_does_what_the_global_policy_does(set_policy):
    model, x = small_model(2), binary_images(4)
    given = with_policy(model, "mixed_bfloat16")
    set_policy("mixed_bfloat16")
    made_under_it = small_model(2)
    np.testing.assert_array_equal(given.log_weights(x, 60), made_under_it.log_weights(x, 60))
    assert (given.log_weights(x, 60).numpy() != model.log_weights(x, 60).numpy()).any()


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_saved_model_keeps_its_policy_whatever_the_global_one_is(policy, set_policy, tmp_path):
    model, x = with_policy(small_model(2), policy), binary_images(4)
    model.save(tmp_path / "m.keras")
    expected = model.log_weights(x, 60)
    set_policy({"float32": "mixed_bfloat16", "mixed_bfloat16": "float32"}[policy])
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.dtype_policy.name == policy
    np.testing.assert_array_equal(loaded.log_weights(x, 60), expected)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("objective", [IWAEBound(20), STL(20)], ids=["iwae", "stl"])
def test_gradients_under_mixed_bfloat16_point_where_those_of_float32_do(layers, objective):
    model, x = small_model(layers, gain=1.0), tf.constant(binary_images(20))
    noise = tf.random.stateless_normal([20, 20, sum(SMALL_NETWORKS[layers]["latent_units"])], [0, 1])
    flat = []
    for policy in ("float32", "mixed_bfloat16"):
        bound, gradients = bound_and_gradients(with_policy(model, policy), objective, x, noise)
        assert bound.dtype == tf.float32
        assert all(gradient.dtype == tf.float32 and np.isfinite(gradient).all() for gradient in gradients)
        flat.append(np.concatenate([np.ravel(gradient) for gradient in gradients]))
    exact, rounded = flat
    assert 0.0 < np.linalg.norm(rounded - exact) < 0.03 * np.linalg.norm(exact)  # 8 bits: parts in a thousand, summed


@pytest.mark.parametrize("jit", [False, True])
def test_fit_under_mixed_bfloat16_raises_the_bound(jit):
    model, x = with_policy(small_model(1, gain=1.0), "mixed_bfloat16"), binary_images(200)
    model.compile(keras.optimizers.Adam(0.01), objective=IWAEBound(5), jit_compile=jit)
    history = model.fit(x, epochs=8, batch_size=20, verbose=0).history["bound"]
    assert np.isfinite(history).all()
    assert history[-1] > history[0] + 0.1  # from -8.4 to -8.16 nats; the pixels' entropy is 8.08
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "bfloat16", "float64"])
def test_other_policies_are_refused_by_name(policy, set_policy):
    message = f"the dtype policy must be float32 or mixed_bfloat16, got '{policy}'"
    with pytest.raises(iwae_tf.InputError, match=message):
        small_model(1, dtype=policy)
    set_policy(policy)
    with pytest.raises(iwae_tf.InputError, match=message):
        small_model(1)
    assert small_model(1, dtype="float32").log_weights(binary_images(2), 3).dtype == tf.float32
