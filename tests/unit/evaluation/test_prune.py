"""Models without their inactive units: which weights stay, and what stands in for the units."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import SMALL_DIM, SMALL_NETWORKS, binary_images, reference_weights, small_model

import iwae_tf
from iwae_tf.evaluation import unit_activities
from iwae_tf.evaluation.prune import pruned
from iwae_tf.layers.registry import LIKELIHOODS, likelihood_class

# Units that are dropped below: another number in each layer, neither the first nor the last alone.
DROPPED = {1: ([1, 3],), 2: ([0, 3], [1]), 3: ([1, 3], [0, 2], [1])}
WITHOUT_HIDDEN = {layers: {"hidden_units": ((),) * layers} for layers in (1, 2, 3)}


def mild_model(layers, **kwargs):
    """A small model with random biases and scales near 1, so that no square is huge: log-weights of tens of nats."""
    model = small_model(layers, gain=1.0, **kwargs)
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:
        if variable.name == "bias":
            variable.assign(0.3 * rng.standard_normal(variable.shape))
    for stage in (*model.inference_network.stages, *model.generative_network.stages):
        if hasattr(stage.head, "log_scale"):
            stage.head.log_scale.kernel.assign(0.1 * stage.head.log_scale.kernel)
    return model


def activities_of(model, dropped):
    """Activities 1, and 0 for the units that are to go."""
    activities = [np.ones(units) for units in model.latent_units]
    for activity, units in zip(activities, dropped, strict=True):
        activity[units] = 0.0
    return activities


def noise_for(model, k=6, batch=4):
    return np.random.default_rng(1).standard_normal((k, batch, sum(model.latent_units))).astype(np.float32)


def kept_noise(noise, activities):
    """The noise of the units that stay: [k, B, H] -> [k, B, H']."""
    return noise[..., np.concatenate(activities) > 0.01]


def first_dense(*stages):
    """What reads the conditions of the stages."""
    heads = [getattr(s.head, n) for s in stages for n in ("loc", "log_scale", "logits") if hasattr(s.head, n)]
    return [stage.hidden.dense[0] for stage in stages if stage.hidden.dense] or heads


def set_columns(stage, units, loc, raw_log_scale):
    """Makes some units of a stage N(loc, exp(7 tanh(raw / 7))^2) whatever the condition."""
    for dense, value in ((stage.head.loc, loc), (stage.head.log_scale, raw_log_scale)):
        kernel, bias = dense.kernel.numpy(), dense.bias.numpy()
        kernel[:, units], bias[units] = 0.0, value
        dense.kernel.assign(kernel)
        dense.bias.assign(bias)


def make_inactive(model, dropped, loc=0.0, raw_log_scale=0.0, read=False):
    """Gives q(u | .) = p(u | .) = N(loc, scale^2) to some units, N(0, 1) at the top; nothing reads them then."""
    inference, generative = model.inference_network.stages, model.generative_network.stages
    for layer, units in enumerate(dropped):
        top = layer == len(dropped) - 1
        set_columns(inference[layer], units, 0.0 if top else loc, 0.0 if top else raw_log_scale)
        if not top:
            set_columns(generative[layer + 1], units, loc, raw_log_scale)
        if not read or top:
            for dense in first_dense(generative[layer], *inference[layer + 1 : layer + 2]):
                kernel = dense.kernel.numpy()
                kernel[units] = 0.0
                dense.kernel.assign(kernel)


def reference_log_weights(model, x, noise, activities):
    """Log-weights by NumPy from the large model's own weights, cut as `pruned` has to cut them; units are read as 0."""
    masks = [activity > 0.01 for activity in activities]
    weights = reference_weights(model)
    upwards, downwards = weights["inference"], weights["generative"][::-1]  # nearest x first
    for layer, mask in enumerate(masks):
        for stage in (upwards[layer], *downwards[layer + 1 : layer + 2]):  # they make the units
            for head in ("loc", "log_scale"):
                stage[head] = stage[head][0][:, mask], stage[head][1][mask]
        for stage in (downwards[layer], *upwards[layer + 1 : layer + 2]):  # they read the units
            if stage["hidden"]:
                stage["hidden"][0] = stage["hidden"][0][0][mask], stage["hidden"][0][1]
            else:
                stage.update({head: (pair[0][mask], pair[1]) for head, pair in stage.items() if head != "hidden"})
    places = np.cumsum([mask.sum() for mask in masks])[:-1]
    split = np.split(kept_noise(noise, activities).astype(np.float64), places, axis=-1)
    return reference.iwae_log_weights(x, split, **weights)


# --------------------------------------------------------------- which weights stay, and what stands in for the units


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_pruning_nothing_leaves_every_bit_of_the_log_weights(layers, likelihood):
    levels = 3 if likelihood_class(likelihood).needs_levels else None
    model, x = mild_model(layers, likelihood=likelihood, levels=levels), binary_images(4)
    if likelihood == "student-t":
        model.generative_network.likelihood_stage.head.raw_df.assign(np.linspace(-1.0, 1.0, SMALL_DIM))
    same = pruned(model, activities_of(model, [[]] * layers))
    assert same is not model
    assert same.latent_units == model.latent_units
    noise = tf.constant(noise_for(model))
    expected = model.log_weights_from_noise(x, noise)
    np.testing.assert_array_equal(same.log_weights_from_noise(x, noise), expected)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("networks", [SMALL_NETWORKS, WITHOUT_HIDDEN], ids=["hidden", "no hidden"])
def test_the_rows_and_columns_that_stay_are_those_of_the_active_units(layers, likelihood, networks):
    # Where the generative network gives the dropped units the mean 0, their readers' biases stay as they are.
    model, x = mild_model(layers, likelihood=likelihood, **networks[layers]), binary_images(4)
    for stage, units in zip(model.generative_network.stages[1:], DROPPED[layers][:-1], strict=True):
        set_columns(stage, units, 0.0, 0.0)
    activities = activities_of(model, DROPPED[layers])
    smaller = pruned(model, activities)
    kept = tuple(n - len(units) for n, units in zip(model.latent_units, DROPPED[layers], strict=True))
    assert smaller.latent_units == kept
    noise = noise_for(model)
    log_w = smaller.log_weights_from_noise(x, tf.constant(kept_noise(noise, activities)))
    expected = reference_log_weights(model, x, noise, activities)
    # float32 sums of some tens of terms of size 10 and less
    np.testing.assert_allclose(log_w, expected, rtol=5e-6, atol=5e-5)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("networks", [SMALL_NETWORKS, WITHOUT_HIDDEN], ids=["hidden", "no hidden"])
def test_units_that_say_nothing_and_are_not_read_take_no_log_weight_with_them(layers, likelihood, networks):
    model, x = mild_model(layers, likelihood=likelihood, **networks[layers]), binary_images(4)
    make_inactive(model, DROPPED[layers], loc=0.7, raw_log_scale=-0.4)
    activities = activities_of(model, DROPPED[layers])
    noise = noise_for(model)
    log_w = model.log_weights_from_noise(x, tf.constant(noise))
    smaller = pruned(model, activities).log_weights_from_noise(x, tf.constant(kept_noise(noise, activities)))
    np.testing.assert_allclose(smaller, log_w, rtol=2e-6, atol=2e-5)  # float32; the units' terms cancel up to rounding


def test_unit_activities_find_the_units_that_say_nothing():
    model, x = small_model(2), binary_images(100)
    make_inactive(model, DROPPED[2], loc=0.7)
    smaller = pruned(model, unit_activities(model, x))
    assert smaller.latent_units == (3, 2)
    kept = model.encode(x)[0].loc.numpy()[:, [1, 2, 4]]
    np.testing.assert_allclose(smaller.encode(x)[0].loc, kept, rtol=1e-5, atol=1e-6)  # float32


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("networks", [SMALL_NETWORKS, WITHOUT_HIDDEN], ids=["hidden", "no hidden"])
def test_readers_see_an_inactive_unit_at_its_mean(layers, networks):
    # Units that are 1.5 with the smallest scale there is, e^-7, act as biases of what reads them.
    model, x = mild_model(layers, **networks[layers]), binary_images(4)
    make_inactive(model, DROPPED[layers], loc=1.5, raw_log_scale=-100.0, read=True)
    activities = activities_of(model, DROPPED[layers])
    noise = noise_for(model)
    log_w = model.log_weights_from_noise(x, tf.constant(noise)).numpy()
    kept, smaller = tf.constant(kept_noise(noise, activities)), pruned(model, activities)
    # noise of 0.0009 in units that are read with weights of about 1, by sums of some tens of terms
    np.testing.assert_allclose(smaller.log_weights_from_noise(x, kept), log_w, atol=0.03)
    read_as_0 = reference_log_weights(model, x, noise, activities)
    assert np.abs(read_as_0 - log_w).max() > 1.0


def test_the_mean_below_a_layer_is_taken_at_the_mean_of_that_layer():
    # E[h2] = 0.5 in each unit (bias of p(h2 | h3)); E[h1 | h2] = 2 h2 + 0.1 by hand: 1.1 for every unit.
    model = small_model(3, hidden_units=((), (), ()), latent_units=(2, 2, 2))
    likelihood, below, top = model.generative_network.stages
    for stage, kernel, bias in ((below, 2.0 * np.eye(2), 0.1), (top, np.eye(2), 0.5)):
        stage.head.loc.kernel.assign(kernel)
        stage.head.loc.bias.assign([bias, bias])
    kernel, bias = likelihood.head.logits.kernel.numpy(), likelihood.head.logits.bias.numpy()
    smaller = pruned(model, ([0.0, 1.0], [1.0, 0.0], [1.0, 0.0])).generative_network.stages
    np.testing.assert_allclose(smaller[0].head.logits.bias, bias + 1.1 * kernel[0], rtol=1e-6)  # float32
    # Unit 0 of layer 1 is gone, unit 1 reads 2 h2[1], of which 0.5 stays; the top layer's dropped unit is at 0.
    np.testing.assert_allclose(smaller[1].head.loc.bias, [0.1 + 2.0 * 0.5], rtol=1e-6)
    np.testing.assert_allclose(smaller[2].head.loc.bias, [0.5], rtol=1e-6)


# ------------------------------------------------------------------------------------------------ the model it gives


def test_a_pruned_model_is_a_model_like_any_other(tmp_path):
    model = small_model(2, data_mean=np.full(SMALL_DIM, 0.3), seed=5)
    x = binary_images(20)
    smaller = pruned(model, activities_of(model, DROPPED[2]))
    assert isinstance(smaller, iwae_tf.IWAE)
    assert {**smaller.get_config(), "latent_units": None} == {**model.get_config(), "latent_units": None}
    smaller.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(loaded.log_likelihood(x, 60), smaller.log_likelihood(x, 60))
    assert loaded.sample(3).shape == loaded.reconstruct(x[:3]).shape == (3, SMALL_DIM)
    before = [variable.numpy() for variable in model.trainable_variables]
    smaller.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    smaller.fit(x, epochs=1, verbose=0)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)  # the large model shares nothing with the small one


def test_of_a_layer_without_active_units_the_most_active_is_kept_with_a_warning():
    model = small_model(2)
    activities = ([0.5, 0.001, 0.5, 0.0, 0.5], [0.001, 0.004, 0.002])
    with pytest.warns(UserWarning, match=r"stochastic layer 2 is above 0\.01: .* unit 1 with 0\.004, is kept"):
        smaller = pruned(model, activities)
    assert smaller.latent_units == (3, 1)
    kernel = model.inference_network.stages[1].head.loc.kernel.numpy()[:, 1:2]
    np.testing.assert_array_equal(smaller.inference_network.stages[1].head.loc.kernel, kernel)


def test_a_unit_at_the_threshold_is_inactive_and_the_threshold_counts():
    model = small_model(1)
    activities = [np.array([0.25, 0.26, 0.0, 0.5, 0.1])]
    assert pruned(model, activities, threshold=0.25).latent_units == (2,)
    assert pruned(model, activities, threshold=0).latent_units == (4,)


@pytest.mark.parametrize(
    ("activities", "threshold", "message"),
    [
        ([np.ones(5)], 0.01, r"layers \(5, 3\), got arrays of shapes \[\(5,\)\]: take them from"),
        ([np.ones(3), np.ones(5)], 0.01, r"shapes \[\(3,\), \(5,\)\]"),
        ([np.ones(5), np.full(3, np.nan)], 0.01, "activities must be finite"),
        ([np.ones(5), np.ones(3)], "much", "threshold must be a finite number, got 'much'"),
    ],
)
def test_what_does_not_fit_is_refused(activities, threshold, message):
    with pytest.raises(iwae_tf.InputError, match=message):
        pruned(small_model(2), activities, threshold)


@pytest.mark.slow
def test_pruning_a_trained_model_moves_the_likelihood_by_less_than_the_paper_found():
    digits, rng = iwae_tf.data.load("digits"), np.random.default_rng(0)
    x_train, x_test = (
        (rng.random(x.shape) < x).astype(np.float32)
        for x in (np.repeat(digits.intensities("train"), 4, axis=0), digits.intensities("test"))
    )
    model = iwae_tf.IWAE.one_layer(64, data_mean=x_train.mean(axis=0))
    model.compile(keras.optimizers.Adam(2e-3), objective=iwae_tf.objectives.ELBO(1))
    model.fit(x_train, epochs=20, batch_size=20, verbose=0)
    smaller = pruned(model, unit_activities(model, x_test))
    assert smaller.latent_units[0] <= 40  # of 50
    moved = smaller.log_likelihood(x_test, 1000).numpy() - model.log_likelihood(x_test, 1000).numpy()
    assert abs(moved.mean()) < 0.06  # the paper's figure; the standard error of the mean is 0.01
