"""log p(x) of a data set from one stream: bounds, reliability, targets, and doors."""

import dataclasses

import numpy as np
import pytest
import reference
from small_models import binary_images, small_model

from iwae_tf import InputError
from iwae_tf.evaluation.estimate import (
    PAPER_SAMPLE_SIZES,
    LikelihoodEstimate,
    concatenate,
    estimate_log_likelihood,
    likelihood_batches,
    monte_carlo_error,
)

# Log-weights are float32 sums, and a matrix product over another number of rows rounds otherwise; the tanh layers pass
# such a difference on about threefold.
ROUNDING = {"rtol": 1e-5, "atol": 1e-4}
N = 20
SIZES = (1, 2, 5, 7, 50, 60, 132)
TARGET = {"target_standard_error": 0.03, "max_samples": 3000}


@pytest.fixture(scope="module", params=[1, 2], ids=["1 layer", "2 layers"])
def model(request):
    """Models whose q is near enough to the posterior for some rows to converge early and some late."""
    return small_model(request.param, gain=1.0)


@pytest.fixture(scope="module")
def one():
    return small_model(gain=1.0)


@pytest.fixture(scope="module")
def x():
    return binary_images(N)


def test_bounds_and_reliability_come_from_one_stream_of_log_weights(model, x):
    log_w = model.log_weights(x, 133, seed=4).numpy()
    estimate = estimate_log_likelihood(model, x, 133, seed=4, sample_sizes=SIZES)
    assert list(estimate.bounds) == [*SIZES, 133]
    for k, bound in estimate.bounds.items():  # every remainder of 133 by k, and of the chunks by k
        assert bound.dtype == np.float64
        np.testing.assert_allclose(bound, reference.grouped_bound(log_w, k), **ROUNDING)
    np.testing.assert_array_equal(estimate.num_samples, [133] * N)
    np.testing.assert_allclose(estimate.log_likelihood, estimate.bounds[133], rtol=1e-12)  # float64
    np.testing.assert_allclose(estimate.elbo, reference.elbo(log_w), **ROUNDING)
    np.testing.assert_allclose(estimate.effective_sample_size, reference.effective_sample_size(log_w), rtol=1e-3)
    np.testing.assert_allclose(estimate.standard_error, reference.standard_error(log_w), rtol=1e-3)
    np.testing.assert_allclose(estimate.pareto_k, reference.pareto_shape(log_w), atol=1e-3)
    np.testing.assert_array_equal(estimate.converged, estimate.pareto_k < 0.7)
    assert estimate.converged.sum() > 0


@pytest.mark.parametrize("num_samples", [1, 51, 500, 501])  # chunks of 50, then 450
def test_any_number_of_samples_is_averaged_over_exactly_that_number(one, x, num_samples):
    log_w = one.log_weights(x, num_samples, seed=4).numpy()
    estimate = estimate_log_likelihood(one, x, num_samples, seed=4, sample_sizes=(num_samples + 1, 5, 1, 5))
    assert list(estimate.bounds) == ([1] if num_samples == 1 else [1, 5, num_samples])  # sorted, none above
    np.testing.assert_array_equal(estimate.num_samples, [num_samples] * N)
    np.testing.assert_allclose(estimate.log_likelihood, reference.log_mean_exp(log_w), **ROUNDING)
    found = one.log_likelihood(x, num_samples, seed=4)
    np.testing.assert_allclose(found, estimate.log_likelihood, rtol=1e-12)  # the same function: float64


@pytest.fixture(scope="module")
def targeted(one, x):
    return estimate_log_likelihood(one, x, 70, seed=1, batch_size=N, **TARGET)


@pytest.mark.parametrize("batch_size", [1, 3])  # the last batch is full or uneven
def test_batch_size_and_order_change_nothing_but_rounding_and_progress_counts_rows(one, x, targeted, batch_size):
    calls = []
    found = estimate_log_likelihood(one, x[::-1], 70, seed=1, batch_size=batch_size, progress=calls.append, **TARGET)
    np.testing.assert_array_equal(found.num_samples[::-1], targeted.num_samples)
    np.testing.assert_allclose(found.log_likelihood[::-1], targeted.log_likelihood, **ROUNDING)
    for k, bound in found.bounds.items():
        np.testing.assert_allclose(bound[::-1], targeted.bounds[k], **ROUNDING)
    assert (sum(calls), len(calls)) == (N, -(-N // batch_size))


def test_batches_can_begin_at_any_row_and_are_put_together(one, x, targeted):
    batches = list(likelihood_batches(one, x, 70, 1, PAPER_SAMPLE_SIZES, 7, *TARGET.values(), first_row=6))
    assert [len(batch.log_likelihood) for batch in batches] == [7, 7]
    joined = concatenate(batches)
    np.testing.assert_array_equal(joined.num_samples, targeted.num_samples[6:])
    np.testing.assert_allclose(joined.log_likelihood, targeted.log_likelihood[6:], **ROUNDING)
    assert [bound.shape for bound in joined.bounds.values()] == [(N - 6,)] * 4


# ------------------------------------------------------------------------------------------- results


def test_means_and_standard_errors_are_over_the_examples():
    def estimate(bounds):
        columns = dict.fromkeys(field.name for field in dataclasses.fields(LikelihoodEstimate))
        return LikelihoodEstimate(**{**columns, "bounds": bounds})

    many = estimate({1: np.array([-3.0, -1.0, -2.0, -6.0]), 5: np.full(4, -2.0)})
    assert many.mean_bounds == {1: -3.0, 5: -2.0}
    # deviations 0, 2, 1, -3: variance 14 / 3, over 4 examples
    assert many.bound_standard_errors == pytest.approx({1: np.sqrt(14 / 3 / 4), 5: 0.0}, rel=1e-12)  # float64
    assert np.isnan(estimate({1: np.array([-3.0])}).bound_standard_errors[1])
    assert monte_carlo_error(np.array([3.0, 4.0])) == 2.5  # of a mean of two independent estimates


# ------------------------------------------------------------------------------------------- targets


def test_every_row_stops_where_its_own_error_and_tail_are_good_enough(one, x, targeted):
    estimate, numbers = targeted, (70, 140, 280, 560, 1120, 2240, 3000)
    assert set(estimate.num_samples) <= set(numbers)
    assert len(set(estimate.num_samples)) > 2
    log_w = one.log_weights(x, 3000, seed=1).numpy()
    for row, number in enumerate(estimate.num_samples):
        weights = log_w[:number, row]
        np.testing.assert_allclose(estimate.log_likelihood[row], reference.log_mean_exp(weights), **ROUNDING)
        np.testing.assert_allclose(estimate.elbo[row], weights.mean(), **ROUNDING)
        good = [
            reference.standard_error(log_w[:n, [row]])[0] <= 0.03 and reference.pareto_shape(log_w[:n, [row]])[0] < 0.7
            for n in numbers[: numbers.index(number) + 1]
        ]
        assert good[:-1] == [False] * (len(good) - 1)  # it continued as long as it had to
        assert good[-1] == estimate.converged[row]  # and stopped as soon as it could
        assert estimate.converged[row] or number == 3000
    plain = estimate_log_likelihood(one, x, 70, seed=1)
    for k, bound in plain.bounds.items():  # of the first samples, whatever the target
        np.testing.assert_allclose(estimate.bounds[k], bound, **ROUNDING)
    assert not estimate.converged.all()


# ------------------------------------------------------------------------------------------- doors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_standard_error": 0.0}, "target_standard_error must be a number of nats > 0, got 0.0"),
        ({"target_standard_error": float("nan")}, "must be a number of nats > 0, got nan"),
        ({"target_standard_error": True}, "must be a number of nats > 0, got True"),
        ({"max_samples": 100}, "max_samples = 100 without target_standard_error"),
        ({"target_standard_error": 0.1, "max_samples": 4}, "max_samples must be at least num_samples = 5, got 4"),
        ({"target_standard_error": 0.1, "num_samples": 1}, "num_samples must be at least 2"),
        *(
            ({name: value}, f"^{name} must be an integer >= 1, got {value!r}$")
            for name in ("num_samples", "batch_size")
            for value in (0, 2.0, "5", None, True)
        ),
        *(
            ({"sample_sizes": (1, value)}, f"^sample_sizes must be an integer >= 1, got {value!r}$")
            for value in (0, "5")
        ),
        *(({"seed": v}, rf"^seed must be an integer in \[0, 2147483647\], got {v!r}$") for v in (-1, 2**31, 0.5)),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(one, options, words):
    with pytest.raises(InputError, match=words):
        estimate_log_likelihood(one, binary_images(2), **{"num_samples": 5, **options})


@pytest.mark.parametrize(
    ("bad", "came"),
    [
        (binary_images(N)[:, :5], r"shape \(20, 5\)"),
        (binary_images(0), "no rows"),
        (2 * binary_images(N), "values from 0.0 to 2.0"),
    ],
)
def test_images_that_cannot_be_scored_are_refused_with_what_came(one, bad, came):
    with pytest.raises(InputError, match=rf"^x must be \[batch, 12\] with values in \[0, 1\] .*, got {came}\."):
        estimate_log_likelihood(one, bad, 5)
