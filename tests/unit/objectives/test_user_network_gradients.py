"""Gradients of a user's networks, likelihood features of each pixel, and prior: plain differentiation, and the mean."""

import numpy as np
import pytest
import tensorflow as tf
from autodiff import autodiff, densities, flat, number_of_parameters
from paired import MAX_Z, z_scores
from small_models import binary_images, small_model
from user_networks import KINDS, networks

from iwae_tf.objectives import STL, DReG, IWAEBound
from iwae_tf.objectives.gradients import bound_and_gradients

K, BATCH, REPEATS = 4, 100, 60


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_the_bound_is_that_of_plain_differentiation(kind):
    model, x = small_model(gain=1.0, **networks(kind)), tf.constant(binary_images(5))
    noise = tf.random.stateless_normal([K, 5, 5], [0, 1])

    def bound():
        log_p, log_q = densities(model, x, noise)
        return tf.reduce_logsumexp(log_p - log_q, axis=0)

    expected = autodiff(model, bound)
    _, gradients = bound_and_gradients(model, IWAEBound(K), x, noise)
    assert len(gradients) == len(model.trainable_variables)
    np.testing.assert_allclose(flat(gradients), flat(expected), rtol=1e-3, atol=2e-5)  # float32, sums of 20 rows


@pytest.mark.parametrize("kind", KINDS)
def test_dreg_has_the_mean_gradient_of_the_bound_and_stl_has_not(kind):
    model = small_model(gain=1.0, **networks(kind))
    for head in (stage.head for stage in model.inference_network.stages):
        head.loc.kernel.assign(4.0 * head.loc.kernel)  # far from the posterior, where STL's bias shows
    x = tf.constant(np.repeat(binary_images(1), BATCH, axis=0))
    estimators = {"iwae": IWAEBound(K), "dreg": DReG(K), "stl": STL(K)}

    @tf.function(autograph=False)
    def gradients(number):
        noise = tf.random.stateless_normal([K, BATCH, 5], [7, number])
        return {name: bound_and_gradients(model, each, x, noise)[1] for name, each in estimators.items()}

    draws = [gradients(tf.constant(number)) for number in range(REPEATS)]
    samples = {name: np.stack([flat(draw[name]) for draw in draws]).astype(np.float64) for name in estimators}
    phi = number_of_parameters(model.inference_network)
    z = z_scores(samples["dreg"][:, :phi], samples["iwae"][:, :phi])
    assert np.abs(z).max() < MAX_Z
    assert z.std() > 0.5  # the differences are chance, not zero by construction
    assert np.abs(z_scores(samples["stl"][:, :phi], samples["iwae"][:, :phi])).max() > 2 * MAX_Z
    np.testing.assert_allclose(samples["dreg"][:, phi:], samples["iwae"][:, phi:], rtol=1e-3, atol=1e-4)
