"""The model's densities against NumPy float64 and TFP, its methods, files and doors, for both kinds of units."""

import keras
import numpy as np
import pytest
import reference
import reference_bernoulli
import tensorflow as tf
from binary_models import binary_model, generative_weights, inference_weights
from scipy import special
from small_models import (
    SMALL_DIM,
    binary_images,
    by_layer,
    reference_weights,
    small_model,
    standard_noise,
)
from user_networks import LearnedGaussian

import iwae_tf
from iwae_tf import InputError
from iwae_tf.layers import ConvDecoder, ConvEncoder
from iwae_tf.models.checks import check_gaussian

# float32 sums of some tens of terms of size 10: a few units in the seventh digit.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}
LATENTS = pytest.mark.parametrize("latent", ["gaussian", "bernoulli"])
DEPTHS = pytest.mark.parametrize("layers", [1, 2, 3])


def model_of(latent, layers=1, **kwargs):
    return (binary_model if latent == "bernoulli" else small_model)(layers, **kwargs)


@LATENTS
@DEPTHS
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_log_weights_and_their_terms_equal_the_numpy_reference(latent, layers, likelihood):
    model, x = model_of(latent, layers, likelihood=likelihood), binary_images(4)
    noise = standard_noise(model, 30, 4)
    if latent == "gaussian":
        expected = reference.iwae_log_weights(x, by_layer(model, noise), **reference_weights(model))
    else:
        weights = generative_weights(model)
        expected = reference_bernoulli.log_weights(x, by_layer(model, noise), inference_weights(model), **weights)
    log_w = model.log_weights_from_noise(tf.constant(x), tf.constant(noise))
    # Terms of a Gaussian reach millions here: (x - loc)^2 exp(-2 log_scale) magnifies how a processor rounds log_scale.
    np.testing.assert_allclose(log_w, expected, rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(sum(model.log_weight_terms(x, noise)), log_w, rtol=2e-5, atol=2e-4)


@LATENTS
@DEPTHS
def test_tfp_distributions_give_the_densities_of_the_hot_path(latent, layers):
    model, x = model_of(latent, layers), binary_images(4)
    h, log_q = model.inference_network.transform(tf.constant(x), tf.constant(standard_noise(model, 6, 4)))
    drawn = model.posterior(x).sample(6, seed=(0, 1))
    assert [layer.shape for layer in drawn] == [layer.shape for layer in h]
    assert [layer.shape for layer in h] == [(6, 4, units) for units in model.latent_units]
    if latent == "bernoulli":
        assert all(set(np.unique(layer)) <= {0.0, 1.0} for layer in (*h, *drawn))
    np.testing.assert_allclose(model.posterior(x).log_prob(h), log_q, **FLOAT32)
    np.testing.assert_allclose(model.inference_network.log_prob(tf.constant(x), h), log_q, **FLOAT32)
    log_likelihood = model.generative_network.log_likelihood(tf.constant(x), h)
    np.testing.assert_allclose(model.likelihood(h).log_prob(x), log_likelihood, **FLOAT32)
    for bad, found in ((h[0], "type "), ((), "type tuple"), ((h[0][..., :-1],), r"h\[0\] of shape")):
        with pytest.raises(InputError, match=rf"h must be a tuple of .* h\[0\] \[..., {h[0].shape[-1]}\], got {found}"):
            model.likelihood(bad)


def test_samples_are_pixels_and_means_are_probabilities():
    model = small_model(2)
    pixels, means = model.sample(500, seed=3).numpy(), model.sample(500, seed=3, mean=True).numpy()
    assert pixels.shape == means.shape == (500, SMALL_DIM)
    assert set(np.unique(pixels)) == {0.0, 1.0}
    assert ((means > 0) & (means < 1)).all()
    # Same latents, so pixels average to the means: standard error at most 0.5 / sqrt(6000), four of them.
    assert abs(pixels.mean() - means.mean()) < 4 * 0.5 / np.sqrt(pixels.size)
    np.testing.assert_array_equal(pixels, model.sample(500, seed=3))
    assert (pixels != model.sample(500, seed=4).numpy()).any()
    assert (means[:5] != model.sample(5, seed=4, mean=True).numpy()).all()


@LATENTS
def test_encode_gives_the_parameters_of_every_layer_along_the_mean(latent):
    model, below = model_of(latent, 3), binary_images(4)
    for found, stage, weights in zip(
        model.encode(below), model.inference_network.stages, reference_weights(model)["inference"], strict=True
    ):
        if latent == "gaussian":
            loc, log_scale = reference.gaussian_stage(below, weights)
            np.testing.assert_allclose(found.loc, loc, rtol=1e-4, atol=1e-5)  # float32 after up to 5 layers
            np.testing.assert_allclose(found.scale, np.exp(log_scale), rtol=1e-4)
            below = loc
        else:
            logits = reference_bernoulli.logits_of(below, weights)
            np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-5)
            below = special.expit(logits)
            np.testing.assert_allclose(found.probability, below, rtol=1e-4, atol=1e-5)
        assert all(hasattr(found, field) for field in stage.head.display_fields)


@LATENTS
def test_reconstruct_and_predict_give_the_mean_image_at_the_mean_of_q(latent):
    model, x = model_of(latent, 2), binary_images(4)
    first = model.encode(x)[0]
    expected = model.likelihood((first.loc if latent == "gaussian" else first.probability,)).mean()
    np.testing.assert_allclose(model.reconstruct(x), expected, **FLOAT32)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, **FLOAT32)


def test_the_presets_are_the_networks_of_the_paper():
    one, two = iwae_tf.IWAE.one_layer(784), iwae_tf.IWAE.two_layer(784)
    assert (one.latent_units, one.hidden_units) == ((50,), ((200, 200),))
    assert (two.latent_units, two.hidden_units) == ((100, 50), ((200, 200), (100, 100)))
    shapes = [tuple(stage.hidden.dense[0].kernel.shape) for stage in two.generative_network.stages]
    assert shapes == [(100, 200), (50, 100)]
    # 784-200-200-(50, 50) and 50-200-200-784, with biases.
    numbers = sum(np.prod(variable.shape) for variable in one.trainable_variables)
    assert numbers == (785 * 200 + 201 * 200 + 2 * 201 * 50) + (51 * 200 + 201 * 200 + 201 * 784)


def test_the_generative_network_mirrors_the_inference_network():
    def widths(stage):
        return [dense.units for dense in stage.hidden.dense]

    model = small_model(3)
    assert [widths(stage) for stage in model.inference_network.stages] == [[7, 6], [4], [8]]
    assert [widths(stage) for stage in model.generative_network.stages] == [[6, 7], [4], [8]]
    paths = [variable.path.rsplit("/", 1)[-1] for variable in small_model(1).trainable_variables]
    assert paths == ["kernel", "bias"] * 7  # 2 hidden layers, loc, log_scale; 2 hidden layers, logits


@LATENTS
def test_weights_are_a_function_of_the_seed(latent):
    one, same, other = (iwae_tf.IWAE(SMALL_DIM, (5,), ((7,),), seed=seed, latent=latent) for seed in (1, 1, 2))
    for a, b, c in zip(one.trainable_variables, same.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert a.name != "kernel" or (a.numpy() != c.numpy()).all()
    kernels = [v for v in one.trainable_variables if v.name == "kernel"]
    for kernel in kernels:  # Glorot uniform
        assert np.sqrt(6.0 / sum(kernel.shape)) / 2 < np.abs(kernel).max() <= np.sqrt(6.0 / sum(kernel.shape))
    assert len({float(kernel[0, 0]) for kernel in kernels}) == len(kernels)  # no two start alike


@pytest.mark.parametrize(
    ("latent", "layers", "likelihood"), [("bernoulli", 1, "bernoulli"), ("gaussian", 3, "gaussian")]
)
def test_a_saved_model_gives_the_same_numbers_back(tmp_path, latent, layers, likelihood):
    model = model_of(latent, layers, likelihood=likelihood, data_mean=np.full(SMALL_DIM, 0.3))
    x, noise = binary_images(5), standard_noise(model, 20, 5)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.log_weights_from_noise(x, noise), model.log_weights_from_noise(x, noise))
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    config = loaded.get_config()
    assert config == model.get_config()
    own = {"seed": 0, "data_mean": [0.3] * SMALL_DIM, "likelihood": likelihood, "latent": latent, "levels": None}
    assert config | own == config
    assert loaded.gaussian_latents == (latent == "gaussian")


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.mark.parametrize(
    ("x", "came"),
    [
        (np.zeros((3, 11)), r"shape \(3, 11\)"),
        (np.zeros(SMALL_DIM), r"shape \(12,\)"),
        (np.zeros((3, 3, 5)), r"shape \(3, 3, 5\)"),
        (np.zeros((0, SMALL_DIM)), "no rows"),
        (np.full((3, SMALL_DIM), 255, np.uint8), "values from 255.0 to 255.0"),
        (np.full((3, SMALL_DIM), -0.1), "values from -0.1"),
        (np.full((3, SMALL_DIM), np.nan), "values from nan to nan"),
    ],
)
def test_x_that_cannot_be_an_image_is_refused_with_what_came(model, x, came):
    for method in (model.log_likelihood, model.log_weight_chunks, model.posterior, model.encode, model.reconstruct):
        samples = (5,) if method in (model.log_likelihood, model.log_weight_chunks) else ()
        with pytest.raises(
            InputError, match=rf"^x must be \[batch, 12\] with values in \[0, 1\] .*, got {came}.*divide"
        ):
            method(x, *samples)


REFUSED = [
    ({"data_dim": 0}, "data_dim must be an integer >= 1, got 0"),
    ({"latent_units": (5, 3)}, "one entry for each stochastic layer, got 2 and 1"),
    ({"latent_units": (), "hidden_units": ()}, "one entry for each stochastic layer, got 0 and 0"),
    ({"latent_units": (0,)}, "latent_units must be an integer >= 1, got 0"),
    ({"hidden_units": ((7, -1),)}, "hidden_units must be an integer >= 1, got -1"),
    ({"latent": "bernouli"}, "unknown latent 'bernouli': did you mean 'bernoulli'"),
    ({"data_mean": np.zeros(11)}, r"data_mean must be 12 finite numbers, got an array of shape \(11,\)"),
    ({"data_mean": np.full(SMALL_DIM, np.nan)}, "data_mean must be 12 finite numbers, got NaN"),
    ({"seed": -1}, "seed must be"),
    ({"seed": 1.5}, "seed must be"),
    ({"likelihood": "student"}, "unknown likelihood 'student': did you mean 'student-t'"),
    ({"likelihood": "tests>Nothing"}, "nothing is registered as 'tests>Nothing': import"),
    ({"likelihood": keras.layers.Dense}, "derived from iwae_tf.layers.Likelihood, got"),
    ({"likelihood": "categorical"}, r"the likelihood categorical needs levels \(--levels\)"),
    ({"likelihood": "categorical", "levels": 1}, "levels must be at least 2, got 1"),
    ({"likelihood": "discretized-logistic", "levels": 2.5}, "levels must be an integer >= 1, got 2.5"),
    *(({"scale": scale}, "scale must be an integer from 1 to 65535") for scale in (0, -1, 1.5, 65_536)),
    ({"levels": 256}, r"levels \(--levels 256\) are for likelihoods over levels, not for bernoulli"),
    ({"encoder": ConvEncoder((8, 8, 1))}, r"the encoder must take rows \[N, 12\]: "),
    ({"decoder": ConvDecoder((8, 8, 1))}, r"the decoder is for images of \(8, 8, 1\), 64 values, not 12"),
    ({"decoder": keras.layers.Dropout(0.1)}, "the decoder has the layer"),
    ({"prior": keras.layers.Dense(5)}, r"prior must be a Keras layer with log_prob\(h\) and sample\(n, key\), got"),
    ({"prior": LearnedGaussian(4)}, r"prior must give sample\(3, key\) of shape \(3, 5\), got \(3, 4\)"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_constructor_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        small_model(**arguments)


def test_a_feature_for_gaussian_units_alone_says_why():
    check_gaussian(small_model(), "a thing", "a reason")
    with pytest.raises(InputError, match="a thing exists for Gaussian units, this model's are bernoulli: a reason"):
        check_gaussian(binary_model(), "a thing", "a reason")
