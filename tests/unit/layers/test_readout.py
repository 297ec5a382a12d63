"""Features of rows and of pixels to values, and layers that know one batch axis."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from iwae_tf.layers.bernoulli import Bernoulli
from iwae_tf.layers.folded import Folded
from iwae_tf.layers.readout import Readout

from iwae_tf import InputError, seeds

# float32 sums of four products.
FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}


def readout(units, *shape):
    layer = Readout(units, keras.initializers.GlorotUniform(1), keras.initializers.RandomNormal(seed=2))
    layer.build((None, *shape))
    return layer


@pytest.mark.parametrize("leading", [(5,), (2, 5), (3, 2, 5)])
def test_features_of_rows_go_through_a_dense_layer(leading):
    layer, features = readout(6, 4), np.random.default_rng(0).normal(size=(*leading, 4)).astype(np.float32)
    expected = features.astype(np.float64) @ layer.kernel.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(layer(features), expected, **FLOAT32)


@pytest.mark.parametrize("leading", [(5,), (2, 5), (3, 2, 5)])
def test_each_pixel_makes_its_channels_from_its_features_in_the_order_of_an_image(leading):
    layer, features = readout(12, 2, 3, 4), np.random.default_rng(0).normal(size=(*leading, 2, 3, 4))
    assert layer.kernel.shape == (4, 2)
    out = layer(features.astype(np.float32)).numpy()
    assert out.shape == (*leading, 12)
    image, bias = out.reshape(*leading, 2, 3, 2), layer.bias.numpy().reshape(2, 3, 2)
    for i in range(2):
        for j in range(3):
            expected = features[..., i, j, :] @ layer.kernel.numpy().astype(np.float64) + bias[i, j]
            np.testing.assert_allclose(image[..., i, j, :], expected, **FLOAT32)


def test_pixels_that_do_not_divide_the_values_are_refused():
    with pytest.raises(InputError, match="features for 2 x 3 positions cannot make 10 values"):
        readout(10, 2, 3, 4)


class Recorder(keras.layers.Layer):
    """Adds 1 and makes a 2 x 3 image of each row, and remembers the shapes that it was given."""

    def call(self, rows):
        self.shapes = [*getattr(self, "shapes", ()), tuple(rows.shape)]
        return tf.reshape(rows + 1.0, [-1, 2, 3, 1])


@pytest.mark.parametrize("leading", [(5,), (2, 5), (3, 2, 5)])
@pytest.mark.parametrize("flatten", [False, True])
def test_a_users_layer_sees_one_batch_axis_and_its_features_keep_the_leading_ones(leading, flatten):
    recorder = Recorder()
    folded = Folded(recorder, "decoder", flatten)
    folded.build((None, 6))
    x = np.random.default_rng(0).normal(size=(*leading, 6)).astype(np.float32)
    out = folded(tf.constant(x))
    assert out.shape == folded.compute_output_shape(x.shape) == ((*leading, 6) if flatten else (*leading, 2, 3, 1))
    np.testing.assert_array_equal(out.numpy().reshape(x.shape), x + 1.0)
    assert recorder.shapes[-1] == (np.prod(leading), 6)


def test_shapes_are_known_in_a_graph_where_the_inputs_are():
    folded = Folded(Recorder(), "decoder")
    folded.build((None, 6))
    traced = tf.function(folded.call, autograph=False).get_concrete_function(tf.TensorSpec([None, 5, 6]))
    assert traced.structured_outputs.shape.as_list() == [None, 5, 2, 3, 1]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda x: x, "the encoder must be a Keras layer, got <function"),
        (keras.layers.Dropout(0.5), r"'dropout\w*' \(Dropout\) with random numbers of its own: .* Leave out dropout"),
        (keras.Sequential([keras.layers.Dense(3), keras.layers.BatchNormalization()]), "with weights that no gradient"),
        (keras.layers.GaussianNoise(0.1), "random numbers of its own"),
        (keras.layers.Reshape((7,)), r"the encoder must take rows \[N, 6\]: "),
        (keras.layers.Lambda(lambda x: tf.reduce_mean(x, axis=0)), r"must give features \[N, ...\] for rows"),
        (keras.layers.Lambda(lambda x: x[:1]), r"got \(1, 6\) for 2 rows"),
        (keras.layers.Lambda(lambda x: (x, x)), r"must give features \[N, ...\] for rows \[N, ...\], got"),
    ],
)
def test_layers_that_cannot_stand_in_a_network_are_refused(layer, words):
    with pytest.raises(InputError, match=words):
        Folded(layer, "encoder").build((None, 6))


def test_a_frozen_layer_has_no_state():
    layer = keras.Sequential([keras.layers.Dense(3), keras.layers.LayerNormalization()])
    layer.trainable = False
    Folded(layer, "encoder").build((None, 6))
    assert len(layer.non_trainable_weights) == 4


def test_a_bernoulli_likelihood_of_features_for_each_position_is_that_of_its_logits():
    """Four positions and four images: the fused product of features [k, B, F] would take one for the other."""
    head = Bernoulli(32, seeds.initializer_seeds(0))
    head.build((None, 4, 3))
    features = tf.random.stateless_normal([4, 4, 3], [0, 1])
    value = tf.cast(tf.random.stateless_uniform([4, 32], [0, 2]) < 0.5, tf.float32)
    log_prob = head.log_prob_of_features(features, value)
    np.testing.assert_array_equal(log_prob, head.log_prob(head(features), value))
    assert log_prob.shape == (4,)
