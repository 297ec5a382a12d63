"""Scores in float32 against float64, at the edges of the range of every parameter, and under Keras' dtype policies."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import binary_images, reference_weights, small_model

import iwae_tf
from iwae_tf.evaluation import estimate_log_likelihood
from iwae_tf.models.evaluation_noise import SAMPLES_PER_BLOCK, evaluation_noise
from iwae_tf.objectives import STL, IWAEBound
from iwae_tf.objectives.gradients import bound_and_gradients
from iwae_tf.weight_statistics import empty_statistics, summarize, update_statistics

K = 100  # samples


def large_model(layers, pixels, likelihood="bernoulli", gain=3.0, pixel_gain=1.0):
    """A model of many pixels with kernels `gain` times Glorot's, once more by `pixel_gain` for what pixels are made of.

    All scales are near 1, so that the pixels and not the latents make the nats.
    """
    units, hidden = {1: ((8,), ((30, 20),)), 2: ((8, 6), ((30, 20), (10,)))}[layers]
    model = iwae_tf.IWAE(pixels, units, hidden, likelihood=likelihood)
    for variable in model.trainable_variables:
        if variable.name == "kernel":
            variable.assign(gain * variable)
    for stage in (*model.inference_network.stages, *model.generative_network.stages):
        if hasattr(stage.head, "log_scale"):
            stage.head.log_scale.kernel.assign(0.1 * stage.head.log_scale.kernel)
    head = model.generative_network.likelihood_stage.head
    dense = head.logits if likelihood == "bernoulli" else head.loc
    dense.kernel.assign(pixel_gain * dense.kernel)
    return model


def float64_log_weights(model, x, noise):
    """The log-weights by NumPy from the model's weights, float64 [k, B]."""
    split = np.split(np.asarray(noise, np.float64), np.cumsum(model.latent_units)[:-1], axis=-1)
    return reference.iwae_log_weights(np.asarray(x, np.float64), split, **reference_weights(model))


def float64_scores(model, x, k=K):
    """Log-weights and log p(x) by NumPy with the noise that `log_likelihood` uses: float64 [k, B] and [B]."""
    blocks = tf.range(-(-k // SAMPLES_PER_BLOCK))
    noise = evaluation_noise(tf.range(len(x)), blocks, tf.constant(0), sum(model.latent_units))[:k]
    log_w = float64_log_weights(model, x, noise)
    return log_w, reference.log_mean_exp(log_w)


def set_bias(dense, value):
    """Makes a dense layer a constant."""
    dense.kernel.assign(tf.zeros_like(dense.kernel))
    dense.bias.assign(np.broadcast_to(value, dense.bias.shape))


# ------------------------------------------------------------------------------------------- many nats, wide spreads


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("pixels", [784, 3000])
def test_scores_of_a_thousand_nats_are_those_of_float64(layers, pixels):
    model = large_model(layers, pixels)
    x = model.sample(6, seed=1).numpy()  # what the model makes, or it would be tens of thousands of nats
    log_w, expected = float64_scores(model, x)
    assert -4000.0 < expected.min() < expected.max() < -400.0
    assert np.ptp(log_w, axis=0).min() > 50.0
    # float32 parameters and sums of thousands of pixels: seen up to 4e-4 nats, a ten-millionth
    np.testing.assert_allclose(model.log_likelihood(x, K), expected, atol=1e-3)
    estimate = estimate_log_likelihood(model, x, K, sample_sizes=(1, 10), batch_size=4)
    np.testing.assert_allclose(estimate.log_likelihood, expected, atol=1e-3)
    for k in (1, 10):
        np.testing.assert_allclose(estimate.bounds[k], reference.grouped_bound(log_w, k), atol=1e-3)


@pytest.mark.parametrize(("likelihood", "pixel_gain"), [("bernoulli", 300.0), ("gaussian", 30.0)])
def test_weights_ten_thousand_nats_apart_do_not_disturb_the_largest(likelihood, pixel_gain):
    model = large_model(1, 3000, likelihood, pixel_gain=pixel_gain)
    x = binary_images(4, 3000)  # nothing that the model could have made
    log_w, expected = float64_scores(model, x)
    assert np.ptp(log_w, axis=0).min() > 1e4
    # float32 parameters, squared and summed: seen up to 4e-7; the largest weight's error is the score's
    np.testing.assert_allclose(model.log_likelihood(x, K), expected, rtol=1e-6)
    np.testing.assert_allclose(model.log_weights(x, K), log_w, rtol=3e-6)


@pytest.mark.parametrize("spread", [1.0, 30.0, 1e4])
def test_weight_statistics_of_large_log_weights_are_those_of_float64(spread):
    log_w = (-1000.0 + spread * np.random.default_rng(0).standard_normal((K, 5))).astype(np.float32)
    state = empty_statistics(5, K)
    for chunk in np.split(log_w, 4):
        state = update_statistics(state, tf.constant(chunk), tf.ones(chunk.shape, tf.bool))
    summary = summarize(state)
    # the same float32 numbers, in float64 from there on
    np.testing.assert_allclose(summary.log_likelihood, reference.log_mean_exp(log_w), rtol=1e-13)
    np.testing.assert_allclose(summary.elbo, reference.elbo(log_w), rtol=1e-13)
    np.testing.assert_allclose(summary.effective_sample_size, reference.effective_sample_size(log_w), rtol=1e-10)
    np.testing.assert_allclose(summary.standard_error, reference.standard_error(log_w), rtol=1e-7)
    np.testing.assert_allclose(summary.pareto_k, reference.pareto_shape(log_w), rtol=1e-7)


def test_weight_statistics_of_a_model_are_those_of_its_float64_weights():
    model = large_model(1, 784, gain=1.0)
    x = binary_images(4, 784)
    log_w, expected = float64_scores(model, x)
    state = update_statistics(empty_statistics(4, K), model.log_weights(x, K), tf.ones([K, 4], tf.bool))
    summary = summarize(state)
    np.testing.assert_allclose(summary.log_likelihood, expected, atol=1e-3)  # float32 sums of 784 pixels
    np.testing.assert_allclose(summary.effective_sample_size, reference.effective_sample_size(log_w), rtol=1e-3)
    np.testing.assert_allclose(summary.standard_error, reference.standard_error(log_w), rtol=1e-3)


# ------------------------------------------------------------------------------------------------ edges of the range


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("raw", [1e6, -1e6])
def test_log_scales_at_their_bounds_score_and_train(layers, raw):
    model, x = small_model(layers, likelihood="gaussian"), binary_images(4)
    for stage in (*model.inference_network.stages, *model.generative_network.stages):
        set_bias(stage.head.log_scale, raw)
    log_scale = model.encode(x)[0].log_scale
    np.testing.assert_allclose(log_scale, np.full(log_scale.shape, np.sign(raw) * 7.0), rtol=1e-6)
    log_w, expected = float64_scores(model, x)
    np.testing.assert_allclose(model.log_weights(x, K), log_w, rtol=1e-5)  # squares of 1e3 / 1e-3 and their sums
    np.testing.assert_allclose(model.log_likelihood(x, K), expected, rtol=1e-5)
    _check_gradients(model, x)


@pytest.mark.parametrize("logit", [100.0, -100.0])
def test_logits_of_a_hundred_score_and_train(logit):
    model = small_model(1)
    set_bias(model.generative_network.likelihood_stage.head.logits, logit)
    x = np.stack([np.zeros(12), np.ones(12), np.arange(12) % 2]).astype(np.float32)
    log_w, expected = float64_scores(model, x)
    assert log_w.min() < -1200.0  # every pixel wrong
    np.testing.assert_allclose(model.log_weights(x, K), log_w, rtol=1e-5, atol=1e-4)  # float32
    np.testing.assert_allclose(model.log_likelihood(x, K), expected, rtol=1e-6, atol=1e-4)
    _check_gradients(model, x)


@pytest.mark.parametrize("size", [1e3, 1e8, 1e14])
@pytest.mark.parametrize("hidden", [((7, 6),), ((),)], ids=["hidden", "no hidden"])
def test_observations_far_outside_the_data_score_as_in_float64(size, hidden):
    model = small_model(1, likelihood="gaussian", hidden_units=hidden)
    x = (size * np.random.default_rng(0).standard_normal((4, 12))).astype(np.float32)
    log_w, expected = float64_scores(model, x)
    np.testing.assert_allclose(model.log_weights(x, K), log_w, rtol=1e-4)  # 7 tanh(.) and its exponential, squared
    np.testing.assert_allclose(model.log_likelihood(x, K), expected, rtol=1e-4)


def test_an_observation_whose_square_is_beyond_float32_has_density_zero_and_leaves_its_neighbours_alone():
    model = small_model(1, likelihood="gaussian")
    x = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)
    before = model.log_likelihood(x, K).numpy()
    x[1] *= 1e30
    scores = model.log_likelihood(x, K).numpy()
    assert scores[1] == -np.inf
    np.testing.assert_array_equal(scores[[0, 2]], before[[0, 2]])


def _check_gradients(model, x):
    """The bound and its gradients are finite, and some gradient is not zero."""
    noise = tf.random.stateless_normal([5, len(x), sum(model.latent_units)], [0, 1])
    for objective in (IWAEBound(5), STL(5)):
        bound, gradients = bound_and_gradients(model, objective, tf.constant(x), noise)
        assert np.isfinite(bound).all()
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        assert max(np.abs(gradient).max() for gradient in gradients) > 0.0
        assert all(gradient.dtype == tf.float32 for gradient in gradients)
