"""The layers of the networks, convolutions, a user's networks and prior, and weights that are read once."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import SMALL_DIM, binary_images, small_model, standard_noise
from user_networks import KINDS, LearnedGaussian, networks

from iwae_tf import IWAE, InputError
from iwae_tf.distributions.head import OutputDense
from iwae_tf.layers import ConvDecoder, ConvEncoder
from iwae_tf.models.networks import FlattenBatch, weights_read_once
from iwae_tf.objectives import AnalyticKLELBO, DReG, IWAEBound, RWSSleep

LEADING = pytest.mark.parametrize("leading", [(5,), (3, 2, 5)])
PRODUCT = {"rtol": 1e-5, "atol": 1e-6}  # float32 matrix products
# float32 sums of some tens of terms of size 10, through layers that add up in another order for another batch.
FLOAT32 = {"rtol": 2e-5, "atol": 1e-4}


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def output_dense(units, *shape):
    layer = OutputDense(units, keras.initializers.GlorotUniform(1), keras.initializers.RandomNormal(seed=2))
    layer.build((None, *shape))
    return layer


@LEADING
def test_features_of_rows_and_of_pixels_make_values_in_the_order_of_an_image(leading):
    layer, features = output_dense(6, 4), normal(*leading, 4)
    expected = features.astype(np.float64) @ layer.kernel.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(layer(features), expected, **PRODUCT)
    layer, features = output_dense(12, 2, 3, 4), normal(*leading, 2, 3, 4)
    assert layer.kernel.shape == (4, 2)
    expected = np.einsum("...ijf,fc->...ijc", features.astype(np.float64), layer.kernel.numpy())
    expected = expected.reshape(*leading, 12) + layer.bias.numpy()
    np.testing.assert_allclose(layer(features), expected, **PRODUCT)
    with pytest.raises(InputError, match="features for 2 x 3 positions cannot make 10 values"):
        output_dense(10, 2, 3, 4)


class Image(keras.layers.Layer):
    """Adds 1 and makes a 2 x 3 image of each row, and remembers the shapes that it was given."""

    def call(self, rows):
        self.shapes = [*getattr(self, "shapes", ()), tuple(rows.shape)]
        return tf.reshape(rows + 1.0, [-1, 2, 3, 1])


@LEADING
@pytest.mark.parametrize("flatten", [False, True])
def test_a_users_layer_sees_one_batch_axis_and_its_features_keep_the_leading_ones(leading, flatten):
    image, x, features = Image(), normal(*leading, 6), (6,) if flatten else (2, 3, 1)
    layer = FlattenBatch(image, "decoder", flatten)
    layer.build((None, 6))
    out = layer(tf.constant(x))
    assert out.shape == layer.compute_output_shape(x.shape) == (*leading, *features)
    np.testing.assert_array_equal(out.numpy().reshape(x.shape), x + 1.0)
    assert image.shapes[-1] == (np.prod(leading), 6)
    traced = tf.function(layer.call, autograph=False).get_concrete_function(tf.TensorSpec([None, 5, 6]))
    assert traced.structured_outputs.shape.as_list() == [None, 5, *features]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda x: x, "the encoder must be a Keras layer, got <function"),
        (keras.layers.Dropout(0.5), r"'dropout\w*' \(Dropout\) with random numbers of its own: .* Leave out dropout"),
        (keras.Sequential([keras.layers.Dense(3), keras.layers.BatchNormalization()]), "with weights that no gradient"),
        (keras.layers.Reshape((7,)), r"the encoder must take rows \[N, 6\]: "),
        (ConvEncoder((4, 4, 1)), r"the encoder must take rows \[N, 6\]: Exception encountered .*12 values"),
        (keras.layers.Lambda(lambda x: len(3.0)), r"the encoder must take rows \[N, 6\]: .*float"),
        (
            keras.Sequential([keras.layers.Reshape((2, 3)), keras.layers.LSTM(3, stateful=True)]),
            "with a state that it keeps between calls",
        ),
        (keras.layers.Lambda(lambda x: tf.reduce_mean(x, axis=0)), r"must give features \[N, ...\] for rows"),
        (keras.layers.Lambda(lambda x: x[:1]), r"got \(1, 6\) for 2 rows"),
        (keras.layers.Lambda(lambda x: (x, x)), r"must give features \[N, ...\] for rows \[N, ...\], got"),
    ],
)
def test_layers_that_cannot_stand_in_a_network_are_refused(layer, words):
    with pytest.raises(InputError, match=words):
        FlattenBatch(layer, "encoder").build((None, 6))


def test_a_decoder_for_images_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"the decoder is for images of \(2, 3, 1\), 6 values, not 12"):
        small_model(decoder=ConvDecoder((2, 3, 1)))


def test_networks_that_share_a_weight_are_refused():
    shared = keras.layers.Dense(5)
    decoder = keras.Sequential([keras.layers.Dense(6), shared])
    with pytest.raises(InputError, match=r"encoder and decoder share the weight .*kernel: give each layers of its own"):
        IWAE(6, 6, encoder=shared, decoder=decoder)


@pytest.mark.parametrize(
    ("shape", "filters"), [((8, 8, 1), (4,)), ((28, 28, 1), (4, 6)), ((13, 7, 3), (3, 4, 5)), ((1, 5, 2), (4, 6))]
)
def test_an_image_of_any_size_becomes_features_and_features_an_image_of_that_size(shape, filters):
    height, width = (int(np.ceil(n / 2 ** len(filters))) for n in shape[:2])
    one = filters[0] if len(filters) == 1 else filters  # a single one needs no brackets
    features = ConvEncoder(shape, one)(tf.ones([2, int(np.prod(shape))]))
    assert features.shape == (2, height * width * filters[-1])
    assert ConvDecoder(shape, filters)(tf.ones([2, 5])).shape == (2, *shape[:2], filters[0])


def test_a_value_reaches_the_features_near_it_and_no_others():
    x = np.zeros((2, 16, 16), np.float32)
    x[1, 0, 15] = 1.0  # top right
    features = ConvEncoder((16, 16, 1), (3, 4))(x.reshape(2, -1)).numpy().reshape(2, 4, 4, 4)
    changed = np.abs(np.diff(features, axis=0)).sum(axis=(0, 3)) > 0
    assert changed[0, 3]
    assert not changed[2:].any()
    assert not changed[:, :2].any()


def test_weights_of_convolutions_are_a_function_of_the_seed_and_differ_between_the_layers():
    def kernels(cls, seed):
        layer = cls((8, 8, 1), seed=seed)
        layer.build((None, 64 if cls is ConvEncoder else 5))
        return [w.numpy() for w in layer.weights if w.name == "kernel"]

    for cls in (ConvEncoder, ConvDecoder):
        for one, same, other in zip(kernels(cls, 1), kernels(cls, 1), kernels(cls, 2), strict=True):
            np.testing.assert_array_equal(one, same)
            assert (one != other).all()
    # As the same draws scaled by another limit their ratios would be one number.
    firsts = [kernel.ravel()[:20] for cls in (ConvEncoder, ConvDecoder) for kernel in kernels(cls, 1)]
    assert all(np.std(one / other) > 0.1 for i, one in enumerate(firsts) for other in firsts[:i])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_shape": (8, 8)}, r"image_shape is \(height, width, channels\) and filters at least one, got \(8, 8\)"),
        ({"filters": ()}, "filters at least one"),
        ({"image_shape": (8, 0, 1)}, "image_shape must be an integer >= 1, got 0"),
        ({"dtype": "mixed_float16"}, "take the dtype float32 or mixed_bfloat16, got mixed_float16"),
        ({"dtype": "bfloat16"}, "take the dtype float32 or mixed_bfloat16, got bfloat16"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_arguments_of_convolutions_out_of_range_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        ConvEncoder(**{"image_shape": (8, 8, 1), **arguments})


def model_of(kind, **kwargs):
    return small_model(gain=1.0, **networks(kind), **kwargs)


@pytest.mark.parametrize(("kind", "layers"), [*((kind, 1) for kind in KINDS), ("conv", 2), ("dense", 2)])
def test_log_weights_are_those_of_the_distributions_and_of_no_other_row_or_sample(kind, layers):
    model, x = small_model(layers, gain=1.0, **networks(kind)), binary_images(4)
    noise = standard_noise(model, 6, 4)
    h, _ = model.inference_network.transform(tf.constant(x), noise)
    expected = model.likelihood(h).log_prob(x) + model.generative_network.log_prior(h) - model.posterior(x).log_prob(h)
    np.testing.assert_allclose(model.log_weights_from_noise(x, noise), expected, **FLOAT32)
    alone = model.log_weights_from_noise(x[1:2], noise[3:4, 1:2])
    np.testing.assert_allclose(alone[0, 0], expected[3, 1], **FLOAT32)


@pytest.mark.parametrize("kind", ["dense", None])
def test_x_is_encoded_once_whatever_k(monkeypatch, kind):
    model, seen = model_of(kind) if kind else small_model(), []
    hidden = model.inference_network.stages[0].hidden
    layer = hidden.layer if kind else hidden.dense[0]
    original = layer.call
    monkeypatch.setattr(layer, "call", lambda x, **kwargs: (seen.append(tuple(x.shape)), original(x, **kwargs))[1])
    model.log_weights_from_noise(binary_images(4), standard_noise(model, 50, 4))
    assert seen == [(4, SMALL_DIM)]


@pytest.mark.parametrize(("kind", "features"), [("conv", 4), ("functional", 7)])
def test_the_output_starts_at_the_mean_of_every_pixel(kind, features):
    mean = np.linspace(0.1, 0.9, SMALL_DIM)
    head = model_of(kind, data_mean=mean).likelihood_head
    assert head.logits.kernel.shape == (features, 2)
    np.testing.assert_allclose(head.mean(head(tf.zeros([1, 2, 3, features])))[0], mean, rtol=1e-5)


def test_a_users_prior_takes_part_in_weights_and_samples_and_the_analytic_kl_does_not_know_it():
    prior = LearnedGaussian(5)
    model, x = small_model(gain=1.0, prior=prior), binary_images(4)
    noise = standard_noise(model, 6, 4)
    prior.loc.assign([1.0, 2.0, 3.0, 4.0, 5.0])
    prior.log_scale.assign([-1.0, 0.0, 1.0, 0.5, -0.5])
    h, log_q = model.inference_network.transform(x, noise)
    expected = reference.gaussian_log_prob(h[0], prior.loc.numpy(), prior.log_scale.numpy())
    found = model.log_weights_from_noise(x, noise) - model.generative_network.log_likelihood(x, h) + log_q
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)  # differences of sums of tens
    (drawn,) = model.generative_network.sample_latents(4000, lambda layer: tf.constant([1, layer], tf.int64))
    errors = np.exp(prior.log_scale.numpy()) / np.sqrt(4000)
    assert (np.abs(drawn.numpy().mean(axis=0) - prior.loc.numpy()) < 4.0 * errors).all()
    with pytest.raises(InputError, match="closed form for the prior N"):
        AnalyticKLELBO(2).log_weights(model, x, noise[:2])
    with pytest.raises(InputError, match="closed form for the prior N"):
        model.compile(objective=AnalyticKLELBO(2))


class BuiltGaussian(LearnedGaussian):
    """The same with its weights made in `build`, as Keras' own layers make theirs."""

    def __init__(self, units, **kwargs):
        keras.layers.Layer.__init__(self, **kwargs)
        self.units = units

    def build(self, input_shape):
        self.loc, self.log_scale = (
            self.add_weight(shape=input_shape[-1:], initializer="zeros", name=name) for name in ("loc", "log_scale")
        )
        self.built = True


def test_a_users_prior_may_make_its_weights_in_build():
    x = binary_images(4)
    model, plain = small_model(gain=1.0, prior=BuiltGaussian(5)), small_model(gain=1.0)
    assert len(model.trainable_variables) == len(plain.trainable_variables) + 2
    noise = standard_noise(model, 6, 4)
    found, expected = (each.log_weights_from_noise(x, noise) for each in (model, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_recurrent_layers_without_dropout_are_trained_and_those_with_it_refused():
    x = binary_images(4)

    def encoder(dropout):
        return keras.Sequential([keras.layers.Reshape((4, 3)), keras.layers.GRU(6, dropout=dropout)])

    model = small_model(encoder=encoder(0.0))
    model.compile(keras.optimizers.Adam(1e-2), objective=DReG(3))
    before = [weight.numpy() for weight in model.inference_network.trainable_variables]
    model.fit(x, verbose=0)
    for weight, old in zip(model.inference_network.trainable_variables, before, strict=True):
        assert (weight.numpy() != old).any()
    with pytest.raises(InputError, match="with random numbers of its own"):
        small_model(encoder=encoder(0.1))


class WithSpare(keras.layers.Layer):
    """A dense layer, and a weight that takes no part."""

    def __init__(self, rounded=False):
        super().__init__()
        self.dense, self.rounded = keras.layers.Dense(6), rounded
        self.spare = None if rounded else self.add_weight(shape=(2,), name="spare")

    def call(self, x):
        return tf.round(self.dense(x)) if self.rounded else self.dense(x)


@pytest.mark.parametrize("objective", [IWAEBound(2), DReG(2), IWAEBound(4, backward_samples=2), RWSSleep(2)])
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_a_weight_that_no_gradient_reaches_is_named(objective, rounded, role):
    model = small_model(**{role: WithSpare(rounded)})
    model.compile(objective=objective, run_eagerly=True)
    name = "kernel" if rounded else "spare"
    with pytest.raises(InputError, match=f"the bound has no gradient by the weight .*{name}: .* set trainable = False"):
        model.fit(binary_images(4), verbose=0)


@pytest.mark.parametrize("kind", ["conv", "functional"])
def test_a_users_layers_are_trained_unless_frozen_and_saved_with_the_model(kind, tmp_path):
    arguments, x = networks(kind), binary_images(6)
    arguments["encoder"].trainable = kind == "conv"
    model = small_model(gain=1.0, **arguments)
    before = {name: [w.numpy() for w in layer.weights] for name, layer in arguments.items()}
    model.compile(keras.optimizers.Adam(1e-2), objective=DReG(5), run_eagerly=True)
    model.fit(x, verbose=0)
    for name, weights in before.items():
        changed = [(one.numpy() != other).any() for one, other in zip(arguments[name].weights, weights, strict=True)]
        assert all(changed) if arguments[name].trainable else not any(changed), name
    model.save(tmp_path / "m.keras")
    again, noise = keras.saving.load_model(tmp_path / "m.keras"), standard_noise(model, 6, 6)
    np.testing.assert_array_equal(again.log_weights_from_noise(x, noise), model.log_weights_from_noise(x, noise))
    assert len(again.trainable_variables) == len(model.trainable_variables)
    assert again.step == model.step == 1


def operations(graph) -> list[str]:
    """Types of the operations of a graph and of all the functions that it calls."""
    inner = [kind for function in graph._functions.values() for kind in operations(function.graph)]
    return [op.type for op in graph.get_operations()] + inner


def test_layers_find_the_weights_that_were_read_and_afterwards_their_variables_again():
    model, x = small_model(2), binary_images(3)
    noise = standard_noise(model, 4, 3)
    before, context = model.log_weights_from_noise(x, noise), weights_read_once(model)
    for variable in model.trainable_variables:
        variable.assign(1.5 * variable)
    with context:
        np.testing.assert_array_equal(model.log_weights_from_noise(x, noise), before)
    assert (np.abs(model.log_weights_from_noise(x, noise) - before) > 1e-3).all()


def test_a_training_step_reads_each_weight_once_and_the_rows_of_a_score_wait_for_no_variable():
    """A loop with an effect in its body, such as reading a variable, takes its turns one after the other."""
    model, x, k, seed = small_model(), tf.constant(binary_images(3)), tf.constant(60), tf.constant(0, tf.int64)
    model.compile(objective=IWAEBound(4, backward_samples=2))
    types = operations(model._forward_backward.get_concrete_function(x, seed).graph)
    assert types.count("ReadVariableOp") == len(model.trainable_variables)
    for function, arguments in ((model._estimate_rows, (seed, k, k)), (model._chunk_log_weights, (seed, k, 100))):
        types = operations(function.get_concrete_function(x, *arguments).graph)
        assert "StatelessWhile" in types
        assert "While" not in types


def test_convolutions_do_not_depend_on_the_image_format_of_keras():
    x = np.random.default_rng(0).random((2, 16)).astype(np.float32)
    expected = ConvEncoder((4, 4, 1))(x)
    keras.config.set_image_data_format("channels_first")
    try:
        np.testing.assert_array_equal(ConvEncoder((4, 4, 1))(x), expected)
    finally:
        keras.config.set_image_data_format("channels_last")
