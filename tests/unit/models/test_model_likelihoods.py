"""Models with every likelihood, ours and a user's: training, saving, XLA, and their doors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from poisson import Poisson
from scipy import stats
from small_models import SMALL_DIM, small_model, standard_noise
from tensorflow_probability import distributions as tfd

import iwae_tf
from iwae_tf import InputError
from iwae_tf.declarations import declared
from iwae_tf.objectives import DReG

LIKELIHOODS = {
    "continuous-bernoulli": None,
    "discretized-logistic": 17,
    "categorical": 17,
    "student-t": None,
    "negative-binomial": None,
    "poisson": None,
    Poisson: None,
}
EVERY = pytest.mark.parametrize("likelihood", LIKELIHOODS)
COUNTS = ("poisson", "negative-binomial", Poisson)


def images(likelihood, n=6):
    rng, levels = np.random.default_rng(0), LIKELIHOODS[likelihood]
    if likelihood in COUNTS:
        return rng.poisson(3.0, (n, SMALL_DIM)).astype(np.float32)
    x = rng.beta(0.3, 0.3, (n, SMALL_DIM)) if levels is None else rng.integers(0, levels, (n, SMALL_DIM)) / (levels - 1)
    return x.astype(np.float32)


def model_of(likelihood, **kwargs):
    mean = images(likelihood, 50).mean(axis=0)
    return small_model(gain=1.0, likelihood=likelihood, levels=LIKELIHOODS[likelihood], data_mean=mean, **kwargs)


def test_every_declared_likelihood_is_tested_with_a_model():
    own = {name for name, d in declared("likelihood").items() if d.module.startswith("iwae_tf.")}
    assert own == {"bernoulli", "gaussian", "columns", *LIKELIHOODS} - {"poisson", Poisson}  # columns: test_columns.py


@pytest.mark.parametrize("likelihood", ["categorical", "student-t", Poisson])  # levels, own weights, not declared
def test_training_raises_the_bound_and_a_saved_model_scores_as_the_model(likelihood, tmp_path):
    dtype = {"categorical": "mixed_bfloat16", "student-t": "mixed_float16"}.get(likelihood, "float32")
    model, x = model_of(likelihood, dtype=dtype), images(likelihood)
    noise = standard_noise(model, 50, 6)

    def bound():
        return float(tf.reduce_mean(model.objective.bound(model.log_weights_from_noise(x, noise))))

    adam = keras.optimizers.Adam(0.1)
    model.compile(adam, objective=DReG(5), run_eagerly=True)
    before = bound()
    model.fit(tf.data.Dataset.from_tensors(x).repeat(4), shuffle=False, verbose=0)
    assert bound() > before + 1.0
    assert model.optimizer is adam
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.likelihood_name == model.likelihood_name == ("tests>Poisson" if likelihood is Poisson else likelihood)
    assert type(again.likelihood_head) is type(model.likelihood_head)
    np.testing.assert_array_equal(again.log_weights_from_noise(x, noise), model.log_weights_from_noise(x, noise))
    assert again.step == 4
    for drawn in (model.sample(4), model.reconstruct(x)[:4], model.sample(4, mean=True)):
        assert drawn.shape == (4, SMALL_DIM)
        assert drawn.dtype == tf.float32
    assert model.likelihood_head.in_support(model.sample(4))
    np.testing.assert_array_equal(model.sample(4, seed=3), model.sample(4, seed=3))


@EVERY
def test_log_weights_are_log_p_of_x_given_h_plus_log_p_minus_log_q_of_h(likelihood):
    model, x = model_of(likelihood), images(likelihood)
    noise = standard_noise(model, 4, 6)
    h, log_q = model.inference_network.transform(x, noise)
    if likelihood in ("poisson", Poisson):  # test_columns.py has the negative binomial
        rate = np.exp(model.generative_network.likelihood_stage(h[0]).numpy().astype(np.float64))
        log_likelihood = stats.poisson.logpmf(x, rate).sum(axis=-1)
        np.testing.assert_allclose(model.likelihood(h).mean(), rate, rtol=1e-5)
    else:
        log_likelihood = model.likelihood(h).log_prob(x)
    expected = log_likelihood + model.generative_network.log_prior(h) - log_q
    # float32: 12 terms of some nats.
    np.testing.assert_allclose(model.log_weights_from_noise(x, noise), expected, rtol=2e-5, atol=1e-4)
    one = model.log_weights_from_noise(x[2:3], noise[:, 2:3])
    np.testing.assert_allclose(one[:, 0], expected[:, 2], rtol=2e-5, atol=1e-4)  # no row sees another


def test_a_likelihood_that_could_not_be_loaded_again_or_lacks_a_method_is_refused():
    class Unregistered(iwae_tf.layers.Likelihood):
        pass

    with pytest.raises(InputError, match="Unregistered has to be found again when a model is loaded: decorate it"):
        small_model(likelihood=Unregistered)
    with pytest.raises(NotImplementedError, match=r"Unregistered must define call\(features\)"):
        Unregistered()(tf.zeros([1, 2]))
    with pytest.raises(NotImplementedError, match=r"Unregistered must define distribution\(parameters\)"):
        Unregistered().log_prob(tf.zeros([1, 2]), tf.zeros([1, 2]))


class Real(iwae_tf.layers.Likelihood):
    """A density of values in (0, 1), to be completed."""

    def __init__(self, units, initializer_seeds, mean=None, **kwargs):
        super().__init__(**kwargs)
        self.loc = self.dense(units, initializer_seeds)

    def call(self, features):
        return self.loc(features)


@keras.saving.register_keras_serializable("tests")
class NotSummed(Real):
    def distribution(self, loc):
        return tfd.LogitNormal(loc, 1.0)


@keras.saving.register_keras_serializable("tests")
class WithoutMean(Real):
    def distribution(self, loc):
        return tfd.Independent(tfd.LogitNormal(loc, 1.0), 1)


@pytest.mark.parametrize("data_dim", [1, 3])  # with one value, B = k would let it be added
def test_a_log_prob_that_is_no_sum_over_the_values_is_refused(data_dim):
    model, x = iwae_tf.IWAE(data_dim, 2, 4, likelihood=NotSummed), np.full((4, data_dim), 0.3, np.float32)
    model.compile(objective=DReG(4))
    for method in (lambda: model.fit(x, batch_size=4, verbose=0), lambda: model.log_likelihood(x, 4)):
        with pytest.raises(InputError, match=r"log_prob of the likelihood NotSummed must be \[k, B\].*Independent"):
            method()


def test_a_distribution_without_a_mean_is_scored_and_sampled():
    model, x = iwae_tf.IWAE(3, 2, 4, likelihood=WithoutMean), np.full((4, 3), 0.3, np.float32)
    assert np.isfinite(model.log_likelihood(x, 4)).all()
    drawn = model.sample(5).numpy()
    assert drawn.shape == (5, 3)
    assert ((drawn > 0.0) & (drawn < 1.0)).all()
    with pytest.raises(NotImplementedError, match="mean"):
        model.sample(5, mean=True)


@pytest.mark.parametrize(
    ("likelihood", "value", "words"),
    [
        ("categorical", 0.53, r"the 17 levels i / 16, i = 0 ... 16 .*, got values from.* give as levels \(--lev"),
        (Poisson, 0.5, r"counts 0, 1, 2 .* and round to whole numbers"),
    ],
)
def test_values_that_the_likelihood_cannot_observe_are_refused_with_what_to_do(likelihood, value, words):
    model, x = model_of(likelihood), np.full((2, SMALL_DIM), value, np.float32)
    model.compile(objective=DReG(2), run_eagerly=True)
    for method in (lambda: model.log_likelihood(x, 5), lambda: model.fit(x, verbose=0)):
        with pytest.raises(InputError, match=words):
            method()
