"""Bidirectional Monte Carlo: log p(x) lies between the bounds, and slow annealing closes the gap."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from linear_gaussian_models import DIM, UNITS, linear_gaussian
from small_models import small_model

from iwae_tf import InputError
from iwae_tf.evaluation.annealing_passes import AnnealingPasses
from iwae_tf.evaluation.bidirectional import _noise_of, _simulate, bidirectional_bounds

WRONG = {"mean_error": 0.5, "scale_factor": 1.3}  # of the posterior's means and scales


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
def test_the_truth_lies_between_the_bounds_and_the_gap_closes_with_the_temperatures(layers):
    model, exact = linear_gaussian(layers, **WRONG)
    gaps = []
    for num_temperatures in (3, 30, 300):
        bounds = bidirectional_bounds(model, 64, 2, num_temperatures, 2)
        truth = exact.log_prob(bounds.x)
        below, above = truth - bounds.lower, bounds.upper - truth
        for distance in (below, above):
            assert distance.mean() > -3 * distance.std() / np.sqrt(64)
        if num_temperatures == 3:
            assert min(d.mean() / (d.std() / np.sqrt(64)) for d in (below, above)) > 2  # and strictly, where it is wide
        np.testing.assert_allclose(bounds.gap, below + above, atol=1e-9)
        gaps.append(bounds.gap.mean())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0  # 1 / T would be a factor of 10 each


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("num_chains", [1, 4])
def test_the_reverse_weights_are_unbiased_for_1_over_p_x_with_few_temperatures(layers, num_chains):
    model, exact = linear_gaussian(layers, mean_error=0.2, scale_factor=1.2)
    bounds = bidirectional_bounds(model, 256, num_chains, 3, 2)
    ratio = np.exp(exact.log_prob(bounds.x) - bounds.upper)
    assert ratio.std() > 0.1
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / np.sqrt(256)


def test_the_bounds_are_logs_of_mean_weights_over_the_chains():
    model = small_model(2, gain=1.0)
    bounds = bidirectional_bounds(model, 3, 4, 5, 2, seed=1)
    passes = AnnealingPasses(model, 4, 5, 2, 1, None)
    (batch,) = passes.batches(model.checked(bounds.x))
    x, h = _simulate(model.generative_network, 3, 1)
    noise = _noise_of(model.inference_network, x, list(h)).numpy()
    step_sizes = passes.step_sizes(batch)
    log_w, _ = passes.forward(batch, step_sizes)
    log_v, _ = passes.reverse(batch, step_sizes, tf.constant(noise[batch.rows]))
    np.testing.assert_allclose(bounds.lower, reference.log_mean_exp(log_w), rtol=1e-4)  # float32 of other batch sizes
    np.testing.assert_allclose(bounds.upper, -reference.log_mean_exp(log_v), rtol=1e-4)
    assert (np.abs(log_v - log_v.mean(axis=0)).max(axis=0) > 0.1).all()  # their mean log is another number


@pytest.mark.parametrize("layers", [1, 2])
def test_there_is_no_gap_where_q_is_the_posterior(layers):
    model, exact = linear_gaussian(layers)
    bounds = bidirectional_bounds(model, 5, 3, 4)
    # float32 sums of squares of size 10
    np.testing.assert_allclose(bounds.lower, exact.log_prob(bounds.x), atol=1e-4)
    np.testing.assert_allclose(bounds.upper, exact.log_prob(bounds.x), atol=1e-4)


def test_the_bounds_enclose_importance_sampling_for_a_bernoulli_model():
    model = small_model(1, gain=1.0)
    bounds = bidirectional_bounds(model, 64, 4, 30)
    assert set(np.unique(bounds.x)) == {0.0, 1.0}
    log_w = model.log_weights(bounds.x, 20_000).numpy()
    truth = reference.log_mean_exp(log_w)
    for distance in (truth - bounds.lower, bounds.upper - truth):
        assert distance.mean() > -3 * distance.std() / np.sqrt(64)
    assert bounds.gap.mean() < 0.5 * (truth - log_w.mean(axis=0)).mean()


@pytest.mark.parametrize("layers", [1, 2])
def test_simulated_examples_and_latents_have_the_mean_and_covariance_of_the_joint(layers):
    model, exact = linear_gaussian(layers)
    n = 4000
    x, h = _simulate(model.generative_network, n, 0)
    assert [layer.shape for layer in (x, *h)] == [(n, DIM)] + [(n, UNITS)] * layers
    if layers == 1:
        latent_mean, latent_covariance, a, b, s = np.zeros(UNITS), np.eye(UNITS), exact.a, exact.b, exact.s
    else:
        latent_mean, latent_covariance, a, b, s = exact.b2, exact.h1_covariance(), exact.a1, exact.b1, exact.s1
        residual = h[0].numpy() - (h[1].numpy() @ exact.a2.T + exact.b2)
        np.testing.assert_allclose(np.cov(residual.T), np.diag(exact.s2**2), atol=5 * 0.36 * np.sqrt(2 / n))
        np.testing.assert_allclose(np.cov(h[1].numpy().T), np.eye(UNITS), atol=5 * np.sqrt(2 / n))
    h0, residual = h[0].numpy(), x.numpy() - (h[0].numpy() @ a.T + b)
    # 5 standard errors: of a mean sd / sqrt(n), of a covariance at most its largest variance times sqrt(2 / n)
    largest = latent_covariance.max()
    np.testing.assert_allclose(h0.mean(axis=0), latent_mean, atol=5 * np.sqrt(largest / n))
    np.testing.assert_allclose(np.cov(h0.T), latent_covariance, atol=5 * largest * np.sqrt(2 / n))
    np.testing.assert_allclose(np.cov(residual.T), np.diag(s**2), atol=5 * 0.49 * np.sqrt(2 / n))
    assert np.abs(np.corrcoef(residual.T, h0.T)[:DIM, DIM:]).max() < 5 / np.sqrt(n)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_noise_of_latents_gives_them_back(layers):
    model = small_model(layers, gain=1.0)
    x, h = _simulate(model.generative_network, 6, 0)
    noise = _noise_of(model.inference_network, x, list(h))
    again, _ = model.inference_network.transform(x, noise[None])
    for old, new in zip(h, again, strict=True):
        np.testing.assert_allclose(new[0], old, atol=1e-5)  # float32


@pytest.mark.slow
def test_an_example_does_not_depend_on_how_many_there_are():
    model = small_model(2, gain=1.0)
    few, many = (bidirectional_bounds(model, n, 2, 3, 1) for n in (3, 40))
    np.testing.assert_array_equal(few.x, many.x[:3])
    np.testing.assert_allclose(few.lower, many.lower[:3], rtol=1e-5)
    np.testing.assert_allclose(few.upper, many.upper[:3], rtol=1e-5)
    assert len(np.unique(many.lower)) == 40


def test_progress_counts_rows_and_temperatures_of_the_three_passes():
    counts = []
    bidirectional_bounds(small_model(), 35, 2, 3, 1, progress=counts.append)
    assert sum(counts) == 3 * 35 * 2


def test_no_examples_are_refused():
    with pytest.raises(InputError, match="num_examples must be an integer >= 1, got 0"):
        bidirectional_bounds(small_model(), 0)
    with pytest.raises(InputError, match="seed must be"):
        bidirectional_bounds(small_model(), 1, seed=2**31)
