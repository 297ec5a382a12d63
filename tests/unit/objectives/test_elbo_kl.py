"""The VAE's bound with the KL divergence in closed form."""

import numpy as np
import reference
import tensorflow as tf
from small_models import binary_images, small_model

from iwae_tf import objectives


def test_the_analytic_kl_takes_the_place_of_its_estimate():
    model, x = small_model(1), tf.constant(binary_images(4))
    noise = tf.random.stateless_normal([6, 4, 5], (0, 1))
    objective = objectives.AnalyticKLELBO(6)
    log_w = objective.log_weights(model, x, noise)
    loc, log_scale = model.encode(x)[0]
    kl = reference.gaussian_kl_to_standard(loc.numpy().astype(np.float64), log_scale.numpy().astype(np.float64))
    h, _ = model.inference_network.transform(x, noise)
    expected = model.generative_network.log_likelihood(x, h).numpy() - kl
    np.testing.assert_allclose(log_w, expected, rtol=1e-5, atol=1e-5)  # float32


def test_the_analytic_kl_changes_the_spread_of_the_bound_and_not_its_mean():
    model = small_model(1, gain=1.0)
    x = tf.constant(np.repeat(binary_images(1), 20_000, axis=0))
    noise = tf.random.stateless_normal([1, 20_000, 5], (0, 1))
    plain = objectives.ELBO(1).log_weights(model, x, noise).numpy()[0]
    analytic = objectives.AnalyticKLELBO(1).log_weights(model, x, noise).numpy()[0]
    difference = plain - analytic
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(difference))
    assert difference.std() > 0.1
