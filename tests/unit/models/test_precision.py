"""Keras' dtype policies: what is of 16 bits under the mixed ones, what it costs, and which are refused."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import SMALL_NETWORKS, binary_images, reference_weights, small_model

import iwae_tf
from iwae_tf.data import load
from iwae_tf.data.binarization import binarize_once
from iwae_tf.models.gradients import bound_and_gradients
from iwae_tf.objectives import OBJECTIVES, STL, IWAEBound, objective_class
from iwae_tf.objectives.objective import GradientWeights

MIXED = {"mixed_bfloat16": tf.bfloat16, "mixed_float16": tf.float16}


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
@pytest.mark.parametrize("policy", MIXED)
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
    assert model.log_weights(x, 3).dtype == tf.float32
    assert model.reconstruct(x).dtype == model.sample(2).dtype == tf.float32
    assert model.posterior(x).sample(2, seed=(0, 1))[0].dtype == tf.float32


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("policy", "error"), [("mixed_bfloat16", 0.05), ("mixed_float16", 0.05 / 8)])
def test_scores_under_a_mixed_policy_are_near_those_of_float64(policy, error, layers):
    # Hidden values have 8 bits, so the parameters are off by parts in a thousand, and the log-weights by what they
    # multiply; float16 has three bits more. A sum over pixels in bfloat16, or log-weights in it, would be off by 2
    # nats and more at 1000 nats, in float16 by a quarter of a nat.
    units, hidden = {1: ((8,), ((30, 20),)), 2: ((8, 6), ((30, 20), (10,)))}[layers]
    model = iwae_tf.IWAE(1500, units, hidden, dtype=policy)
    for stage in (*model.inference_network.stages, *model.generative_network.stages):
        if hasattr(stage.head, "log_scale"):  # scales near 1, so that the pixels make the nats
            stage.head.log_scale.kernel.assign(0.1 * stage.head.log_scale.kernel)
    x, k = binary_images(20, 1500), 100
    noise = np.random.default_rng(0).standard_normal((k, 20, sum(units))).astype(np.float32)
    split = np.split(noise.astype(np.float64), np.cumsum(units)[:-1], axis=-1)
    expected = reference.iwae_log_weights(x, split, **reference_weights(model))
    assert expected.max() < -1000.0
    log_w = model.log_weights_from_noise(x, tf.constant(noise)).numpy()
    assert error / 500 < np.std(log_w - expected) < error  # seen 0.4 of it
    scores = reference.log_mean_exp(log_w) - reference.log_mean_exp(expected)
    assert np.abs(scores).max() < error  # seen 0.3 of it


@pytest.mark.parametrize("policy", MIXED)
def test_without_hidden_layers_a_mixed_policy_changes_no_bit(policy):
    model, x = small_model(2, hidden_units=((), ())), binary_images(4)
    mixed = with_policy(model, policy)
    np.testing.assert_array_equal(mixed.log_weights(x, 60), model.log_weights(x, 60))


@pytest.mark.parametrize("policy", MIXED)
def test_the_dtype_argument_does_what_the_global_policy_does(policy, set_policy):
    model, x = small_model(2), binary_images(4)
    given = with_policy(model, policy)
    set_policy(policy)
    made_under_it = small_model(2)
    np.testing.assert_array_equal(given.log_weights(x, 60), made_under_it.log_weights(x, 60))
    assert (given.log_weights(x, 60).numpy() != model.log_weights(x, 60).numpy()).any()


@pytest.mark.parametrize("policy", ["float32", *MIXED])
def test_a_saved_model_keeps_its_policy_whatever_the_global_one_is(policy, set_policy, tmp_path):
    model, x = with_policy(small_model(2), policy), binary_images(4)
    model.save(tmp_path / "m.keras")
    expected = model.log_weights(x, 60)
    set_policy("mixed_bfloat16" if policy == "float32" else "float32")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.dtype_policy.name == policy
    np.testing.assert_array_equal(loaded.log_weights(x, 60), expected)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("objective", [IWAEBound(20), STL(20)], ids=["iwae", "stl"])
# 8 bits: parts in a thousand, summed; 11 bits: an eighth of it.
@pytest.mark.parametrize(("policy", "error"), [("mixed_bfloat16", 0.03), ("mixed_float16", 0.03 / 8)])
def test_gradients_under_a_mixed_policy_point_where_those_of_float32_do(policy, error, objective, likelihood, layers):
    model, x = small_model(layers, gain=1.0, likelihood=likelihood), tf.constant(binary_images(20))
    noise = tf.random.stateless_normal([20, 20, sum(SMALL_NETWORKS[layers]["latent_units"])], [0, 1])
    exact, rounded = (_gradient(with_policy(model, name), objective, x, noise) for name in ("float32", policy))
    assert 0.0 < np.linalg.norm(rounded - exact) < error * np.linalg.norm(exact)


def _gradient(model, objective, x, noise):
    bound, gradients = bound_and_gradients(model, objective, x, noise)
    assert bound.dtype == tf.float32
    assert all(gradient.dtype == tf.float32 and np.isfinite(gradient).all() for gradient in gradients)
    return np.concatenate([np.ravel(gradient) for gradient in gradients])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_its_gradient_in_float16(name):
    # Rows of weights may be negative and need not sum to one. The error of 11 bits is the larger the more the rows
    # cancel; without a gradient, or with a part of it lost, it would be near 1.
    latent = "gaussian" if objective_class(name).needs_path else "bernoulli"
    x, objective = binary_images(40), objective_class(name)(10)
    models = [small_model(1, gain=1.0, latent=latent, dtype=dtype) for dtype in ("float32", "mixed_float16")]
    models[1].set_weights(models[0].get_weights())
    gradients = []
    for model in models:
        model.compile(objective=objective)
        _, parts = model._bound_and_gradients(tf.constant(x), tf.constant(3, tf.int64))
        gradients.append([part.numpy() for part in parts])
    for exact, rounded in zip(*gradients, strict=True):
        assert np.linalg.norm(rounded - exact) <= 0.03 * np.linalg.norm(exact) + 1e-6


def test_sharp_gaussian_pixels_train_in_float16():
    # With scales of 0.001 derivatives reach 1e6, and float16 ends at 65,504: without a scale no step is finite.
    rng = np.random.default_rng(0)
    x = np.tanh(rng.standard_normal((400, 2)) @ rng.standard_normal((2, 12))).astype(np.float32)
    bounds = {}
    for policy in ("float32", "mixed_float16"):
        model = small_model(1, gain=1.0, likelihood="gaussian", dtype=policy)
        model.generative_network.likelihood_stage.head.log_scale.bias.assign(tf.fill([12], -20.0))
        model.compile(keras.optimizers.Adam(0.01), objective=IWAEBound(5))
        bounds[policy] = model.fit(x, epochs=3, batch_size=10, shuffle=False, verbose=0).history["bound"]
    exact, rounded = bounds.values()
    assert exact[0] / 5 < exact[-1] < 0.0  # it has learned much
    assert rounded == pytest.approx(exact, rel=0.05)  # the steep start enlarges rounding; seen 0.012


class _Faint(IWAEBound):
    """The bound with rows of weights as of 2^20 times as many images."""

    def gradient_weights(self, log_w):
        return GradientWeights(*(2.0**-20 * row for row in super().gradient_weights(log_w)[:3]))


def test_training_in_float16_does_not_depend_on_the_size_of_the_gradient():
    # Adam with epsilon made smaller like the gradient takes the same steps; a power of two changes no digit. Float16
    # itself would make zeros of most of these gradients.
    x, trained = binary_images(100), []
    for objective, epsilon in ((IWAEBound(5), 1e-4), (_Faint(5), 1e-4 * 2.0**-20)):
        model = small_model(1, gain=1.0, dtype="mixed_float16")
        model.compile(keras.optimizers.Adam(0.01, epsilon=epsilon), objective=objective)
        model.fit(x, epochs=4, batch_size=20, shuffle=False, verbose=0)
        trained.append(model)
    for one, other in zip(trained[0].weights, trained[1].weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-3, atol=1e-5)  # float32, graphs of their own


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("policy", MIXED)
def test_fit_under_a_mixed_policy_raises_the_bound(policy, jit):
    model, x = with_policy(small_model(1, gain=1.0), policy), binary_images(200)
    model.compile(keras.optimizers.Adam(0.01), objective=IWAEBound(5), jit_compile=jit)
    history = model.fit(x, epochs=8, batch_size=20, verbose=0).history["bound"]
    assert np.isfinite(history).all()
    assert history[-1] > history[0] + 0.1  # from -8.4 to -8.16 nats; the pixels' entropy is 8.08
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}


@pytest.fixture(scope="module")
def digits():
    """Training pixels, drawn once, their mean, and 200 test images."""
    data = load("digits")
    intensities = data.intensities("train")
    x = (np.random.default_rng(0).random(intensities.shape) < intensities).astype(np.float32)
    return x, intensities.mean(axis=0), binarize_once(data.intensities("test"), "test")[:200]


def _trained(digits, policy, epochs=8):
    x, mean, _ = digits
    model = iwae_tf.IWAE(64, (10,), ((50, 50),), data_mean=mean, dtype=policy)
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-4), objective=IWAEBound(5))
    model.fit(x, epochs=epochs, batch_size=50, shuffle=False, verbose=0)
    return model


@pytest.fixture(scope="module")
def trained(digits):
    """A model of the digits, trained in float32."""
    return _trained(digits, "float32")


@pytest.mark.slow
# A log-weight sums what 64 pixels and 10 units are off by: 8 bits leave 0.015 nats (standard deviation, worst 0.1), of
# which the means over 500 samples and then over 200 images take most away; float16 has three bits more.
@pytest.mark.parametrize(("policy", "share"), [("mixed_bfloat16", 1.0), ("mixed_float16", 1 / 8)])
def test_the_score_of_a_trained_model_hardly_moves(policy, share, digits, trained):
    x = digits[2]
    moved = (with_policy(trained, policy).log_likelihood(x, 500) - trained.log_likelihood(x, 500)).numpy()
    assert 0.0 < np.abs(moved).max() < 0.04 * share  # seen 0.02
    assert np.abs(moved.mean()) < 1e-3 * share  # seen 3e-4


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "error"), [("mixed_bfloat16", 5e-3), ("mixed_float16", 1e-3)])
def test_training_under_a_mixed_policy_ends_at_the_same_bound(policy, error, digits, trained):
    # The same weights and the same noise: 208 steps differ by rounding alone. Seen 5e-4 and 5e-5 nats, where another
    # seed makes 0.3.
    exact, rounded = (model.log_likelihood(digits[2], 500).numpy() for model in (trained, _trained(digits, policy)))
    assert 0.0 < abs(rounded.mean() - exact.mean()) < error


@pytest.mark.parametrize(
    "optimizer",
    [keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), keras.optimizers.Adam(loss_scale_factor=8.0)],
    ids=["LossScaleOptimizer", "loss_scale_factor"],
)
def test_an_optimizer_that_divides_by_a_scale_of_the_loss_is_refused(optimizer):
    model = small_model(1, dtype="mixed_float16")
    with pytest.raises(iwae_tf.InputError, match="the optimizer expects the gradient of a scaled loss"):
        model.compile(optimizer)


def test_the_optimizer_of_a_float16_model_is_the_one_given_and_counts_every_step():
    model, adam = small_model(1, dtype="mixed_float16"), keras.optimizers.Adam()
    model.compile(adam, objective=IWAEBound(2))
    model.fit(binary_images(40), epochs=3, batch_size=10, verbose=0)
    assert model.optimizer is adam
    assert int(adam.iterations) == 12


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64"])
def test_other_policies_are_refused_by_name(policy, set_policy):
    message = f"the dtype policy must be float32, mixed_bfloat16 or mixed_float16, got '{policy}'"
    with pytest.raises(iwae_tf.InputError, match=message):
        small_model(1, dtype=policy)
    set_policy(policy)
    with pytest.raises(iwae_tf.InputError, match=message):
        small_model(1)
    assert small_model(1, dtype="float32").log_weights(binary_images(2), 3).dtype == tf.float32
