"""The model's densities against NumPy float64 and TFP, its methods, and its doors."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from iwae_tf.models.evaluation_noise import SAMPLES_PER_BLOCK
from small_models import SMALL_DIM, SMALL_NETWORKS, binary_images, reference_weights, small_model

import iwae_tf

# float32 sums of some tens of terms of size 10: a few units in the seventh digit.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}


def _noise(k, batch, units, seed=1):
    return np.random.default_rng(seed).standard_normal((k, batch, units)).astype(np.float32)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_log_weights_equal_the_numpy_reference(layers, likelihood):
    model, x = small_model(layers, likelihood=likelihood), binary_images(4)
    units = SMALL_NETWORKS[layers]["latent_units"]
    noise = _noise(6, 4, sum(units))
    split = np.split(noise.astype(np.float64), np.cumsum(units)[:-1], axis=-1)
    expected = reference.iwae_log_weights(x, split, **reference_weights(model))
    log_w = model.log_weights_from_noise(tf.constant(x), tf.constant(noise))
    np.testing.assert_allclose(log_w, expected, rtol=2e-5, atol=2e-4)  # Gaussian terms reach thousands here


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_tfp_distributions_give_the_densities_of_the_hot_path(layers):
    model, x = small_model(layers), binary_images(4)
    noise = _noise(6, 4, sum(model.latent_units))
    h, log_q = model.inference_network.transform(tf.constant(x), tf.constant(noise))
    np.testing.assert_allclose(model.posterior(x).log_prob(h), log_q, **FLOAT32)
    np.testing.assert_allclose(model.inference_network.log_prob(tf.constant(x), h), log_q, **FLOAT32)
    log_likelihood = model.generative_network.log_likelihood(tf.constant(x), h)
    np.testing.assert_allclose(model.likelihood(h).log_prob(x), log_likelihood, **FLOAT32)


def test_posterior_samples_have_the_sample_axis_first():
    model = small_model(3)
    h = model.posterior(binary_images(4)).sample(6, seed=(0, 1))
    assert [tuple(layer.shape) for layer in h] == [(6, 4, 5), (6, 4, 3), (6, 4, 2)]


def test_the_encoder_sees_each_x_once(monkeypatch):
    model, x = small_model(1), binary_images(4)
    rows = []
    dense = model.inference_network.stages[0].hidden.dense[0]
    original = dense.call
    monkeypatch.setattr(
        dense, "call", lambda inputs, **kwargs: (rows.append(inputs.shape), original(inputs, **kwargs))[1]
    )
    model.log_weights_from_noise(tf.constant(x), tf.constant(_noise(50, 4, 5)))
    assert rows == [(4, SMALL_DIM)]


@pytest.mark.parametrize("layers", [1, 2])
def test_log_likelihood_is_the_log_mean_of_the_log_weights(layers):
    model, x = small_model(layers), binary_images(5)
    log_w = model.log_weights(x, 133, seed=7).numpy().astype(np.float64)
    assert log_w.shape == (133, 5)
    # Both sum the same float32 log-weights in float64.
    np.testing.assert_allclose(model.log_likelihood(x, 133, seed=7), reference.log_mean_exp(log_w), rtol=1e-12)


@pytest.mark.parametrize("chunk_size", [50, 100, 150, 1000])
def test_log_weights_do_not_depend_on_the_chunk_size(chunk_size):
    model, x = small_model(2), binary_images(5)
    chunks = list(model.log_weight_chunks(x, 333, seed=7, chunk_size=chunk_size))
    assert [len(chunk) for chunk in chunks[:-1]] == [chunk_size] * (len(chunks) - 1)
    np.testing.assert_allclose(np.concatenate(chunks), model.log_weights(x, 333, seed=7), **FLOAT32)


def test_a_chunk_size_that_cuts_blocks_of_samples_is_refused():
    with pytest.raises(ValueError, match="chunk_size must be a multiple of 50, got 60"):
        list(small_model().log_weight_chunks(binary_images(2), 100, chunk_size=60))


def test_log_likelihood_of_many_rows_is_that_of_every_row():
    model, x = small_model(), binary_images(450)
    whole = model.log_weights(x, 20).numpy().astype(np.float64)
    np.testing.assert_allclose(model.log_likelihood(x, 20), reference.log_mean_exp(whole), rtol=1e-5)  # float32


def test_fewer_samples_are_the_first_of_more():
    model, x = small_model(1), binary_images(3)
    np.testing.assert_allclose(model.log_weights(x, 7), model.log_weights(x, 120)[:7], **FLOAT32)


def test_log_weights_of_a_row_depend_on_its_number_and_on_nothing_else_in_the_batch():
    model, x = small_model(2), binary_images(6)
    whole = model.log_weights(x, 60)
    alone = np.concatenate(list(model.log_weight_chunks(x[4:5], 60, rows=[4])))
    np.testing.assert_allclose(alone[:, 0], whole[:, 4], **FLOAT32)


def test_rows_seeds_and_blocks_of_samples_draw_different_noise():
    model = small_model(1)
    x = np.repeat(binary_images(1), 4, axis=0)
    log_w = model.log_weights(x, 3 * SAMPLES_PER_BLOCK).numpy()
    assert len(np.unique(log_w)) == log_w.size
    assert not np.isin(model.log_weights(x, 20, seed=1).numpy(), log_w).any()


def test_more_samples_raise_the_mean_bound():
    model, x = small_model(1), binary_images(200)
    means = [float(np.mean(model.log_likelihood(x, k))) for k in (1, 5, 50)]
    assert means[0] + 0.1 < means[1] < means[2] - 0.01  # the gaps are 10 standard errors and more


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


def test_means_of_samples_change_with_the_seed():
    model = small_model(2)
    assert (model.sample(5, seed=3, mean=True).numpy() != model.sample(5, seed=4, mean=True).numpy()).all()


def test_samples_follow_the_model_where_it_is_known():
    model = iwae_tf.IWAE(2, (2, 2), ((), ()), likelihood="gaussian")
    for stage in model.generative_network.stages:
        stage.head.loc.kernel.assign(2.0 * np.eye(2))
        stage.head.log_scale.kernel.assign(np.zeros((2, 2)))
    variance = np.var(model.sample(20_000, seed=1), axis=0)
    # h2 has variance 1, h1 4 + 1, x 4 * 5 + 1 = 21, known to sqrt(2 / n) = 1%; four standard errors.
    np.testing.assert_allclose(variance, 21.0, rtol=0.04)


def test_encode_gives_loc_and_scale_of_every_layer():
    model, x = small_model(2), binary_images(4)
    first, second = model.encode(x)
    assert first.loc.shape == first.scale.shape == (4, 5)
    assert second.loc.shape == second.scale.shape == (4, 3)
    np.testing.assert_allclose(first.scale, np.exp(first.log_scale), rtol=1e-6)
    np.testing.assert_allclose(second.loc, model.inference_network.stages[1](first.loc).loc, **FLOAT32)


def test_reconstruct_and_predict_give_the_mean_image():
    model, x = small_model(2), binary_images(4)
    expected = model.likelihood((model.encode(x)[0].loc,)).mean()
    np.testing.assert_allclose(model.reconstruct(x), expected, **FLOAT32)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, **FLOAT32)


def test_the_presets_are_the_networks_of_the_paper():
    one, two = iwae_tf.IWAE.one_layer(784), iwae_tf.IWAE.two_layer(784)
    assert (one.latent_units, one.hidden_units) == ((50,), ((200, 200),))
    assert (two.latent_units, two.hidden_units) == ((100, 50), ((200, 200), (100, 100)))
    shapes = [tuple(stage.hidden.dense[0].kernel.shape) for stage in two.generative_network.stages]
    assert shapes == [(100, 200), (50, 100)]
    # 784-200-200-(50, 50) and 50-200-200-784, with biases.
    assert one.count_params() == (785 * 200 + 201 * 200 + 2 * 201 * 50) + (51 * 200 + 201 * 200 + 201 * 784)


def test_the_generative_network_mirrors_the_inference_network():
    def widths(stage):
        return [dense.units for dense in stage.hidden.dense]

    model = small_model(3)
    assert [widths(stage) for stage in model.inference_network.stages] == [[7, 6], [4], [8]]
    assert [widths(stage) for stage in model.generative_network.stages] == [[6, 7], [4], [8]]


def test_the_output_starts_at_the_mean_of_the_data():
    mean = np.linspace(0, 1, SMALL_DIM)
    bias = iwae_tf.IWAE(SMALL_DIM, data_mean=mean).generative_network.likelihood_stage.head.logits.bias
    np.testing.assert_allclose(tf.sigmoid(bias), np.clip(mean, 0.001, 0.999), rtol=1e-4)


def test_weights_are_a_function_of_the_seed():
    one, same, other = (iwae_tf.IWAE(SMALL_DIM, seed=seed) for seed in (1, 1, 2))
    for a, b, c in zip(one.trainable_variables, same.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert a.name == "bias" or (a.numpy() != c.numpy()).all()
    kernels = [v for v in one.trainable_variables if v.name == "kernel"]
    assert len({float(kernel[0, 0]) for kernel in kernels}) == len(kernels)  # no two start alike


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 11)), r"\(3, 11\)"),
        (np.zeros((3, 3, 4)), r"\(3, 3, 4\)"),
        (np.zeros((0, SMALL_DIM)), "no rows"),
        (np.full((3, SMALL_DIM), 255, np.uint8), "255"),
        (np.full((3, SMALL_DIM), -0.1), "-0.1"),
        (np.full((3, SMALL_DIM), np.nan), "nan"),
    ],
)
@pytest.mark.parametrize(
    "method", [lambda m, x: m.log_likelihood(x, 5), lambda m, x: m.encode(x), lambda m, x: m.reconstruct(x)]
)
def test_x_that_cannot_be_an_image_is_refused(method, x, message):
    with pytest.raises(ValueError, match=message) as error:
        method(small_model(), x)
    assert f"[batch, {SMALL_DIM}]" in str(error.value)
    assert "divide" in str(error.value)


def test_real_values_are_refused_by_bernoulli_pixels_only():
    x = 100.0 * np.random.default_rng(0).standard_normal((3, SMALL_DIM))
    assert np.isfinite(small_model(likelihood="gaussian").log_likelihood(x, 5)).all()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        small_model().log_likelihood(x, 5)


@pytest.mark.parametrize("num_samples", [0, -1, 2.5, "5", True, None])
def test_a_number_of_samples_that_is_none_is_refused(num_samples):
    model, x = small_model(), binary_images(2)
    for method in (model.log_weights, model.log_likelihood):
        with pytest.raises(ValueError, match="num_samples must be an integer >= 1"):
            method(x, num_samples)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_dim": 0}, "data_dim"),
        ({"latent_units": (5, 3)}, "one entry for each"),
        ({"latent_units": (), "hidden_units": ()}, "one entry for each"),
        ({"latent_units": (0,)}, "latent_units"),
        ({"hidden_units": ((7, -1),)}, "hidden_units"),
        ({"likelihood": "bernouli"}, "did you mean 'bernoulli'"),
        ({"data_mean": np.zeros(11)}, "data_mean"),
        ({"data_mean": np.full(SMALL_DIM, np.nan)}, "data_mean"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
    ],
)
def test_constructor_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        iwae_tf.IWAE(**{"data_dim": SMALL_DIM, **SMALL_NETWORKS[1], **arguments})


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_saved_model_gives_the_same_numbers_back(tmp_path, layers, likelihood):
    model, x = small_model(layers, likelihood=likelihood, data_mean=np.full(SMALL_DIM, 0.3)), binary_images(5)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded.log_weights(x, 60), model.log_weights(x, 60), rtol=1e-6, atol=1e-5)
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    config = loaded.get_config()
    assert config == model.get_config()
    assert config | {"seed": 0, "data_mean": [0.3] * SMALL_DIM, "likelihood": likelihood} == config
