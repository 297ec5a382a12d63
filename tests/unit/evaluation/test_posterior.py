"""Posterior expectations and draws: against the formulas for given weights, and the draws of a model behind them."""

import numpy as np
import pytest
import reference
import reference_jackknife
import scipy.stats
import tensorflow as tf
from small_models import binary_images, small_model

from iwae_tf import InputError, seeds
from iwae_tf.evaluation import posterior, posterior_expectation, posterior_samples

INF, NAN = float("inf"), float("nan")
# float32 draws and log-weights of size 1e1 from matrix products over another number of rows.
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}

# ---------------------------------------------------------------------------------------------------- given weights


def give(monkeypatch, log_w, h):
    """Lets the draws of q be h, a list of [N, B, H_l], with log-weights [N, B]; N a multiple of 50."""

    def draws(x, seed, first, num_samples):
        taken = slice(int(first), int(first) + num_samples)
        return tf.constant(np.concatenate([*h, log_w[:, :, None]], axis=-1)[taken], tf.float32)

    monkeypatch.setattr(posterior, "_compiled_draws", lambda model: draws)


def given_log_weights():
    """Float32 [200, 6]: one column a difficulty."""
    log_w = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
    log_w[:, 0] += -1e4
    log_w[:, 1] *= 30  # one weight is nearly all
    log_w[:120, 2] = -INF  # nothing in the first two chunks of 50
    log_w[::2, 3] = -INF
    log_w[:, 4] = np.linspace(0, 400, 200)  # each chunk outweighs those before
    log_w[:, 5] = np.linspace(400, 0, 200)
    return log_w


@pytest.fixture(params=[50, 10_000])
def chunk_rows(request, monkeypatch):
    """Row-samples in a chunk: with 6 rows chunks of 50 and of 1650 samples."""
    monkeypatch.setattr(posterior, "SAMPLES_IN_CHUNK", request.param)


@pytest.mark.parametrize(("num_samples", "shape"), [(3, (5,)), (50, ()), (173, (2, 3))])
@pytest.mark.usefixtures("chunk_rows")
def test_estimate_error_and_sample_size_are_those_of_the_formulas_for_values_of_any_shape(
    monkeypatch, num_samples, shape
):
    log_w = given_log_weights()
    log_w[0] = np.maximum(log_w[0], -1e4)  # one weight above 0 for any number of samples
    values = np.random.default_rng(1).standard_normal((200, 6, *shape)).astype(np.float32)
    give(monkeypatch, log_w, [values.reshape(200, 6, -1)])
    model = small_model(latent_units=(values[0, 0].size,), hidden_units=((),))
    estimate = posterior_expectation(
        model, lambda h: tf.reshape(h[0], [*h[0].shape[:2], *shape]), binary_images(6), num_samples
    )
    mean, error = reference_jackknife.expectation(log_w[:num_samples], values[:num_samples])
    assert estimate.mean.shape == (6, *shape)
    np.testing.assert_allclose(estimate.mean, mean, rtol=1e-11, atol=1e-14)
    # where one weight is all, the reference has 0 or squares below float64's 1e-16 of it
    np.testing.assert_allclose(estimate.standard_error, error, rtol=1e-9, atol=1e-14)
    ess = reference.effective_sample_size(log_w[:num_samples])
    np.testing.assert_allclose(estimate.effective_sample_size, ess, rtol=1e-12)


def test_a_large_constant_in_f_costs_the_error_no_digits(monkeypatch):
    h = np.random.default_rng(1).standard_normal((200, 6, 5)).astype(np.float32)
    give(monkeypatch, given_log_weights(), [h])
    monkeypatch.setattr(posterior, "SAMPLES_IN_CHUNK", 1)
    near, far = (
        posterior_expectation(small_model(), lambda h, c=c: tf.cast(h[0], tf.float64) + c, binary_images(6), 200)
        for c in (0.0, 1e8)
    )
    # 1e8 + h holds h to 1.5e-8; a difference of squares of 1e16 would hold its square to 2
    np.testing.assert_allclose(far.standard_error, near.standard_error, rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("chunk_rows")
def test_every_draw_is_chosen_as_often_as_its_weight_says(monkeypatch):
    log_w, n = given_log_weights(), 10_000
    numbers = np.tile(np.arange(200.0)[:, None, None], (1, 6, 1))  # each draw is its own number
    give(monkeypatch, log_w, [numbers, -np.tile(numbers, (1, 1, 2))])
    first, second = posterior_samples(small_model(latent_units=(1, 2), hidden_units=((), ())), binary_images(6), n, 190)
    np.testing.assert_array_equal(second, -np.tile(first, (1, 1, 2)))  # layers of a draw stay together
    weights = reference.normalized_weights(log_w[:190])
    for row in range(6):
        counts = np.bincount(first[:, row, 0].numpy().astype(int), minlength=190)
        assert counts[weights[:, row] == 0].sum() == 0
        assert len(counts) == 190
        assert_multinomial(counts, weights[:, row])


def assert_multinomial(counts, probabilities):
    """Pearson's statistic, cells of less than 10 expected put together; also against counts that are too even."""
    expected = probabilities * counts.sum()
    small = expected < 10
    seen = np.append(counts[~small], counts[small].sum())
    wanted = np.append(expected[~small], expected[small].sum())
    if wanted[-1] < 1:  # next to nothing: seen with the last of the large ones
        seen, wanted = np.append(seen[:-2], seen[-2:].sum()), np.append(wanted[:-2], wanted[-2:].sum())
    if len(seen) > 1:
        p = scipy.stats.chi2.sf(((seen - wanted) ** 2 / wanted).sum(), len(seen) - 1)
        assert 1e-4 < p < 1 - 1e-4  # six columns, a seed: 1 in 800 by chance
    else:
        np.testing.assert_array_equal(seen, counts.sum())


def test_draws_are_independent_given_the_weights(monkeypatch):
    give(monkeypatch, np.zeros((100, 400)), [np.tile(np.arange(100.0)[:, None, None], (1, 400, 1))])
    monkeypatch.setattr(posterior, "ROWS_TOGETHER", 400)
    (draws,) = posterior_samples(small_model(latent_units=(1,), hidden_units=((),)), binary_images(400), 2, 100)
    assert len(set(draws[0, :, 0].numpy())) > 90  # rows have uniforms of their own: 400 choices out of 100
    same = np.mean(draws[0] == draws[1])
    assert abs(same - 0.01) < 4 * np.sqrt(0.01 / 400)


def test_rows_without_any_weight_are_not_numbers_and_the_others_are(monkeypatch):
    log_w = given_log_weights()
    log_w[:, 1], log_w[7, 4] = -INF, NAN
    give(monkeypatch, log_w, [np.random.default_rng(1).standard_normal((200, 6, 5))])
    estimate = posterior_expectation(small_model(), lambda h: h[0], binary_images(6), 200)
    (draws,) = posterior_samples(small_model(), binary_images(6), 3, 200)
    spoilt = [False, True, False, False, True, False]
    for value in (*estimate, tf.transpose(draws, [1, 0, 2])):
        not_numbers = np.isnan(value.numpy()).reshape(6, -1)
        np.testing.assert_array_equal(not_numbers, np.broadcast_to(np.array(spoilt)[:, None], not_numbers.shape))


# ------------------------------------------------------------------------------------------------------- of a model


@pytest.mark.parametrize("layers", [1, 2])
def test_the_draws_are_those_behind_the_log_weights(layers):
    model, x, seen = small_model(layers, gain=1.0), binary_images(4), []
    posterior_expectation(model, lambda h: seen.append(h) or h[-1], x, 73, seed=5)
    (h,) = seen
    assert [layer.shape for layer in h] == [(73, 4, units) for units in model.latent_units]
    log_w = model.generative_network.log_prob(tf.constant(x), h) - model.inference_network.log_prob(tf.constant(x), h)
    np.testing.assert_allclose(log_w, model.log_weights(x, 73, seed=5), rtol=1e-3, atol=1e-3)  # float32


def test_chunk_size_and_batch_change_nothing_but_rounding_and_the_seed_all(monkeypatch):
    model, x = small_model(2, gain=1.0), binary_images(4)
    whole = posterior_expectation(model, lambda h: h[0], x, 150, seed=3)
    draws = posterior_samples(model, x, 200, 150, seed=3)
    monkeypatch.setattr(posterior, "SAMPLES_IN_CHUNK", 1)
    monkeypatch.setattr(posterior, "ROWS_TOGETHER", 2)
    chunked = posterior_expectation(model, lambda h: h[0], x[:2], 150, seed=3)
    for value, expected in zip(chunked, whole, strict=True):
        np.testing.assert_allclose(value, expected[:2], rtol=1e-3, atol=1e-4)  # errors are differences
    for value, expected in zip(posterior_samples(model, x, 200, 150, seed=3), draws, strict=True):
        assert value.shape == expected.shape
        close = np.isclose(value, expected, **ROUNDING).all(axis=-1)
        assert close.mean() > 0.99  # a weight off by 1e-5 moves one choice in 1e5 to the next draw
    assert (posterior_samples(model, x[:2], 200, 150, seed=4)[0] != draws[0][:, :2]).numpy().all()


@pytest.mark.parametrize("block", [0, 1, 99])
def test_the_choice_among_the_draws_has_other_numbers_than_their_noise(block):
    stream = tf.constant(7, tf.int64)
    choice = posterior._uniform(3, stream[None], tf.constant(block))
    key = seeds.stream_key(stream, seeds.Purpose.EVALUATION_NOISE)
    noise = tf.random.stateless_uniform([3], key, dtype=tf.float64, alg=seeds.ALGORITHM)
    assert (choice[0] != noise).numpy().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_samples": 0}, "^num_samples must be an integer >= 1, got 0$"),
        ({"seed": -1}, "^seed must be an integer in "),
        ({"x": np.zeros((2, 5), np.float32)}, r"shape \(2, 5\)"),
        ({"x": np.zeros((0, 12), np.float32)}, "no rows"),
        ({"x": np.full((2, 12), NAN, np.float32)}, "values from nan to nan"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(change, message):
    arguments = {"x": binary_images(2), "num_samples": 5, **change}
    with pytest.raises(InputError, match=message):
        posterior_expectation(small_model(), lambda h: h[0], **arguments)
    with pytest.raises(InputError, match=message):
        posterior_samples(small_model(), n=3, **arguments)
    with pytest.raises(InputError, match=r"^n must be an integer >= 1, got 0$"):
        posterior_samples(small_model(), binary_images(2), 0, 5)


@pytest.mark.parametrize("f", [lambda h: tf.reduce_mean(h[0], axis=0), lambda h: 1.0, lambda h: h[0][:, :1]])
def test_an_f_without_a_value_for_each_draw_is_refused(f):
    with pytest.raises(InputError, match=r"^f must map these latents to \[7, 2, \.\.\.\], .*, got "):
        posterior_expectation(small_model(), f, binary_images(2), 7)
