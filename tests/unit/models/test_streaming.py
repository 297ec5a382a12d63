"""The one stream of log-weights: its noise, chunks of any size, and the estimate of a row."""

import itertools

import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import binary_images, small_model

from iwae_tf import InputError, seeds
from iwae_tf.evaluation.estimate import estimate_log_likelihood
from iwae_tf.models import proposal, streaming

# Log-weights are float32 sums of tens here; another number of rows in a product rounds otherwise.
ROUNDING = {"rtol": 1e-5, "atol": 1e-4}
N = 5
INF, NAN = float("inf"), float("nan")


@pytest.fixture(scope="module")
def model():
    return small_model(2, gain=1.0)


@pytest.fixture(scope="module")
def x():
    return binary_images(N)


@pytest.fixture(scope="module")
def log_w(model, x):
    return model.log_weights(x, 501, seed=7).numpy()


def test_log_weights_are_those_of_the_noise_of_seed_and_content(model, x, log_w):
    units = sum(model.latent_units)
    for row in range(N):
        key = seeds.stream_key(seeds.row_streams(7, tf.constant(x[row : row + 1]))[0], seeds.Purpose.EVALUATION_NOISE)
        noise = tf.reshape(seeds.row_normals(0, 7, 50 * units, key), [350, 1, units])
        expected = model.log_weights_from_noise(x[row : row + 1], noise)[:, 0]
        np.testing.assert_allclose(log_w[:350, row], expected, **ROUNDING)
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


@pytest.mark.parametrize("first", [-20, 1.5, True])
def test_a_first_sample_that_is_no_number_of_a_sample_is_refused(model, x, first):
    with pytest.raises(InputError, match=f"first_sample must be an integer >= 0, got {first}"):
        model.log_weight_chunks(x, 100, first_sample=first)


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


@pytest.mark.parametrize("num_samples", [1, 50, 51, 350, 500, 501])  # chunks of 500
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
    whole = estimate_log_likelihood(model, x, 133, seed=7, sample_sizes=(7, 60), refine="off")
    found = row_estimate(model, x[2:3], 7, 133, 133, (7, 60, 133))
    assert found.count.numpy().tolist() == [133]
    assert found.reliable.numpy().tolist() == [whole.reliable[2]]
    for name, values in found.summary._asdict().items():
        np.testing.assert_allclose(values[0], getattr(whole, name)[2], err_msg=name, **ROUNDING)
    for k, bound in zip((7, 60, 133), found.bounds[:, 0], strict=True):
        np.testing.assert_allclose(bound, whole.bounds[k][2], **ROUNDING)


@pytest.mark.parametrize("target", [None, 0.1])
def test_no_samples_give_nan_and_not_an_error(model, x, target):
    found = row_estimate(model, x[:1], 0, 0, 0, (), target)
    assert (found.count.numpy().tolist(), found.reliable.numpy().tolist()) == ([0], [False])
    for name in ("log_likelihood", "elbo", "standard_error", "pareto_k"):
        assert np.isnan(getattr(found.summary, name)).all()


# Variances of a weight over its squared mean in the two pilots; their Pareto k; target; samples, and whether reliable.
# The estimate has 100 samples, with a target 1000 at most. With a target the long pilots find the same as the others.
PILOTS = [
    ((0.9, 0.9), (0.69, 0.69), None, 100, True),
    ((0.9, 0.9), (0.7, 0.7), None, 100, False),
    ((0.9, 0.9), (0.9, 0.45), None, 100, True),  # the mean of k counts
    ((0.9, 0.9), (0.9, 0.55), None, 100, False),
    ((0.9, 0.9), (0.2, INF), None, 100, False),
    ((0.9, 0.9), (0.2, NAN), None, 100, False),
    ((0.2, 0.99), (0.5, 0.5), None, 100, True),  # sqrt(0.99 / 100) < 0.1 nats
    ((0.2, 1.01), (0.5, 0.5), None, 100, False),  # the larger variance counts, in either run
    ((1.01, 0.2), (0.5, 0.5), None, 100, False),
    ((NAN, 0.2), (0.5, 0.5), None, 100, False),
    ((9e-4, 2e-4), (INF, INF), None, 100, True),  # nearly equal weights: their tail is rounding
    ((1.1e-3, 2e-4), (INF, INF), None, 100, False),
    ((0.0, 0.0), (-INF, -INF), None, 100, True),
    ((0.2, 0.9), (0.5, 0.5), 0.05, 360, True),  # 0.9 / 0.05^2
    ((0.2, 0.9001), (0.5, 0.5), 0.05, 361, True),
    ((3.9, 0.2), (0.5, 0.5), 0.2, 100, True),  # 98 would do, and at more than 0.1 nats
    ((0.2, 0.9), (0.5, 0.5), 0.02, 1000, False),  # 2250 would be needed
    ((0.2, 0.2), (0.8, 0.7), 0.05, 1000, False),  # the tail is too heavy for any number
    ((9e-4, 9e-4), (INF, INF), 0.002, 225, True),
    ((9e-4, 9e-4), (INF, INF), 5e-4, 1000, False),
    ((NAN, NAN), (NAN, NAN), 0.05, 1000, False),
]


# With them, in turn, small and large errors and Pareto k of the estimate itself, which decide nothing.
@pytest.mark.parametrize(
    ("variances", "shapes", "target", "count", "reliable", "own"),
    [(*case, own) for case, own in zip(PILOTS, itertools.cycle([(0.001, 0.1), (0.3, 0.9), (0.3, 0.9)]), strict=False)],
)
def test_two_pilots_alone_decide_samples_and_reliability_and_the_error_is_the_largest(
    model, x, monkeypatch, own, variances, shapes, target, count, reliable
):
    sound = np.mean(shapes) < 0.7 or np.max(variances) < 1e-3
    sizes = (100,) if sound or target is None else (100, 400)  # long pilots have 400 samples
    of_pilots = [zip(np.sqrt(np.array(variances) / size), shapes, strict=True) for size in sizes]
    faked = iter([*itertools.chain(*of_pilots), own])

    def summary(state):
        error, shape = next(faked)
        same = tf.zeros([1], tf.float64)
        return streaming.WeightSummary(same, same, same + error, same, same + shape)

    monkeypatch.setattr(streaming, "summarize", summary)
    found = row_estimate(model, x[:1], 0, 100, 100 if target is None else 1000, (), target)
    assert next(faked, None) is None
    assert found.count.numpy().tolist() == [count]
    assert found.reliable.numpy().tolist() == [reliable]
    predicted = np.sqrt(np.max(variances) / count)
    np.testing.assert_allclose(found.summary.standard_error, [np.maximum(own[0], predicted)], rtol=1e-12)  # float64
    assert found.summary.pareto_k.numpy().tolist() == [own[1]]


@pytest.mark.parametrize(
    ("variances", "shapes", "count", "reliable"),
    [
        ((0.2, 0.9), (0.8, 0.59), 360, True),  # the first pilots had found 0.7 and more
        ((0.2, 0.2), (0.8, 0.61), 1000, False),
        ((0.9, 0.2), (0.5, NAN), 1000, False),
    ],
)
def test_long_pilots_decide_where_the_others_find_a_heavy_tail(
    model, x, monkeypatch, variances, shapes, count, reliable
):
    sizes, faked = (
        [],
        iter([(5.0, 0.7), (5.0, 0.8), *zip(np.sqrt(np.array(variances) / 400), shapes, strict=True), (0, 0)]),
    )

    def summary(state):
        error, shape = next(faked)
        sizes.append(int(state.count[0]))
        same = tf.zeros([1], tf.float64)
        return streaming.WeightSummary(same, same, same + error, same, same + shape)

    monkeypatch.setattr(streaming, "summarize", summary)
    found = row_estimate(model, x[:1], 0, 100, 1000, (), 0.05)
    assert sizes == [100, 100, 400, 400, count]
    assert found.count.numpy().tolist() == [count]
    assert found.reliable.numpy().tolist() == [reliable]
    np.testing.assert_allclose(found.summary.standard_error, [np.sqrt(np.max(variances) / count)], rtol=1e-12)


@pytest.mark.parametrize(
    ("variances", "shape", "count", "reliable"),
    [
        ((0.1, 0.9), 0.6, 500, True),  # 360 would do
        ((1.399, 0.2), 0.6, 560, True),  # 1.4 / 0.05^2
        ((0.2, 1.401), 0.6, 561, True),
        ((1.399, 0.2), 0.7, 2400, False),
        ((2.0, 1.0), 0.6, 600, True),  # 800 would be needed, but 0.1 nats are reached
        ((5.999, 0.2), 0.6, 600, True),
        ((6.001, 0.2), 0.6, 601, True),
        ((24.1, 0.2), 0.6, 2400, False),
    ],
)
def test_a_refined_estimate_aims_at_a_twentieth_of_a_nat_and_goes_on_to_a_tenth(
    model, x, monkeypatch, variances, shape, count, reliable
):
    sizes, errors = [], itertools.cycle(np.sqrt(np.array(variances)))

    def summary(state):
        sizes.append(int(state.count[0]))
        same = tf.zeros([1], tf.float64)
        return streaming.WeightSummary(same, same, same + next(errors) / np.sqrt(sizes[-1]), same, same + shape)

    monkeypatch.setattr(streaming, "summarize", summary)
    monkeypatch.setattr(
        streaming, "refine", lambda model, x, stream: proposal.inference_proposal(sum(model.latent_units))
    )
    found = row_estimate(model, x[:1], 0, 600, 600, (), None, True)
    assert sizes == [600, 600, *([2400, 2400] if shape >= 0.7 else []), count]
    assert (found.count.numpy().tolist(), found.reliable.numpy().tolist()) == ([count], [reliable])


def test_long_pilots_have_no_more_samples_than_the_estimate_may_have(model, x, monkeypatch):
    monkeypatch.setattr(streaming, "RELIABLE_PARETO_K", -INF)  # every tail is heavy
    found = row_estimate(model, x[:1], 0, 60, 150, (), 0.05)
    assert found.count.numpy().tolist() == [150]
    assert np.isfinite(found.summary.log_likelihood).all()


def test_a_refined_row_is_scored_with_its_proposal_by_pilots_of_1000_samples_at_most(model, x):
    row, stream = tf.constant(x[:1]), seeds.row_streams(tf.constant(1, tf.int64), tf.constant(x[:1]))[0]
    fitted, units = proposal.refine(model, row, stream), sum(model.latent_units)

    def log_w(number, purpose=seeds.Purpose.EVALUATION_NOISE, run=0):
        noise = streaming.row_noise(0, number, units, seeds.stream_key(stream, purpose, run))
        return fitted.log_weights(model, row, noise).numpy()

    of_pilots = [log_w(1000, seeds.Purpose.PILOT, run) for run in (1, 2)]
    variance = max(1000 * reference.standard_error(w)[0] ** 2 for w in of_pilots)
    target = np.sqrt(variance / 2700)
    found = row_estimate(model, x[:1], 1, 2300, 4000, (1, 2300), target, True)
    assert np.mean([reference.pareto_shape(w) for w in of_pilots]) < 0.7
    np.testing.assert_allclose(found.count, [2700], atol=3)  # float32 log-weights: a thousandth of the variance
    number = int(found.count[0])
    weights = log_w(2750)[:number]
    np.testing.assert_allclose(found.summary.log_likelihood, reference.log_mean_exp(weights), **ROUNDING)
    np.testing.assert_allclose(found.summary.pareto_k, reference.pareto_shape(weights), atol=1e-3)
    own, predicted = reference.standard_error(weights)[0], np.sqrt(variance / number)
    np.testing.assert_allclose(found.summary.standard_error, [max(own, predicted)], rtol=1e-3)
    assert found.reliable.numpy().tolist() == [True]
    plain = model.log_weights(x[:1], 2300, seed=1)  # of q(h | x), as the bounds are
    for k, bound in zip((1, 2300), found.bounds, strict=True):
        np.testing.assert_allclose(bound, reference.grouped_bound(plain, k), **ROUNDING)


@pytest.mark.parametrize("num_samples", [50, 100, 3000, 0])
def test_a_refined_row_without_a_target_has_the_samples_that_its_error_takes_and_four_times_as_many_at_most(
    model, x, num_samples
):
    row, stream = tf.constant(x[:1]), seeds.row_streams(tf.constant(3, tf.int64), tf.constant(x[:1]))[0]
    fitted, units, size = proposal.refine(model, row, stream), sum(model.latent_units), min(num_samples, 1000)

    def judged(runs, size):
        """The largest variance of a weight over its squared mean, and whether the tail is light."""
        keys = [seeds.stream_key(stream, seeds.Purpose.PILOT, run) for run in runs]
        log_w = [
            fitted.log_weights(model, row, streaming.row_noise(0, 8000, units, key)).numpy()[:size] for key in keys
        ]
        sound = np.mean([reference.pareto_shape(of_run) for of_run in log_w]) < 0.7
        return max(size * reference.standard_error(of_run)[0] ** 2 for of_run in log_w), sound

    found = row_estimate(model, x[:1], 3, num_samples, num_samples, (), None, True)
    expected = 0
    if num_samples:
        variance, sound = judged((1, 2), size)
        if not sound:
            variance, sound = judged((3, 4), min(4 * num_samples, 8000))
        fewest = min(max(variance / 0.05**2, 500), num_samples)
        expected = min(max(variance / 0.1**2, fewest), 4 * num_samples) if sound else 4 * num_samples
    np.testing.assert_allclose(found.count, [expected], rtol=0.01, atol=1)


def test_fit_pilots_and_estimate_share_no_noise(model, x, monkeypatch):
    drawn, draw, units = [], seeds.row_normals, sum(model.latent_units)

    def row_normals(first, count, width, key):
        drawn.append((key[1].numpy() >> 32, draw(first, count, width, key)))
        return drawn[-1][1]

    monkeypatch.setattr(seeds, "row_normals", row_normals)
    row_estimate(model, x[:1], 0, 500, 500, (), 5.0, True)  # a pilot and the estimate are a whole chunk each
    numbers = {purpose: [] for purpose, _ in drawn}
    for purpose, values in drawn:
        numbers[purpose].append(values.numpy().reshape(-1, units))
    purpose = seeds.Purpose
    assert set(numbers) == {purpose.REFINEMENT, purpose.PILOT, purpose.EVALUATION_NOISE}
    assert [sum(map(len, numbers[p])) for p in (purpose.PILOT, purpose.EVALUATION_NOISE)] == [1000, 500]
    samples = np.concatenate([values for found in numbers.values() for values in found])
    assert len(np.unique(samples, axis=0)) == len(samples)  # of 8 numbers each: none by chance
