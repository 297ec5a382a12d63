"""The likelihoods beside Bernoulli and Gaussian: densities, means, samples and gradients, also at their ends."""

import numpy as np
import pytest
import reference_likelihoods as reference
import tensorflow as tf

from iwae_tf import InputError, seeds
from iwae_tf.layers.categorical import Categorical
from iwae_tf.layers.continuous_bernoulli import ContinuousBernoulli
from iwae_tf.layers.discretized_logistic import DiscretizedLogistic, LogisticMixture
from iwae_tf.layers.registry import likelihood_class
from iwae_tf.layers.student_t import StudentT, StudentTParameters

D, FEATURES = 3, 4
LEVELS = {"categorical": 7, "discretized-logistic": 17}
NAMES = ["categorical", "continuous-bernoulli", "discretized-logistic", "student-t"]
# float32: 3 terms of up to 100, each rounded to 1e-7 of itself, some exponentials and logarithms on the way.
FLOAT32 = {"rtol": 3e-6, "atol": 3e-5}


def layer(name, mean=None, **kwargs):
    arguments = {"levels": LEVELS[name]} if name in LEVELS else {}
    made = likelihood_class(name)(D, seeds.initializer_seeds(0), mean=mean, **arguments, **kwargs)
    made.build((None, FEATURES))
    return made


def parameters(name, shape, seed=0, wide=False):
    """Random parameters of [*shape, D]; `wide` ones reach logits of +-100, scales at the bounds, far locations."""
    rng = np.random.default_rng(seed)
    size = 100.0 if wide else 3.0

    def uniform(low, high, *last):
        values = rng.uniform(low, high, (*shape, D, *last))
        return tf.constant(np.where(rng.random(values.shape) < 0.3, np.sign(values) * high, values), tf.float32)

    if name == "continuous-bernoulli":
        return uniform(-size, size)
    if name == "categorical":
        return uniform(-size, size, LEVELS[name])
    scales = 7.0 if wide else 2.0
    if name == "student-t":
        df = rng.uniform(1.0009, 1098.0, D) if wide else np.array([1.5, 4.0, 30.0])
        return StudentTParameters(uniform(-size, size), uniform(-scales, scales), tf.constant(df, tf.float32))
    return LogisticMixture(uniform(-size, size, 5), uniform(-size / 3, size / 3, 5), uniform(-scales, scales, 5))


def values(name, shape, seed=1):
    rng = np.random.default_rng(seed)
    if name in LEVELS:
        last = LEVELS[name] - 1
        drawn = rng.integers(0, last + 1, (*shape, D)) / last
    elif name == "student-t":
        drawn = 5.0 * rng.standard_t(2.0, (*shape, D))
    else:
        drawn = rng.random((*shape, D))
        drawn[..., 0], drawn[..., 1] = 0.0, 1.0
    return drawn.astype(np.float32)


def in_double(values):
    parts = values if isinstance(values, tuple) else (values,)
    return [part.numpy().astype(np.float64) for part in parts]


def expected_log_prob(name, q, value):
    function = getattr(reference, name.replace("-", "_"))
    levels = {"levels": LEVELS[name]} if name in LEVELS else {}
    return function(value.astype(np.float64), *in_double(q), **levels)


# ---------------------------------------------------------------------------------------------- densities


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_log_prob_equals_float64_for_parameters_of_every_size(name, wide):
    q, value = parameters(name, (50, 4), wide=wide), values(name, (4,))
    log_prob = layer(name).log_prob(q, tf.constant(value))
    assert log_prob.shape == (50, 4)
    expected = expected_log_prob(name, q, value).sum(axis=-1)
    # A wide logistic has z / s of 1e5, of which the location of size 30 keeps 2e-6 / s.
    tolerance = {"rtol": 3e-5, "atol": 3e-3} if wide else FLOAT32
    np.testing.assert_allclose(log_prob, expected, **tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_equals_that_of_the_tfp_distribution(name):
    q, value, head = parameters(name, (4,)), values(name, (4,)), layer(name)
    distribution = head.distribution(q)
    assert distribution.event_shape == (D,)
    assert distribution.batch_shape == (4,)
    # TFP's continuous Bernoulli takes a series of fewer terms where lambda is within 0.499 and 0.501.
    np.testing.assert_allclose(distribution.log_prob(value), head.log_prob(q, tf.constant(value)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", ["categorical", "discretized-logistic"])
def test_probabilities_of_the_levels_sum_to_one(name, wide):
    head, q = layer(name), parameters(name, (20,), wide=wide)
    one = tf.nest.map_structure(lambda v: v[:, :1], q)  # of the first dimension
    grid = tf.cast(tf.range(LEVELS[name]), tf.float32)[:, None, None] / (LEVELS[name] - 1.0)
    total = tf.reduce_sum(tf.exp(head.log_prob(one, grid)), axis=0)  # log_prob [L, 20]
    np.testing.assert_allclose(total, np.ones(20), rtol=2e-5)  # float32, 17 terms; logits of 100 rounded to 8e-6
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(head.level_log_probs(one)), axis=-1), np.ones((20, 1)), rtol=2e-5)


@pytest.mark.parametrize("logit", [-100.0, -5.0, -0.5001, -0.4999, -0.01, 0.0, 1e-5, 0.3, 2.0, 100.0])
def test_the_density_of_a_continuous_bernoulli_integrates_to_one_with_the_mean_it_says(logit):
    nodes, weights = reference.NODES.astype(np.float64) * 0.5 + 0.5, 0.5 * reference.WEIGHTS
    logits, value = tf.constant([[logit]], tf.float32), tf.constant(nodes[:, None], tf.float32)
    density = np.exp(ContinuousBernoulli.log_prob(logits, value).numpy().astype(np.float64))
    assert abs(weights @ density - 1.0) < 2e-5  # nodes and exponents of up to 100 rounded to float32
    assert abs(weights @ (density * nodes) - float(ContinuousBernoulli.mean(logits)[0, 0])) < 2e-5


@pytest.mark.parametrize("df", [1.5, 3.0, 500.0])
def test_the_density_of_student_t_integrates_to_one(df):
    grid = np.sinh(np.linspace(-14.0, 14.0, 4001))  # reaches 6e5: beyond lies 1e-8 of the mass with 1.5 degrees
    q = StudentTParameters(tf.zeros([1]), tf.zeros([1]), tf.constant([df]))
    density = np.exp(StudentT.log_prob(q, tf.constant(grid[:, None], tf.float32)).numpy().astype(np.float64))
    assert abs(np.trapezoid(density, grid) - 1.0) < 2e-5


@pytest.mark.parametrize("logit", [-1e8, -100.0, -0.5, -0.499, -1e-3, 0.0, 1e-6, 0.4999, 0.5, 3.0, 100.0, 1e8])
def test_the_gradient_of_a_continuous_bernoulli_is_the_value_minus_the_mean(logit):
    logits = tf.constant([[logit]] * 3)
    value = tf.constant([[0.0], [0.3], [1.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_prob = ContinuousBernoulli.log_prob(logits, value)
    gradient = tape.gradient(log_prob, logits)  # an exponential family: x - E[x]
    np.testing.assert_allclose(gradient, value - ContinuousBernoulli.mean(logits), atol=5e-7)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_differences_of_the_reference(name):
    q, value, head = parameters(name, (4,)), values(name, (4,)), layer(name)
    flat = tf.nest.flatten(q)
    with tf.GradientTape() as tape:
        tape.watch(flat)
        total = tf.reduce_sum(head.log_prob(q, tf.constant(value)))
    gradients = tape.gradient(total, flat)
    exact = in_double(q)
    for number, gradient in enumerate(gradients):
        direction = np.random.default_rng(number).standard_normal(exact[number].shape)
        step, moved = 1e-5, []
        for sign in (1.0, -1.0):
            shifted = [part + sign * step * direction * (i == number) for i, part in enumerate(exact)]
            levels = {"levels": LEVELS[name]} if name in LEVELS else {}
            moved.append(getattr(reference, name.replace("-", "_"))(value.astype(np.float64), *shifted, **levels).sum())
        # float64 differences are good to 1e-9 here; float32 sums of a hundred terms to 1e-5 of the largest, up to 50
        assert float(tf.reduce_sum(gradient * direction)) == pytest.approx(
            (moved[0] - moved[1]) / (2 * step), rel=1e-4, abs=1e-3
        )


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_finite_at_the_ends(name):
    q, value, head = parameters(name, (500, 4), wide=True), values(name, (4,)), layer(name)
    flat = tf.nest.flatten(q)
    with tf.GradientTape() as tape:
        tape.watch(flat)
        total = tf.reduce_sum(head.log_prob(q, tf.constant(value)))
    assert all(np.isfinite(gradient).all() for gradient in (total, *tape.gradient(total, flat)))
    assert np.isfinite(head.mean(q)).all()
    assert np.isfinite(head.sample(q, seeds.key(0, seeds.Purpose.SAMPLE))).all()


def test_a_bin_whose_probability_underflows_keeps_its_log_and_a_gradient_towards_it():
    head = layer("discretized-logistic")
    loc = tf.constant([[[3.0] * 5] * D])
    q = LogisticMixture(tf.zeros([1, D, 5]), loc, tf.fill([1, D, 5], -5.0))
    with tf.GradientTape() as tape:
        tape.watch(loc)
        log_prob = head.log_prob(q._replace(loc=loc), tf.fill([1, D], 0.5))
    expected = expected_log_prob("discretized-logistic", q, np.full((1, D), 0.5)).sum()
    assert float(log_prob[0]) < -1000.0  # of a probability of 1e-560
    np.testing.assert_allclose(log_prob, [expected], rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(tape.gradient(log_prob, loc)), -D * np.exp(5.0), rtol=1e-5)


# ---------------------------------------------------------------------------------------------- means and samples


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_mean_and_are_observations(name):
    head, n = layer(name), 40_000
    q = parameters(name, ())
    many = tf.nest.map_structure(lambda v: tf.broadcast_to(v, [n, *v.shape]), q)
    if name == "student-t":  # two degrees and more, or the mean of samples has no standard error
        many = many._replace(df=tf.constant([3.0, 5.0, 30.0]))
    draws = head.sample(many, seeds.key(0, seeds.Purpose.SAMPLE))
    assert draws.shape == (n, D)
    assert head.in_support(draws)
    draws = draws.numpy().astype(np.float64)
    error = draws.std(axis=0) / np.sqrt(n)
    assert (np.abs(draws.mean(axis=0) - head.mean(many)[0]) < 4.0 * error + 1e-7).all()
    # Each dimension has draws of its own: correlations of independent draws have the standard error 1 / sqrt(n).
    assert (np.abs(np.corrcoef(draws.T)[np.triu_indices(D, 1)]) < 4.0 / np.sqrt(n)).all()
    np.testing.assert_array_equal(draws, head.sample(many, seeds.key(0, seeds.Purpose.SAMPLE)))
    assert (draws != head.sample(many, seeds.key(1, seeds.Purpose.SAMPLE)).numpy()).any()


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_distributed_as_the_density_says(name):
    """Shares of the samples below some values, against the CDF by sums or SciPy."""
    head, n = layer(name), 40_000
    q = parameters(name, (), seed=3)
    many = tf.nest.map_structure(lambda v: tf.broadcast_to(v, [n, *v.shape]), q)
    if name == "student-t":
        many = many._replace(df=q.df)
    draws = head.sample(many, seeds.key(2, seeds.Purpose.SAMPLE)).numpy()
    if name in LEVELS:
        p = np.exp(head.level_log_probs(q).numpy())  # [D, L]
        share = np.stack([(np.rint(draws * (LEVELS[name] - 1)) == i).mean(axis=0) for i in range(LEVELS[name])], axis=1)
    elif name == "student-t":
        loc, log_scale, df = in_double(q)
        points = np.array([-3.0, -1.0, 0.0, 0.5, 2.0, 20.0])
        p = reference.stats.t.cdf(points, df[:, None])  # [D, points]
        share = np.mean(((draws - loc) / np.exp(log_scale))[:, :, None] <= points, axis=0)
    else:
        points = np.array([0.1, 0.3, 0.5, 0.9])
        logits = in_double(q)[0][:, None]
        p = np.expm1(logits * points) / np.expm1(logits)
        share = np.mean(draws[:, :, None] <= points, axis=0)
    assert (np.abs(share - p) < 4.5 * np.sqrt(p * (1.0 - p) / n) + 1e-6).all()  # 4.5 standard errors, up to 51 of them


@pytest.mark.parametrize(("name", "points"), [("categorical", 7), ("discretized-logistic", 17)])
def test_the_mean_of_levels_is_the_sum_over_them(name, points):
    head = layer(name)
    for wide in (False, True):
        q = parameters(name, (20,), wide=wide)
        p = np.exp(head.level_log_probs(q).numpy().astype(np.float64))
        np.testing.assert_allclose(head.mean(q), p @ (np.arange(points) / (points - 1)), atol=3e-5)


@pytest.mark.parametrize("logit", [-100.0, 0.0, 1e-7, 1e-5, -1e-3, 100.0])
def test_samples_of_a_continuous_bernoulli_are_right_near_one_half_and_at_the_ends(logit):
    n = 20_000
    draws = ContinuousBernoulli.sample(tf.fill([n, 1], logit), seeds.key(5, seeds.Purpose.SAMPLE)).numpy()
    mean = float(ContinuousBernoulli.mean(tf.constant(logit)))
    spread = 1.0 / np.sqrt(12.0) if abs(logit) < 1 else 0.01  # of a uniform, or an exponential of rate 100
    assert abs(draws.std() - spread) < 0.03 * spread  # 4 standard errors of an exponential's deviation
    assert abs(draws.mean() - mean) < 4.0 * spread / np.sqrt(n)


# ---------------------------------------------------------------------------------------------- the layer


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_starts_at_the_mean_of_the_data(name):
    mean = np.array([0.2, 0.5, 0.65])
    head = layer(name, mean=mean)
    start = head.mean(head(tf.zeros([1, FEATURES])))[0]
    # The tails of the logistics are cut at the ends of the levels, which moves a mean off the middle.
    np.testing.assert_allclose(start, mean, atol=0.03 if name == "discretized-logistic" else 1e-5)
    without = layer(name)
    middle = 0.0 if name == "student-t" else 0.5
    np.testing.assert_allclose(without.mean(without(tf.zeros([1, FEATURES])))[0], [middle] * D, atol=1e-6)


@pytest.mark.parametrize("name", ["categorical", "continuous-bernoulli"])
def test_a_pixel_that_is_always_0_or_1_starts_near_it(name):
    head = layer(name, mean=[0.0, 1.0, 0.5])
    np.testing.assert_allclose(head.mean(head(tf.zeros([1, FEATURES])))[0], [0.01, 0.99, 0.5], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_of_features_is_that_of_their_parameters_for_any_leading_axes(name):
    head, value = layer(name), tf.constant(values(name, (4,)))
    features = tf.random.stateless_normal([6, 4, FEATURES], [0, 1])
    log_prob = head.log_prob_of_features(features, value)
    assert log_prob.shape == (6, 4)
    for sample in range(6):  # products of another shape are added up in another order
        np.testing.assert_allclose(head.log_prob(head(features[sample]), value), log_prob[sample], **FLOAT32)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_float32_from_features_of_16_bits(name):
    head = layer(name)
    q = tf.nest.flatten(head(tf.ones([2, FEATURES], tf.bfloat16)))
    assert {part.dtype for part in q} == {tf.float32}


def test_degrees_of_freedom_start_at_10_and_stay_above_1():
    head = layer("student-t")
    np.testing.assert_allclose(head(tf.zeros([1, FEATURES])).df, [10.0] * D, rtol=1e-6)
    for raw, df in ((-1e6, 1.0 + np.exp(-7.0)), (1e6, 1.0 + np.exp(7.0))):
        head.raw_df.assign([raw] * D)
        np.testing.assert_allclose(head(tf.zeros([1, FEATURES])).df, [df] * D, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_observed_is_not_in_the_support(name):
    head = layer(name)
    good = values(name, (4,))
    assert head.in_support(tf.constant(good))
    bad = [float("nan"), float("inf")]
    bad += [] if name == "student-t" else [-0.01, 1.01]
    bad += [0.495] if name in LEVELS else []
    for value in bad:
        assert not head.in_support(tf.constant(np.where(np.arange(D) == 1, value, good), tf.float32))


@pytest.mark.parametrize("levels", [2, 17, 50, 100, 256, 4096])
def test_every_level_is_in_the_support_and_keeps_its_number(levels):
    head = Categorical(1, seeds.initializer_seeds(0), levels=levels)
    grid = (np.arange(levels) / (levels - 1)).astype(np.float32)
    assert head.in_support(tf.constant(grid))
    np.testing.assert_array_equal(head.level(tf.constant(grid)), np.arange(levels))
    np.testing.assert_allclose(head.value(tf.range(levels)), grid, rtol=1e-7)


@pytest.mark.parametrize("levels", [1, 0, 2.5, "many"])
def test_a_number_of_levels_that_is_none_is_refused(levels):
    with pytest.raises(InputError, match="levels must be"):
        DiscretizedLogistic(D, seeds.initializer_seeds(0), levels=levels)
