"""Models with every likelihood, ours and a user's: training, saving, going on, exporting, and their doors."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from poisson import Poisson
from scipy import stats
from served import assert_same_bits, scores_request, through_c_api, through_python
from small_models import SMALL_DIM, small_model

import iwae_tf
from iwae_tf import InputError
from iwae_tf.models.gradients import bound_and_gradients
from iwae_tf.objectives import DReG
from iwae_tf.serving import export_saved_model
from iwae_tf.serving.model_folder import PROVENANCE
from iwae_tf.serving.row import RowSettings, score

LIKELIHOODS = {
    "continuous-bernoulli": None,
    "discretized-logistic": 256,
    "categorical": 17,
    "student-t": None,
    Poisson: None,
}
EVERY = pytest.mark.parametrize("likelihood", LIKELIHOODS)


def images(likelihood, n=6):
    rng = np.random.default_rng(0)
    if likelihood is Poisson:
        return rng.poisson(3.0, (n, SMALL_DIM)).astype(np.float32)
    levels = LIKELIHOODS[likelihood]
    x = rng.beta(0.3, 0.3, (n, SMALL_DIM)) if levels is None else rng.integers(0, levels, (n, SMALL_DIM)) / (levels - 1)
    return x.astype(np.float32)


def model_of(likelihood, **kwargs):
    mean = images(likelihood, 50).mean(axis=0)
    return small_model(
        gain=1.0, **{"likelihood": likelihood, "levels": LIKELIHOODS[likelihood], "data_mean": mean, **kwargs}
    )


def fitted(model, x, epochs):
    model.compile(keras.optimizers.Adam(1e-2), objective=DReG(5)) if not model.compiled else None
    model.fit(x, epochs=epochs, batch_size=2, shuffle=False, verbose=0)
    return model


@EVERY
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_training_raises_the_bound(likelihood, dtype):
    model, x = model_of(likelihood, dtype=dtype), images(likelihood)
    before = model.log_likelihood(x, 50).numpy().mean()
    fitted(model, x, 20)
    assert model.log_likelihood(x, 50).numpy().mean() > before + 1.0


@EVERY
def test_log_weights_are_log_p_of_x_given_h_plus_log_p_minus_log_q_of_h(likelihood):
    model, x = model_of(likelihood), images(likelihood)
    noise = tf.random.stateless_normal([4, 6, 5], [0, 1])
    h, log_q = model.inference_network.transform(x, noise)
    if likelihood is Poisson:
        rate = np.exp(model.generative_network.likelihood_stage(h[0]).numpy().astype(np.float64))
        log_likelihood = stats.poisson.logpmf(x, rate).sum(axis=-1)
    else:
        log_likelihood = model.likelihood(h).log_prob(x)
    expected = log_likelihood + model.generative_network.log_prior(h) - log_q
    # float32: 12 terms of some nats.
    np.testing.assert_allclose(model.log_weights_from_noise(x, noise), expected, rtol=2e-5, atol=1e-4)


@EVERY
def test_a_saved_model_scores_and_goes_on_as_the_model(likelihood, tmp_path):
    x = images(likelihood)
    whole, model = fitted(model_of(likelihood), x, 3), fitted(model_of(likelihood), x, 2)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.likelihood_name == model.likelihood_name
    np.testing.assert_array_equal(again.log_likelihood(x, 20), model.log_likelihood(x, 20))
    fitted(again, x, 1)
    for one, other in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)  # the step is traced anew: float32 rounding


@EVERY
def test_xla_takes_the_same_gradient(likelihood):
    model, x = model_of(likelihood), images(likelihood)
    noise = tf.random.stateless_normal([3, 6, 5], [0, 1])

    def step():
        return bound_and_gradients(model, DReG(3), tf.constant(x), noise)

    plain, compiled = (tf.function(step, jit_compile=jit, autograph=False)() for jit in (False, True))
    np.testing.assert_allclose(compiled[0], plain[0], rtol=1e-5, atol=1e-4)  # float32 in another order
    for one, other in zip(compiled[1], plain[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)


@EVERY
def test_an_images_score_depends_on_no_other_and_samples_can_be_scored(likelihood):
    model, x = model_of(likelihood), images(likelihood)
    alone = next(iter(model.log_weight_chunks(x[3:4], 20, rows=[3])))
    np.testing.assert_allclose(alone[:, 0], model.log_weights(x, 20)[:, 3], rtol=2e-5, atol=1e-4)  # float32
    assert np.isfinite(model.log_likelihood(model.sample(4), 10)).all()
    assert model.reconstruct(x).shape == model.sample(6, mean=True).shape == x.shape


@pytest.mark.slow
@EVERY
def test_an_exported_model_gives_the_models_numbers_without_python(likelihood, tmp_path):
    model, x = model_of(likelihood), images(likelihood, 3)
    folder = export_saved_model(model, tmp_path / "m", num_samples=60, max_samples=100)
    bad = np.concatenate([x, np.full((1, SMALL_DIM), -0.3 if likelihood != "student-t" else np.nan, np.float32)])
    requests = [
        scores_request(bad, 60),
        ("reconstruct", {"x": x}),
        ("sample", {"seed": np.arange(2, dtype=np.int64)}),
    ]
    answers = through_python(folder, requests)
    for one, other in zip(answers, through_c_api(folder, requests, tmp_path)[0], strict=True):
        assert_same_bits(one, other)
    np.testing.assert_array_equal(answers[0]["status"], [0, 0, 0, 1])
    settings = RowSettings(60, 100, "real")
    for row in range(3):
        here = score(model, tf.constant(x[row]), tf.constant(60), tf.constant(0, tf.int64), settings)
        np.testing.assert_allclose(answers[0]["log_prob"][row], here["log_prob"], rtol=2e-6)  # a graph, op by op
    np.testing.assert_allclose(answers[1]["x_mean"], model.reconstruct(x), rtol=1e-5, atol=1e-6)
    assert model.generative_network.likelihood_stage.head.in_support(answers[2]["x"])
    provenance = json.loads((folder / PROVENANCE).read_text())
    assert provenance["observations"] == model.generative_network.likelihood_stage.head.support
    assert provenance["levels"] == model.levels


# ------------------------------------------------------------------------------------------- doors


@pytest.mark.parametrize(
    ("likelihood", "levels", "words"),
    [
        ("categorical", None, r"the likelihood categorical needs levels \(--levels\)"),
        ("categorical", 1, "levels must be at least 2, got 1"),
        ("discretized-logistic", 2.5, "levels must be an integer >= 1, got 2.5"),
        ("bernoulli", 256, r"levels \(--levels 256\) are for likelihoods over levels, not for bernoulli"),
        (Poisson, 3, "not for tests>Poisson: leave them out"),
        ("student", None, "did you mean 'student-t'"),
        ("tests>Nothing", None, "nothing is registered as 'tests>Nothing': import"),
        (keras.layers.Dense, None, "derived from iwae_tf.layers.Likelihood, got"),
    ],
)
def test_likelihoods_and_levels_that_cannot_be_are_refused(likelihood, levels, words):
    with pytest.raises(InputError, match=words):
        small_model(likelihood=likelihood, levels=levels)


def test_a_likelihood_that_could_not_be_loaded_again_is_refused():
    class Unregistered(iwae_tf.layers.Likelihood):
        pass

    with pytest.raises(InputError, match="Unregistered has to be found again when a model is loaded: decorate it"):
        small_model(likelihood=Unregistered)


def test_images_between_the_levels_are_refused_with_what_to_do():
    model, x = model_of("categorical"), images("continuous-bernoulli")
    words = r"the 17 levels i / 16, i = 0 ... 16 \(no NaN\), got values from.* give as levels \(--levels\)"
    with pytest.raises(InputError, match=words):
        model.log_likelihood(x, 5)
    model.compile(objective=DReG(2))
    with pytest.raises(InputError, match=words):
        model.fit(x, verbose=0)


def test_a_users_advice_is_in_the_message():
    with pytest.raises(InputError, match=r"counts 0, 1, 2 .* and round to whole numbers"):
        model_of(Poisson).log_likelihood(np.full((2, SMALL_DIM), 0.5), 5)
