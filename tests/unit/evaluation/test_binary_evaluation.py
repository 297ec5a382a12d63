"""Evaluation of binary units: expectations known by summing over all states, and methods that refuse them."""

import numpy as np
import pytest
import reference_bernoulli as reference
import tensorflow as tf
from binary_models import belief_network, binary_model, generative_weights, inference_weights
from small_models import binary_images

from iwae_tf import InputError, evaluation

DIM, UNITS = 6, (3, 2)


@pytest.fixture(scope="module")
def model():
    return belief_network(DIM, UNITS, gain=1.5)


@pytest.fixture(scope="module")
def x():
    return binary_images(10, DIM)


@pytest.fixture(scope="module")
def exact_posterior(model, x):
    return reference.posterior(x, UNITS, **generative_weights(model))  # [S, B]


def test_activities_are_the_variances_of_the_probabilities():
    model, x = belief_network(DIM, UNITS, gain=4.0), binary_images(40, DIM)
    first, second = evaluation.unit_activities(model, x, num_samples=4000)
    h = reference.all_latents(UNITS)
    q = np.exp(reference.log_posterior(x, h, inference_weights(model)))  # [S, B]
    means = [q.T @ layer[:, 0] for layer in h]  # E_q[h_l | x], [B, H_l]
    np.testing.assert_allclose(first, means[0].var(axis=0, ddof=1), rtol=1e-4)  # float32 probabilities
    # Two means of 2000 probabilities for each x, each of them off by at most 0.5 / sqrt(2000) = 0.011; in their
    # covariance over 40 images, of activity A, by about 2 sqrt(A / 40) 0.011 = 0.0004 where A = 0.014.
    np.testing.assert_allclose(second, means[1].var(axis=0, ddof=1), atol=0.0015)
    assert second.max() > 0.01
    assert evaluation.active_units(model, x) == [int((mean.var(axis=0, ddof=1) > 0.01).sum()) for mean in means]


def test_posterior_expectations_are_those_of_all_states(model, x, exact_posterior):
    found = evaluation.posterior_expectation(model, lambda h: tf.concat(h, axis=-1), x, 10_000)
    expected = exact_posterior.T @ np.concatenate(reference.all_latents(UNITS), axis=-1)[:, 0]  # [B, H]
    error = found.standard_error.numpy()
    assert error.max() < 0.05
    assert (np.abs(found.mean - expected) < 4.5 * error).all()  # standard errors, of 50 numbers


def test_posterior_samples_are_states_as_frequent_as_the_posterior(model, x, exact_posterior):
    n = 4000
    draws = evaluation.posterior_samples(model, x[:2], n, num_samples=20_000)
    number = np.concatenate(draws, axis=-1) @ 2 ** np.arange(sum(UNITS))[::-1]  # [n, 2], place in `all_latents`
    for row, p in enumerate(exact_posterior.T[:2]):
        frequency = np.bincount(number[:, row].astype(int), minlength=len(p)) / n
        # 4.5 standard errors of n draws, times 1.5 since the 20,000 weighted samples that they come from err as well
        assert (np.abs(frequency - p) < 4.5 * 1.5 * np.sqrt(p / n) + 1 / n).all()


def test_jackknife_and_deviation_take_binary_units(model, x):
    truth = reference.log_prob(x, UNITS, **generative_weights(model))
    found = evaluation.jackknife_log_likelihood(model, x, 2000)
    assert (np.abs(found.estimates[1] - truth) < 4.5 * found.standard_errors[1]).all()  # standard errors, 10 images
    spread = evaluation.deviation(model, x, 20, 50, truth)
    assert (spread.mean_absolute_deviation < spread.bound).all()


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda m, x: evaluation.annealed_log_likelihood(m, x, 2, 5), "annealed importance sampling .* gradient"),
        (lambda m, x: evaluation.bidirectional_bounds(m, 3, 2, 5), "annealed importance sampling .* gradient"),
        (lambda m, x: evaluation.pruned(m, [np.ones(5), np.ones(3)]), "pruning .* cannot be replaced"),
    ],
    ids=["annealing", "bidirectional", "pruning"],
)
def test_methods_for_gaussian_units_refuse_binary_ones_and_say_why(refused, message):
    with pytest.raises(InputError, match=message) as error:
        refused(binary_model(2), binary_images(4))
    assert "this model's are bernoulli" in str(error.value)
    assert "\n" not in str(error.value)
