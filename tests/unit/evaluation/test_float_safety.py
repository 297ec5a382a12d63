"""Scores in float32 against float64, for many nats and at the edges of the range of every parameter."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import binary_images, reference_weights, small_model

import iwae_tf
from iwae_tf.evaluation import estimate_log_likelihood
from iwae_tf.models.gradients import bound_and_gradients
from iwae_tf.objectives import STL, IWAEBound
from iwae_tf.weight_statistics import empty_statistics, summarize, update_statistics

K = 100  # samples


def large_model(layers, pixels, likelihood="bernoulli", gain=3.0, pixel_gain=1.0):
    """A model of many pixels with kernels `gain` times Glorot's, those of the pixels once more times `pixel_gain`.

    All scales are near 1, so that the pixels and not the latents make the nats.
    """
    units, hidden = {1: ((4,), ((20,),)), 2: ((4, 3), ((20,), (8,)))}[layers]
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


def check_scores(model, x, rtol=0.0, atol=0.0):
    """Holds log-weights and scores to NumPy's in float64; returns both."""
    noise = np.random.default_rng(1).standard_normal((K, len(x), sum(model.latent_units))).astype(np.float32)
    split = np.split(noise.astype(np.float64), np.cumsum(model.latent_units)[:-1], axis=-1)
    expected = reference.iwae_log_weights(np.asarray(x, np.float64), split, **reference_weights(model))
    log_w = model.log_weights_from_noise(tf.constant(x), tf.constant(noise)).numpy()
    np.testing.assert_allclose(log_w, expected, rtol=rtol, atol=atol)
    scores = summarize(update_statistics(empty_statistics(len(x), K), tf.constant(log_w))).log_likelihood.numpy()
    np.testing.assert_allclose(scores, reference.log_mean_exp(expected), rtol=rtol, atol=atol)
    return log_w, scores


# ------------------------------------------------------------------------------------------ many nats, wide spreads


def test_scores_of_a_thousand_nats_are_those_of_float64():
    model = large_model(2, 784)
    x = model.sample(6, seed=1).numpy()  # the model's own images, or it would be tens of thousands of nats
    # float32 parameters and sums of thousands of pixels: seen up to 4e-4 nats, a ten-millionth
    log_w, scores = check_scores(model, x, atol=2e-3)
    assert -4000.0 < scores.min() < scores.max() < -300.0
    assert np.ptp(log_w, axis=0).min() > 20.0
    estimate = estimate_log_likelihood(model, x, K, sample_sizes=(1, 10), refine="off")
    log_w = model.log_weights(x, K)
    np.testing.assert_allclose(estimate.log_likelihood, reference.log_mean_exp(log_w), atol=1e-3)
    for k in (1, 10):
        np.testing.assert_allclose(estimate.bounds[k], reference.grouped_bound(log_w, k), atol=1e-3)


@pytest.mark.parametrize(("likelihood", "pixel_gain"), [("bernoulli", 300.0), ("gaussian", 30.0)])
def test_weights_ten_thousand_nats_apart_do_not_disturb_the_largest(likelihood, pixel_gain):
    model = large_model(1, 3000, likelihood, pixel_gain=pixel_gain)
    # images that the model would not make; float32 parameters, squared and summed: seen up to 4e-7
    log_w, _ = check_scores(model, binary_images(4, 3000), rtol=3e-6)
    assert np.ptp(log_w, axis=0).min() > 1e4


# ----------------------------------------------------------------------------------------------- edges of the range


def set_bias(dense, value):
    """Makes a dense layer a constant."""
    dense.kernel.assign(tf.zeros_like(dense.kernel))
    dense.bias.assign(np.broadcast_to(value, dense.bias.shape))


@pytest.mark.parametrize(("layers", "raw"), [(1, 1e6), (2, -1e6)])
def test_log_scales_at_their_bounds_score_and_train(layers, raw):
    model, x = small_model(layers, likelihood="gaussian"), binary_images(4)
    for stage in (*model.inference_network.stages, *model.generative_network.stages):
        set_bias(stage.head.log_scale, raw)
    log_scale = model.encode(x)[0].log_scale
    np.testing.assert_allclose(log_scale, np.full(log_scale.shape, np.sign(raw) * 7.0), rtol=1e-6)
    check_scores(model, x, rtol=1e-5)  # squares of 1e3 / 1e-3 and their sums
    check_gradients(model, x)


@pytest.mark.parametrize("logit", [100.0, -100.0])
def test_logits_of_a_hundred_score_and_train(logit):
    model = small_model(1)
    set_bias(model.generative_network.likelihood_stage.head.logits, logit)
    x = np.stack([np.zeros(12), np.ones(12), np.arange(12) % 2]).astype(np.float32)
    log_w, _ = check_scores(model, x, rtol=1e-5, atol=1e-4)  # float32
    assert log_w.min() < -1200.0  # every pixel wrong
    check_gradients(model, x)


@pytest.mark.parametrize("size", [1e3, 1e14])
@pytest.mark.parametrize("hidden", [((7, 6),), ((),)], ids=["hidden", "no hidden"])
def test_observations_far_outside_the_data_score_as_in_float64(size, hidden):
    model = small_model(1, likelihood="gaussian", hidden_units=hidden)
    x = (size * np.random.default_rng(0).standard_normal((4, 12))).astype(np.float32)
    check_scores(model, x, rtol=1e-4)  # 7 tanh(.) and its exponential, squared


def test_an_observation_whose_square_is_beyond_float32_has_density_zero_and_leaves_its_neighbours_alone():
    model = small_model(1, likelihood="gaussian")
    x = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)
    before = model.log_likelihood(x, K).numpy()
    x[1] *= 1e30
    scores = model.log_likelihood(x, K).numpy()
    assert scores[1] == -np.inf
    np.testing.assert_array_equal(scores[[0, 2]], before[[0, 2]])


def check_gradients(model, x):
    """The bound and its gradients are finite, and some gradient is not zero."""
    noise = tf.random.stateless_normal([5, len(x), sum(model.latent_units)], [0, 1])
    for objective in (IWAEBound(5), STL(5)):
        bound, gradients = bound_and_gradients(model, objective, tf.constant(x), noise)
        assert np.isfinite(bound).all()
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        assert max(np.abs(gradient).max() for gradient in gradients) > 0.0
        assert all(gradient.dtype == tf.float32 for gradient in gradients)
