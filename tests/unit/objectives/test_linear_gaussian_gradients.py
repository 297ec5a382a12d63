"""Gradients where log p(x), the posterior and the divergences from it are known in closed form."""

import numpy as np
import pytest
import tensorflow as tf
from autodiff import flat, number_of_parameters
from linear_gaussian_models import UNITS, linear_gaussian
from paired import MAX_Z, z_scores

from iwae_tf import objectives, seeds
from iwae_tf.objectives import OBJECTIVES, objective_class
from iwae_tf.objectives.gradients import bound_and_gradients

DIM, K, BATCH, REPEATS = 6, 8, 100, 60
# Where q is the posterior, all weights are equal but for rounding, which decides which is the largest.
NORMALISED = [name for name in OBJECTIVES if name not in ("elbo-kl", "vr-max")]


def _images(n):
    return tf.constant(np.random.default_rng(2).standard_normal((n, DIM)).astype(np.float32) * 2)


def _made(name, k=K):
    return objective_class(name)(k, **({"groups": 2} if name in ("miwae", "piwae") else {}))


def _key_of(purpose, counter=0, number=0):
    return seeds.key(1, purpose, number, counter)


def _gradient(layers, objective, model, batch=4):
    noise = tf.random.stateless_normal([objective.num_samples, batch, UNITS * layers], (0, 1))
    return flat(bound_and_gradients(model, objective, _images(batch), noise, _key_of)[1])


def _gradient_samples(objective, model, layers, x, repeats=REPEATS):
    """Gradients of independent batches, [repeats, parameters]."""

    @tf.function(autograph=False)
    def gradients(number):
        shape = [objective.num_samples, x.shape[0], UNITS * layers]
        noise = seeds.normal(shape, seeds.key(2, seeds.Purpose.TRAIN_NOISE, number))
        return bound_and_gradients(model, objective, x, noise, lambda p, c=0: _key_of(p, c, number))[1]

    return np.stack([flat(gradients(tf.constant(number))) for number in range(repeats)])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", ["stl", "dreg", "dreg-alpha", "rws-dreg"])
def test_where_q_is_the_posterior_the_inference_gradient_through_the_path_alone_is_0(layers, name):
    model, _ = linear_gaussian(layers)
    phi = number_of_parameters(model.inference_network)
    # float32 rounding of terms of size 10
    assert np.abs(_gradient(layers, _made(name), model)[:phi]).max() < 2e-4


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", ["iwae", "rws"])
def test_where_q_is_the_posterior_other_inference_gradients_are_0_in_the_mean_alone(layers, name):
    model, _ = linear_gaussian(layers)
    phi = number_of_parameters(model.inference_network)
    samples = _gradient_samples(_made(name), model, layers, _images(BATCH))[:, :phi]
    assert np.abs(samples[0]).max() > 0.01
    assert np.abs(z_scores(samples)).max() < MAX_Z


def test_vimco_has_the_score_of_iwae_where_q_is_the_posterior():
    model, _ = linear_gaussian(1)  # no sample adds more than another: what is left is minus the normalised weight
    vimco, iwae = _gradient(1, _made("vimco"), model), _gradient(1, _made("iwae"), model)
    np.testing.assert_allclose(vimco, iwae, rtol=1e-3, atol=1e-3)  # rounding of log-weights of 20 nats, times scores


def _exact_gradient(layers, model, exact, x):
    """Derivatives of -log p(x), batch mean, by the generative network's means' weights; name of the weight -> array.

    Central differences in float64: rounding 1e-14 over the step, and the step squared.
    """
    x, step, found = x.numpy().astype(np.float64), 1e-5, []
    fields = [("a", "b")] if layers == 1 else [("a1", "b1"), ("a2", "b2")]
    for names in fields:
        for name in names:
            value = getattr(exact, name)
            derivative = np.zeros_like(value)
            for index in np.ndindex(value.shape):
                moved = []
                for sign in (1, -1):
                    other = value.copy()
                    other[index] += sign * step
                    moved.append(type(exact)(**{**vars(exact), name: other}).log_prob(x).mean())
                derivative[index] = -(moved[0] - moved[1]) / (2.0 * step)
            found.append(derivative.T)  # kernels are A^T
    return found


@pytest.mark.parametrize("layers", [1, 2])
def test_where_q_is_the_posterior_every_generative_gradient_is_that_of_log_p_x(layers):
    model, exact = linear_gaussian(layers)
    x, phi = _images(BATCH), number_of_parameters(model.inference_network)
    iwae = _gradient_samples(objectives.IWAEBound(K), model, layers, x)
    theta = model.generative_network.trainable_variables
    splits = np.cumsum([int(np.prod(variable.shape)) for variable in theta])[:-1]
    pieces = dict(zip([variable.path for variable in theta], np.split(iwae[:, phi:], splits, axis=1), strict=True))
    means = [
        variable.path
        for stage in model.generative_network.stages
        for variable in (stage.head.loc.kernel, stage.head.loc.bias)
    ]
    for path, expected in zip(means, _exact_gradient(layers, model, exact, x), strict=True):
        assert np.abs(expected).max() > 0.02
        assert np.abs(z_scores(pieces[path], expected.ravel())).max() < MAX_Z


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", NORMALISED)
def test_where_q_is_the_posterior_every_generative_gradient_is_the_same(layers, name):
    model, _ = linear_gaussian(layers)
    phi = number_of_parameters(model.inference_network)
    one, other = _gradient(layers, _made(name), model), _gradient(layers, _made("iwae"), model)
    # Log-weights that differ by rounding, 1e-5 nats, give weights that differ by as much of 1/k, of terms of size 100.
    np.testing.assert_allclose(one[phi:], other[phi:], rtol=1e-3, atol=2e-3)


def _moments(model, exact, x):
    """Mean and scale of q(h | x) and of the posterior, [B, H] and [H], for one layer."""
    loc, log_scale = (value.numpy().astype(np.float64) for value in model.inference_network.stages[0](x))
    mean, covariance = exact.posterior(x.numpy().astype(np.float64))
    return loc, np.exp(log_scale[0]), mean, np.sqrt(np.diag(covariance))


def _bias_gradients(samples, model, scale):
    """Gradients by the biases of q's mean and of its log scale, [repeats, H] each, for one layer.

    The log scale is 7 tanh(raw / 7), so that by raw there is a factor 1 - (log scale / 7)^2.
    """
    variables = model.inference_network.trainable_variables
    splits = np.cumsum([int(np.prod(variable.shape)) for variable in variables])
    pieces = {
        variable.path: piece for variable, piece in zip(variables, np.split(samples, splits, axis=1), strict=False)
    }
    head = model.inference_network.stages[0].head
    return pieces[head.loc.bias.path], pieces[head.log_scale.bias.path] / (1.0 - (np.log(scale) / 7.0) ** 2)


def test_off_the_posterior_the_elbo_descends_the_divergence_of_q_from_it():
    model, exact = linear_gaussian(1, mean_error=0.2, scale_factor=1.3)
    x = _images(BATCH)
    loc, scale, mean, posterior_scale = _moments(model, exact, x)
    samples = _gradient_samples(objectives.ELBO(K), model, 1, x)
    by_loc, by_log_scale = _bias_gradients(samples, model, scale)
    # KL(q || p) = log(s_p / s) + (s^2 + (m - m_p)^2) / (2 s_p^2) - 1/2, and log p(x) does not depend on q
    assert np.abs(z_scores(by_loc, ((loc - mean) / posterior_scale**2).mean(axis=0))).max() < MAX_Z
    assert np.abs(z_scores(by_log_scale, scale**2 / posterior_scale**2 - 1.0)).max() < MAX_Z


@pytest.mark.parametrize("name", ["rws", "rws-dreg"])
def test_off_the_posterior_the_wake_phase_descends_the_divergence_of_the_posterior_from_q(name):
    model, exact = linear_gaussian(1, mean_error=0.1, scale_factor=1.3)
    x, k = _images(20), 3000
    loc, scale, mean, posterior_scale = _moments(model, exact, x)
    by_loc, by_log_scale = _bias_gradients(_gradient_samples(_made(name, k), model, 1, x, 30), model, scale)
    # KL(p || q) = log(s / s_p) + (s_p^2 + (m - m_p)^2) / (2 s^2) - 1/2
    expected = ((loc - mean) / scale**2).mean(axis=0)
    expected_scale = 1.0 - (posterior_scale**2 + ((loc - mean) ** 2).mean(axis=0)) / scale**2
    for samples, value in ((by_loc, expected), (by_log_scale, expected_scale)):
        error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
        # 5 standard errors, and the bias of normalised weights: a variance of a few units over k
        assert (np.abs(samples.mean(axis=0) - value) < MAX_Z * error + 5.0 / k).all()
        assert np.abs(value).max() > 20.0 * (MAX_Z * error.max() + 5.0 / k)


@pytest.mark.parametrize("layers", [1, 2])
def test_where_q_is_the_posterior_the_sleep_phase_has_nothing_to_learn_in_the_mean(layers):
    model, _ = linear_gaussian(layers)
    phi = number_of_parameters(model.inference_network)
    samples = _gradient_samples(objectives.RWSSleep(2), model, layers, _images(BATCH))[:, :phi]
    assert np.abs(samples[0]).max() > 0.01
    assert np.abs(z_scores(samples)).max() < MAX_Z


def test_off_the_posterior_the_sleep_phase_moves_q_towards_it():
    model, exact = linear_gaussian(1, mean_error=0.3, scale_factor=1.3)
    x = _images(BATCH)
    _, scale, _, posterior_scale = _moments(model, exact, x)
    by_loc, by_log_scale = _bias_gradients(_gradient_samples(objectives.RWSSleep(2), model, 1, x), model, scale)
    # For h of the posterior of any x: E (h - m) = -0.3, E (h - m)^2 = s_p^2 + 0.3^2
    assert np.abs(z_scores(by_loc, 0.3 / scale**2)).max() < MAX_Z
    assert np.abs(z_scores(by_log_scale, 1.0 - (posterior_scale**2 + 0.09) / scale**2)).max() < MAX_Z
