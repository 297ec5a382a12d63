"""Annealing: transitions true to the formulas and their density, weights unbiased, bounds on both sides of log p(x)."""

from functools import partial

import numpy as np
import pytest
import reference
import reference_annealing
import tensorflow as tf
from linear_gaussian_models import DIM, UNITS, linear_gaussian
from small_models import SMALL_DIM, binary_images, reference_weights, small_model

from iwae_tf import InputError, seeds
from iwae_tf.evaluation import annealing
from iwae_tf.evaluation.annealing import (
    JITTER,
    AnnealedEstimate,
    AnnealingPasses,
    annealed_log_likelihood,
    bidirectional_bounds,
    chains_at,
    hmc_transition,
    leapfrog,
    temperatures,
)
from iwae_tf.models.streaming import batch_noise

WRONG = {"mean_error": 0.5, "scale_factor": 1.3}  # far from the posterior: KL divergence 3 nats and 5 nats


@pytest.fixture(autouse=True)
def short_pilot(monkeypatch):
    """Weights are unbiased for any step sizes; as many chains in all passes are traced once."""
    monkeypatch.setattr(annealing, "PILOT_TRANSITIONS", 20)
    monkeypatch.setattr(annealing, "PILOT_CHAINS", 4)


def images(n, dim=DIM):
    return np.random.default_rng(2).standard_normal((n, dim)).astype(np.float32) * 2


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def log_weights_of(model, x):
    return partial(model.log_weights_from_noise, tf.constant(x))


# ----------------------------------------------------------------------------------------------------- transitions


def test_leapfrog_leads_back_with_the_momentum_reversed_and_gradients_are_finite_far_out():
    model = small_model(2, gain=1.0)
    log_weights, momentum, step = log_weights_of(model, binary_images(3)), normal(8, 3, 8, seed=1), tf.fill([8, 3], 0.2)
    start = chains_at(log_weights, tf.constant(normal(8, 3, 8)))
    end, end_momentum = leapfrog(log_weights, start, momentum, 0.8, step, 5)
    assert np.abs(end.noise - start.noise).max() > 0.5
    back, back_momentum = leapfrog(log_weights, end, -end_momentum, 0.8, step, 5)
    np.testing.assert_allclose(back.noise, start.noise, atol=1e-3)  # ten steps of float32
    np.testing.assert_allclose(-back_momentum, momentum, atol=1e-3)
    assert all(np.isfinite(value).all() for value in chains_at(log_weights, 1000.0 * start.noise))


@pytest.mark.parametrize("beta", [0.4, 1.0])
def test_a_transition_keeps_the_mean_and_covariance_of_its_density(beta):
    n, mean_error, factor = 20_000, 0.5, 0.7
    model, exact = linear_gaussian(1, mean_error, factor)
    x = normal(1, DIM, seed=5)
    # In noise the posterior is N(center, 1 / factor^2), and f_beta = N(mean, variance).
    center = -mean_error / (factor * np.sqrt(np.diag(exact.posterior(x)[1])))
    variance = 1.0 / (1.0 - beta + beta * factor**2)
    mean = beta * center * factor**2 * variance
    before = (mean + np.sqrt(variance) * normal(n, 1, UNITS, seed=1)).astype(np.float32)
    chains, log_weights = chains_at(log_weights_of(model, x), tf.constant(before)), log_weights_of(model, x)
    move, rng, acceptance = tf.function(hmc_transition, autograph=False), np.random.default_rng(3), []
    step = tf.fill([n, 1], np.float32(1.1 * variance**0.5))
    for _ in range(6):
        momentum, uniform = rng.standard_normal((n, 1, UNITS)).astype(np.float32), rng.random((n, 1)).astype(np.float32)
        chains, probability = move(log_weights, chains, momentum, uniform, tf.constant(beta, tf.float32), step, 2)
        acceptance.append(probability.numpy().mean())
    assert 0.5 < np.mean(acceptance) < 0.98  # else a wrong rule would not show
    after = chains.noise.numpy()[:, 0].astype(np.float64)
    assert np.abs(np.corrcoef(before[:, 0].T, after.T)[:UNITS, UNITS:]).max() < 0.5  # the chains have moved
    # 5 standard errors: sd / sqrt(n) of a mean, sqrt(2 / n) of a relative variance
    np.testing.assert_allclose(after.mean(axis=0), mean, atol=5 * np.sqrt(variance / n))
    np.testing.assert_allclose(np.cov(after.T) / variance, np.eye(UNITS), atol=5 * np.sqrt(2 / n))
    # what is known of the states moves with them; float32
    np.testing.assert_allclose(chains.log_w, chains_at(log_weights, chains.noise).log_w, rtol=1e-4, atol=1e-4)


def test_a_chain_stays_where_its_trajectory_leaves_the_numbers():
    def log_weights(noise):
        return tf.reduce_sum(tf.math.log(noise), axis=-1)  # NaN below 0, as is its derivative there

    start = chains_at(log_weights, tf.constant([[[0.1, 2.0]], [[1.0, 2.0]]]))
    momentum = tf.constant([[[-50.0, 0.0]], [[0.1, 0.0]]])
    after, probability = hmc_transition(log_weights, start, momentum, tf.zeros([2, 1]), 1.0, tf.fill([2, 1], 0.1), 2)
    assert probability[0, 0] == 0.0
    for old, new in zip(start, after, strict=True):
        np.testing.assert_array_equal(old[0], new[0])
        assert np.isfinite(new).all()
    assert (after.noise[1] != start.noise[1]).numpy().any()


# ---------------------------------------------------------------------------------------------------- the formulas


@pytest.mark.parametrize("number", [1, 2, 7, 1000])
def test_temperatures_rise_from_exactly_0_to_exactly_1_on_a_sigmoid(number):
    betas = temperatures(number)
    assert (betas[0], betas[-1], len(betas)) == (0.0, 1.0, number + 1)
    assert (np.diff(betas) > 0).all()
    np.testing.assert_allclose(betas, reference_annealing.temperatures(number), atol=1e-15)


def test_one_temperature_gives_the_log_weights_of_the_model():
    model, x = small_model(3, gain=1.5), binary_images(3)
    estimate = annealed_log_likelihood(model, x, num_chains=60, num_temperatures=1, seed=5)
    noise = batch_noise(tf.constant(x), 5, 0, 60, 10)  # of `log_weights` with this seed
    np.testing.assert_allclose(estimate.log_weights, model.log_weights_from_noise(x, noise), rtol=1e-4)  # float32
    assert np.isnan(estimate.acceptance).all()


def spy(passes, name, monkeypatch, result=None):
    """Records the arguments of a compiled function of the passes; `result` of them replaces its own."""
    calls, function = [], getattr(passes, name)
    monkeypatch.setattr(passes, name, lambda *args: calls.append(args) or (result or function)(*args))
    return calls


def test_the_log_weights_of_both_passes_are_those_of_annealing_the_latents_with_the_same_numbers(monkeypatch):
    model, x, chains = small_model(1, gain=1.5), binary_images(2), 8
    passes, exact = AnnealingPasses(model, chains, 5, leapfrog_steps=3, seed=3), normal(32, 5)
    (batch,) = passes.batches(model.checked(x))
    sizes = [tf.constant(np.linspace(low, 0.9, 32), tf.float32) for low in (0.2, 0.3, 0.4, 0.5)]
    starts, moves = spy(passes, "_start", monkeypatch), spy(passes, "_move", monkeypatch)
    forward, _ = passes.forward(batch, sizes)
    reverse, _ = passes.reverse(batch, sizes, tf.constant(exact))
    np.testing.assert_array_equal(starts[1][1], np.tile(exact, (chains, 1, 1)))
    assert forward.shape == reverse.shape == (chains, 2)
    check_pass(model, x, forward, starts[0], moves[:4], sizes, slice(None))
    check_pass(model, x, reverse, starts[1], moves[4:], sizes, slice(None, None, -1))


def check_pass(model, x, log_w, start_arguments, moves, sizes, order):
    """Holds the log-weights of one pass to the reference; temperatures and step sizes are taken in `order`."""
    chains, weights = len(log_w), reference_weights(model)
    for row in range(len(x)):
        loc, log_scale = (np.asarray(p, np.float64)[row] for p in model.encode(x)[0])
        scale, one = np.exp(log_scale), x[row : row + 1]
        draws, steps = [], []
        for (_, _, keys, *_), size in zip(moves, sizes[order], strict=True):
            uniform = seeds.uniform([2, chains, 32], keys[1]).numpy().astype(np.float64)[:, :, row]
            draws.append((seeds.normal([chains, 32, 5], keys[0]).numpy().astype(np.float64)[:, row], uniform[0]))
            steps.append(float(size[row]) * (1.0 - JITTER + 2.0 * JITTER * uniform[1]))

        def log_p(h, loc=loc, log_scale=log_scale, scale=scale, one=one):
            log_q = reference.gaussian_log_prob(h, loc, log_scale)
            return reference.iwae_log_weights(one, [((h - loc) / scale)[:, None]], **weights)[:, 0] + log_q

        start = loc + scale * start_arguments[1].numpy().astype(np.float64)[:, row]
        betas = reference_annealing.temperatures(5)[order]
        expected = reference_annealing.annealed_log_weights(log_p, loc, scale, betas, start, draws, steps, 3)
        np.testing.assert_allclose(log_w[:, row], expected, atol=2e-4)  # float32 over twelve leapfrog steps


def test_every_pass_moves_at_a_temperature_with_the_step_size_that_the_pilot_adapted_to_it(monkeypatch):
    # A reverse chain with other step sizes stays unbiased, but the upper bound gets loose.
    model = small_model(1)
    passes = AnnealingPasses(model, num_chains=2, num_temperatures=6, leapfrog_steps=1, seed=0)
    (batch,) = passes.batches(model.checked(binary_images(2)))
    acceptance = tf.constant(np.linspace(0.0, 1.0, 32), tf.float32)
    moves = spy(passes, "_move", monkeypatch, result=lambda x, chains, *_: (chains, acceptance))

    def run(function, *args):
        moves.clear()
        result = function(batch, *args)
        return result, [(float(beta), step.numpy().tolist()) for *_, beta, step in moves]

    sizes, pilot = run(passes.step_sizes)
    assert len(pilot) >= annealing.PILOT_TRANSITIONS
    assert sorted({beta for beta, _ in pilot}) == passes.betas[1:-1].astype(np.float32).tolist()
    growth = np.exp(annealing.ADAPTATION_GAIN * (acceptance - annealing.TARGET_ACCEPTANCE))
    np.testing.assert_allclose(sizes[0], pilot[0][1] * growth ** (len(pilot) // 5), rtol=1e-4)
    forward = run(passes.forward, sizes)[1]
    reverse = run(passes.reverse, sizes, tf.zeros([32, 5]))[1]
    expected = [
        (float(beta), size.numpy().tolist()) for beta, size in zip(np.float32(passes.betas[1:-1]), sizes, strict=True)
    ]
    assert forward == expected
    assert reverse == expected[::-1]


def test_standard_error_and_effective_sample_size_are_those_of_the_weights():
    log_w = np.random.default_rng(0).standard_normal((7, 4)) - 1000.0
    estimate = AnnealedEstimate(log_w, np.ones(4))
    np.testing.assert_allclose(estimate.log_likelihood, reference.log_mean_exp(log_w), rtol=1e-12)
    np.testing.assert_allclose(estimate.standard_error, reference.standard_error(log_w), rtol=1e-9)
    np.testing.assert_allclose(estimate.effective_sample_size, reference.effective_sample_size(log_w), rtol=1e-9)
    assert np.isnan(AnnealedEstimate(log_w[:1], np.ones(4)).standard_error).all()


def test_the_bounds_are_logs_of_mean_weights_over_the_chains_the_upper_from_the_latents_of_each_example(monkeypatch):
    model, starts = small_model(2, gain=1.0), []
    log_w, log_v = (np.random.default_rng(number).standard_normal((4, 3)) - 90.0 for number in (0, 1))
    monkeypatch.setattr(AnnealingPasses, "step_sizes", lambda self, batch: [])
    monkeypatch.setattr(AnnealingPasses, "forward", lambda self, batch, sizes: (log_w, None))
    monkeypatch.setattr(AnnealingPasses, "reverse", lambda self, batch, sizes, h: starts.append(h) or (log_v, None))
    bounds = bidirectional_bounds(model, 3, 4, 3, 2, seed=1)
    np.testing.assert_allclose(bounds.lower, reference.log_mean_exp(log_w), rtol=1e-12)
    np.testing.assert_allclose(bounds.upper, -reference.log_mean_exp(log_v), rtol=1e-12)
    np.testing.assert_array_equal(bounds.gap, bounds.upper - bounds.lower)
    x, h = annealing._simulate(model.generative_network, 3, 1)
    np.testing.assert_array_equal(bounds.x, x)
    again, _ = model.inference_network.transform(x, starts[0][None, :3])
    for new, old in zip(again, h, strict=True):
        np.testing.assert_allclose(new[0], old, atol=1e-5)  # float32


# ------------------------------------------------------------------------------------------------ the known log p(x)


def test_every_weight_is_p_x_where_q_is_the_posterior():
    model, exact = linear_gaussian(2)
    x = images(4)
    estimate = annealed_log_likelihood(model, x, 4, 3)
    # float32 sums of squares of size 100
    np.testing.assert_allclose(estimate.log_weights, np.tile(exact.log_prob(x), (4, 1)), rtol=2e-5)
    bounds = bidirectional_bounds(model, 5, 4, 3)
    for bound in (bounds.lower, bounds.upper):  # float32 sums of squares of size 10
        np.testing.assert_allclose(bound, exact.log_prob(bounds.x), atol=1e-4)


def test_the_weights_are_unbiased_for_p_x_with_few_temperatures(monkeypatch):
    monkeypatch.setattr(annealing, "ROWS_TOGETHER", 8)
    model, exact = linear_gaussian(2, mean_error=0.3, scale_factor=1.2)
    x = images(8)
    estimate = annealed_log_likelihood(model, x, 4000, 3, leapfrog_steps=2)
    ratio = np.exp(estimate.log_weights - exact.log_prob(x))  # [C, N]
    assert ratio.std() > 0.1  # far from exact
    z = (ratio.mean(axis=0) - 1.0) / (ratio.std(axis=0) / np.sqrt(len(ratio)))
    assert np.abs(z).max() < 4.0  # 8 rows
    assert abs(z.mean()) < 4.0 / np.sqrt(8)


def test_the_reverse_weights_are_unbiased_for_1_over_p_x_with_few_temperatures():
    model, exact = linear_gaussian(2, mean_error=0.2, scale_factor=1.2)
    bounds = bidirectional_bounds(model, 192, 4, 3, 2)
    ratio = np.exp(exact.log_prob(bounds.x) - bounds.upper)
    assert ratio.std() > 0.1
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / np.sqrt(192)


@pytest.mark.slow
def test_the_truth_lies_between_the_bounds_and_the_gap_closes_with_the_temperatures():
    model, exact = linear_gaussian(2, **WRONG)
    gaps = []
    for num_temperatures in (3, 60):
        bounds = bidirectional_bounds(model, 64, 4, num_temperatures, 2)
        truth = exact.log_prob(bounds.x)
        z = [d.mean() / (d.std() / np.sqrt(64)) for d in (truth - bounds.lower, bounds.upper - truth)]
        assert min(z) > (2 if num_temperatures == 3 else -3)  # strictly, where the gap is wide
        gaps.append(bounds.gap.mean())
    assert gaps[0] > 5 * gaps[1] > 0  # 1 / T would be a factor of 20


def test_log_p_x_near_minus_1000_nats_keeps_its_digits_in_float32(monkeypatch):
    monkeypatch.setattr(annealing, "ROWS_TOGETHER", 4)
    model, exact = linear_gaussian(1, **WRONG, dim=800)
    x = images(4, 800) / 2
    truth = exact.log_prob(x)
    assert (truth < -900).all()
    estimate = annealed_log_likelihood(model, x, 32, 20)
    # chance, and 800 squares in float32
    assert (np.abs(estimate.log_likelihood - truth) < 4 * estimate.standard_error + 2e-3).all()


# ------------------------------------------------------------------------------------ simulation, steps, rows, errors


def test_simulated_examples_and_latents_have_the_mean_and_covariance_of_the_joint():
    model, exact = linear_gaussian(2)
    n = 4000
    x, h = annealing._simulate(model.generative_network, n, 0)
    assert [layer.shape for layer in (x, *h)] == [(n, DIM), (n, UNITS), (n, UNITS)]
    h0, h1 = (layer.numpy() for layer in h)
    residual, above = x.numpy() - (h0 @ exact.a1.T + exact.b1), h0 - (h1 @ exact.a2.T + exact.b2)
    # 5 standard errors: of a mean sd / sqrt(n), of a covariance at most its largest variance times sqrt(2 / n)
    largest = exact.h1_covariance().max()
    np.testing.assert_allclose(h0.mean(axis=0), exact.b2, atol=5 * np.sqrt(largest / n))
    np.testing.assert_allclose(np.cov(h1.T), np.eye(UNITS), atol=5 * np.sqrt(2 / n))
    np.testing.assert_allclose(np.cov(above.T), np.diag(exact.s2**2), atol=5 * 0.36 * np.sqrt(2 / n))
    np.testing.assert_allclose(np.cov(residual.T), np.diag(exact.s1**2), atol=5 * 0.49 * np.sqrt(2 / n))
    assert np.abs(np.corrcoef(residual.T, h0.T)[:DIM, DIM:]).max() < 5 / np.sqrt(n)


def test_the_step_sizes_of_the_pilot_give_the_acceptance_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(annealing, "PILOT_TRANSITIONS", 200)
    monkeypatch.setattr(annealing, "PILOT_CHAINS", 8)
    model, x, counts = small_model(2, gain=1.0), binary_images(10), []
    acceptance = annealed_log_likelihood(model, x, 8, 20, progress=counts.append).acceptance
    assert (np.abs(acceptance - 0.65) < 0.2).all()  # noise of 8 and of the pilot's 8 chains
    assert abs(acceptance.mean() - 0.65) < 0.05
    assert sum(counts) == 2 * 10 * 19


@pytest.mark.slow
def test_an_example_does_not_depend_on_how_many_there_are_and_differs_from_the_others():
    model, counts = small_model(2, gain=1.0), []
    few, many = (bidirectional_bounds(model, n, 4, 2, 1, progress=counts.append) for n in (3, 40))
    np.testing.assert_array_equal(few.x, many.x[:3])
    np.testing.assert_allclose(few.lower, many.lower[:3], rtol=1e-5)
    np.testing.assert_allclose(few.upper, many.upper[:3], rtol=1e-5)
    assert len(np.unique(many.lower)) == 40
    assert sum(counts) == 3 * 43


def test_purposes_transitions_batches_and_seeds_have_their_own_keys_and_step_sizes_ignore_the_chains(monkeypatch):
    model, keys, sizes = small_model(1), [], []
    x = model.checked(binary_images(40))
    acceptance_of = lambda x, chains, *_: (chains, tf.sigmoid(tf.reduce_sum(chains.noise, axis=[0, 2])))  # noqa: E731
    for seed, chains in ((0, 2), (1, 2), (1, 3)):
        passes = AnnealingPasses(model, chains, 4, 1, seed)
        moves = spy(passes, "_move", monkeypatch, result=acceptance_of)
        for batch in passes.batches(x):
            sizes.append(passes.step_sizes(batch))
            passes.forward(batch, sizes[-1])
            passes.reverse(batch, sizes[-1], tf.zeros([32, 5]))
        keys += [tuple(key) for move in moves if chains == 2 for key in move[2].tolist()]
    assert len(set(keys)) == len(keys) > 2 * 2 * 2 * (20 + 3 + 3)
    np.testing.assert_array_equal(sizes[2], sizes[4])
    assert (np.asarray(sizes[0]) != np.asarray(sizes[2])).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({name: 0}, f"{name} must be an integer >= 1, got 0") for name in ("num_chains", "num_temperatures")),
        ({"leapfrog_steps": 1.5}, "leapfrog_steps must be an integer >= 1, got 1.5"),
        ({"seed": 2**31}, "seed must be"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(change, message):
    for function, what in ((annealed_log_likelihood, binary_images(2)), (bidirectional_bounds, 2)):
        with pytest.raises(InputError, match=message):
            function(small_model(), what, **change)


def test_images_that_cannot_be_used_are_refused():
    for x in (binary_images(2)[:, 1:], binary_images(2) * np.nan, np.zeros((0, SMALL_DIM), np.float32)):
        with pytest.raises(InputError, match="x must be"):
            annealed_log_likelihood(small_model(), x)
    with pytest.raises(InputError, match="num_examples must be an integer >= 1, got 0"):
        bidirectional_bounds(small_model(), 0)
