"""The estimator of scikit-learn: its conventions, scores and copies; docs/sklearn.md runs it in a search."""

import copy
import pickle
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags

from iwae_tf import sklearn
from iwae_tf.errors import InputError
from iwae_tf.evaluation import estimate_log_likelihood
from iwae_tf.models.iwae import IWAE
from iwae_tf.numerics import log_mean_exp
from iwae_tf.sklearn import IWAEDensity

QUICK = {"latent_units": 2, "hidden_units": (4,), "k": 2, "epochs": 1, "num_samples": 5, "refine": "off"}
# Dependent columns of very different units.
FACTORS = np.random.default_rng(1).normal(size=(60, 2))
TABLE = pd.DataFrame(
    FACTORS @ [[1.0, 2.0, 1.0], [1.0, -1.0, 0.5]] * [100.0, 1.0, 0.01] + [5.0, 0.0, -7.0]
    + np.random.default_rng(2).normal(size=(60, 3)) * [10.0, 0.1, 0.001],
    columns=["pressure", "height", "slope"],
)  # fmt: skip


def quick(**settings) -> IWAEDensity:
    """A small estimator with one epoch of training."""
    return IWAEDensity(**{**QUICK, **settings})


def same_weights(one: IWAEDensity, other: IWAEDensity) -> bool:
    return all(
        np.array_equal(a.numpy(), b.numpy()) for a, b in zip(one.model_.weights, other.model_.weights, strict=True)
    )


@pytest.fixture(scope="module")
def fitted():
    """A trained estimator of the table."""
    return quick(hidden_units=(16,), k=5, epochs=60, learning_rate=0.01, contamination=0.2, random_state=3).fit(TABLE)


@pytest.fixture
def trained_eagerly(monkeypatch):
    """Trains without graphs: to trace one takes 1.5 s, a step of a small model 0.2 s."""
    fit = IWAE.fit

    def eagerly(*args, **kwargs):
        tf.config.run_functions_eagerly(True)
        try:
            return fit(*args, **kwargs)
        finally:
            tf.config.run_functions_eagerly(False)

    monkeypatch.setattr(IWAE, "fit", eagerly)


@pytest.fixture
def scored_eagerly(monkeypatch):
    """Scores with the same noise for each row; each `fit`, and each new number of rows, would trace for 1.5 s."""

    def estimate(model, x, num_samples, refine):
        noise = np.random.default_rng(0).standard_normal((num_samples, 1, sum(model.latent_units))).astype(np.float32)
        log_w = model.log_weights_from_noise(x, np.repeat(noise, len(x), axis=1))
        return types.SimpleNamespace(log_likelihood=log_mean_exp(log_w).numpy().astype(np.float64))

    monkeypatch.setattr(sklearn, "estimate_log_likelihood", estimate)


ONE_STEP = {"batch_size": 1000, "latent_units": 1, "hidden_units": (2,)}
OF_ROWS = ("check_methods_subset_invariance", "check_methods_sample_order_invariance")
eager = pytest.mark.filterwarnings("ignore:Even though the `tf.config:UserWarning")  # that tf.data stays a graph


@eager
@pytest.mark.slow
def test_the_estimator_passes_the_checks_of_scikit_learn(trained_eagerly, scored_eagerly):
    separate = dict.fromkeys(OF_ROWS, "the noise of `scored_eagerly` leaves rounding that depends on the other rows")
    results = estimator_checks.check_estimator(quick(**ONE_STEP), on_skip=None, expected_failed_checks=separate)
    passed = {result["check_name"] for result in results if result["status"] == "passed"}
    skipped = {result["check_name"] for result in results if result["status"] == "skipped"}
    assert {"check_outliers_train", "check_estimators_pickle", "check_fit_score_takes_y"} <= passed
    # The array API is for estimators that compute in the array's own library; SCIPY_ARRAY_API is not set.
    assert skipped == {"check_array_api_input"}
    assert {result["check_name"] for result in results} - passed - skipped <= set(OF_ROWS)


@eager
@pytest.mark.slow
@pytest.mark.parametrize("name", OF_ROWS)
def test_the_scores_of_rows_pass_the_checks_of_scikit_learn(name, trained_eagerly):
    getattr(estimator_checks, name)("IWAEDensity", quick(**ONE_STEP))


def test_a_score_depends_on_its_row_alone(fitted):
    scores = fitted.score_samples(TABLE)
    np.testing.assert_array_equal(fitted.score_samples(TABLE[::-1]), scores[::-1])
    np.testing.assert_array_equal(fitted.score_samples(TABLE[7:12]), scores[7:12])


def test_training_learns_how_the_columns_depend_on_each_other(fitted):
    z = (TABLE - TABLE.mean()) / TABLE.std(ddof=0)
    independent = -0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=1).mean() - np.log(TABLE.std(ddof=0)).sum()
    assert fitted.score(TABLE) > independent + 1.0  # nats; the three columns have two factors


def test_scores_are_the_estimates_of_log_p_and_decisions_their_difference_from_the_offset(fitted):
    x = TABLE.to_numpy(np.float32)
    expected = estimate_log_likelihood(fitted.model_, x, num_samples=5, refine="off").log_likelihood
    scores = fitted.score_samples(TABLE)
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(fitted.decision_function(TABLE), expected - fitted.offset_)
    assert fitted.score(TABLE) == pytest.approx(expected.mean(), rel=1e-12)
    assert [column.name for column in fitted.model_.columns] == list(fitted.feature_names_in_) == list(TABLE)


def test_one_value_far_off_loses_no_differences_of_the_others():
    quick().fit(TABLE.assign(height=TABLE["height"] + 1e9 * (TABLE.index == 0)))


def test_a_threshold_is_for_scores_that_are_made_as_in_fit(fitted):
    other = copy.deepcopy(fitted).set_params(num_samples=6)
    assert np.isfinite(other.score_samples(TABLE)).all()
    with pytest.raises(
        InputError, match=r"threshold of scores by num_samples and refine \(5, 'off'\), not \(6, 'off'\)"
    ):
        other.predict(TABLE)
    other.set_params(num_samples=5).predict(TABLE)


def test_the_share_of_outliers_among_the_training_rows_is_the_contamination(fitted):
    labels = fitted.predict(TABLE)
    assert set(labels) == {-1, 1}
    assert (labels == -1).sum() == 12  # 0.2 of 60
    assert fitted.score_samples(TABLE)[labels == -1].max() < fitted.score_samples(TABLE)[labels == 1].min()


@eager
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_any_contamination_is_met_by_fit_predict(share, trained_eagerly, scored_eagerly):
    assert (quick(contamination=share).fit_predict(TABLE) == -1).mean() == share


@pytest.mark.slow
def test_a_scaler_in_a_pipeline_shifts_log_p_by_the_sum_of_the_log_scales():
    plain = quick(epochs=5, num_samples=1000, random_state=0)
    pipeline = make_pipeline(StandardScaler(), clone(plain)).fit(TABLE)
    plain.fit(TABLE)
    shift = np.log(pipeline[0].scale_).sum()
    noise = np.random.default_rng(0).normal(size=(20, 60, 2)).astype(np.float32)
    log_w = plain.model_.log_weights_from_noise(TABLE.to_numpy(np.float32), noise)
    scaled = pipeline[0].transform(TABLE).astype(np.float32)
    log_w_scaled = pipeline[-1].model_.log_weights_from_noise(scaled, noise)
    np.testing.assert_allclose(log_w, log_w_scaled - shift, atol=1e-3)  # float32 rounds the columns to 4e-5 of a scale
    # The noise of a score is keyed by the content of the row, which the scaler changes, so only the means agree.
    assert plain.score(TABLE) == pytest.approx(pipeline.score(TABLE) - shift, abs=0.1)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda fitted: pickle.loads(pickle.dumps(fitted))])
def test_a_copy_has_the_same_weights_and_scores(fitted, copied):
    other = copied(fitted)
    assert other.model_ is not fitted.model_
    assert other.get_params() == fitted.get_params()
    assert same_weights(other, fitted)
    np.testing.assert_array_equal(other.score_samples(TABLE), fitted.score_samples(TABLE))
    np.testing.assert_array_equal(other.predict(TABLE), fitted.predict(TABLE))


def test_a_clone_has_the_settings_alone(fitted):
    assert clone(fitted).get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), "model_")


@pytest.mark.slow
def test_equal_random_states_give_equal_bits(fitted):
    same = clone(fitted).fit(TABLE)
    assert same_weights(same, fitted)
    np.testing.assert_array_equal(same.score_samples(TABLE), fitted.score_samples(TABLE))


@eager
def test_weights_follow_the_random_state(trained_eagerly, scored_eagerly):
    generator = np.random.RandomState(5)
    first, second, of_int, unseeded = (
        quick(random_state=state).fit(TABLE) for state in (generator, generator, 5, None)
    )
    assert same_weights(first, of_int)
    assert not same_weights(first, second)
    assert not same_weights(first, unseeded)


def test_draws_are_an_array_in_the_units_of_the_table(fitted):
    draws = fitted.sample(500, random_state=1)
    assert draws.shape == (500, 3)
    np.testing.assert_allclose(np.median(draws, axis=0), TABLE.median(), atol=0.5 * TABLE.std().max(), rtol=0)
    spread = np.subtract(*np.quantile(draws, (0.75, 0.25), axis=0)) / np.subtract(*np.quantile(TABLE, (0.75, 0.25), 0))
    assert spread.min() > 0.5
    assert spread.max() < 2.0
    np.testing.assert_array_equal(fitted.sample(4, random_state=1), fitted.sample(4, random_state=1))
    assert fitted.sample().shape == (1, 3)
    assert not np.array_equal(fitted.sample(), fitted.sample())


@pytest.mark.slow
def test_missing_values_are_scored_by_what_is_observed_if_they_are_allowed():
    holes = TABLE.mask(np.random.default_rng(0).random(TABLE.shape) < 0.2)
    estimator = quick(missing=True).fit(holes)
    assert get_tags(estimator).input_tags.allow_nan
    scores = estimator.score_samples(holes)
    expected = estimate_log_likelihood(estimator.model_, holes.to_numpy(np.float32), 5, refine="off").log_likelihood
    np.testing.assert_array_equal(scores, expected)
    observed = holes["height"].dropna()
    assert estimator.model_.columns[1].loc == pytest.approx(observed.mean(), rel=1e-5)
    assert estimator.model_.columns[1].scale == pytest.approx(observed.std(ddof=0), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"contamination": share}, r"contamination .* \(0, 0.5\]") for share in (0, 0.6, "auto", True, np.nan)),
        ({"likelihood": "bernoulli"}, r"must be one of real values \(gaussian, student-t\), got 'bernoulli'"),
        ({"likelihood": "gausian"}, "did you mean 'gaussian'"),
        ({"objective": "iwea"}, "did you mean 'iwae'"),
        ({"latent_units": 0}, "latent_units must be an integer >= 1"),
        ({"k": 0}, "k must be an integer >= 1"),
        ({"epochs": 1.5}, "epochs must be an integer >= 1"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number"),
        ({"num_samples": 0}, "num_samples must be an integer >= 1"),
        ({"refine": "maybe"}, "refine must be one of"),
        ({"batch_size": "all"}, "batch_size must be an integer >= 1"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_the_training(settings, message, monkeypatch):
    monkeypatch.setattr(IWAE, "fit", lambda *args, **kwargs: pytest.fail("was trained"))
    with pytest.raises(InputError, match=message):
        quick(**settings).fit(TABLE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (TABLE.assign(height=2.0), "X: column 'height' is constant, 2 in every row"),
        (np.array([[1.0, 7.0], [2.0, 7.0]]), "X: column 1 is constant, 7 in every row"),
        (TABLE.assign(height=1.7e9 + TABLE["height"]), "column 'height' runs from .* float32 would lose these"),
        (TABLE.assign(height=TABLE["height"] * 1e300), "column 'height' reaches .*, beyond float32"),
        (TABLE.assign(height=TABLE["height"] * 1e-40), "column 'height' reaches .*, too small for float32: multiply"),
        (TABLE.assign(height=1.7e9 * (TABLE.index > 0) + TABLE["height"]), "half of it from 1.* float32 would lose"),
        (TABLE.head(1), "minimum of 2 is required"),
        (TABLE.mask(TABLE["height"] > 1.0), "contains NaN"),
        (TABLE.assign(height=np.inf), "contains infinity"),
        (TABLE.assign(height="tall"), "could not convert string to float"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(values)


def test_a_column_without_any_value_is_refused():
    with pytest.raises(InputError, match="X: column 'height' has no values in any row"):
        quick(missing=True).fit(TABLE.assign(height=np.nan))


def test_a_score_beyond_float32_is_refused_with_its_column(fitted):
    with pytest.raises(InputError, match="inf in column 'height' of row 2"):
        fitted.score_samples(TABLE.assign(height=np.where(TABLE.index == 2, 1e300, TABLE["height"])))
