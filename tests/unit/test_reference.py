"""The reference formulas against SciPy, ArviZ, numerical integration and numbers worked by hand."""

import numpy as np
import pytest
import reference
import reference_objectives
import scipy.integrate
import scipy.special
import scipy.stats
from linear_gaussian_models import linear_gaussian
from small_models import reference_weights

CLOSE = {"rtol": 1e-11, "atol": 1e-11}  # float64 sums of at most a few hundred terms
LOG_1_3 = np.log([[1.0], [3.0]]) - 500.0  # weights one and three
SETTINGS = {"miwae": {"groups": 2}, "piwae": {"groups": 2}, "ciwae": {"beta": 0.4}, "vr-iwae": {"alpha": 0.5}}
SETTINGS |= {"jvi": {"order": 1}, "dreg-alpha": {"alpha": 0.25}, "tvo": {"points": 3}}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_log_mean_exp_and_weights_agree_with_scipy_also_for_weights_of_zero(rng):
    log_w = rng.normal(-1e4, 5.0, (50, 4))
    log_w[3, 1] = log_w[:, 2] = -np.inf
    expected = scipy.special.logsumexp(log_w, axis=0) - np.log(50)
    np.testing.assert_allclose(reference.log_mean_exp(log_w), expected, **CLOSE)
    np.testing.assert_allclose(reference.log_mean_exp(log_w.T, axis=1), expected, **CLOSE)
    some = log_w[:, [0, 1, 3]]
    np.testing.assert_allclose(reference.normalized_weights(some), scipy.special.softmax(some, axis=0), **CLOSE)


def test_the_grouped_bound_takes_consecutive_groups_and_leaves_out_the_rest(rng):
    log_w = rng.normal(0.0, 3.0, (11, 2))
    groups = np.exp(log_w[:9]).reshape(3, 3, 2)  # [group, sample, B]
    np.testing.assert_allclose(reference.grouped_bound(log_w, 3), np.log(groups.mean(axis=1)).mean(axis=0), **CLOSE)


@pytest.mark.parametrize(
    ("name", "value", "path", "score"),
    [
        ("elbo", np.log(3.0) / 2, [0.5, 0.5], [-0.5, -0.5]),
        ("iwae", np.log(2.0), [0.25, 0.75], [-0.25, -0.75]),
        ("miwae", np.log(3.0) / 2, [0.5, 0.5], [-0.5, -0.5]),
        ("piwae", np.log(2.0), [0.5, 0.5], [-0.5, -0.5]),
        ("ciwae", 0.2 * np.log(3.0) + 0.6 * np.log(2.0), [0.35, 0.65], [-0.35, -0.65]),
        ("vr-max", np.log(1.5), [0, 1], [0, -1]),
        ("jvi", 2.0 * np.log(2.0) - np.log(3.0) / 2, [0, 1], [0, -1]),
        ("stl", np.log(2.0), [0.25, 0.75], [0, 0]),
        ("dreg", np.log(2.0), [1 / 16, 9 / 16], [0, 0]),
        ("rws-dreg", np.log(2.0), [3 / 16, 3 / 16], [0, 0]),
        ("dreg-alpha", np.log(2.0), [3 / 32, 15 / 32], [0, 0]),
        ("rws", np.log(2.0), [0, 0], [0.25, 0.75]),
        ("vimco", np.log(2.0), [0, 0], [np.log(2 / 3) - 0.25, np.log(2.0) - 0.75]),
    ],
)
def test_value_and_rows_of_weights_one_and_three_are_those_worked_by_hand(name, value, path, score):
    settings = SETTINGS.get(name, {})
    np.testing.assert_allclose(reference_objectives.VALUES[name](LOG_1_3, **settings), [value - 500.0], **CLOSE)
    rows = np.stack(reference_objectives.ROWS[name](LOG_1_3, **settings))[1:, :, 0]
    np.testing.assert_allclose(rows, [path, score], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", reference_objectives.ROWS)
def test_the_generative_row_is_the_derivative_of_the_value(rng, name):
    log_w, step, settings = rng.normal(size=(4, 3)), 1e-6, SETTINGS.get(name, {})
    row = reference_objectives.ROWS[name](log_w, **settings)[0]
    for i in range(4):
        moved = step * (np.arange(4) == i)[:, None]
        above, below = (reference_objectives.VALUES[name](log_w + sign * moved, **settings) for sign in (1, -1))
        np.testing.assert_allclose(row[i], (above - below) / (2.0 * step), atol=1e-8)  # rounding 1e-16 / step


def test_effective_sample_size_and_standard_error_agree_with_numbers_by_hand_and_with_scipy(rng):
    np.testing.assert_allclose(reference.effective_sample_size(LOG_1_3), [16.0 / 10.0], **CLOSE)
    np.testing.assert_allclose(reference.standard_error(LOG_1_3), [0.5], **CLOSE)  # s = sqrt(2), k = 2, mean 2
    w = rng.gamma(2.0, size=(50, 4))
    np.testing.assert_allclose(reference.standard_error(np.log(w)), scipy.stats.sem(w) / w.mean(axis=0), rtol=1e-10)


# The k-hat of ArviZ 0.23.4 (`psislw`) for S log-weights -1.3 log u, 2 u and 300 u^2 at u = 1 / 2S, 3 / 2S ...
ARVIZ = {
    21: [0.7058792750273912, 0.1863769729319711, 16.57431030501142],
    100: [0.9497349670222742, -0.31684968871602176, 22.13907224799482],
    5000: [1.2485394233282803, -0.8826351354300989, 7.628710099291837],
}


def test_the_tail_and_its_shape_agree_with_arviz_and_with_numbers_by_hand(rng):
    lengths = {1: 1, 20: 4, 21: 5, 25: 5, 26: 6, 224: 45, 225: 45, 226: 46, 5000: 213, 50_000: 671}
    assert {num_samples: reference.tail_length(num_samples) for num_samples in lengths} == lengths
    for num_samples, expected in ARVIZ.items():
        u = (np.arange(num_samples) + 0.5) / num_samples
        log_w = np.stack([-1.3 * np.log(u), 2.0 * u, 300.0 * u**2], axis=1)
        np.testing.assert_allclose(reference.pareto_shape(log_w), expected, **CLOSE)
    log_w = rng.normal(size=(100, 3))
    log_w[4:, 0] = -1e3  # all weight on four samples
    log_w[:, 1] = -5.0
    assert reference.pareto_shape(log_w)[:2].tolist() == [np.inf, -np.inf]
    assert reference.pareto_shape(log_w[:20]).tolist() == [np.inf] * 3


def test_densities_agree_with_scipy_and_the_divergence_with_its_integral(rng):
    value, loc, log_scale = rng.normal(size=(7, 4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    expected = scipy.stats.norm.logpdf(value, loc, np.exp(log_scale)).sum(axis=-1)
    np.testing.assert_allclose(reference.gaussian_log_prob(value, loc, log_scale), expected, **CLOSE)
    logits, x = rng.normal(0.0, 3.0, (7, 4, 5)), rng.integers(0, 2, (4, 5))
    expected = scipy.stats.bernoulli.logpmf(x, scipy.special.expit(logits)).sum(axis=-1)
    np.testing.assert_allclose(reference.bernoulli_log_prob(x, logits), expected, **CLOSE)
    extreme = reference.bernoulli_log_prob(np.array([[1], [0], [0]]), np.array([[1000.0], [1000.0], [-1000.0]]))
    np.testing.assert_array_equal(extreme, [0, -1000, 0])
    q = scipy.stats.norm(0.4, 0.6)
    kl = scipy.integrate.quad(lambda h: q.pdf(h) * (q.logpdf(h) - scipy.stats.norm.logpdf(h)), -8, 8, epsabs=1e-12)[0]
    np.testing.assert_allclose(reference.gaussian_kl_to_standard([0.4], np.log([0.6])), kl, atol=1e-9)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_exact_models_agree_with_scipy_with_bayes_rule_and_with_log_weights_at_the_posterior(rng, layers):
    model, exact = linear_gaussian(layers)
    x, h1, h2 = rng.normal(size=(4, 6)), rng.normal(size=(5, 4, 3)), rng.normal(size=(5, 4, 3))
    if layers == 1:
        a, mean, noise = exact.a, exact.b, np.diag(exact.s**2)
        log_joint, first = exact.log_joint(x, h1), exact.posterior(x)
    else:
        a, mean = exact.a1 @ exact.a2, exact.b1 + exact.a1 @ exact.b2
        noise = exact.a1 @ np.diag(exact.s2**2) @ exact.a1.T + np.diag(exact.s1**2)
        log_joint, first = exact.log_joint(x, h1, h2), exact.posterior_h1(x)
    log_p = exact.log_prob(x)
    np.testing.assert_allclose(log_p, scipy.stats.multivariate_normal(mean, a @ a.T + noise).logpdf(x), **CLOSE)
    for i in range(5):  # p(x, h1, h2) = p(x) p(h1 | x) p(h2 | h1) for every h1 and h2
        log_posterior = reference.normal_log_prob(h1[i], *first)
        if layers == 2:
            log_posterior = log_posterior + reference.normal_log_prob(h2[i], *exact.posterior_h2(h1[i]))
        np.testing.assert_allclose(log_joint[i] - log_posterior, log_p, rtol=1e-9)
    log_w = reference.iwae_log_weights(x, [h1, h2][:layers], **reference_weights(model))
    np.testing.assert_allclose(log_w, np.tile(log_p, (5, 1)), rtol=1e-5)  # the model's weights are float32
