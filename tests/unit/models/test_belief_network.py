"""Models with binary units: densities against NumPy, log p(x) against the sum over all states, files, doors."""

import json
import zipfile

import keras
import numpy as np
import pytest
import reference_bernoulli as reference
import tensorflow as tf
from binary_models import belief_network, binary_model, generative_weights, inference_weights
from scipy import special
from small_models import SMALL_NETWORKS, binary_images, small_model

import iwae_tf
from iwae_tf import InputError, seeds
from iwae_tf.evaluation import estimate_log_likelihood

NO_HIDDEN_LAYERS = {layers: {"hidden_units": ((),) * layers} for layers in (1, 2, 3)}
SIZES = [(4,), (3, 2), (3, 2, 2)]  # 16, 32 and 128 states
DIM = 6


def _noise(k, batch, units, seed=1):
    noise = np.random.default_rng(seed).standard_normal((k, batch, sum(units))).astype(np.float32)
    return noise, np.split(noise.astype(np.float64), np.cumsum(units)[:-1], axis=-1)


def _exact(model, x):
    return reference.log_prob(x, model.latent_units, **generative_weights(model))


# ------------------------------------------------------------------------------------------- densities


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("networks", [SMALL_NETWORKS, NO_HIDDEN_LAYERS], ids=["tanh", "linear"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_log_weights_equal_the_numpy_reference(layers, networks, likelihood):
    model, x = binary_model(layers, likelihood=likelihood, **networks[layers]), binary_images(4)
    noise, split = _noise(60, 4, model.latent_units)
    expected = reference.log_weights(x, split, inference_weights(model), **generative_weights(model))
    log_w = model.log_weights_from_noise(tf.constant(x), tf.constant(noise))
    np.testing.assert_allclose(log_w, expected, rtol=2e-5, atol=2e-4)  # float32; Gaussian terms reach thousands here


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_tfp_distributions_give_the_densities_of_the_hot_path(layers):
    model, x = binary_model(layers), binary_images(4)
    noise, _ = _noise(6, 4, model.latent_units)
    h, log_q = model.inference_network.transform(tf.constant(x), tf.constant(noise))
    drawn = model.posterior(x).sample(6, seed=(0, 1))
    assert [layer.shape for layer in drawn] == [layer.shape for layer in h]
    assert all(set(np.unique(layer)) <= {0.0, 1.0} for layer in (*h, *drawn))
    close = {"rtol": 2e-5, "atol": 2e-5}  # float32 sums of some tens of terms of size 10
    np.testing.assert_allclose(model.posterior(x).log_prob(h), log_q, **close)
    np.testing.assert_allclose(model.inference_network.log_prob(tf.constant(x), h), log_q, **close)
    np.testing.assert_allclose(
        model.likelihood(h).log_prob(x), model.generative_network.log_likelihood(tf.constant(x), h), **close
    )


@pytest.mark.parametrize("units", SIZES)
def test_densities_sum_to_1_over_all_states(units):
    model, x = belief_network(DIM, units), binary_images(3, DIM)
    h = [tf.constant(np.repeat(layer, 3, axis=1), tf.float32) for layer in reference.all_latents(units)]  # [S, 3, H_l]
    log_q = model.inference_network.log_prob(tf.constant(x), h).numpy().astype(np.float64)
    np.testing.assert_allclose(np.exp(log_q).sum(axis=0), 1.0, rtol=1e-5)  # float32 log q
    np.testing.assert_allclose(np.exp(model.generative_network.log_prior(h)).sum(axis=0), 1.0, rtol=1e-5)
    log_p = model.generative_network.log_prob(tf.constant(x), h).numpy().astype(np.float64)
    np.testing.assert_allclose(special.logsumexp(log_p, axis=0), _exact(model, x), rtol=1e-5)  # float32 log p


@pytest.mark.parametrize("units", SIZES)
def test_samples_of_q_are_as_frequent_as_their_density(units):
    model, x, n = belief_network(DIM, units), binary_images(1, DIM), 100_000
    noise, _ = _noise(n, 1, units)
    h, _ = model.inference_network.transform(tf.constant(x), tf.constant(noise))
    number = tf.concat(h, -1).numpy()[:, 0] @ 2 ** np.arange(sum(units))[::-1]  # the state's place in `all_latents`
    frequency = np.bincount(number.astype(int), minlength=2 ** sum(units)) / n
    p = np.exp(reference.log_posterior(x, reference.all_latents(units), inference_weights(model)))[:, 0]
    # 4.5 standard errors for each of up to 128 states, and a count for those that are hardly ever seen.
    assert (np.abs(frequency - p) < 4.5 * np.sqrt(p * (1 - p) / n) + 1 / n).all()


# ------------------------------------------------------------------------------------------- log p(x)


@pytest.mark.parametrize("units", SIZES)
def test_log_likelihood_converges_to_the_sum_over_all_states(units):
    model, x = belief_network(DIM, units, gain=1.0), binary_images(12, DIM)
    truth = _exact(model, x)
    estimate = estimate_log_likelihood(model, x, 5000)
    assert estimate.standard_error.max() < 0.06
    z = (estimate.log_likelihood - truth) / estimate.standard_error
    assert np.abs(z).max() < 4.0  # standard errors, of 12 images
    assert abs(z.mean()) < 4.0 / np.sqrt(len(x))
    np.testing.assert_allclose(model.log_likelihood(x, 5000), estimate.log_likelihood, rtol=1e-5)  # float32 log-weights


@pytest.mark.parametrize("units", SIZES)
def test_the_mean_weight_is_p_x(units):
    model, x = belief_network(DIM, units, gain=1.0), binary_images(4, DIM)
    ratio = np.exp(model.log_weights(x, 20_000).numpy().astype(np.float64) - _exact(model, x))  # w / p(x)
    error = ratio.std(axis=0, ddof=1) / np.sqrt(len(ratio))
    assert error.max() < 0.02
    assert (np.abs(ratio.mean(axis=0) - 1.0) < 4.0 * error).all()


@pytest.mark.parametrize("units", SIZES)
def test_the_bound_rises_with_k_and_stays_below_log_p_x(units):
    model = belief_network(DIM, units)
    x = reference.states(DIM).astype(np.float32)  # every image there is
    estimate = estimate_log_likelihood(model, x, 5000, sample_sizes=(1, 10, 100))
    gaps = [_exact(model, x) - estimate.bounds[k] for k in (1, 10, 100)]
    errors = [gap.std() / np.sqrt(len(gap)) for gap in gaps]
    means = [gap.mean() for gap in gaps]
    assert means[0] > means[1] + 3 * errors[1] > means[2] + 3 * errors[2]
    assert means[2] > 0.0


@pytest.mark.parametrize("layers", [1, 2])
def test_every_weight_is_p_x_where_q_is_the_posterior(layers):
    """Unit j is seen by pixel j alone and by unit j above, so that the posterior factorises and q can be exact."""
    model, n = belief_network(4, (4,) * layers), 4
    rng = np.random.default_rng(0)
    prior_logit = model.generative_network.prior.logits.numpy().astype(np.float64)
    stages = zip(model.inference_network.stages, model.generative_network.stages, strict=True)
    for above, stage in reversed(list(stages)):
        weight, bias = rng.normal(0.0, 2.0, n), rng.normal(0.0, 1.0, n)  # P(below = 1 | h) = sigmoid(weight h + bias)
        _set_stage(stage, weight, bias)
        # log odds of h: those before, plus log p(below | h = 1) - log p(below | h = 0), which is linear in below
        _set_stage(above, weight, prior_logit + np.logaddexp(0.0, bias) - np.logaddexp(0.0, bias + weight))
        p = special.expit(prior_logit)
        below = p * special.expit(weight + bias) + (1 - p) * special.expit(bias)
        prior_logit = special.logit(below)  # of the units below with those above summed out
    x = reference.states(n).astype(np.float32)
    truth = _exact(model, x)
    assert np.ptp(truth) > 1.0
    np.testing.assert_allclose(model.log_weights(x, 100), np.tile(truth, (100, 1)), rtol=2e-5, atol=2e-5)  # float32


def _set_stage(stage, weight, bias):
    stage.head.logits.kernel.assign(np.diag(weight))
    stage.head.logits.bias.assign(bias)


# ------------------------------------------------------------------------------------------- methods


@pytest.mark.parametrize("units", SIZES)
def test_samples_of_the_model_are_as_frequent_as_p_x(units):
    model, n = belief_network(3, units), 50_000
    x = model.sample(n, seed=5).numpy()
    frequency = np.bincount((x @ [4, 2, 1]).astype(int), minlength=8) / n
    p = np.exp(_exact(model, reference.states(3)))
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-12)  # float64
    assert (np.abs(frequency - p) < 4.0 * np.sqrt(p * (1 - p) / n)).all()  # 4 standard errors for each of 8 images


def test_draws_of_the_latents_are_as_frequent_as_their_prior():
    units, n = (2, 2, 2), 50_000  # layers of one size, where the same random numbers would show
    model = belief_network(3, units)
    h = model.generative_network.sample_latents(n, lambda layer: seeds.key(0, seeds.Purpose.SAMPLE, layer))
    assert [layer.shape for layer in h] == [(n, 2)] * 3
    frequency = np.bincount((np.concatenate(h, -1) @ 2 ** np.arange(6)[::-1]).astype(int), minlength=64) / n
    states = [tf.constant(layer[:, 0], tf.float32) for layer in reference.all_latents(units)]
    p = np.exp(model.generative_network.log_prior(states))
    assert (np.abs(frequency - p) < 4.5 * np.sqrt(p * (1 - p) / n)).all()  # 4.5 standard errors for each of 64 states


def test_encode_gives_the_probability_of_every_unit_along_the_mean():
    model, below = binary_model(3), binary_images(4)
    for layer, stage in zip(model.encode(below), inference_weights(model), strict=True):
        logits = reference.logits_of(below, stage)
        np.testing.assert_allclose(layer.logits, logits, rtol=1e-4, atol=1e-5)  # float32 after up to 5 layers
        np.testing.assert_allclose(layer.probability, special.expit(logits), rtol=1e-4, atol=1e-5)
        below = special.expit(logits)


def test_reconstruct_decodes_the_probabilities_of_the_first_layer():
    model, x = binary_model(2), binary_images(4)
    decoder = generative_weights(model)["generative"][-1]
    expected = special.expit(reference.logits_of(model.encode(x)[0].probability, decoder))
    np.testing.assert_allclose(model.reconstruct(x), expected, rtol=1e-4)  # float32 after 3 layers
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_score_reaches_every_weight_and_no_path_is_left(layers):
    model, x = binary_model(layers), tf.constant(binary_images(4))
    noise = tf.constant(_noise(8, 4, model.latent_units)[0])
    with tf.GradientTape(persistent=True) as tape:
        h, log_q = model.inference_network.transform(x, noise)
        log_p = model.generative_network.log_prob(x, h)
    phi, theta = model.inference_network.trainable_variables, model.generative_network.trainable_variables
    assert theta[-1].path == "prior/logits"
    for target, weights in ((log_q, phi), (log_p, theta)):
        gradients = tape.gradient(target, [variable.value for variable in weights])
        assert all(np.abs(gradient).max() > 0.0 for gradient in gradients)
    assert tape.gradient(log_p, [variable.value for variable in phi]) == [None] * len(phi)


# ------------------------------------------------------------------------------------------- files and doors


@pytest.mark.parametrize("layers", [1, 2])
def test_a_saved_model_gives_the_same_numbers_back(tmp_path, layers):
    model, x = binary_model(layers), binary_images(4)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.latent == "bernoulli"
    np.testing.assert_array_equal(loaded.generative_network.prior.logits, model.generative_network.prior.logits)
    np.testing.assert_allclose(loaded.log_weights(x, 50), model.log_weights(x, 50), rtol=1e-6, atol=1e-5)  # float32


def test_a_model_that_was_saved_before_there_were_kinds_of_units_is_gaussian(tmp_path):
    model, x = small_model(2), binary_images(4)
    model.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                config = json.loads(content)
                assert config["config"].pop("latent") == "gaussian"
                content = json.dumps(config)
            old.writestr(name, content)
    loaded = keras.saving.load_model(tmp_path / "old.keras")
    assert loaded.latent == "gaussian"
    np.testing.assert_allclose(loaded.log_weights(x, 50), model.log_weights(x, 50), rtol=1e-6, atol=1e-5)  # float32


def test_a_gaussian_model_has_the_weights_it_always_had():
    paths = [variable.path.rsplit("/", 1)[-1] for variable in small_model(1).trainable_variables]
    assert paths == ["kernel", "bias"] * 7  # 2 hidden layers, loc, log_scale; 2 hidden layers, logits


def test_the_initial_weights_of_both_kinds_come_from_the_seed():
    one, again, other = (iwae_tf.IWAE(12, (5,), ((7,),), seed=seed, latent="bernoulli") for seed in (1, 1, 2))
    for a, b in zip(one.trainable_variables, again.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [[v for v in m.trainable_variables if v.name == "kernel"] for m in (one, other)]
    assert all((a.numpy() != b.numpy()).all() for a, b in zip(*kernels, strict=True))


def test_an_unknown_kind_of_units_is_refused():
    with pytest.raises(InputError, match="unknown latent 'binary': known: bernoulli, gaussian"):
        iwae_tf.IWAE(12, (5,), ((7,),), latent="binary")
