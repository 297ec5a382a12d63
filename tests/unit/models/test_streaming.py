"""The one stream of log-weights: its noise, chunks of any size, and the estimate of a row."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import binary_images, small_model

from iwae_tf import InputError, seeds
from iwae_tf.evaluation.estimate import estimate_log_likelihood
from iwae_tf.models import streaming

# Log-weights are float32 sums of tens here; another number of rows in a product rounds otherwise.
ROUNDING = {"rtol": 1e-5, "atol": 1e-4}
N = 5


@pytest.fixture(scope="module")
def model():
    return small_model(2, gain=1.0)


@pytest.fixture(scope="module")
def x():
    return binary_images(N)


@pytest.fixture(scope="module")
def log_w(model, x):
    return model.log_weights(x, 350, seed=7).numpy()


def test_log_weights_are_those_of_the_noise_of_seed_and_content(model, x, log_w):
    units = sum(model.latent_units)
    for row in range(N):
        key = seeds.stream_key(seeds.row_streams(7, tf.constant(x[row : row + 1]))[0], seeds.Purpose.EVALUATION_NOISE)
        noise = tf.reshape(seeds.row_normals(0, 7, 50 * units, key), [350, 1, units])
        expected = model.log_weights_from_noise(x[row : row + 1], noise)[:, 0]
        np.testing.assert_allclose(log_w[:, row], expected, **ROUNDING)
    together = model.log_weights_from_noise(x, streaming.batch_noise(tf.constant(x), 7, 0, 133, units))
    np.testing.assert_allclose(together, log_w[:133], **ROUNDING)


@pytest.mark.parametrize("chunk_size", [50, 150, None])
@pytest.mark.parametrize(("first", "number"), [(0, 333), (0, 7), (50, 100), (17, 200), (99, 2)])
def test_log_weights_do_not_depend_on_the_chunk_size_and_continue_where_a_call_ended(
    model, x, log_w, chunk_size, first, number
):
    chunks = list(model.log_weight_chunks(x, number, seed=7, chunk_size=chunk_size, first_sample=first))
    assert all(chunk.shape[0] <= (chunk_size or 1000) for chunk in chunks)
    assert all(chunk.shape[0] == chunk_size for chunk in chunks[1:-1])
    np.testing.assert_allclose(np.concatenate(chunks), log_w[first : first + number], **ROUNDING)


@pytest.mark.parametrize("chunk_size", [60, 0, 25.0])
def test_a_chunk_size_that_is_no_multiple_of_50_is_refused(model, x, chunk_size):
    with pytest.raises(InputError, match=f"chunk_size must be .*, got {chunk_size}"):
        model.log_weight_chunks(x, 100, chunk_size=chunk_size)


def test_a_row_depends_on_no_other_row_and_on_no_order(model, x, log_w):
    np.testing.assert_allclose(model.log_weights(x[::-1], 60, seed=7), log_w[:60, ::-1], **ROUNDING)
    np.testing.assert_allclose(model.log_weights(x[3:4], 60, seed=7)[:, 0], log_w[:60, 3], **ROUNDING)


def test_identical_rows_share_their_noise_and_so_do_0_and_minus_0(model):
    row = binary_images(1)
    negative = np.where(row == 0.0, np.float32(-0.0), row)
    assert np.signbit(negative).any()
    rows = np.concatenate([row, row, negative])
    for log_w in (model.log_weights(rows, 60), model.log_likelihood(rows, 60)[None]):
        np.testing.assert_array_equal(log_w, np.tile(log_w[:, :1], (1, log_w.shape[1])))
    assert (model.log_likelihood(row, 60, seed=1) != model.log_likelihood(row, 60)).numpy().all()


def test_different_rows_seeds_and_samples_have_noise_of_their_own(model):
    x, units = tf.constant(np.unique(binary_images(150), axis=0)), sum(model.latent_units)
    noise = streaming.batch_noise(x, 0, 0, 200, units).numpy()  # [200, B, H]
    assert len(np.unique(noise)) > 0.98 * noise.size  # float32 numbers of a normal repeat by chance
    rows = noise.transpose(1, 0, 2).reshape(len(x), -1)
    # Means over rows fall as those of independent numbers, and no two rows are correlated: 6 standard errors.
    assert abs(np.std(rows.mean(axis=0)) * np.sqrt(len(x)) - 1.0) < 0.15
    correlations = np.corrcoef(rows)[np.triu_indices(len(x), 1)]
    assert np.abs(correlations).max() < 6.0 / np.sqrt(rows.shape[1])
    log_w = model.log_weights(x[:4], 150).numpy()
    assert len(np.unique(log_w)) == log_w.size
    assert not np.isin(model.log_weights(x[:4], 20, seed=1).numpy(), log_w).any()
    assert len(np.unique(rows[0])) > 0.98 * rows.shape[1]  # blocks of 50 samples do not repeat


@pytest.mark.parametrize("num_samples", [1, 50, 51, 350])
def test_log_likelihood_is_the_log_mean_of_the_first_weights(model, x, log_w, num_samples):
    found = model.log_likelihood(x, num_samples, seed=7)
    assert found.dtype == tf.float64
    np.testing.assert_allclose(found, reference.log_mean_exp(log_w[:num_samples]), **ROUNDING)


def test_log_likelihood_of_more_rows_than_a_call_takes_is_that_of_every_row(model):
    x = binary_images(streaming.CONCURRENT_ROWS + 405)
    whole = model.log_weights(x, 20).numpy().astype(np.float64)
    np.testing.assert_allclose(model.log_likelihood(x, 20), reference.log_mean_exp(whole), **ROUNDING)


def row_estimate(model, row, seed, num_samples, max_samples, *options):
    stream = seeds.row_streams(tf.constant(seed, tf.int64), tf.constant(row))[0]
    return streaming.row_estimate(model, tf.constant(row), stream, tf.constant(num_samples), max_samples, *options)


def test_the_estimate_of_a_row_is_that_of_the_batch(model, x):
    whole = estimate_log_likelihood(model, x, 133, seed=7, sample_sizes=(7, 60))
    statistics, bounds = row_estimate(model, x[2:3], 7, 133, 1000, (7, 60, 133))
    summary = streaming.summarize(statistics)
    assert statistics.count.numpy().tolist() == [133]
    for name in ("log_likelihood", "elbo", "standard_error", "effective_sample_size"):
        np.testing.assert_allclose(getattr(summary, name)[0], getattr(whole, name)[2], **ROUNDING)
    for k, bound in bounds.items():
        np.testing.assert_allclose(streaming.grouped_bound(bound)[0], whole.bounds[k][2], **ROUNDING)


@pytest.mark.parametrize("target", [None, 0.1])
def test_no_samples_give_nan_and_not_an_error(model, x, target):
    statistics, _ = row_estimate(model, x[:1], 0, 0, 0, (), target)
    summary = streaming.summarize(statistics)
    assert statistics.count.numpy().tolist() == [0]
    for values in (summary.log_likelihood, summary.elbo, summary.standard_error, summary.pareto_k):
        assert np.isnan(values).all()


def test_converged_asks_for_a_pareto_k_below_seven_tenths_and_for_the_target_if_there_is_one():
    k, error = np.array([0.69, 0.7, 0.69, np.nan, -np.inf, 0.1]), np.array([0.1, 0.1, 0.2, 0.1, 0.0, np.nan])
    assert streaming.converged(k, error, None).tolist() == [True, False, True, False, True, True]
    assert streaming.converged(k, error, 0.1).tolist() == [True, False, False, False, True, False]
