"""Models with convolutions, a user's networks and a user's prior: exact where known, saved, resumed, exported."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from linear_gaussian_models import DIM, UNITS, linear_gaussian
from poisson import Poisson
from served import assert_same_bits, scores_request, through_c_api, through_python
from small_models import SMALL_DIM, binary_images, small_model
from user_networks import KINDS, LearnedGaussian, networks

import iwae_tf
from iwae_tf import InputError
from iwae_tf.evaluation import pruned, unit_activities
from iwae_tf.layers import ConvDecoder, ConvEncoder
from iwae_tf.objectives import AnalyticKLELBO, DReG
from iwae_tf.serving import export_saved_model
from iwae_tf.serving.row import RowSettings, score

EVERY = pytest.mark.parametrize("kind", KINDS)
# float32 sums of some tens of terms of size 10, through layers that add up in another order for another batch.
FLOAT32 = {"rtol": 2e-5, "atol": 1e-4}


def model_of(kind, layers=1, **kwargs):
    return small_model(layers, gain=1.0, **networks(kind), **kwargs)


# ------------------------------------------------------------------------------------------- densities


def users_linear_gaussian(mean_error=0.0):
    """The linear-Gaussian model with one layer, its matrices in a user's layers: features of 2 x 3 pixels."""
    plain, exact = linear_gaussian(1, mean_error)
    rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((DIM, DIM)))[0]
    encoder = keras.Sequential([keras.layers.Dense(DIM, use_bias=False), keras.layers.Reshape((3, 2))])
    decoder = keras.Sequential([keras.layers.Dense(DIM, use_bias=False), keras.layers.Reshape((2, 3, 1))])
    model = iwae_tf.IWAE(DIM, (UNITS,), ((),), likelihood="gaussian", encoder=encoder, decoder=decoder)
    encoder.layers[0].kernel.assign(rotation)
    decoder.layers[0].kernel.assign(exact.a.T)
    (q,), (p,) = ([s.head for s in net.stages] for net in (model.inference_network, model.generative_network))
    (plain_q,), (plain_p,) = ([s.head for s in n.stages] for n in (plain.inference_network, plain.generative_network))
    q.loc.kernel.assign(rotation.T @ plain_q.loc.kernel.numpy())
    p.loc.kernel.assign([[1.0]])
    for mine, its in ((q.loc, plain_q.loc), (q.log_scale, plain_q.log_scale)):
        mine.bias.assign(its.bias)
    for mine, its in ((p.loc, plain_p.loc), (p.log_scale, plain_p.log_scale)):
        mine.bias.assign(its.bias)
    for head in (q, p):
        head.log_scale.kernel.assign(tf.zeros_like(head.log_scale.kernel))
    return model, exact


def test_every_weight_is_p_x_where_a_users_networks_make_the_posterior():
    model, exact = users_linear_gaussian()
    x = (np.random.default_rng(2).standard_normal((5, DIM)) * 2).astype(np.float32)
    np.testing.assert_allclose(model.log_weights(x, 60), np.tile(exact.log_prob(x), (60, 1)), rtol=2e-5)  # float32


def test_with_a_wrong_posterior_the_elbo_lies_below_log_p_x_by_the_kl_divergence():
    model, exact = users_linear_gaussian(mean_error=0.5)
    x = (np.random.default_rng(2).standard_normal((300, DIM)) * 2).astype(np.float32)
    _, covariance = exact.posterior(x[:1])
    kl = 0.5 * (0.25 / np.diag(covariance)).sum()
    gap = exact.log_prob(x) - model.log_weights(x, 200).numpy().mean(axis=0)
    assert abs(gap.mean() - kl) < 4 * gap.std() / np.sqrt(len(gap))  # standard errors
    best = exact.log_prob(x) - model.log_likelihood(x, 5000).numpy()
    assert abs(best.mean()) < 5 * best.std() / np.sqrt(len(best))  # 5,000 samples are enough for half a unit


@EVERY
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_log_weights_are_those_of_the_distributions(kind, layers, likelihood):
    arguments = networks(kind)
    if layers == 2:
        arguments.pop("prior", None)  # of five units
    model, x = small_model(layers, gain=1.0, likelihood=likelihood, **arguments), binary_images(4)
    noise = np.random.default_rng(1).standard_normal((6, 4, sum(model.latent_units))).astype(np.float32)
    h, _ = model.inference_network.transform(tf.constant(x), noise)
    expected = model.likelihood(h).log_prob(x) + model.generative_network.log_prior(h) - model.posterior(x).log_prob(h)
    np.testing.assert_allclose(model.log_weights_from_noise(x, noise), expected, **FLOAT32)
    for sample in range(6):  # one at a time: no sample or image sees another
        alone = model.log_weights_from_noise(x[1:2], noise[sample : sample + 1, 1:2])
        np.testing.assert_allclose(alone[0, 0], expected[sample, 1], **FLOAT32)


@EVERY
def test_an_images_score_does_not_depend_on_its_batch_or_tile(kind):
    model, x = model_of(kind), binary_images(30)
    whole = model.log_weights(x, 60)
    alone = np.concatenate(list(model.log_weight_chunks(x[4:5], 60, rows=[4])))
    np.testing.assert_allclose(alone[:, 0], whole[:, 4], **FLOAT32)
    assert len(unit_activities(model, x)[0]) == 5


def test_x_is_encoded_once_whatever_k(monkeypatch):
    model, seen = model_of("dense"), []
    layer = model.inference_network.stages[0].hidden.layer
    original = layer.call
    monkeypatch.setattr(layer, "call", lambda x, **kwargs: (seen.append(tuple(x.shape)), original(x, **kwargs))[1])
    model.log_weights_from_noise(binary_images(4), np.zeros((50, 4, 5), np.float32))
    assert seen == [(4, SMALL_DIM)]


@pytest.mark.parametrize("kind", ["conv", "functional"])
def test_the_output_starts_at_the_mean_of_every_pixel(kind):
    mean = np.linspace(0.1, 0.9, SMALL_DIM)
    model = model_of(kind, data_mean=mean)
    head = model.generative_network.likelihood_stage.head
    assert head.logits.kernel.shape == (4 if kind == "conv" else 7, 2)
    features = tf.zeros([1, 2, 3, head.logits.kernel.shape[0]])
    np.testing.assert_allclose(head.mean(head(features))[0], mean, rtol=1e-5)


# ------------------------------------------------------------------------------------------- priors


def test_a_users_prior_takes_part_in_weights_samples_and_training():
    prior = LearnedGaussian(5)
    model, plain, x = small_model(prior=prior), small_model(), binary_images(4)
    noise = np.random.default_rng(1).standard_normal((6, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(
        model.log_weights_from_noise(x, noise), plain.log_weights_from_noise(x, noise), rtol=1e-5
    )  # N(0, I) at first
    prior.loc.assign([1.0, 2.0, 3.0, 4.0, 5.0])
    prior.log_scale.assign([-1.0, 0.0, 1.0, 0.5, -0.5])
    h, log_q = model.inference_network.transform(x, noise)
    expected = reference.gaussian_log_prob(h[0], prior.loc.numpy(), prior.log_scale.numpy())
    found = model.log_weights_from_noise(x, noise) - model.generative_network.log_likelihood(x, h) + log_q
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)  # differences of sums of a hundred
    (drawn,) = model.generative_network.sample_latents(4000, lambda layer: tf.constant([1, layer], tf.int64))
    errors = np.exp(prior.log_scale.numpy()) / np.sqrt(4000)
    assert (np.abs(drawn.numpy().mean(axis=0) - prior.loc.numpy()) < 4.0 * errors).all()
    before = prior.loc.numpy()
    model.compile(objective=DReG(3))
    model.fit(x, verbose=0)
    assert (prior.loc.numpy() != before).all()


# ------------------------------------------------------------------------------------------- life


def fitted(model, x, epochs):
    if not model.compiled:
        model.compile(keras.optimizers.Adam(1e-2), objective=DReG(5))
    model.fit(x, epochs=epochs, batch_size=2, shuffle=False, verbose=0)
    return model


@pytest.mark.slow
@EVERY
def test_a_saved_model_scores_and_goes_on_as_the_model(kind, tmp_path):
    x = binary_images(6)
    whole, model = fitted(model_of(kind), x, 3), fitted(model_of(kind), x, 2)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.log_likelihood(x, 20), model.log_likelihood(x, 20))
    fitted(again, x, 1)
    for one, other in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # the step is traced anew: float32 rounding


def test_a_frozen_encoder_stays_as_it_is_and_is_loaded_again(tmp_path):
    parts, x = networks("dense"), binary_images(6)
    parts["encoder"].trainable = False
    model = small_model(gain=1.0, **parts)
    before = [w.numpy() for w in parts["encoder"].weights]
    fitted(model, x, 1).save(tmp_path / "m.keras")
    for one, other in zip(parts["encoder"].weights, before, strict=True):
        np.testing.assert_array_equal(one, other)
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.log_likelihood(x, 20), model.log_likelihood(x, 20))
    assert len(again.trainable_variables) == len(model.trainable_variables)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["conv", "functional"])
def test_an_exported_model_with_a_users_likelihood_gives_the_models_numbers_without_python(kind, tmp_path):
    model = model_of(kind, likelihood=Poisson)
    x = np.random.default_rng(0).poisson(2.0, (3, SMALL_DIM)).astype(np.float32)
    folder = export_saved_model(model, tmp_path / "m", num_samples=60, max_samples=100)
    requests = [scores_request(x, 60), ("reconstruct", {"x": x}), ("encode", {"x": x})]
    answers = through_python(folder, requests)
    for one, other in zip(answers, through_c_api(folder, requests, tmp_path)[0], strict=True):
        if kind == "functional":
            assert_same_bits(one, other)
        for name, value in one.items():  # the last bit of a convolution depends on where its rows lie in memory
            np.testing.assert_allclose(value, other[name], rtol=1e-6, atol=1e-6, err_msg=name)
    settings = RowSettings(60, 100, "real")
    for row in range(3):
        here = score(model, tf.constant(x[row]), tf.constant(60), tf.constant(0, tf.int64), settings)
        np.testing.assert_allclose(answers[0]["log_prob"][row], here["log_prob"], rtol=1e-5)  # a graph, op by op
    np.testing.assert_allclose(answers[1]["x_mean"], model.reconstruct(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answers[2]["loc_1"], model.encode(x)[0].loc, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_convolutions_climb_the_bound_of_digits(dtype):
    digits = iwae_tf.data.load("digits")
    x = digits.intensities("train")[:400]
    shape = (8, 8, 1)
    networks = {"encoder": ConvEncoder(shape, dtype=dtype), "decoder": ConvDecoder(shape, dtype=dtype)}
    model = iwae_tf.IWAE(64, (10,), ((),), data_mean=x.mean(axis=0), dtype=dtype, **networks)
    before = model.log_likelihood(x[:100], 50).numpy().mean()
    model.compile(keras.optimizers.Adam(3e-3), objective=DReG(5))
    model.fit(x, epochs=8, batch_size=40, verbose=0)
    assert model.log_likelihood(x[:100], 50).numpy().mean() > before + 2.0


# ------------------------------------------------------------------------------------------- doors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"encoder": ConvEncoder((8, 8, 1))}, r"the encoder must take rows \[N, 12\]: "),
        ({"decoder": ConvDecoder((8, 8, 1))}, "features for 8 x 8 positions cannot make 12 values"),
        ({"decoder": keras.layers.Dropout(0.1)}, "the decoder has the layer"),
        ({"prior": keras.layers.Dense(5)}, r"prior must be a Keras layer with log_prob\(h\) and sample\(n, key\), got"),
        ({"prior": LearnedGaussian(4)}, r"prior must give sample\(3, key\) of shape \(3, 5\), got \(3, 4\)"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        small_model(**arguments)


@EVERY
def test_pruning_and_the_analytic_kl_say_what_they_do_not_know(kind):
    model, x = model_of(kind), binary_images(4)
    with pytest.raises(InputError, match="pruning knows the tanh networks and the prior N"):
        pruned(model, [np.ones(5)])
    model.compile(objective=AnalyticKLELBO(2))
    if kind == "functional":
        with pytest.raises(InputError, match="closed form for the prior N"):
            model.fit(x, verbose=0)
    else:
        model.fit(x, verbose=0)
