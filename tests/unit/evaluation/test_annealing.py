"""Annealed importance sampling: equal to the formulas, unbiased, and at log p(x) where that is known."""

import numpy as np
import pytest
import reference
import reference_annealing
import tensorflow as tf
from linear_gaussian_models import DIM, linear_gaussian
from small_models import SMALL_DIM, binary_images, reference_weights, small_model

from iwae_tf import InputError, seeds
from iwae_tf.evaluation.annealing import AnnealedEstimate, annealed_log_likelihood
from iwae_tf.evaluation.annealing_passes import JITTER, AnnealingPasses, row_draws, temperatures
from iwae_tf.seeds import Purpose

WRONG = {"mean_error": 0.5, "scale_factor": 1.3}  # far from the posterior: KL divergence 3 nats and 5 nats


def images(n, dim=DIM):
    return np.random.default_rng(2).standard_normal((n, dim)).astype(np.float32) * 2


# ------------------------------------------------------------------------------------------------ the formulas


@pytest.mark.parametrize("number", [1, 2, 7, 1000])
def test_temperatures_rise_from_exactly_0_to_exactly_1_on_a_sigmoid(number):
    betas = temperatures(number)
    assert (betas[0], betas[-1], len(betas)) == (0.0, 1.0, number + 1)
    assert (np.diff(betas) > 0).all()
    np.testing.assert_allclose(betas, reference_annealing.temperatures(number), atol=1e-15)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_one_temperature_is_importance_sampling(layers):
    model, x = small_model(layers, gain=1.5), binary_images(3)
    estimate = annealed_log_likelihood(model, x, num_chains=4, num_temperatures=1, seed=5)
    noise, _ = row_draws(5, tf.range(3), Purpose.ANNEALING, 0, [4, 3, sum(model.latent_units)])
    splits = np.cumsum(model.latent_units)[:-1]
    log_w = reference.iwae_log_weights(x, np.split(noise, splits, axis=-1), **reference_weights(model))
    np.testing.assert_allclose(estimate.log_weights, log_w, rtol=1e-4)  # float32
    np.testing.assert_allclose(estimate.log_likelihood, reference.log_mean_exp(log_w), rtol=1e-4)
    assert np.isnan(estimate.acceptance).all()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_log_weights_are_those_of_annealing_the_latents_with_the_same_numbers(direction):
    model, x, chains, steps = small_model(1, gain=1.5), binary_images(2), 8, 3
    passes = AnnealingPasses(model, chains, 5, steps, 3, None)
    (batch,) = passes.batches(model.checked(x))
    sizes = [tf.constant(np.linspace(low, 0.9, 32), tf.float32) for low in (0.2, 0.3, 0.4, 0.5)]
    exact = np.random.default_rng(0).standard_normal((32, 5)).astype(np.float32)
    if direction == "forward":
        log_w, _ = passes.forward(batch, sizes)
    else:
        log_w, _ = passes.reverse(batch, sizes, tf.constant(exact))
    assert log_w.shape == (chains, 2)
    for row in range(2):
        expected = _reference_log_weights(
            model, x, row, chains, steps, sizes, None if direction == "forward" else exact
        )
        np.testing.assert_allclose(log_w[:, row], expected, atol=2e-4)  # float32 over twelve leapfrog steps


def _reference_log_weights(model, x, row, chains, num_steps, sizes, exact):
    """The same chains in float64 on latents, started at q or, with `exact` noise [B, H], at the other end."""
    purpose = Purpose.ANNEALING if exact is None else Purpose.ANNEALING_REVERSE
    loc, log_scale = (np.asarray(p, np.float64)[row] for p in model.encode(x)[0])
    scale, weights, one = np.exp(log_scale), reference_weights(model), x[row : row + 1]
    draws = [row_draws(3, tf.range(2), purpose, t, [chains, 2, 5]) for t in range(5)]
    normal = [np.asarray(d[0], np.float64)[:, row] for d in draws]
    uniform = [np.asarray(d[1], np.float64)[:, :, row] for d in draws]
    start = normal[0] if exact is None else np.tile(exact[row].astype(np.float64), (chains, 1))
    order = slice(None) if exact is None else slice(None, None, -1)
    steps = [
        float(size[row]) * (1.0 - JITTER + 2.0 * JITTER * u[1])
        for size, u in zip(sizes[order], uniform[1:], strict=True)
    ]

    def log_p(h):
        log_q = reference.gaussian_log_prob(h, loc, log_scale)
        return reference.iwae_log_weights(one, [((h - loc) / scale)[:, None]], **weights)[:, 0] + log_q

    moves = [(n, u[0]) for n, u in zip(normal[1:], uniform[1:], strict=True)]
    betas = reference_annealing.temperatures(5)[order]
    return reference_annealing.annealed_log_weights(
        log_p, loc, scale, betas, loc + scale * start, moves, steps, num_steps
    )


def test_standard_error_and_effective_sample_size_are_those_of_the_weights():
    log_w = np.random.default_rng(0).standard_normal((7, 4)) - 1000.0
    estimate = AnnealedEstimate(log_w, np.ones(4))
    np.testing.assert_allclose(estimate.log_likelihood, reference.log_mean_exp(log_w), rtol=1e-12)
    np.testing.assert_allclose(estimate.standard_error, reference.standard_error(log_w), rtol=1e-9)
    np.testing.assert_allclose(estimate.effective_sample_size, reference.effective_sample_size(log_w), rtol=1e-9)
    assert np.isnan(AnnealedEstimate(log_w[:1], np.ones(4)).standard_error).all()


# ------------------------------------------------------------------------------------------------ the known log p(x)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("num_temperatures", [1, 3, 30])
def test_every_weight_is_p_x_where_q_is_the_posterior(layers, num_temperatures):
    model, exact = linear_gaussian(layers)
    x = images(4)
    estimate = annealed_log_likelihood(model, x, 5, num_temperatures)
    # float32 sums of squares of size 100
    np.testing.assert_allclose(estimate.log_weights, np.tile(exact.log_prob(x), (5, 1)), rtol=2e-5)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("num_temperatures", "num_chains"), [(10, 512), (100, 64)])
def test_the_estimate_is_within_its_standard_error_of_log_p_x(layers, num_temperatures, num_chains):
    model, exact = linear_gaussian(layers, **WRONG)
    x = images(32)
    estimate = annealed_log_likelihood(model, x, num_chains, num_temperatures)
    z = (estimate.log_likelihood - exact.log_prob(x)) / estimate.standard_error
    # 32 independent z; 0.2 for the skewness of the weights, which makes z too low by half of it / sqrt(num_chains)
    assert abs(z.mean()) < 3 / np.sqrt(32) + 0.2
    assert 0.6 < z.std() < 1.5  # 4 standard errors of a standard deviation, sqrt(1 / 64), below and above 1
    assert 0.02 < estimate.standard_error.mean() < 0.1


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("num_temperatures", [2, 4])
def test_the_weights_are_unbiased_for_p_x_with_few_temperatures(layers, num_temperatures):
    model, exact = linear_gaussian(layers, mean_error=0.3, scale_factor=1.2)
    x = images(8)
    estimate = annealed_log_likelihood(model, x, 4000, num_temperatures, leapfrog_steps=2)
    ratio = np.exp(estimate.log_weights - exact.log_prob(x))  # [C, N]
    assert ratio.std() > 0.1  # far from exact
    z = (ratio.mean(axis=0) - 1.0) / (ratio.std(axis=0) / np.sqrt(len(ratio)))
    assert np.abs(z).max() < 4.0  # 8 rows
    assert abs(z.mean()) < 4.0 / np.sqrt(8)


@pytest.mark.slow
def test_the_estimate_nears_log_p_x_with_the_number_of_temperatures():
    model, exact = linear_gaussian(2, **WRONG)
    x = images(32)
    gaps = [exact.log_prob(x) - annealed_log_likelihood(model, x, 64, t).log_weights.mean(axis=0) for t in (1, 20, 200)]
    means = [gap.mean() for gap in gaps]
    # the mean log-weight is a bound too; the gap of a slow enough annealing falls as 1 / T
    assert means[0] > 5 * means[1] > 0
    assert means[1] > 5 * means[2] > 0


def test_log_p_x_near_minus_1000_nats_keeps_its_digits_in_float32():
    model, exact = linear_gaussian(1, **WRONG, dim=800)
    x = images(4, 800)[:, :800] / 2
    truth = exact.log_prob(x)
    assert (truth < -900).all()
    estimate = annealed_log_likelihood(model, x, 32, 40)
    # chance, and 800 squares in float32
    assert (np.abs(estimate.log_likelihood - truth) < 4 * estimate.standard_error + 2e-3).all()


def test_a_bernoulli_model_agrees_with_importance_sampling():
    model, x = small_model(1, gain=1.0), binary_images(20)
    log_w = model.log_weights(x, 20_000).numpy()
    error = reference.standard_error(log_w)
    assert error.max() < 0.15  # importance sampling is accurate here
    estimate = annealed_log_likelihood(model, x, 64, 50)
    difference = estimate.log_likelihood - reference.log_mean_exp(log_w)
    z = difference / np.hypot(error, estimate.standard_error)
    assert np.abs(z).max() < 4.5  # 20 rows, weights of 32 chains
    assert abs(z.mean()) < 4 / np.sqrt(20)


# ------------------------------------------------------------------------------------------------ steps, rows, doors


@pytest.mark.parametrize(("num_temperatures", "tolerance"), [(3, 0.25), (20, 0.15), (300, 0.15)])
def test_the_step_sizes_of_the_pilot_give_the_acceptance_that_is_asked_for(num_temperatures, tolerance):
    model, x = small_model(2, gain=1.0), binary_images(10)
    acceptance = annealed_log_likelihood(model, x, 16, num_temperatures).acceptance
    assert (np.abs(acceptance - 0.65) < tolerance).all()  # noise of 16 and of the pilot's 8 chains
    assert abs(acceptance.mean() - 0.65) < 0.05


def test_step_sizes_do_not_depend_on_the_chains_that_count():
    model, x = small_model(), binary_images(3)
    steps = [AnnealingPasses(model, chains, 5, 2, 0, None) for chains in (1, 7)]
    one, seven = (passes.step_sizes(passes.batches(model.checked(x))[0]) for passes in steps)
    np.testing.assert_array_equal(one, seven)
    assert len(one) == 4


def test_a_row_does_not_depend_on_the_rows_with_it():
    model, x = small_model(2, gain=1.0), binary_images(40)
    every, some = (annealed_log_likelihood(model, rows, 4, 20, 1) for rows in (x, x[:3]))
    np.testing.assert_allclose(every.log_weights[:, :3], some.log_weights, rtol=1e-5)
    np.testing.assert_allclose(every.acceptance[:3], some.acceptance, rtol=1e-5)


def test_equal_rows_have_random_numbers_of_their_own_and_seeds_theirs():
    model, x = small_model(gain=1.5), np.tile(binary_images(1), (40, 1))
    one, other = (annealed_log_likelihood(model, x, 2, 3, seed=seed) for seed in (0, 1))
    assert len(np.unique(np.concatenate([one.log_weights, other.log_weights]))) == 160
    np.testing.assert_array_equal(annealed_log_likelihood(model, x, 2, 3).log_weights, one.log_weights)


def test_purposes_and_transitions_have_random_numbers_of_their_own():
    purposes = (Purpose.ANNEALING, Purpose.ANNEALING_PILOT, Purpose.ANNEALING_REVERSE)
    draws = [row_draws(0, tf.range(2), purpose, t, [3, 2, 4]) for purpose in purposes for t in range(3)]
    for numbers in zip(*draws, strict=True):
        values = np.stack(numbers).ravel()
        assert len(np.unique(values)) == len(values)
    noise, uniform = draws[2]  # transition 2 of the pass that counts
    for row in range(2):
        keys = [seeds.key(0, Purpose.ANNEALING, row, counter) for counter in (4, 5)]  # two for each transition
        np.testing.assert_array_equal(noise[:, row], seeds.normal([3, 4], keys[0]))
        np.testing.assert_array_equal(uniform[:, :, row], seeds.uniform([2, 3], keys[1]))


def test_progress_counts_rows_and_temperatures_of_both_passes():
    counts = []
    annealed_log_likelihood(small_model(), binary_images(35), 2, 4, 1, progress=counts.append)
    assert sum(counts) == 2 * 35 * 3


@pytest.mark.parametrize("name", ["num_chains", "num_temperatures", "leapfrog_steps"])
def test_numbers_that_cannot_be_used_are_refused(name):
    with pytest.raises(InputError, match=f"{name} must be an integer >= 1, got 0"):
        annealed_log_likelihood(small_model(), binary_images(2), **{name: 0})


def test_a_wrong_seed_or_x_is_refused():
    with pytest.raises(InputError, match="seed must be"):
        annealed_log_likelihood(small_model(), binary_images(2), seed=-1)
    for x in (binary_images(2)[:, 1:], binary_images(2) * np.nan, np.zeros((0, SMALL_DIM), np.float32)):
        with pytest.raises(InputError, match="x must be"):
            annealed_log_likelihood(small_model(), x)
