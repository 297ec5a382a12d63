"""Gradients of both networks draw by draw: equal to automatic differentiation of a target that is written down here."""

import numpy as np
import pytest
import reference_objectives
import tensorflow as tf
from autodiff import autodiff, densities, flat, number_of_parameters
from small_models import binary_images, small_model

from iwae_tf import objectives, seeds
from iwae_tf.objectives.gradients import bound_and_gradients

K = 6
# float32 sums in another order, of terms of size 1
CLOSE = {"rtol": 1e-3, "atol": 1e-5}
OWN_BOUND = {
    "elbo": objectives.ELBO(K),
    "iwae": objectives.IWAEBound(K),
    "miwae": objectives.MIWAE(K, groups=2),
    "ciwae": objectives.CIWAE(K, beta=0.3),
    "ciwae learned": objectives.CIWAE(K, beta=0.3, learn_beta=True),
    "vr-iwae": objectives.VRIWAE(K, alpha=0.4),
    "vr-max": objectives.VRMax(K),
    "jvi 1": objectives.JVI(K, order=1),
    "jvi 2": objectives.JVI(K, order=2),
}


class ThreeRows(objectives.Objective):
    """The rows of an objective through the routine for any rows."""

    def __init__(self, objective):
        super().__init__(objective.num_samples)
        self.bound, self.gradient_weights, self.state = objective.bound, objective.gradient_weights, objective.state

    bound = gradient_weights = None  # of the objective


def _case(layers, seed=0):
    model, x = small_model(layers, gain=1.0), tf.constant(binary_images(5))  # several weights count in each column
    return model, x, tf.random.stateless_normal([K, 5, sum(model.latent_units)], (seed, layers))


def _log_w(model, x, noise):
    log_p, log_q = densities(model, x, noise)
    return log_p - log_q


def _key_of(purpose, counter=0):
    return seeds.key(0, purpose, 3, counter)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("three_rows", [False, True])
@pytest.mark.parametrize("objective", OWN_BOUND.values(), ids=OWN_BOUND.keys())
def test_the_gradient_of_a_bound_is_its_own(layers, objective, three_rows):
    model, x, noise = _case(layers)
    bound, gradients = bound_and_gradients(model, ThreeRows(objective) if three_rows else objective, x, noise)
    expected = autodiff(model, lambda: objective.bound(_log_w(model, x, noise)))
    for one, other, variable in zip(gradients, expected, model.trainable_variables, strict=False):
        assert one.shape == variable.shape
        np.testing.assert_allclose(one, other, **CLOSE)
    assert len(gradients) == len(expected) + (objective.state is not None)
    np.testing.assert_allclose(bound, objective.bound(_log_w(model, x, noise)), rtol=1e-5)


def test_the_gradient_with_analytic_kl_is_that_of_its_bound():
    model, x, noise = _case(1)
    objective = objectives.AnalyticKLELBO(K)
    _, gradients = bound_and_gradients(model, objective, x, noise)
    expected = autodiff(model, lambda: objective.bound(objective.log_weights(model, x, noise)))
    np.testing.assert_allclose(flat(gradients), flat(expected), **CLOSE)


@pytest.mark.parametrize("backward_samples", [None, 2])
def test_the_learned_share_of_the_elbo_climbs_the_bound_with_all_samples(backward_samples):
    model, x, noise = _case(1)
    objective = objectives.CIWAE(K, beta=0.3, learn_beta=True, backward_samples=backward_samples)
    _, gradients = bound_and_gradients(model, objective, x, noise, _key_of)
    log_w = _log_w(model, x, noise)
    gap = tf.reduce_mean(reference_objectives.iwae(log_w) - reference_objectives.elbo(log_w))
    # loss = -(s ELBO + (1 - s) L_k), s = sigmoid(logit): by the logit s (1 - s) (L_k - ELBO), above 0, so that s falls
    np.testing.assert_allclose(gradients[-1], 0.3 * 0.7 * gap, rtol=1e-5)
    assert gradients[-1] > 0.0


@pytest.mark.parametrize("objective", [objectives.ELBO(K), objectives.AnalyticKLELBO(K)])
@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_an_annealed_gradient_is_that_of_the_likelihood_and_a_part_of_the_divergence(objective, weight):
    model, x, noise = _case(1)
    objective.kl_weight.assign(weight)
    bound, gradients = bound_and_gradients(model, objective, x, noise)
    objective.kl_weight.assign(1.0)

    def annealed():
        h, log_q = model.inference_network.transform(x, noise)
        loc, log_scale = model.inference_network.stages[0](x)
        analytic = 0.5 * tf.reduce_sum(1.0 + 2.0 * log_scale - loc**2 - tf.exp(2.0 * log_scale), axis=-1)
        estimate = model.generative_network.log_prior(h) - log_q
        minus_kl = analytic if isinstance(objective, objectives.AnalyticKLELBO) else estimate
        return tf.reduce_mean(model.generative_network.log_likelihood(x, h) + weight * minus_kl, axis=0)

    np.testing.assert_allclose(flat(gradients), flat(autodiff(model, annealed)), **CLOSE)
    full = objective.bound(objective.log_weights(model, x, noise))
    np.testing.assert_allclose(bound, full, rtol=1e-5)  # the bound is the full one, whatever the weight


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_piwae_moves_theta_by_iwae_and_phi_by_miwae(layers):
    model, x, noise = _case(layers)
    gradients = flat(bound_and_gradients(model, objectives.PIWAE(K, groups=3), x, noise)[1])
    phi = number_of_parameters(model.inference_network)
    by_iwae = flat(autodiff(model, lambda: objectives.IWAEBound(K).bound(_log_w(model, x, noise))))
    by_miwae = flat(autodiff(model, lambda: objectives.MIWAE(K, groups=3).bound(_log_w(model, x, noise))))
    np.testing.assert_allclose(gradients[:phi], by_miwae[:phi], **CLOSE)
    np.testing.assert_allclose(gradients[phi:], by_iwae[phi:], **CLOSE)


def _surrogate(model, x, noise, rows):
    """sum_i g_i log p + path_i log w through h + score_i log q at constant h, rows taken from the reference."""
    log_p, log_q = densities(model, x, noise, stopped=True)
    generative, path, score = (tf.constant(row, tf.float32) for row in rows((log_p - log_q).numpy().astype(np.float64)))

    def fixed():
        log_p, log_q = densities(model, x, noise, stopped=True)
        return tf.reduce_sum(generative * log_p + score * log_q, axis=0)

    def through():
        _, score_of_q = densities(model, x, noise, stopped=True)  # added to d log w / d phi, it leaves the path
        return tf.reduce_sum(path * (_log_w(model, x, noise) + score_of_q), axis=0)

    by_path = flat(autodiff(model, through))
    by_path[number_of_parameters(model.inference_network) :] = 0.0
    return flat(autodiff(model, fixed)) + by_path


PUBLISHED = {
    "dreg": objectives.DReG(K),
    "stl, biased for k > 1": objectives.STL(K),
    "dreg-alpha, biased but for alpha = 0": objectives.DReGAlpha(K, alpha=0.3),
    "rws-dreg, towards the posterior": objectives.RWSDReG(K),
    "rws, towards the posterior": objectives.RWS(K),
    "vimco": objectives.VIMCO(K),
    "tvo, consistent in k": objectives.TVO(K, points=3),
}


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("label", PUBLISHED)
def test_the_gradient_is_the_published_one(layers, label):
    model, x, noise = _case(layers)
    objective = PUBLISHED[label]
    own = {key: value for key, value in objective.get_config().items() if key in ("alpha", "points")}
    expected = _surrogate(model, x, noise, lambda log_w: reference_objectives.ROWS[label.split(",")[0]](log_w, **own))
    np.testing.assert_allclose(flat(bound_and_gradients(model, objective, x, noise)[1]), expected, **CLOSE)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_rws_climbs_log_q_of_its_samples_by_their_normalised_weights(layers):
    model, x, noise = _case(layers)

    def wake():
        log_p, log_q = densities(model, x, noise, stopped=True)
        return tf.reduce_sum(tf.stop_gradient(tf.nn.softmax(log_p - log_q, axis=0)) * (log_p + log_q), axis=0)

    gradients = bound_and_gradients(model, objectives.RWS(K), x, noise)[1]
    np.testing.assert_allclose(flat(gradients), flat(autodiff(model, wake)), **CLOSE)


def test_dreg_alpha_is_the_stated_mixture_of_dreg_and_rws_dreg():
    model, x, noise = _case(2)
    dreg, rws_dreg, mixture = (
        flat(bound_and_gradients(model, objective, x, noise)[1])
        for objective in (objectives.DReG(K), objectives.RWSDReG(K), objectives.DReGAlpha(K, alpha=0.3))
    )
    np.testing.assert_allclose(mixture, 0.7 * dreg + 0.3 * rws_dreg, **CLOSE)


@pytest.mark.parametrize("layers", [1, 2])
def test_tvo_moves_theta_by_the_derivative_of_its_value_at_the_samples(layers):
    model, x, noise = _case(layers)
    objective = objectives.TVO(K, points=4)

    def value():
        log_p, log_q = densities(model, x, noise, stopped=True)
        return objective.bound(log_p - tf.stop_gradient(log_q))

    phi = number_of_parameters(model.inference_network)
    gradients = flat(bound_and_gradients(model, objective, x, noise)[1])
    np.testing.assert_allclose(gradients[phi:], flat(autodiff(model, value))[phi:], **CLOSE)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("latent", ["gaussian", "bernoulli"])
def test_the_sleep_phase_climbs_log_q_of_draws_of_the_model(layers, latent):
    model, x = small_model(layers, latent=latent), tf.constant(binary_images(5))
    noise = tf.random.stateless_normal([K, 5, sum(model.latent_units)], (0, layers))
    gradients = flat(bound_and_gradients(model, objectives.RWSSleep(K), x, noise, _key_of)[1])
    dreamt, _, h = model.generative_network.sample(5, lambda layer: _key_of(seeds.Purpose.SLEEP_PHASE, layer))
    dreamt, h = tf.stop_gradient(dreamt), tuple(map(tf.stop_gradient, h))
    sleep = flat(autodiff(model, lambda: model.inference_network.log_prob(dreamt, h)))
    wake = flat(bound_and_gradients(model, objectives.RWS(K), x, noise)[1])
    phi = number_of_parameters(model.inference_network)
    np.testing.assert_allclose(gradients[:phi], sleep[:phi], **CLOSE)
    np.testing.assert_allclose(gradients[phi:], wake[phi:], **CLOSE)


def test_the_sleep_phase_dreams_anew_in_every_step():
    model, x, noise = _case(1)
    first, second = (
        bound_and_gradients(
            model,
            objectives.RWSSleep(K),
            x,
            noise,
            lambda purpose, counter=0, step=step: seeds.key(0, purpose, step, counter),
        )[1]
        for step in (1, 2)
    )
    assert np.abs(first[0] - second[0]).max() > 1e-3
