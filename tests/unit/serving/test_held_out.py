"""Held-out rows of an export: p-values and contributions, against NumPy and the model's own expectations."""

import numpy as np
import pytest
import tensorflow as tf
from served import through_function
from small_models import SMALL_DIM, binary_images, small_model
from user_networks import Joint

from iwae_tf import IWAE, InputError
from iwae_tf.evaluation import estimate_log_likelihood
from iwae_tf.evaluation.posterior import posterior_expectation
from iwae_tf.layers import ColumnModel
from iwae_tf.serving import held_out, row
from iwae_tf.serving.held_out import scored_held_out
from iwae_tf.serving.row import RowSettings
from iwae_tf.serving.signatures import signatures

SETTINGS = RowSettings(200, 200, "binary")
TABLE = [
    ColumnModel("a", "student-t", 10.0, 2.0),
    ColumnModel("b", "categorical", levels=3),
    ColumnModel("c", "bernoulli", 0.4, 0.5),
    ColumnModel("d", "gaussian", -1.0, 0.5),
]


@pytest.fixture(scope="module")
def model():
    return small_model(1, gain=1.0)


@pytest.fixture(scope="module")
def known(model):
    return SETTINGS._replace(held_out=scored_held_out(model, binary_images(19, seed=3), SETTINGS))


@pytest.fixture(scope="module")
def table_model():
    return IWAE(4, (1,), ((6,),), likelihood="columns", columns=TABLE, missing=True, seed=2)


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    columns = [rng.normal(10, 2, n), rng.integers(0, 3, n), rng.integers(0, 2, n), rng.normal(-1, 0.5, n)]
    return np.stack(columns, axis=1).astype(np.float32)


def answer(model, settings, name, x):
    return through_function(signatures(model, settings)[name], (name, {"x": np.float32(x)}))


def test_held_out_scores_are_those_of_python_and_a_p_value_is_a_share_of_them(model, known):
    rows = binary_images(19, seed=3)
    scores = estimate_log_likelihood(model, rows, 200, refine="off").log_likelihood
    np.testing.assert_allclose(known.held_out.scores, np.sort(scores), rtol=1e-5)
    x = np.concatenate([rows[:3], binary_images(4, seed=9), np.full((1, SMALL_DIM), np.nan)])
    found = answer(model, known, "serving_default", x)
    not_above = (known.held_out.scores[:, None] <= found["log_prob"][:7]).sum(axis=0)
    np.testing.assert_array_equal(found["p_value"][:7], ((1 + not_above) / 20).astype(np.float32))
    assert (found["p_value"][:3] > 1 / 20).all()  # each of them is not above itself
    assert np.isnan(found["p_value"][7])
    for score, p_value in ((-1e9, 1 / 20), (1e9, 1.0)):
        extreme = known._replace(held_out=known.held_out._replace(scores=np.full(19, -score, np.float32)))
        np.testing.assert_array_equal(
            answer(model, extreme, "serving_default", x[:1])["p_value"], np.float32([p_value])
        )


def test_given_scores_are_taken_sorted_and_bad_rows_left_out(model):
    rows = binary_images(4, seed=3)
    rows[1, 0] = np.nan
    found = scored_held_out(model, rows, SETTINGS, np.array([-3.0, np.nan, -5.0, -4.0]))
    np.testing.assert_array_equal(found.scores, [-5, -4, -3])
    good = scored_held_out(model, rows[[0, 2, 3]], SETTINGS, np.zeros(3))
    np.testing.assert_allclose(found.contributions, good.contributions, rtol=1e-5)
    for bad, words in (
        (np.zeros((3, 5)), r"\[N, 12\] as a client sends them, got shape \(3, 5\)"),
        (np.full((2, SMALL_DIM), np.nan), "no row of held_out can be scored"),
    ):
        with pytest.raises(InputError, match=words):
            scored_held_out(model, bad, SETTINGS)


@pytest.mark.parametrize(("kind", "refine"), [("pixels", False), ("pixels", True), ("table with holes", False)])
def test_contributions_are_expected_log_likelihoods_minus_those_of_held_out_rows(
    model, table_model, kind, refine, monkeypatch
):
    monkeypatch.setattr(row, "EXPLAIN_SAMPLES", 10_000)  # so that the tolerance is small
    if kind == "pixels":
        x, rule, tolerance = binary_images(5, seed=1), "binary", 0.02
    else:
        model, x, rule, tolerance = table_model, table(5), "real", 0.1
        x[1, 0] = x[2, 3] = np.nan
    settings = SETTINGS._replace(refine=refine, input_rule=rule)
    settings = settings._replace(held_out=scored_held_out(model, x, settings, np.zeros(5)))
    stage = model.generative_network.likelihood_stage
    expected = posterior_expectation(
        model, lambda h: stage.head.log_prob_of_each(stage(h[0]), tf.constant(x)), x, 20_000
    ).mean.numpy()
    expected = np.where(np.isnan(x), np.nan, expected)
    found = answer(model, settings, "explain", x)
    assert (found["status"] == 0).all()
    wanted = np.nan_to_num(expected - np.nanmean(expected, axis=0))
    np.testing.assert_allclose(found["contribution"], wanted, atol=tolerance)
    assert np.abs(wanted).max() > 4 * tolerance
    np.testing.assert_allclose(found["contribution"].sum(axis=0), 0.0, atol=1e-4)  # the rows are the held-out ones
    assert (found["contribution"][np.isnan(x)] == 0.0).all()


def test_a_value_that_held_out_rows_never_have_comes_first(table_model):
    settings = SETTINGS._replace(input_rule="real")
    settings = settings._replace(held_out=scored_held_out(table_model, table(50, 1), settings, np.zeros(50)))
    x = np.tile(table(1), (3, 1))
    x[1, 3], x[2, 0] = 40.0, -1000.0
    found = answer(table_model, settings, "explain", x)["contribution"]
    np.testing.assert_array_equal(found[1:].argmin(axis=1), [3, 0])
    assert (found[1:].min(axis=1) < -5).all()


def test_rows_are_drawn_from_all_held_out_rows_and_a_column_that_all_lack_adds_nothing(table_model, monkeypatch):
    monkeypatch.setattr(held_out, "MAX_SCORED", 40)
    monkeypatch.setattr(held_out, "MAX_EXPLAINED", 40)
    settings, x = SETTINGS._replace(input_rule="real"), table(400)
    x = x[np.argsort(x[:, 0])]  # a sorted file
    x[:, 3] = np.nan
    held = scored_held_out(table_model, x, settings)
    assert len(held.scores) == 40
    whole = estimate_log_likelihood(table_model, x, 200, refine="off").log_likelihood
    assert abs(held.scores.mean() - whole.mean()) < 4 * whole.std() / 40**0.5
    assert abs(whole[:40].mean() - whole.mean()) > 4 * whole.std() / 40**0.5  # the first are not like all
    new = table(3, 5)
    found = answer(table_model, settings._replace(held_out=held), "explain", new)
    assert (found["status"] == 0).all()
    assert (found["contribution"][:, 3] == 0.0).all()
    assert (found["contribution"][:, :3] != 0.0).all()


def test_a_likelihood_of_dependent_values_has_p_values_and_no_explanation(model):
    import keras

    keras.saving.register_keras_serializable("tests")(Joint)
    joint = IWAE(SMALL_DIM, (3,), ((6,),), likelihood=Joint)
    settings = SETTINGS._replace(input_rule="real")
    settings = settings._replace(held_out=scored_held_out(joint, binary_images(5), settings))
    assert settings.held_out.contributions is None
    found = signatures(joint, settings)
    assert "explain" not in found
    assert (answer(joint, settings, "serving_default", binary_images(5))["p_value"] > 0.1).all()
