"""The parts of log p(x) - L_1, against exact divergences of Gaussians."""

import numpy as np
import pytest
import reference
from linear_gaussian_models import DIM, UNITS, linear_gaussian, set_gaussian
from small_models import binary_images, small_model

from iwae_tf import InputError
from iwae_tf.evaluation import inference_gap


def kl(mean, covariance, other_mean, other_covariance):
    """KL(N(mean, covariance) || N(other_mean, other_covariance)), [N] for means [N, H]."""
    precision, off = np.linalg.inv(other_covariance), other_mean - mean
    determinants = np.linalg.slogdet(other_covariance)[1] - np.linalg.slogdet(covariance)[1]
    squared = np.einsum("ni,ij,nj->n", off, precision, off)
    return 0.5 * (np.trace(precision @ covariance) - mean.shape[1] + determinants + squared)


@pytest.fixture(scope="module")
def correlated():
    """A model with a correlated posterior, and a q off it in mean and scale; rows; the exact model."""
    rng = np.random.default_rng(1)
    model, _ = linear_gaussian(1)
    a, b, s = rng.standard_normal((DIM, UNITS)) + 1.0, rng.standard_normal(DIM), np.full(DIM, 0.9)
    exact = reference.LinearGaussian(a, b, s)
    set_gaussian(model.generative_network.stages[0], a.T, b, s)
    means, covariance = exact.posterior(np.concatenate([np.zeros((1, DIM)), np.eye(DIM)]))  # affine maps
    q = means[1:] - means[0], means[0] + 0.2, 0.6 * np.sqrt(np.diag(covariance))
    set_gaussian(model.inference_network.stages[0], *q)
    return model, 2 * rng.standard_normal((4, DIM)).astype(np.float32), exact


def test_gaps_are_the_divergences_of_q_and_of_the_best_diagonal_gaussian(correlated):
    model, x, exact = correlated
    mean, covariance = exact.posterior(x)
    best = np.diag(1.0 / np.diag(np.linalg.inv(covariance)))
    q = model.encode(x)[0]
    q_covariance = np.diag(q.scale.numpy()[0].astype(np.float64) ** 2)
    whole = kl(q.loc.numpy().astype(np.float64), q_covariance, mean, covariance)
    approximation = kl(mean, best, mean, covariance)
    found = inference_gap(model, x, exact.log_prob(x), num_steps=250, num_samples=2000)
    assert (approximation > 0.2).all()
    np.testing.assert_allclose(found.approximation, approximation, atol=0.1)  # 4 standard errors of 2000 samples
    off = found.amortisation - (whole - approximation)
    assert (np.abs(off) < 4 * found.standard_error + 0.01).all()


def test_a_q_that_is_the_posterior_has_no_gap():
    for layers in (1, 2):
        model, exact = linear_gaussian(layers)
        x = np.random.default_rng(0).standard_normal((3, DIM)).astype(np.float32)
        found = inference_gap(model, x, exact.log_prob(x), num_steps=20, num_samples=100)
        np.testing.assert_allclose(found.amortisation, 0.0, atol=0.01)
        np.testing.assert_allclose(found.approximation, 0.0, atol=0.01)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_fit_raises_l_1_of_every_row_whatever_the_batches(layers):
    model, x, counts = small_model(layers, gain=1.0), binary_images(5), []
    settings = {"log_likelihood": np.zeros(5), "num_steps": 30, "num_samples": 500}  # log p(x) is for the other gap
    found = inference_gap(model, x, **settings, progress=counts.append)
    assert counts == [5]
    assert (found.amortisation > 4 * found.standard_error).all()
    in_two = inference_gap(model, x, **settings, batch_size=3)
    np.testing.assert_allclose(in_two.amortisation, found.amortisation, rtol=1e-3)
    assert not np.allclose(found.amortisation, inference_gap(model, x, **settings, seed=1).amortisation, rtol=1e-4)


def test_what_does_not_exist_is_refused():
    x = binary_images(2)
    with pytest.raises(InputError, match="Gaussian units"):
        inference_gap(small_model(latent="bernoulli"), x, np.zeros(2))
    with pytest.raises(InputError, match="num_samples must be a multiple of 50, got 30"):
        inference_gap(small_model(), x, np.zeros(2), num_samples=30)
    for size in (0, 2.5):
        with pytest.raises(InputError, match="batch_size must be an integer >= 1"):
            inference_gap(small_model(), x, np.zeros(2), batch_size=size)
    for wrong in (np.zeros((2, 1)), np.zeros(1), 0.0, [0.0, np.nan]):
        with pytest.raises(InputError, match="log_likelihood must be one finite number for each of the 2 rows of x"):
            inference_gap(small_model(), x, wrong)
