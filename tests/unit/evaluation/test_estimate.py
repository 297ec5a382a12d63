import dataclasses

import numpy as np
import pytest
import reference
from small_models import binary_images, small_model

from iwae_tf import InputError
from iwae_tf.evaluation import PAPER_SAMPLE_SIZES, LikelihoodEstimate, estimate_log_likelihood

# Log-weights are float32 sums of up to 1e5 in size here (weights three times Glorot's), and a matrix product over
# another number of rows rounds otherwise; the tanh layers pass such a difference on about threefold.
ROUNDING = {"rtol": 1e-5, "atol": 1e-4}
# The same float32 log-weights, averaged in float64.
FLOAT64 = {"rtol": 1e-12}

N = 7


@pytest.fixture(scope="module", params=["1 layer", "2 layers", "gaussian"])
def model(request):
    layers = 2 if request.param == "2 layers" else 1
    return small_model(layers, likelihood="gaussian" if request.param == "gaussian" else "bernoulli")


@pytest.fixture(scope="module")
def x():
    return binary_images(N)


# ---------------------------------------------------------------------------------------------- one pass, many bounds


def test_the_bounds_are_group_averages_of_one_stream_of_log_weights(model, x):
    log_w = model.log_weights(x, 133, seed=4).numpy()
    sizes = (1, 2, 5, 7, 50, 60, 132)
    estimate = estimate_log_likelihood(model, x, 133, seed=4, sample_sizes=sizes)
    assert list(estimate.bounds) == [*sizes, 133]
    for k, bound in estimate.bounds.items():
        assert bound.dtype == np.float64
        np.testing.assert_allclose(bound, reference.grouped_bound(log_w, k), **FLOAT64)
    np.testing.assert_array_equal(estimate.num_samples, [133] * N)
    np.testing.assert_allclose(estimate.log_likelihood, estimate.bounds[133], **FLOAT64)


def test_what_says_how_far_to_trust_an_estimate_comes_from_the_same_weights(model, x):
    log_w = model.log_weights(x, 133, seed=4).numpy()
    estimate = estimate_log_likelihood(model, x, 133, seed=4)
    np.testing.assert_allclose(estimate.elbo, reference.elbo(log_w), **FLOAT64)
    ess = reference.effective_sample_size(log_w)
    np.testing.assert_allclose(estimate.effective_sample_size, ess, **FLOAT64)
    np.testing.assert_allclose(estimate.standard_error, reference.standard_error(log_w), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(estimate.pareto_k, reference.pareto_shape(log_w), rtol=1e-6)
    np.testing.assert_array_equal(estimate.converged, estimate.pareto_k < 0.7)


@pytest.mark.parametrize("num_samples", [1, 7, 50, 51, 133])
def test_any_number_of_samples_is_averaged_over_exactly_that_number(model, x, num_samples):
    log_w = model.log_weights(x, 150, seed=4).numpy()[:num_samples]  # three whole blocks, drawn at once
    estimate = estimate_log_likelihood(model, x, num_samples, seed=4)
    np.testing.assert_allclose(estimate.log_likelihood, reference.log_mean_exp(log_w), **ROUNDING)
    np.testing.assert_allclose(model.log_likelihood(x, num_samples, seed=4), estimate.log_likelihood, **FLOAT64)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 6, 100])  # the last batch is full, uneven or the only one
def test_the_batch_size_changes_nothing_but_rounding(model, x, batch_size):
    whole = estimate_log_likelihood(model, x, 60, sample_sizes=(1, 5, 50), batch_size=N)
    parts = estimate_log_likelihood(model, x, 60, sample_sizes=(1, 5, 50), batch_size=batch_size)
    assert list(parts.bounds) == [1, 5, 50, 60]
    for k, bound in parts.bounds.items():
        assert bound.shape == (N,)
        np.testing.assert_allclose(bound, whole.bounds[k], **ROUNDING)


@pytest.mark.parametrize("weights_in_chunk", [1, 50 * N, 130 * N])  # chunks of 50, 50 and 100 samples
def test_the_chunk_size_changes_nothing_but_rounding(model, x, monkeypatch, weights_in_chunk):
    whole = estimate_log_likelihood(model, x, 133, sample_sizes=(1, 7, 60))
    monkeypatch.setattr("iwae_tf.models.importance_weights.WEIGHTS_IN_CHUNK", weights_in_chunk)
    chunked = estimate_log_likelihood(model, x, 133, sample_sizes=(1, 7, 60))
    for k, bound in chunked.bounds.items():
        np.testing.assert_allclose(bound, whole.bounds[k], **ROUNDING)
    np.testing.assert_allclose(chunked.log_likelihood, whole.log_likelihood, **ROUNDING)


def test_the_bounds_rise_with_k_on_an_untrained_model(model):
    estimate = estimate_log_likelihood(model, binary_images(50), 500)
    means = [estimate.mean_bounds[k] for k in (1, 5, 50, 500)]
    # every size divides the next, so the order holds for every draw; the margin is for the estimate to be about k
    assert (np.diff(means) > 10.0).all()


def test_noise_belongs_to_the_seed_and_the_row_number(model):
    same = np.tile(binary_images(1), (4, 1))
    first = estimate_log_likelihood(model, same, 10, seed=4).log_likelihood
    again = estimate_log_likelihood(model, same, 10, seed=4).log_likelihood
    other = estimate_log_likelihood(model, same, 10, seed=5).log_likelihood
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert len(set(first)) == 4  # equal images, four estimates


def test_rows_of_a_later_batch_have_noise_of_their_own(model):
    same = np.tile(binary_images(1), (6, 1))
    estimate = estimate_log_likelihood(model, same, 10, batch_size=2).log_likelihood
    assert len(set(estimate)) == 6


# ---------------------------------------------------------------------------------------------- what comes back


def test_sample_sizes_above_the_number_of_samples_are_left_out_and_the_rest_sorted(model, x):
    bounds = estimate_log_likelihood(model, x, 12, sample_sizes=(50, 5, 1, 13, 5, 12)).bounds
    assert list(bounds) == [1, 5, 12]
    assert list(estimate_log_likelihood(model, x, 3, sample_sizes=()).bounds) == [3]
    assert PAPER_SAMPLE_SIZES == (1, 5, 50, 500, 5000)


def test_means_and_standard_errors_are_over_the_examples():
    bounds = {1: np.array([-3.0, -1.0, -2.0, -6.0]), 5: np.full(4, -2.0)}
    columns = dict.fromkeys(field.name for field in dataclasses.fields(LikelihoodEstimate))
    estimate = LikelihoodEstimate(**{**columns, "bounds": bounds})
    assert estimate.mean_bounds == {1: -3.0, 5: -2.0}
    # deviations 0, 2, 1, -3: variance 14 / 3, over 4 examples
    assert estimate.bound_standard_errors == pytest.approx({1: np.sqrt(14 / 3 / 4), 5: 0.0}, rel=1e-12)  # float64


def test_a_single_example_has_a_mean_and_no_standard_error(model):
    estimate = estimate_log_likelihood(model, binary_images(1), 5, sample_sizes=(1,))
    assert np.isfinite(list(estimate.mean_bounds.values())).all()
    assert np.isnan(list(estimate.bound_standard_errors.values())).all()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_progress_counts_every_row_once(model, x, batch_size):
    calls = []
    estimate_log_likelihood(model, x, 5, batch_size=batch_size, progress=calls.append)
    assert sum(calls) == N
    assert len(calls) == -(-N // batch_size)


# ---------------------------------------------------------------------------------------------- as many as it takes


@pytest.fixture(scope="module")
def mild():
    """A model whose q is near enough to the posterior for some rows to converge early and some late."""
    return small_model(gain=1.0)


TARGET = {"target_standard_error": 0.03, "max_samples": 3000}


def test_every_row_stops_where_its_own_error_and_tail_are_good_enough(mild):
    x = binary_images(20)
    estimate = estimate_log_likelihood(mild, x, 70, seed=1, **TARGET)
    assert set(estimate.num_samples) <= {70, 140, 280, 560, 1120, 2240, 3000}
    assert len(set(estimate.num_samples)) > 2
    log_w = mild.log_weights(x, 3000, seed=1).numpy()
    for row, number in enumerate(estimate.num_samples):
        weights = log_w[:number, row]
        np.testing.assert_allclose(estimate.log_likelihood[row], reference.log_mean_exp(weights), **ROUNDING)
        np.testing.assert_allclose(estimate.elbo[row], weights.mean(), **ROUNDING)
        counts = [n for n in (70, 140, 280, 560, 1120, 2240, 3000) if n <= number]
        good = [
            reference.standard_error(log_w[:n, [row]])[0] <= 0.03 and reference.pareto_shape(log_w[:n, [row]])[0] < 0.7
            for n in counts
        ]
        assert good[:-1] == [False] * (len(good) - 1)  # it went on as long as it had to
        assert good[-1] == estimate.converged[row]  # and stopped as soon as it could
        assert estimate.converged[row] or number == 3000


@pytest.mark.parametrize("batch_size", [1, 7, 20])
def test_where_a_row_stops_does_not_depend_on_its_batch(mild, batch_size):
    x = binary_images(20)
    whole = estimate_log_likelihood(mild, x, 70, seed=1, **TARGET)
    parts = estimate_log_likelihood(mild, x, 70, seed=1, batch_size=batch_size, **TARGET)
    np.testing.assert_array_equal(parts.num_samples, whole.num_samples)
    np.testing.assert_allclose(parts.log_likelihood, whole.log_likelihood, **ROUNDING)


def test_bounds_are_of_the_first_samples_whatever_the_target(mild):
    x = binary_images(6)
    plain, target = (estimate_log_likelihood(mild, x, 70, sample_sizes=(1, 5), **t) for t in ({}, TARGET))
    for k, bound in plain.bounds.items():
        np.testing.assert_array_equal(target.bounds[k], bound)


def test_the_most_samples_are_forty_times_the_first_unless_said(mild):
    estimate = estimate_log_likelihood(mild, binary_images(2), 60, target_standard_error=1e-9)
    np.testing.assert_array_equal(estimate.num_samples, [2400, 2400])
    assert not estimate.converged.any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_standard_error": 0.0}, "target_standard_error must be a number of nats > 0, got 0.0"),
        ({"target_standard_error": float("nan")}, "must be a number of nats > 0, got nan"),
        ({"target_standard_error": True}, "must be a number of nats > 0, got True"),
        ({"max_samples": 100}, "max_samples = 100 without target_standard_error"),
        ({"target_standard_error": 0.1, "max_samples": 4}, "max_samples must be at least num_samples = 5, got 4"),
        ({"target_standard_error": 0.1, "num_samples": 1}, "num_samples must be at least 2"),
    ],
)
def test_a_target_that_cannot_be_used_is_refused(mild, options, words):
    with pytest.raises(InputError, match=words):
        estimate_log_likelihood(mild, binary_images(2), **{"num_samples": 5, **options})


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("name", ["num_samples", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "5", None, True])
def test_a_count_that_is_no_positive_integer_is_refused_by_name_and_value(x, name, value):
    with pytest.raises(InputError, match=f"^{name} must be an integer >= 1, got {value!r}$"):
        estimate_log_likelihood(small_model(), x, **{"num_samples": 5, name: value})


@pytest.mark.parametrize("value", [0, -1, 2.0, "5"])
def test_a_sample_size_that_is_no_positive_integer_is_refused_by_name_and_value(x, value):
    with pytest.raises(InputError, match=f"^sample_sizes must be an integer >= 1, got {value!r}$"):
        estimate_log_likelihood(small_model(), x, 5, sample_sizes=(1, value))


@pytest.mark.parametrize("seed", [-1, 2**31, 0.5])
def test_a_seed_out_of_range_is_refused_by_name_and_value(x, seed):
    with pytest.raises(InputError, match=rf"^seed must be an integer in \[0, 2147483647\], got {seed!r}$"):
        estimate_log_likelihood(small_model(), x, 5, seed=seed)


def spoilt(value):
    x = binary_images(N)
    x[4, 5] = value
    return x


@pytest.mark.parametrize(
    ("bad", "came"),
    [
        (binary_images(N)[:, :5], r"shape \(7, 5\)"),
        (binary_images(1)[0], r"shape \(12,\)"),
        (binary_images(N).reshape(N, 3, 4), r"shape \(7, 3, 4\)"),
        (binary_images(0), "no rows"),
        (spoilt(float("nan")), "values from nan to nan"),
        (spoilt(255.0), "values from 0.0 to 255.0"),
        (spoilt(-0.5), "values from -0.5 to 1.0"),
    ],
)
def test_images_that_cannot_be_scored_are_refused_with_what_came(bad, came):
    with pytest.raises(InputError, match=rf"^x must be \[batch, 12\] with values in \[0, 1\] .*, got {came}\."):
        estimate_log_likelihood(small_model(), bad, 5)
