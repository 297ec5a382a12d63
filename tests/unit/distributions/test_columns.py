"""Rows of columns of different kinds: densities in the units of the data, missing values, messages."""

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf
from scipy import special, stats
from user_networks import Joint

from iwae_tf import IWAE, declarations, evaluation
from iwae_tf.distributions.counts import NegativeBinomial
from iwae_tf.errors import InputError
from iwae_tf.layers import ColumnModel
from iwae_tf.objectives import IWAEBound

COLUMNS = (
    ColumnModel("height", "student-t", 50.0, 10.0),
    ColumnModel("colour", "categorical", levels=3),
    ColumnModel("weight", "gaussian", 1150.0, 30.0),
    ColumnModel("smokes", "bernoulli", 0.5, 0.5),
    ColumnModel("visits", "negative-binomial", 8.0, 4.0),
    ColumnModel("age", "gaussian", 40.0, 20.0),
)
X = np.float32([[51, 2, 1160, 1, 3, 20], [47, 0, 1100, 0, 0, 61], [75, 1, 1300, 1, 30, 33]])


def mixed_model(missing=False, columns=COLUMNS):
    model = IWAE(len(columns), (3,), ((8,),), likelihood="columns", columns=columns, missing=missing, seed=1)
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.normal(0, 0.3, w.shape) if w.dtype.kind == "f" else w for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def model():
    return mixed_model()


@pytest.fixture(scope="module")
def holed():
    return mixed_model(missing=True)


def test_a_data_frame_with_the_columns_in_another_order_is_refused(model):
    frame = pandas.DataFrame(X, columns=[column.name for column in COLUMNS])
    np.testing.assert_array_equal(model.log_likelihood(frame, 4), model.log_likelihood(X, 4))
    turned = frame[frame.columns[::-1]]
    for method in (lambda x: model.log_likelihood(x, 4), model.predict, evaluation.estimate_log_likelihood):
        arguments = (model, turned) if method is evaluation.estimate_log_likelihood else (turned,)
        with pytest.raises(InputError, match=r"x has the columns .*'age'.*, and the model takes them as .'height'"):
            method(*arguments)


def test_one_row_is_drawn_in_a_graph_as_eagerly():
    model = mixed_model(columns=(ColumnModel("a", "gaussian"), ColumnModel("b", "student-t", 5.0, 2.0), COLUMNS[1]))
    drawn = tf.function(lambda: model.sample(1, seed=3))()
    np.testing.assert_allclose(drawn, model.sample(1, seed=3), rtol=1e-6)
    many = model.sample(4000, seed=1).numpy()
    assert np.unique(many[:, 2]).tolist() == [0, 1, 2]
    assert abs(np.corrcoef(many[:, 0], many[:, 1])[0, 1]) < 0.9  # the groups have numbers of their own


def log_densities(model, x, h):
    """log p of every value, float64 [N, D], from the parameters by SciPy, in the units of the data."""
    stage = model.generative_network.likelihood_stage
    found = {}
    for group, parameters in zip(stage.head.groups, stage(h), strict=True):
        parts = [np.asarray(p, np.float64) for p in (parameters if isinstance(parameters, tuple) else (parameters,))]
        for place, number in enumerate(group.numbers):
            column, value = COLUMNS[number], np.asarray(x, np.float64)[:, number]
            one = [part[..., place] if part.ndim > 1 else part[place] for part in parts]
            if column.likelihood == "gaussian":
                loc, scale = column.loc + column.scale * one[0], column.scale * np.exp(one[1])
                found[number] = stats.norm.logpdf(value, loc, scale)
            elif column.likelihood == "student-t":
                loc, scale = column.loc + column.scale * one[0], column.scale * np.exp(one[1])
                found[number] = stats.t.logpdf(value, one[2], loc, scale)
            elif column.likelihood == "bernoulli":
                found[number] = stats.bernoulli.logpmf(value, special.expit(one[0]))
            elif column.likelihood == "negative-binomial":
                r, mean = np.exp(one[1]), np.exp(one[0])
                found[number] = stats.nbinom.logpmf(value, r, r / (r + mean))
            else:
                log_p = special.log_softmax(parts[0][:, place], axis=-1)
                found[number] = log_p[np.arange(len(x)), value.astype(int)]
    return np.stack([found[number] for number in range(len(COLUMNS))], axis=1)


def test_the_density_of_a_row_is_in_the_units_of_its_columns(model):
    h = (tf.random.stateless_normal([3, 3], [0, 1]),)
    expected = log_densities(model, X, h[0])
    np.testing.assert_allclose(model.likelihood(h).log_prob(X), expected.sum(axis=1), rtol=2e-5)
    np.testing.assert_allclose(model.generative_network.log_likelihood(X, h), expected.sum(axis=1), rtol=2e-5)


def test_a_category_near_its_number_is_that_category_everywhere(model, holed):
    x, h = X.copy(), tf.zeros([3, 3])
    x[:, 1] += [-0.004, 0.004, -0.004]
    for each in (model, holed):
        stage, network = each.generative_network.likelihood_stage, each.inference_network.stages[0]
        for of in (X, x):
            assert stage.head.in_support(of)
        np.testing.assert_array_equal(network.column_features(x), network.column_features(X))
        np.testing.assert_allclose(stage.log_prob(h[None], x), stage.log_prob(h[None], X), rtol=1e-6)
        np.testing.assert_allclose(each.likelihood((h,)).log_prob(x), stage.log_prob(h[None], X)[0], rtol=1e-5)
        np.testing.assert_array_equal(
            *(stage.head.log_prob_of_each(stage(h[None]), tf.constant(of))[..., 1] for of in (x, X))
        )


def test_a_category_of_unknown_probabilities_is_unknown(model):
    head = model.generative_network.likelihood_stage.head
    shares = np.array(head.expectations(model.generative_network.likelihood_stage(tf.zeros([2, 3]))))
    shares[1] = np.nan
    found = head.from_expectations(shares)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_a_likelihood_of_a_joint_vector_cannot_leave_values_out(monkeypatch):
    monkeypatch.setattr(declarations, "_registered", {k: dict(v) for k, v in declarations._registered.items()})
    declarations.declare("likelihood", "tests-joint", "a vector")(type("Joint", (Joint,), {}))  # it stays undeclared
    columns = (ColumnModel("a", "tests-joint"), ColumnModel("b", "tests-joint"))
    with pytest.raises(InputError, match=r"Joint is not that of independent values: .* tfd.Independent .* got Multi"):
        mixed_model(missing=True, columns=columns).log_likelihood(np.float32([[1.0, np.nan], [0.0, 0.0]]), 4)


def test_other_units_move_the_density_by_the_log_of_their_ratio(model):
    cm = [c._replace(loc=c.loc * 100, scale=c.scale * 100) if c.name == "height" else c for c in COLUMNS]
    other = mixed_model(columns=cm)
    other.set_weights(model.get_weights())
    x = X * np.float32([100, 1, 1, 1, 1, 1])
    noise = tf.random.stateless_normal([20, 3, 3], [7, 8])
    difference = other.log_weights_from_noise(x, noise) - model.log_weights_from_noise(X, noise)
    np.testing.assert_allclose(difference, np.full((20, 3), -np.log(100)), rtol=1e-4)


def test_a_missing_value_drops_out_of_the_sum(holed):
    h = (tf.random.stateless_normal([3, 3], [0, 2]),)
    each = log_densities(holed, X, h[0])
    x, holes = X.copy(), np.array([[0, 1, 0, 0, 1, 0], [1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
    x[holes] = np.nan
    expected = np.where(holes, 0.0, each).sum(axis=1)
    np.testing.assert_allclose(holed.generative_network.log_likelihood(x, h), expected, rtol=2e-5)


def test_the_networks_see_standardised_values_categories_and_the_mask(holed):
    x = X.copy()
    x[0, 0] = x[1, 1] = np.nan
    seen = holed.inference_network.stages[0].column_features(tf.constant(x)).numpy()
    assert seen.shape == (3, 5 + 3 + 6) == (3, holed.inference_network.stages[0].column_features.width)
    np.testing.assert_allclose(seen[0, :5], [0.0, 10 / 30, 1.0, -1.25, -1.0], rtol=1e-5)
    np.testing.assert_array_equal(seen[:, 5:8], [[0, 0, 1], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(seen[:, 8:], 1.0 - np.isnan(x))


@pytest.mark.parametrize("holes", [False, True])
def test_log_p_of_the_observed_values_is_the_integral_over_h(holes, model, holed):
    """The estimate against the mean of p(x | h) over draws of the prior, the same quantity without q."""
    which, x = (holed, np.where(np.arange(6) % 2, np.float32("nan"), X)) if holes else (model, X)
    prior = tf.random.stateless_normal([200_000, 1, 3], [3, 4])
    log_p = [which.generative_network.log_likelihood(x[i : i + 1], (prior,)).numpy()[:, 0] for i in range(2)]
    expected = [special.logsumexp(values) - np.log(len(values)) for values in np.float64(log_p)]
    found = evaluation.estimate_log_likelihood(which, x[:2], 5000)
    error = [
        np.sqrt(np.exp(special.logsumexp(2 * (v - e)) - 2 * np.log(len(v))))
        for v, e in zip(log_p, expected, strict=True)
    ]
    assert (np.abs(found.log_likelihood - expected) < 4 * (found.standard_error + error)).all()
    assert found.reliable.all()


@pytest.mark.parametrize("missing", [False, True])
def test_all_columns_may_be_categories(missing, tmp_path):
    columns = (ColumnModel("a", "categorical", levels=3), ColumnModel("b", "categorical", levels=4))
    model = mixed_model(missing, columns)
    x = np.float32([[0, 3], [2, 1], [np.nan if missing else 1, 0]])
    model.compile(objective=IWAEBound(5))
    model.fit(x, epochs=1, batch_size=3, verbose=0)
    every = np.float32([[a, b] for a in range(3) for b in range(4)])
    total = special.logsumexp(evaluation.estimate_log_likelihood(model, every, 2000).log_likelihood)
    assert total == pytest.approx(0.0, abs=0.02)  # of all possible rows
    assert np.isfinite(model.log_likelihood(x, 50)).all()
    assert {0.0, 1.0, 2.0} == set(model.sample(500).numpy()[:, 0])


def test_what_stands_in_for_a_missing_value_is_a_possible_one(monkeypatch):
    def positive(value):
        return tf.reduce_all(value > 0.0)

    monkeypatch.setattr(NegativeBinomial, "in_support", staticmethod(positive))
    model, x = mixed_model(missing=True), np.where(np.float32([0, 0, 0, 0, 1, 0]) > 0, np.float32("nan"), X)
    h = (tf.random.stateless_normal([3, 3], [0, 2]),)
    expected = np.delete(log_densities(model, X, h[0]), 4, axis=1).sum(axis=1)
    np.testing.assert_allclose(model.generative_network.log_likelihood(x, h), expected, rtol=2e-5)
    assert np.isfinite(model.log_likelihood(x, 50)).all()
    impossible = [column._replace(loc=-1.0) if column.name == "visits" else column for column in COLUMNS]
    with pytest.raises(InputError, match="column 'visits': its loc, -1, stands in for a missing value"):
        mixed_model(missing=True, columns=impossible)


def test_nan_of_any_bits_is_the_same_row(holed):
    x = X[:1].copy()
    x[0, 2] = np.nan
    other = x.copy()
    other.view(np.uint32)[0, 2] |= 0x80000001
    assert np.isnan(other[0, 2])
    assert x.tobytes() != other.tobytes()
    assert holed.log_likelihood(x, 50) == holed.log_likelihood(other, 50)


def test_training_raises_the_bound_and_the_saved_model_scores_the_same(holed, tmp_path):
    rng = np.random.default_rng(0)
    x = np.repeat(X, 40, axis=0) + rng.normal(0, 1, (120, 6)) * np.float32([5, 0, 10, 0, 0, 5])
    x = np.where(rng.random(x.shape) < 0.2, np.nan, x).astype(np.float32)
    model = mixed_model(missing=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), objective=IWAEBound(5))
    bounds = model.fit(x, epochs=8, batch_size=20, verbose=0).history["bound"]
    assert bounds[-1] > bounds[0] + 1.0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.log_likelihood(x[:5], 100), model.log_likelihood(x[:5], 100))
    assert loaded.columns == COLUMNS
    assert loaded.missing


def test_samples_and_means_are_in_the_units_of_the_columns(model):
    drawn = model.sample(20_000).numpy()
    latents = (tf.random.stateless_normal([20_000, 3], [5, 6]),)
    stage = model.generative_network.likelihood_stage
    means = stage.head.mean(stage(latents[0])).numpy()
    numbers = [0, 2, 3, 4, 5]  # the mean of a category is its most probable code
    spread = 5 * (drawn.std(0) + means.std(0)) / np.sqrt(20_000) + 1e-6
    assert (np.abs(drawn.mean(0) - means.mean(0)) < spread)[numbers].all()
    assert set(np.unique(drawn[:, 1])) == {0.0, 1.0, 2.0}
    assert set(np.unique(means[:, 1])) <= {0.0, 1.0, 2.0}
    assert set(np.unique(drawn[:, 3])) == {0.0, 1.0}
    assert (drawn[:, 4] == np.round(drawn[:, 4])).all()
    assert drawn[:, 4].min() == 0


@pytest.mark.parametrize(
    ("row", "column", "value", "words"),
    [
        (1, 1, 3, "got 3 in column 'colour' of row 1 (expected a category 0 ... 2)"),
        (0, 1, -1, "got -1 in column 'colour' of row 0"),
        (2, 3, 0.5, "got 0.5 in column 'smokes' of row 2 (expected 0 or 1)"),
        (2, 4, 1.5, "got 1.5 in column 'visits' of row 2"),
        (1, 0, np.inf, "got inf in column 'height' of row 1 (expected finite numbers)"),
        (2, 5, np.nan, "got nan in column 'age' of row 2"),
    ],
)
def test_an_impossible_value_is_named_with_its_row_and_column(model, row, column, value, words):
    x = X.copy()
    x[row, column] = value
    with pytest.raises(InputError) as error:
        model.log_likelihood(x, 10)
    assert words in str(error.value)


def test_a_finite_value_that_float32_cannot_standardise_is_named():
    model = mixed_model(columns=(ColumnModel("a", "gaussian"), ColumnModel("b", "student-t", 1.0, 1e-3)))
    with pytest.raises(InputError, match=r"got 1e\+36 in column 'b' of row 1, too far from its loc for float32"):
        model.log_likelihood(np.float32([[1e36, 1.0], [1.0, 1e36]]), 10)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (COLUMNS[:5], "one for each of the 6 values of a row, got 5"),
        ((*COLUMNS[:5], ColumnModel("age", "gaussian", 0.0, 0.0)), "'age': loc must be finite and scale above 0"),
        ((*COLUMNS[:5], ColumnModel("age", "gaussian", levels=3)), "the likelihood gaussian has no levels, got 3"),
        ((*COLUMNS[:5], ColumnModel("age", "categorical")), "categorical needs levels"),
        ((*COLUMNS[:5], ColumnModel("age", "categorical", levels=1)), "one category"),
        ((*COLUMNS[:5], ColumnModel("age", "columns")), "a likelihood of single values"),
        ((*COLUMNS[:5], ColumnModel("age", "gausian")), "did you mean 'gaussian'"),
        ((*COLUMNS[:5], ColumnModel("age", "gaussian", 1.6e9, 10.0)), "float32 cannot hold differences of 10 around"),
        ([1, 2, 3, 4, 5, 6], "ColumnModel"),
    ],
)
def test_unusable_columns_are_refused(columns, words):
    with pytest.raises(InputError) as error:
        IWAE(6, (3,), ((8,),), likelihood="columns", columns=columns)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"likelihood": "columns"}, "columns needs columns"),
        ({"likelihood": "gaussian", "columns": COLUMNS}, "gaussian takes no columns"),
        ({"likelihood": "gaussian", "missing": True}, "leave missing out"),
        ({"likelihood": "columns", "columns": COLUMNS, "levels": 256}, "levels and data_mean are for pixels"),
        (
            {"likelihood": "columns", "columns": COLUMNS, "data_mean": np.zeros(6)},
            "levels and data_mean are for pixels",
        ),
    ],
)
def test_columns_and_likelihood_must_fit(settings, words):
    with pytest.raises(InputError) as error:
        IWAE(6, (3,), ((8,),), **settings)
    assert words in str(error.value)


def test_negative_binomial_tails_are_finite_and_its_start_has_the_training_mean():
    columns = (ColumnModel("n", "negative-binomial", 7.0, 1.0), ColumnModel("m", "negative-binomial", 0.0, 1.0))
    model = IWAE(2, (2,), ((4,),), likelihood="columns", columns=columns)
    h = (tf.zeros([1, 2]),)
    stage = model.generative_network.likelihood_stage
    np.testing.assert_allclose(stage.head.mean(stage(h[0])), [[7.0, 0.01]], rtol=1e-4)
    values = model.likelihood(h).log_prob(np.float32([[0, 0], [10_000_000, 0], [0, 1_000_000]]))
    assert np.isfinite(values).all()
