"""Gradients of both networks: draw by draw equal to plain differentiation, and in the mean those of the bound."""

import functools

import numpy as np
import pytest
import reference_objectives
import tensorflow as tf
from objective_table import (
    CLOSE,
    MAX_Z,
    TABLE,
    AnyRows,
    K,
    autodiff,
    bound_and_gradients,
    draw_backward_samples,
    flat,
    gather_samples,
    gradient,
    gradient_by_rows,
    gradient_samples,
    key_of,
    log_weights,
    made,
    of_kind,
    row_list,
    size_of_phi,
    table_cases,
    z_scores,
)
from small_models import binary_images, small_model
from user_networks import KINDS, networks

from iwae_tf import IWAE, objectives, seeds
from iwae_tf.layers import ColumnModel

OWN = [name for name in of_kind("own") if name != "elbo-kl"]  # its log-weights are others
OTHERS = [name for name in of_kind("path", "discrete", "mixed") if name != "rws-sleep"]  # phi learns from draws of p


@functools.cache
def _case(layers, kind=None, latent="gaussian"):
    """Model, x [5, D] and noise [K, 5, H]."""
    model = small_model(layers, gain=1.0, latent=latent, **(networks(kind) if kind else {}))  # several weights count
    noise = tf.random.stateless_normal([K, 5, sum(model.latent_units)], (0, layers))
    return model, tf.constant(binary_images(5)), noise


@pytest.fixture(scope="module", params=[1, 3], ids="{} layers".format)
def case(request):
    return _case(request.param)


@pytest.mark.parametrize(("name", "k", "settings"), table_cases(OWN, K))
def test_the_gradient_of_a_bound_is_that_of_plain_differentiation(case, name, k, settings):
    model, x, noise = case
    objective = TABLE[name].cls(k, **settings)
    bound, gradients = bound_and_gradients(model, objective, x, noise)
    expected = autodiff(model, lambda: objective.bound(log_weights(model, x, noise)))
    assert len(gradients) == len(model.trainable_variables) + (objective.state is not None)
    np.testing.assert_allclose(flat(gradients)[: len(expected)], expected, **CLOSE)
    np.testing.assert_allclose(bound, objective.bound(log_weights(model, x, noise)), rtol=1e-5)
    if name in ("iwae", "ciwae"):  # the same rows, without a word that one pass is enough
        np.testing.assert_allclose(gradient(model, AnyRows(objective), x, noise), flat(gradients), **CLOSE)


@pytest.mark.parametrize(("name", "k", "settings"), table_cases(OTHERS, K))
def test_the_gradient_of_an_estimator_is_the_published_one(case, name, k, settings):
    model, x, noise = case
    expected = gradient_by_rows(model, x, noise, lambda log_w: reference_objectives.ROWS[name](log_w, **settings))
    np.testing.assert_allclose(gradient(model, TABLE[name].cls(k, **settings), x, noise), expected, **CLOSE)


class _FirstSample(objectives.DReG):
    """A subclass whose rows are not its base's: all weight on the first sample, and no path."""

    def gradient_weights(self, log_w):
        first = tf.concat([tf.ones_like(log_w[:1]), tf.zeros_like(log_w[1:])], axis=0)
        return objectives.GradientWeights(generative=first, path=None, score=2.0 * first)


class _DerivedFromBound(objectives.DReG):
    """A subclass of an estimator that goes back to the derivative of its bound."""

    def gradient_weights(self, log_w):
        return objectives.IWAEBound.gradient_weights(self, log_w)


def test_a_subclass_that_returns_other_rows_gets_their_gradient():
    model, x, noise = _case(1)
    first = np.zeros([K, 5])
    first[0] = 1.0
    expected = gradient_by_rows(model, x, noise, lambda log_w: (first, 0.0 * first, 2.0 * first))
    np.testing.assert_allclose(gradient(model, _FirstSample(K), x, noise), expected, **CLOSE)
    found = gradient(model, _DerivedFromBound(K), x, noise)
    np.testing.assert_allclose(found, gradient(model, made("iwae"), x, noise), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_of_a_users_networks_are_those_of_plain_differentiation(kind):
    model, x, noise = _case(1, kind)
    assert len(bound_and_gradients(model, made("iwae"), x, noise)[1]) == len(model.trainable_variables)
    for name in ("iwae", "dreg"):
        expected = gradient_by_rows(model, x, noise, reference_objectives.ROWS[name])
        np.testing.assert_allclose(gradient(model, made(name), x, noise), expected, rtol=1e-3, atol=2e-5)


# ---------------------------------------------------------------------------------------------- in the mean


@pytest.fixture(scope="module", params=[1, 2], ids="{} layers".format)
def samples(request):
    """Gradients on shared noise: (those of phi by name, those of theta by name)."""
    model = small_model(request.param, gain=1.0, seed=5)  # gradients without heavy tails
    names = ("iwae", "dreg", "vimco", *(("stl", "rws", "rws-dreg") if request.param == 1 else ()))
    estimators = {name: made(name, 4) for name in names}
    if request.param == 1:
        estimators |= {"iwae of 1": made("iwae", 1), "stl of 1": made("stl", 1)}
    x = tf.constant(np.repeat(binary_images(1), 100, axis=0))
    found, phi = gradient_samples(model, estimators, x, 40), size_of_phi(model)
    return {name: f[:, :phi] for name, f in found.items()}, {name: f[:, phi:] for name, f in found.items()}


def test_in_the_mean_dreg_and_vimco_have_the_gradient_of_the_bound(samples):
    phi, theta = samples
    for name in ("dreg", "vimco"):
        z = z_scores(phi[name], phi["iwae"])
        assert np.abs(z).max() < MAX_Z
        assert z.std() > 0.5  # the differences are chance, not zero by construction
        np.testing.assert_allclose(theta[name], theta["iwae"], rtol=1e-3, atol=1e-4)  # the same weights


@pytest.mark.parametrize("samples", [1], indirect=True)
def test_in_the_mean_rws_dreg_has_the_gradient_of_rws_and_stl_that_of_the_bound_for_one_sample_alone(samples):
    phi, theta = samples
    for one, other in (("rws-dreg", "rws"), ("stl of 1", "iwae of 1")):
        assert np.abs(z_scores(phi[one], phi[other])).max() < MAX_Z
    for one, other in (("rws-dreg", "dreg"), ("stl", "iwae")):
        assert np.abs(z_scores(phi[one], phi[other])).max() > 2 * MAX_Z
        np.testing.assert_allclose(theta[one], theta["iwae"], rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------------------------------------- samples drawn


@pytest.mark.parametrize("name", ["iwae", "piwae", "dreg", "rws-dreg", "vimco"])
def test_with_few_samples_backward_the_gradient_is_that_of_the_drawn_ones_and_the_bound_that_of_all(name):
    model, x, noise = _case(2)
    objective, log_w = made(name, backward_samples=2), log_weights(model, x, noise)
    uniforms = seeds.uniform([2, 5], key_of(seeds.Purpose.BACKWARD_SAMPLES))
    drawn, rows = draw_backward_samples(objective.gradient_weights(log_w), uniforms)
    filled = [np.zeros([2, 5]) if row is None else row for row in row_list(rows)]
    expected = gradient_by_rows(model, x, gather_samples(noise, drawn), lambda _: filled)
    bound, gradients = bound_and_gradients(model, objective, x, noise, key_of)
    np.testing.assert_allclose(flat(gradients), expected, **CLOSE)
    np.testing.assert_allclose(bound, objective.bound(log_w), rtol=1e-6)


def test_one_sample_backward_is_all_that_the_largest_weight_needs(case):
    model, x, noise = case
    full, cheap = (gradient(model, made("vr-max", backward_samples=m), x, noise) for m in (None, 1))
    np.testing.assert_allclose(cheap, full, **CLOSE)


@pytest.mark.parametrize("backward_samples", [None, 2])
def test_the_learned_share_of_the_elbo_climbs_the_bound_with_all_samples(backward_samples):
    model, x, noise = _case(1)
    objective = objectives.CIWAE(K, beta=0.3, learn_beta=True, backward_samples=backward_samples)
    log_w = log_weights(model, x, noise).numpy().astype(np.float64)
    gap = np.mean(reference_objectives.iwae(log_w) - reference_objectives.elbo(log_w))
    # loss = -(s ELBO + (1 - s) L_k), s = sigmoid(logit): by the logit s (1 - s) (L_k - ELBO), above 0, so that s falls
    np.testing.assert_allclose(gradient(model, objective, x, noise)[-1], 0.3 * 0.7 * gap, rtol=1e-5)
    assert gap > 0.0


# ---------------------------------------------------------------------------------------------- other targets


@pytest.mark.parametrize("cls", [objectives.ELBO, objectives.AnalyticKLELBO])
@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_an_annealed_gradient_is_that_of_the_likelihood_and_a_share_of_the_divergence(cls, weight):
    (model, x, noise), objective = _case(1), cls(K)
    objective.kl_weight.assign(weight)

    def annealed(weight=weight):
        h, log_q = model.inference_network.transform(x, noise)
        loc, log_scale = model.inference_network.stages[0](x)
        analytic = 0.5 * tf.reduce_sum(1.0 + 2.0 * log_scale - loc**2 - tf.exp(2.0 * log_scale), axis=-1)
        estimate = model.generative_network.log_prior(h) - log_q
        minus_kl = analytic if cls is objectives.AnalyticKLELBO else estimate
        return tf.reduce_mean(model.generative_network.log_likelihood(x, h) + weight * minus_kl, axis=0)

    bound, gradients = bound_and_gradients(model, objective, x, noise)
    np.testing.assert_allclose(flat(gradients), autodiff(model, annealed), **CLOSE)
    np.testing.assert_allclose(bound, annealed(1.0), rtol=1e-5)  # the full bound, whatever the weight


@pytest.mark.parametrize(("layers", "latent"), [(1, "gaussian"), (3, "gaussian"), (2, "bernoulli")])
def test_the_sleep_phase_climbs_log_q_of_new_draws_of_the_model_in_every_step(layers, latent):
    model, x, noise = _case(layers, latent=latent)
    phi = size_of_phi(model)
    sleep = {}
    for step in (3, 4):
        dreamt, _, h = model.generative_network.sample(
            5, lambda layer, step=step: key_of(seeds.Purpose.SLEEP_PHASE, layer, step)
        )
        dreamt, h = tf.stop_gradient(dreamt), tuple(map(tf.stop_gradient, h))
        sleep[step] = autodiff(model, lambda x=dreamt, h=h: model.inference_network.log_prob(x, h))[:phi]
        found = gradient(model, made("rws-sleep"), x, noise, lambda p, counter=0, step=step: key_of(p, counter, step))
        np.testing.assert_allclose(found[:phi], sleep[step], **CLOSE)
    assert np.abs(sleep[3] - sleep[4]).max() > 1e-3
    np.testing.assert_allclose(found[phi:], gradient(model, made("rws"), x, noise)[phi:], **CLOSE)


def test_the_sleep_phase_draws_rows_with_the_holes_of_the_batch():
    columns = [ColumnModel(name, "gaussian") for name in "ab"]
    model = IWAE(2, (2,), ((4,),), likelihood="columns", columns=columns, missing=True, seed=0)
    x = np.float32([[np.nan, 1.0], [0.5, np.nan], [2.0, 1.0]])
    dreamt, _, h = model.generative_network.sample(3, lambda layer: key_of(seeds.Purpose.SLEEP_PHASE, layer))
    holed = tf.where(np.isnan(x), np.float32("nan"), dreamt)
    phi = size_of_phi(model)
    expected = autodiff(model, lambda: model.inference_network.log_prob(holed, h))[:phi]
    found = gradient(model, made("rws-sleep", 5), x, np.zeros((5, 3, 2), np.float32), key_of)
    np.testing.assert_allclose(found[:phi], expected, **CLOSE)
