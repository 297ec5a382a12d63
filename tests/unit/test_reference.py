"""The reference is tested too: against SciPy, against numerical integration and against hand-worked numbers."""

import itertools

import numpy as np
import pytest
import reference
import scipy.integrate
import scipy.special
import scipy.stats

# Both sides are float64 sums of at most a few hundred terms.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def linear(rng, inputs, outputs, size=0.6):
    return rng.normal(0.0, size, (inputs, outputs)), rng.normal(0.0, size, outputs)


def gaussian(rng, inputs, outputs, hidden=(4, 3)):
    sizes = [inputs, *hidden]
    layers = [linear(rng, n, m) for n, m in itertools.pairwise(sizes)]
    return {"hidden": layers, "loc": linear(rng, sizes[-1], outputs), "log_scale": linear(rng, sizes[-1], outputs)}


def bernoulli(rng, inputs, outputs):
    stage = gaussian(rng, inputs, outputs)
    return {"hidden": stage["hidden"], "logits": stage["loc"]}


def constant_scale(kernel, bias, scale):
    """A stage N(h W + b, scale^2): no hidden layer, a log scale that does not depend on h, undone bound."""
    raw = 7.0 * np.arctanh(np.log(scale) / 7.0)
    return {"hidden": [], "loc": (kernel, bias), "log_scale": (np.zeros_like(kernel), np.zeros_like(bias) + raw)}


def one_layer_model(rng, h_size=3, x_size=5):
    return reference.LinearGaussian(
        rng.normal(size=(x_size, h_size)), rng.normal(size=x_size), rng.uniform(0.3, 2.0, x_size)
    )


def two_layer_model(rng, sizes=(2, 3, 5)):
    top, middle, bottom = sizes
    return reference.TwoLayerLinearGaussian(
        a1=rng.normal(size=(bottom, middle)),
        b1=rng.normal(size=bottom),
        s1=rng.uniform(0.3, 2.0, bottom),
        a2=rng.normal(size=(middle, top)),
        b2=rng.normal(size=middle),
        s2=rng.uniform(0.3, 2.0, middle),
    )


# ---------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_log_mean_exp_agrees_with_scipy(rng, shift):
    log_w = rng.normal(0.0, 5.0, (50, 4)) + shift
    for axis in (0, 1):
        expected = scipy.special.logsumexp(log_w, axis=axis) - np.log(log_w.shape[axis])
        np.testing.assert_allclose(reference.log_mean_exp(log_w, axis), expected, **CLOSE)


def test_log_mean_exp_counts_a_weight_of_zero_and_survives_zeros_alone():
    log_w = np.array([[-np.inf, -np.inf], [3.0, -np.inf]])
    np.testing.assert_allclose(reference.log_mean_exp(log_w), [3.0 - np.log(2.0), -np.inf], **CLOSE)


def test_normalized_weights_agree_with_scipy(rng):
    log_w = rng.normal(-1e4, 5.0, (50, 4))
    log_w[3, 1] = -np.inf
    np.testing.assert_allclose(reference.normalized_weights(log_w), scipy.special.softmax(log_w, axis=0), **CLOSE)


def test_the_bounds_of_one_sample_are_its_log_weight(rng):
    log_w = rng.normal(size=(1, 6))
    np.testing.assert_allclose(reference.elbo(log_w), log_w[0], **CLOSE)
    np.testing.assert_allclose(reference.iwae(log_w), log_w[0], **CLOSE)


def test_grouped_bound_takes_consecutive_groups_and_leaves_out_the_rest(rng):
    log_w = rng.normal(0.0, 3.0, (11, 2))
    groups = np.exp(log_w[:9]).reshape(3, 3, 2)  # [group, sample, B]
    np.testing.assert_allclose(reference.grouped_bound(log_w, 3), np.log(groups.mean(axis=1)).mean(axis=0), **CLOSE)


def test_grouped_bound_ends_at_the_elbo_and_at_iwae_and_rises_between(rng):
    log_w = rng.normal(0.0, 3.0, (12, 5))
    bounds = [reference.grouped_bound(log_w, k) for k in (1, 2, 4, 12)]  # each a whole number of the groups before
    np.testing.assert_allclose(bounds[0], reference.elbo(log_w), **CLOSE)
    np.testing.assert_allclose(bounds[-1], reference.iwae(log_w), **CLOSE)
    assert (np.diff(bounds, axis=0) >= 0.0).all()


def test_grouped_bound_refuses_fewer_samples_than_one_group():
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        reference.grouped_bound(np.zeros((3, 2)), 4)


# ---------------------------------------------------------------------------------------------- gradient weights


@pytest.mark.parametrize(("name", "bound"), [("elbo", reference.elbo), ("iwae", reference.iwae)])
def test_elbo_and_iwae_rows_are_the_derivative_of_their_bound(rng, name, bound):
    log_w, step = rng.normal(size=(4, 3)), 1e-6
    generative, path, score = reference.gradient_weights(name, log_w)
    for i in range(4):
        moved = np.zeros_like(log_w)
        moved[i] = step
        derivative = (bound(log_w + moved) - bound(log_w - moved)) / (2.0 * step)
        np.testing.assert_allclose(generative[i], derivative, atol=1e-8)  # rounding 1e-16 / step, and step^2
    np.testing.assert_array_equal(path, generative)
    np.testing.assert_array_equal(score, -generative)


def test_stl_and_dreg_rows_of_weights_one_to_three():
    log_w = np.log([[1.0], [3.0]]) - 500.0
    np.testing.assert_allclose(reference.gradient_weights("stl", log_w)[1], [[0.25], [0.75]], **CLOSE)
    np.testing.assert_allclose(reference.gradient_weights("dreg", log_w)[1], [[0.0625], [0.5625]], **CLOSE)
    for name in ("stl", "dreg"):
        generative, _, score = reference.gradient_weights(name, log_w)
        np.testing.assert_allclose(generative, [[0.25], [0.75]], **CLOSE)
        np.testing.assert_array_equal(score, np.zeros((2, 1)))


def expected_gradient(name, mu, sigma):
    """E of L_2 and of its gradient by mu and log sigma under the rows of `name`, on a 100 x 100 Gauss-Hermite grid.

    p(h) p(x | h) = N(h; 0, 1) N(0.8; h, 0.7^2), q(h) = N(h; mu, sigma^2), h = mu + sigma e.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    e = np.stack(np.meshgrid(nodes, nodes)).reshape(2, -1)  # [k, grid]
    mass = np.outer(weights, weights).reshape(-1) / (2.0 * np.pi)  # [grid]
    h = mu + sigma * e
    log_w = scipy.stats.norm.logpdf(h) + scipy.stats.norm.logpdf(0.8, h, 0.7) - scipy.stats.norm.logpdf(h, mu, sigma)
    by_h = -h + (0.8 - h) / 0.7**2 + (h - mu) / sigma**2  # d log_w / d h
    _, path, score = reference.gradient_weights(name, log_w)
    by_mu = path * by_h + score * (h - mu) / sigma**2
    by_log_sigma = path * by_h * sigma * e + score * (e**2 - 1.0)
    return [np.sum(mass * value) for value in (reference.iwae(log_w), by_mu.sum(axis=0), by_log_sigma.sum(axis=0))]


def test_iwae_and_dreg_rows_have_the_gradient_of_the_expected_bound_as_their_mean():
    mu, sigma, step = 0.2, 0.55, 1e-4
    above, below = expected_gradient("iwae", mu + step, sigma), expected_gradient("iwae", mu - step, sigma)
    by_mu = (above[0] - below[0]) / (2.0 * step)
    wider = expected_gradient("iwae", mu, sigma * np.exp(step))
    tighter = expected_gradient("iwae", mu, sigma * np.exp(-step))
    by_log_sigma = (wider[0] - tighter[0]) / (2.0 * step)
    for name in ("iwae", "dreg"):
        # The central difference is off by step^2 times a third derivative of order 1.
        np.testing.assert_allclose(expected_gradient(name, mu, sigma)[1:], [by_mu, by_log_sigma], atol=1e-6)


def test_stl_has_another_mean_than_the_bounds_gradient_for_two_samples():
    stl, iwae = (np.array(expected_gradient(name, 0.2, 0.55)[1:]) for name in ("stl", "iwae"))
    assert np.abs(stl - iwae).min() > 1e-2


def two_layer_gradient(m1, frozen):
    """E of L_2 and of the dreg gradient by m1 on a grid of 24^4 points; all layers and x are single numbers.

    p: h2 ~ N(0, 1), h1 ~ N(0.8 h2, 0.6^2), x ~ N(h1, 0.5^2), x = 0.8.
    q: h1 ~ N(m1, 0.5^2), h2 ~ N(h1 / 2 + 0.1, 0.7^2).
    With `frozen`, the mean of q(h2 | h1) is taken for a constant in log q, as a stop_gradient on it would.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    e = np.stack(np.meshgrid(*[nodes] * 4)).reshape(2, 2, -1)  # [layer, k, grid]
    mass = np.prod(np.meshgrid(*[weights] * 4), axis=0).reshape(-1) / (2.0 * np.pi) ** 2
    h1 = m1 + 0.5 * e[0]
    h2 = h1 / 2 + 0.1 + 0.7 * e[1]
    normal = scipy.stats.norm.logpdf
    log_p = normal(h2) + normal(h1, 0.8 * h2, 0.6) + normal(0.8, h1, 0.5)
    log_w = log_p - normal(h1, m1, 0.5) - normal(h2, h1 / 2 + 0.1, 0.7)  # [k, grid]
    by_mean2 = e[1] / 0.7  # d log q(h2 | h1) / d its mean
    by_h2 = -h2 + 0.8 * (h1 - 0.8 * h2) / 0.6**2 + by_mean2
    by_h1 = -(h1 - 0.8 * h2) / 0.6**2 + (0.8 - h1) / 0.5**2 + e[0] / 0.5 - (0.0 if frozen else by_mean2 / 2)
    _, path, _ = reference.gradient_weights("dreg", log_w)
    return np.sum(mass * reference.iwae(log_w)), np.sum(mass * path * (by_h1 + by_h2 / 2))


def test_dreg_needs_the_path_through_the_lower_layer_into_log_q_of_the_upper():
    step = 1e-3
    above, below = two_layer_gradient(0.3 + step, False)[0], two_layer_gradient(0.3 - step, False)[0]
    derivative = (above - below) / (2.0 * step)
    np.testing.assert_allclose(two_layer_gradient(0.3, False)[1], derivative, atol=1e-4)  # the grid's error
    assert derivative == pytest.approx(0.895, abs=5e-4)
    assert two_layer_gradient(0.3, True)[1] == pytest.approx(0.912, abs=5e-4)


# ---------------------------------------------------------------------------------------------- weight statistics


def test_effective_sample_size_and_standard_error_of_weights_one_and_three():
    log_w = np.log([[1.0], [3.0]]) - 500.0
    np.testing.assert_allclose(reference.effective_sample_size(log_w), [16.0 / 10.0], **CLOSE)
    np.testing.assert_allclose(reference.standard_error(log_w), [0.5], **CLOSE)  # s = sqrt(2), k = 2, mean 2
    np.testing.assert_allclose(reference.effective_sample_size(np.zeros((7, 1))), [7.0], **CLOSE)


def test_standard_error_agrees_with_scipy_and_does_not_depend_on_the_unit_of_the_weights(rng):
    w = rng.gamma(2.0, size=(50, 4))
    expected = scipy.stats.sem(w) / w.mean(axis=0)
    for shift in (0.0, -1e4):
        # At 1e4 a float64 log-weight rounds to 2e-12.
        np.testing.assert_allclose(reference.standard_error(np.log(w) + shift), expected, rtol=1e-10)


def test_the_tail_is_a_fifth_of_the_weights_until_three_roots_are_less():
    lengths = {1: 1, 20: 4, 21: 5, 25: 5, 26: 6, 224: 45, 225: 45, 226: 46, 5000: 213, 50_000: 671}
    assert {num_samples: reference.tail_length(num_samples) for num_samples in lengths} == lengths


def test_excesses_are_over_the_largest_weight_outside_the_tail():
    w = np.arange(1.0, 31.0)  # 6 of 30 are the tail
    np.testing.assert_allclose(reference.tail_excesses(np.log(w)) * 30.0, np.arange(1.0, 7.0), rtol=1e-13)


@pytest.mark.parametrize("theta", [-40.0, -1.0, -1e-3, 1e-3, 0.9])
def test_the_likelihood_of_excesses_is_scipys_and_largest_at_its_shape(rng, theta):
    x = rng.random(30)
    value, k = reference.generalized_pareto_log_likelihood(x, theta)
    expected = [
        scipy.stats.genpareto.logpdf(x, -shape, scale=shape / theta).sum() for shape in (k, 0.999 * k, 1.001 * k)
    ]
    # The form in theta loses the digits of theta x in log(1 - theta x) / k: 1e-16 / 1e-3, times 30.
    np.testing.assert_allclose(value, expected[0], atol=1e-10)
    assert expected[0] > max(expected[1:])


@pytest.mark.parametrize("shape", [-0.3, 0.2, 1.0])
def test_the_shape_is_that_of_largest_likelihood_for_many_excesses(rng, shape):
    x = np.sort(scipy.stats.genpareto.rvs(shape, size=20_000, random_state=rng))
    expected = scipy.stats.genpareto.fit(x, floc=0.0)[0]
    # A posterior mean and the place of the maximum differ by order 1 / n, here 5e-5, times a factor of order 1.
    np.testing.assert_allclose(reference.generalized_pareto_shape(x), expected, atol=1e-3)


# The k-hat of ArviZ 0.23.4 (`psislw`) for S log-weights at u = 1 / 2S, 3 / 2S ...
ARVIZ = {
    "-1.3 log u": {21: 0.7058792750273912, 100: 0.9497349670222742, 5000: 1.2485394233282803},
    "2 u": {21: 0.1863769729319711, 100: -0.31684968871602176, 5000: -0.8826351354300989},
    "300 u^2": {21: 16.57431030501142, 100: 22.13907224799482, 5000: 7.628710099291837},
}


@pytest.mark.parametrize("num_samples", [21, 100, 5000])
def test_pareto_shape_agrees_with_arviz(num_samples):
    u = (np.arange(num_samples) + 0.5) / num_samples
    log_w = np.stack([-1.3 * np.log(u), 2.0 * u, 300.0 * u**2], axis=1)
    expected = [values[num_samples] for values in ARVIZ.values()]
    np.testing.assert_allclose(reference.pareto_shape(log_w), expected, **CLOSE)


def test_pareto_shape_is_infinite_without_five_weights_that_stand_out(rng):
    log_w = rng.normal(size=(100, 4))
    log_w[4:, 0] = -1e3  # all weight on four samples
    log_w[:, 1] = -5.0
    log_w[:5, 2], log_w[5:, 2] = 0.0, -np.inf  # five equal ones are still more than a cutoff of nothing
    shape = reference.pareto_shape(log_w)
    assert shape[:2].tolist() == [np.inf, -np.inf]
    assert np.isfinite(shape[2:]).all()
    assert reference.pareto_shape(log_w[:20]).tolist() == [np.inf] * 4


# ---------------------------------------------------------------------------------------------- densities


def test_gaussian_log_prob_agrees_with_scipy(rng):
    value, loc, log_scale = rng.normal(size=(7, 4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    expected = scipy.stats.norm.logpdf(value, loc, np.exp(log_scale)).sum(axis=-1)
    np.testing.assert_allclose(reference.gaussian_log_prob(value, loc, log_scale), expected, **CLOSE)


def test_bernoulli_log_prob_agrees_with_scipy(rng):
    logits, x = rng.normal(0.0, 3.0, (7, 4, 5)), rng.integers(0, 2, (4, 5))
    expected = scipy.stats.bernoulli.logpmf(x, scipy.special.expit(logits)).sum(axis=-1)
    np.testing.assert_allclose(reference.bernoulli_log_prob(x, logits), expected, **CLOSE)


def test_bernoulli_log_prob_is_exact_for_logits_of_a_thousand():
    logits = np.array([[1000.0], [1000.0], [-1000.0], [-1000.0]])
    np.testing.assert_array_equal(
        reference.bernoulli_log_prob(np.array([[1], [0], [1], [0]]), logits), [0, -1000, -1000, 0]
    )


def test_gaussian_kl_agrees_with_its_integral():
    loc, log_scale = np.array([0.4, -1.3]), np.array([-0.7, 0.5])

    def integrand(h, m, s):
        q = scipy.stats.norm.pdf(h, m, s)
        return q * (scipy.stats.norm.logpdf(h, m, s) - scipy.stats.norm.logpdf(h))

    parts = [
        scipy.integrate.quad(integrand, m - 12.0 * s, m + 12.0 * s, args=(m, s), epsabs=1e-12)[0]
        for m, s in zip(loc, np.exp(log_scale), strict=True)
    ]
    np.testing.assert_allclose(reference.gaussian_kl_to_standard(loc, log_scale), sum(parts), atol=1e-9)


# ---------------------------------------------------------------------------------------------- networks


def test_mlp_of_one_unit_is_a_tanh_of_a_line_and_of_none_its_input():
    x = np.array([[0.5], [-2.0]])
    weights = [(np.array([[2.0]]), np.array([1.0])), (np.array([[-1.0]]), np.array([0.5]))]
    np.testing.assert_allclose(reference.mlp(x, weights), np.tanh(0.5 - np.tanh(2.0 * x + 1.0)), **CLOSE)
    np.testing.assert_array_equal(reference.mlp(x, []), x)


def test_the_bound_on_log_scales_is_the_identity_near_zero_and_never_passed():
    np.testing.assert_allclose(reference.bounded_log_scale(np.array([1e-4, -1e-4])), [1e-4, -1e-4], rtol=1e-9)
    assert reference.bounded_log_scale(np.array([-1e6, 1e6]), bound=3.0).tolist() == [-3.0, 3.0]


def by_hand(x, noise, inference, generative, likelihood):
    """log_w of one x [D] and one sample, noise a list of [H_l], one density after another with SciPy."""

    def parameters(y, stage):
        for kernel, bias in stage["hidden"]:
            y = np.tanh(y @ kernel + bias)
        raw = y @ stage["log_scale"][0] + stage["log_scale"][1]
        return y @ stage["loc"][0] + stage["loc"][1], np.exp(7.0 * np.tanh(raw / 7.0))

    log_w, h = 0.0, [x]
    for stage, e in zip(inference, noise, strict=True):
        loc, scale = parameters(h[-1], stage)
        h.append(loc + scale * e)
        log_w -= scipy.stats.norm.logpdf(h[-1], loc, scale).sum()
    log_w += scipy.stats.norm.logpdf(h[-1]).sum()
    for level, stage in zip(range(len(noise) - 1, 0, -1), generative, strict=False):
        log_w += scipy.stats.norm.logpdf(h[level], *parameters(h[level + 1], stage)).sum()
    last = generative[-1]
    if likelihood == "gaussian":
        return log_w + scipy.stats.norm.logpdf(x, *parameters(h[1], last)).sum()
    y = h[1]
    for kernel, bias in last["hidden"]:
        y = np.tanh(y @ kernel + bias)
    p = scipy.special.expit(y @ last["logits"][0] + last["logits"][1])
    return log_w + np.where(x == 1, np.log(p), np.log1p(-p)).sum()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("sizes", [(2,), (3, 2), (4, 3, 2)])
def test_iwae_log_weights_agree_with_one_density_after_another(rng, sizes, likelihood):
    x = rng.integers(0, 2, (3, 6)).astype(float)
    inference = [gaussian(rng, n, m) for n, m in itertools.pairwise([6, *sizes])]
    generative = [gaussian(rng, n, m) for n, m in itertools.pairwise(sizes[::-1])]
    generative.append((bernoulli if likelihood == "bernoulli" else gaussian)(rng, sizes[0], 6))
    noise = [rng.normal(size=(5, 3, size)) for size in sizes]
    log_w = reference.iwae_log_weights(x, noise, inference, generative, likelihood)
    assert log_w.shape == (5, 3)
    for i, b in np.ndindex(5, 3):
        expected = by_hand(x[b], [e[i, b] for e in noise], inference, generative, likelihood)
        np.testing.assert_allclose(log_w[i, b], expected, **CLOSE)


@pytest.mark.parametrize("layers", [1, 2])
def test_probabilities_of_all_binary_images_sum_to_one(rng, layers):
    x = np.array(list(itertools.product([0.0, 1.0], repeat=3)))  # [8, 3]
    inference = [gaussian(rng, n, m) for n, m in itertools.pairwise([3] + [1] * layers)]
    for stage in inference:  # q is wider than the posterior, so that w q is far below 1e-9 at the ends of the grid
        stage["log_scale"] = (0.1 * stage["log_scale"][0], np.array([0.4]))
    generative = [gaussian(rng, 1, 1) for _ in range(layers - 1)] + [bernoulli(rng, 1, 3)]
    nodes = np.linspace(-12.0, 12.0, 241)  # an even grid: the trapezoidal rule is exact for smooth densities
    noise = [grid.reshape(-1, 1, 1) for grid in np.meshgrid(*[nodes] * layers)]
    mass = np.prod([scipy.stats.norm.pdf(e) * 0.1 for e in noise], axis=0)[..., 0]  # [grid, 1]
    w = np.exp(reference.iwae_log_weights(x, noise, inference, generative, "bernoulli"))  # [grid, 8]
    # p(x) = E_q[w]; what is left is the error of the grid.
    np.testing.assert_allclose(np.sum(mass * w), 1.0, atol=1e-9)


def test_an_unknown_likelihood_is_refused(rng):
    with pytest.raises(ValueError, match="'bernoulli' or 'gaussian', got 'poisson'"):
        reference.log_likelihood_of_x(np.zeros((1, 2)), np.zeros((1, 1, 2)), bernoulli(rng, 2, 2), "poisson")


# ---------------------------------------------------------------------------------------------- exact models


def test_one_layer_exact_model_agrees_with_scipy_and_with_bayes_rule(rng):
    model = one_layer_model(rng)
    x, h = rng.normal(size=(4, 5)), rng.normal(size=(6, 4, 3))
    covariance = model.a @ model.a.T + np.diag(model.s**2)
    expected = scipy.stats.multivariate_normal(model.b, covariance).logpdf(x)
    np.testing.assert_allclose(model.log_prob(x), expected, **CLOSE)
    mean, covariance = model.posterior(x)
    log_posterior = np.array([reference.normal_log_prob(row, mean, covariance) for row in h])
    # p(x, h) = p(x) p(h | x) for every h.
    np.testing.assert_allclose(model.log_joint(x, h) - log_posterior, np.tile(model.log_prob(x), (6, 1)), rtol=1e-9)


def test_one_layer_exact_model_is_the_integral_of_its_joint(rng):
    model = one_layer_model(rng, h_size=1)
    x = rng.normal(size=(1, 5))
    total, _ = scipy.integrate.quad(lambda h: np.exp(model.log_joint(x, np.full((1, 1, 1), h)))[0, 0], -9.0, 9.0)
    np.testing.assert_allclose(model.log_prob(x)[0], np.log(total), atol=1e-6)


def test_two_layer_exact_model_agrees_with_scipy_and_with_bayes_rule(rng):
    model = two_layer_model(rng)
    x, h1, h2 = rng.normal(size=(4, 5)), rng.normal(size=(6, 4, 3)), rng.normal(size=(6, 4, 2))
    a = model.a1 @ model.a2
    covariance = a @ a.T + model.a1 @ np.diag(model.s2**2) @ model.a1.T + np.diag(model.s1**2)
    expected = scipy.stats.multivariate_normal(model.b1 + model.a1 @ model.b2, covariance).logpdf(x)
    np.testing.assert_allclose(model.log_prob(x), expected, **CLOSE)
    mean, covariance = model.posterior_h1(x)
    for row1, row2, log_joint in zip(h1, h2, model.log_joint(x, h1, h2), strict=True):
        log_posterior = reference.normal_log_prob(row1, mean, covariance)
        log_posterior = log_posterior + reference.normal_log_prob(row2, *model.posterior_h2(row1))
        # p(x, h1, h2) = p(x) p(h1 | x) p(h2 | h1) for every h1 and h2.
        np.testing.assert_allclose(log_joint - log_posterior, model.log_prob(x), rtol=1e-9)


def test_the_exact_posterior_makes_every_weight_p_of_x_for_one_layer(rng):
    kernel, scale, bias = np.linalg.qr(rng.normal(size=(5, 3)))[0], 0.7, rng.normal(size=5)  # a diagonal posterior
    model = reference.LinearGaussian(1.5 * kernel, bias, np.full(5, scale))
    x, noise = rng.normal(size=(4, 5)), rng.normal(size=(6, 4, 3))
    _, covariance = model.posterior(x)
    gain = covariance @ model.a.T / scale**2  # [H, D]
    inference = [constant_scale(gain.T, -gain @ bias, np.sqrt(np.diag(covariance)))]
    generative = [constant_scale(model.a.T, bias, scale)]
    log_w = reference.iwae_log_weights(x, [noise], inference, generative, "gaussian")
    np.testing.assert_allclose(log_w, np.tile(model.log_prob(x), (6, 1)), rtol=1e-10)


def test_the_exact_posterior_makes_every_weight_p_of_x_for_two_layers(rng):
    a1, a2 = 1.5 * np.linalg.qr(rng.normal(size=(5, 3)))[0], 0.8 * np.linalg.qr(rng.normal(size=(3, 3)))[0]
    model = reference.TwoLayerLinearGaussian(a1, rng.normal(size=5), np.full(5, 0.7), a2, np.ones(3), np.full(3, 0.4))
    x, noise = rng.normal(size=(4, 5)), [rng.normal(size=(6, 4, 3)) for _ in range(2)]
    offsets, covariance1 = model.posterior_h1(np.vstack([np.zeros(5), np.eye(5)]))  # an affine map, read off its values
    tops, covariance2 = model.posterior_h2(np.vstack([np.zeros(3), np.eye(3)]))
    inference = [
        constant_scale(offsets[1:] - offsets[0], offsets[0], np.sqrt(np.diag(covariance1))),
        constant_scale(tops[1:] - tops[0], tops[0], np.sqrt(np.diag(covariance2))),
    ]
    generative = [constant_scale(a2.T, model.b2, 0.4), constant_scale(a1.T, model.b1, 0.7)]
    log_w = reference.iwae_log_weights(x, noise, inference, generative, "gaussian")
    np.testing.assert_allclose(log_w, np.tile(model.log_prob(x), (6, 1)), rtol=1e-10)
