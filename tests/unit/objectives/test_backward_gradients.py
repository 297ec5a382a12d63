"""The gradient with few samples in the backward pass has the full gradient as its mean, for every objective."""

import numpy as np
import pytest
import tensorflow as tf
from autodiff import flat
from paired import MAX_Z, z_scores
from small_models import binary_images, small_model

from iwae_tf import seeds
from iwae_tf.objectives import OBJECTIVES, VRMax, objective_class
from iwae_tf.objectives.gradients import bound_and_gradients

K, DRAWN, BATCH, REPEATS = 6, 2, 100, 40
DEEP = ["iwae", "dreg", "piwae", "elbo", "vimco"]
CASES = [(name, 1) for name in OBJECTIVES] + [(name, layers) for name in DEEP for layers in (2, 3)]


def _made(name, **kwargs):
    return objective_class(name)(K, **({"groups": 2} if name in ("miwae", "piwae") else {}), **kwargs)


@pytest.fixture(scope="module")
def models():
    return {layers: small_model(layers, gain=1.0, seed=5) for layers in (1, 2, 3)}


@pytest.mark.parametrize(("name", "layers"), CASES)
def test_few_samples_backward_have_the_full_gradient_as_their_mean(models, name, layers):
    model, x = models[layers], tf.constant(np.repeat(binary_images(2), BATCH // 2, axis=0))
    both = _made(name), _made(name, backward_samples=DRAWN)

    @tf.function(autograph=False)
    def full_and_cheap(number):
        def key_of(purpose, counter=0):
            return seeds.key(3, purpose, number, counter)

        noise = seeds.normal([K, BATCH, sum(model.latent_units)], seeds.key(4, seeds.Purpose.TRAIN_NOISE, number))
        return [bound_and_gradients(model, objective, x, noise, key_of) for objective in both]

    pairs = [full_and_cheap(tf.constant(number)) for number in range(REPEATS)]
    for (full_bound, _), (bound, _) in pairs[:3]:
        np.testing.assert_allclose(bound, full_bound, rtol=1e-6)  # of all samples
    full, cheap = (np.stack([flat(pair[which][1]) for pair in pairs]) for which in (0, 1))
    if name == "vr-max":  # one sample has all the weight
        np.testing.assert_allclose(cheap, full, rtol=1e-3, atol=1e-4)
        return
    z = z_scores(full, cheap)
    assert np.abs(z).max() < MAX_Z
    assert z.std() > 0.5  # the differences are chance, not zero by construction
    # It is no other gradient that is drawn: the means agree closely beside their size.
    assert np.linalg.norm(full.mean(axis=0) - cheap.mean(axis=0)) < 0.5 * np.linalg.norm(full.mean(axis=0))


def test_one_sample_backward_is_all_that_the_largest_weight_needs(models):
    model, x = models[1], tf.constant(binary_images(4))
    noise = tf.random.stateless_normal([K, 4, 5], (0, 1))
    _, full = bound_and_gradients(model, VRMax(K), x, noise)
    _, cheap = bound_and_gradients(
        model, VRMax(K, backward_samples=1), x, noise, lambda purpose, counter=0: seeds.key(0, purpose, counter)
    )
    np.testing.assert_allclose(flat(cheap), flat(full), rtol=1e-4, atol=1e-6)  # float32, another batch shape
