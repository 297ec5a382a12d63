"""log p(x) of a data set from one stream: bounds, reliability, targets, and doors."""

import dataclasses

import numpy as np
import pytest
import reference
import tensorflow as tf
from binary_models import binary_model
from small_models import binary_images, small_model

from iwae_tf import InputError, seeds
from iwae_tf.evaluation.estimate import (
    PAPER_SAMPLE_SIZES,
    LikelihoodEstimate,
    concatenate,
    estimate_log_likelihood,
    likelihood_batches,
)
from iwae_tf.models import streaming
from iwae_tf.seeds import Purpose

# Log-weights are float32 sums, and a matrix product over another number of rows rounds otherwise; the tanh layers pass
# such a difference on about threefold.
ROUNDING = {"rtol": 1e-5, "atol": 1e-4}
N = 20
SIZES = (1, 2, 5, 7, 50, 60, 132)
TARGET = {"target_standard_error": 0.13, "max_samples": 1000, "refine": "off"}


@pytest.fixture(scope="module")
def one():
    return small_model(gain=1.0)


@pytest.fixture(scope="module")
def rough():
    """A model whose rows need few samples for the target, many, more than there may be, or have too heavy a tail."""
    return small_model(gain=1.2)


@pytest.fixture(scope="module")
def x():
    return binary_images(N)


def pilots(model, x, num_samples, seed, runs=(1, 2)):
    """Two pilot runs: the larger variance of a weight over its squared mean, and the mean Pareto k; [N] each."""
    variances, shapes = [], []
    streams, size = seeds.row_streams(tf.constant(seed, tf.int64), tf.constant(x)), -(-num_samples // 50) * 50
    for run in runs:
        keys = [seeds.stream_key(stream, Purpose.PILOT, run) for stream in streams]
        noise = [streaming.row_noise(0, size, sum(model.latent_units), key) for key in keys]
        log_w = model.log_weights_from_noise(x, tf.concat(noise, axis=1)).numpy()[:num_samples]
        variances.append(num_samples * reference.standard_error(log_w) ** 2)
        shapes.append(reference.pareto_shape(log_w))
    return np.max(variances, axis=0), np.mean(shapes, axis=0)


def test_bounds_and_statistics_come_from_one_stream_of_log_weights_and_reliability_from_the_pilots(one, x):
    log_w = one.log_weights(x, 133, seed=4).numpy()
    estimate = estimate_log_likelihood(one, x, 133, seed=4, sample_sizes=SIZES, refine="off")
    assert list(estimate.bounds) == [*SIZES, 133]
    for k, bound in estimate.bounds.items():  # every remainder of 133 by k, and of the chunks by k
        assert bound.dtype == np.float64
        np.testing.assert_allclose(bound, reference.grouped_bound(log_w, k), **ROUNDING)
    np.testing.assert_array_equal(estimate.num_samples, [133] * N)
    np.testing.assert_allclose(estimate.log_likelihood, estimate.bounds[133], rtol=1e-12)  # float64
    np.testing.assert_allclose(estimate.elbo, reference.elbo(log_w), **ROUNDING)
    np.testing.assert_allclose(estimate.effective_sample_size, reference.effective_sample_size(log_w), rtol=1e-3)
    np.testing.assert_allclose(estimate.pareto_k, reference.pareto_shape(log_w), atol=1e-3)
    variance, pareto_k = pilots(one, x, 133, seed=4)
    own, predicted = reference.standard_error(log_w), np.sqrt(variance / 133)
    assert 0 < np.sum(own > predicted) < N
    np.testing.assert_allclose(estimate.standard_error, np.maximum(own, predicted), rtol=1e-3)
    np.testing.assert_array_equal(estimate.reliable, (pareto_k < 0.7) & (predicted <= 0.1))
    assert 0 < estimate.reliable.sum() < N


@pytest.mark.parametrize("num_samples", [1, 501])  # more in test_streaming.py; each number is a graph here
def test_any_number_of_samples_is_averaged_over_exactly_that_number(one, x, num_samples):
    log_w = one.log_weights(x, num_samples, seed=4).numpy()
    sizes = (num_samples + 1, 5, 1, 5)
    estimate = estimate_log_likelihood(one, x, num_samples, seed=4, sample_sizes=sizes, refine="off")
    assert list(estimate.bounds) == ([1] if num_samples == 1 else [1, 5, num_samples])  # sorted, none above
    np.testing.assert_array_equal(estimate.num_samples, [num_samples] * N)
    np.testing.assert_allclose(estimate.log_likelihood, reference.log_mean_exp(log_w), **ROUNDING)
    found = one.log_likelihood(x, num_samples, seed=4)
    np.testing.assert_allclose(found, estimate.log_likelihood, rtol=1e-12)  # the same function: float64


@pytest.fixture(scope="module")
def targeted(rough, x):
    return estimate_log_likelihood(rough, x, 200, seed=2, batch_size=N, **TARGET)


@pytest.mark.parametrize("batch_size", [3])  # the last batch is uneven
def test_batch_size_and_order_change_nothing_but_rounding_and_progress_counts_rows(rough, x, targeted, batch_size):
    calls = []
    found = estimate_log_likelihood(rough, x[::-1], 200, seed=2, batch_size=batch_size, progress=calls.append, **TARGET)
    np.testing.assert_array_equal(found.num_samples[::-1], targeted.num_samples)
    np.testing.assert_allclose(found.log_likelihood[::-1], targeted.log_likelihood, **ROUNDING)
    for k, bound in found.bounds.items():
        np.testing.assert_allclose(bound[::-1], targeted.bounds[k], **ROUNDING)
    assert (sum(calls), len(calls)) == (N, -(-N // batch_size))


def test_batches_can_begin_at_any_row_and_are_put_together(rough, x, targeted):
    batches = list(likelihood_batches(rough, x, 200, 2, PAPER_SAMPLE_SIZES, 7, *TARGET.values(), first_row=6))
    assert [len(batch.log_likelihood) for batch in batches] == [7, 7]
    joined = concatenate(batches)
    np.testing.assert_array_equal(joined.num_samples, targeted.num_samples[6:])
    np.testing.assert_allclose(joined.log_likelihood, targeted.log_likelihood[6:], **ROUNDING)
    assert [bound.shape for bound in joined.bounds.values()] == [(N - 6,)] * 4


def test_means_and_standard_errors_are_over_the_examples():
    def estimate(bounds):
        columns = dict.fromkeys(field.name for field in dataclasses.fields(LikelihoodEstimate))
        return LikelihoodEstimate(**{**columns, "bounds": bounds})

    many = estimate({1: np.array([-3.0, -1.0, -2.0, -6.0]), 5: np.full(4, -2.0)})
    assert many.mean_bounds == {1: -3.0, 5: -2.0}
    # deviations 0, 2, 1, -3: variance 14 / 3, over 4 examples
    assert many.bound_standard_errors == pytest.approx({1: np.sqrt(14 / 3 / 4), 5: 0.0}, rel=1e-12)  # float64
    assert np.isnan(estimate({1: np.array([-3.0])}).bound_standard_errors[1])


def test_every_row_has_the_samples_that_its_pilots_ask_for_whatever_its_own_weights(rough, x, targeted):
    variance, pareto_k = pilots(rough, x, 200, seed=2)
    of_long = pilots(rough, x, 800, seed=2, runs=(3, 4))
    variance, pareto_k = np.where(pareto_k < 0.7, (variance, pareto_k), of_long)
    wanted = np.where(pareto_k < 0.7, np.ceil(variance / 0.13**2), np.inf)
    # The variance of float32 log-weights of other matrix products is the same to 1e-4: a thousand samples to 0.1.
    np.testing.assert_allclose(targeted.num_samples, np.clip(wanted, 200, 1000), atol=1.0)
    kinds = np.isinf(wanted), wanted < 200, (wanted > 200) & (wanted < 1000), np.isfinite(wanted) & (wanted > 1000)
    assert all(kind.any() for kind in kinds)
    log_w = rough.log_weights(x, 1000, seed=2).numpy()
    for row, number in enumerate(targeted.num_samples):
        weights = log_w[:number, [row]]
        np.testing.assert_allclose(targeted.log_likelihood[row], reference.log_mean_exp(weights)[0], **ROUNDING)
        np.testing.assert_allclose(targeted.elbo[row], weights.mean(), **ROUNDING)
        own, predicted = reference.standard_error(weights)[0], np.sqrt(variance[row] / number)
        np.testing.assert_allclose(targeted.standard_error[row], max(own, predicted), rtol=1e-3)
    np.testing.assert_array_equal(targeted.reliable, wanted <= 1000)  # some at more than 0.1 nats
    assert targeted.standard_error[targeted.reliable].max() > 0.1


def test_bounds_stay_those_of_the_first_samples_of_q_whatever_the_target_and_the_proposal(rough, x, targeted):
    refined = estimate_log_likelihood(rough, x, 200, seed=2, refine="on")
    log_w = rough.log_weights(x, 200, seed=2).numpy()
    for estimate in (targeted, refined):
        assert list(estimate.bounds) == [1, 5, 50, 200]
        for k, bound in estimate.bounds.items():
            np.testing.assert_allclose(bound, reference.grouped_bound(log_w, k), **ROUNDING)
    assert np.median(refined.effective_sample_size / reference.effective_sample_size(log_w)) > 2.0
    automatic = estimate_log_likelihood(rough, x, 200, seed=2)
    np.testing.assert_array_equal(automatic.log_likelihood, refined.log_likelihood)


def test_binary_units_are_scored_with_q_unless_refinement_is_asked_for():
    model, x = binary_model(gain=1.0), binary_images(3)
    automatic, plain = (estimate_log_likelihood(model, x, 60, refine=refine) for refine in ("auto", "off"))
    np.testing.assert_array_equal(automatic.log_likelihood, plain.log_likelihood)
    log_w = model.log_weights(x, 60)
    np.testing.assert_allclose(automatic.log_likelihood, reference.log_mean_exp(log_w), **ROUNDING)
    message = "^refine='on' exists for Gaussian units, this model's are bernoulli: .*; use 'auto'$"
    with pytest.raises(InputError, match=message):
        estimate_log_likelihood(model, x, 60, refine="on")


POSITIVE = "must be an integer >= 1, got"
REFUSED = [
    ({"target_standard_error": 0.0}, "target_standard_error must be a number of nats > 0, got 0.0"),
    ({"target_standard_error": float("nan")}, "target_standard_error must be a number, got nan"),
    ({"target_standard_error": float("inf")}, "target_standard_error must be a number, got inf"),
    ({"target_standard_error": True}, "target_standard_error must be a number, got True"),
    ({"max_samples": 100}, "max_samples = 100 without target_standard_error"),
    ({"target_standard_error": 0.1, "max_samples": 4}, "max_samples must be at least num_samples = 5, got 4"),
    ({"target_standard_error": 0.1, "num_samples": 1}, "num_samples must be at least 2"),
    *(({"num_samples": value}, f"^num_samples {POSITIVE} {value!r}$") for value in (0, 2.0, "5", None, True)),
    *(({"batch_size": value}, f"^batch_size {POSITIVE} {value!r}$") for value in (0, 2.0)),
    *(({"sample_sizes": (1, value)}, f"^sample_sizes {POSITIVE} {value!r}$") for value in (0, "5")),
    *(({"seed": v}, rf"^seed must be an integer in \[0, 2147483647\], got {v!r}$") for v in (-1, 2**31, 0.5)),
    *(({"refine": value}, f"^refine must be one of auto, on, off, got {value!r}$") for value in ("yes", True, None)),
    ({"x": binary_images(N)[:, :5]}, r"^x must be \[batch, 12\] with values in \[0, 1\] .*, got shape \(20, 5\)\."),
    ({"x": binary_images(0)}, "got no rows"),
    ({"x": 2 * binary_images(N)}, "got values from 0.0 to 2.0"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_arguments_out_of_range_are_refused_by_name_and_value(one, options, words):
    with pytest.raises(InputError, match=words):
        estimate_log_likelihood(one, **{"x": binary_images(2), "num_samples": 5, **options})
