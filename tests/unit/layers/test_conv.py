"""The convolutional networks: sizes, pixels that see their surroundings, seeds and doors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from iwae_tf import InputError
from iwae_tf.layers import ConvDecoder, ConvEncoder


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (13, 7, 3), (1, 5, 2), (3, 2, 1)])
@pytest.mark.parametrize("filters", [(4,), (4, 6), (3, 4, 5)])
def test_an_image_of_any_size_becomes_features_and_features_an_image_of_that_size(shape, filters):
    encoder, decoder = ConvEncoder(shape, filters), ConvDecoder(shape, filters)
    features = encoder(tf.ones([2, int(np.prod(shape))]))
    height, width = (int(np.ceil(n / 2 ** len(filters))) for n in shape[:2])
    assert features.shape == (2, height * width * filters[-1])
    assert decoder(tf.ones([2, 5])).shape == (2, *shape[:2], filters[0])


def test_a_value_reaches_the_features_near_it_and_no_others():
    encoder = ConvEncoder((16, 16, 1), (3, 4))
    x = np.zeros((2, 16, 16), np.float32)
    x[1, 0, 15] = 1.0  # top right
    changed = np.abs(np.diff(encoder(x.reshape(2, -1)).numpy().reshape(2, 4, 4, 4), axis=0)).sum(axis=(0, 3)) > 0
    assert changed[0, 3]
    assert not changed[2:].any()
    assert not changed[:, :2].any()


def test_weights_are_a_function_of_the_seed_and_differ_between_the_layers():
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
    for i, one in enumerate(firsts):
        for other in firsts[:i]:
            assert np.std(one / other) > 0.1


@pytest.mark.parametrize("cls", [ConvEncoder, ConvDecoder])
def test_a_config_makes_the_same_layer(cls):
    layer = cls((13, 7, 3), (4, 5), seed=3, dtype="mixed_bfloat16")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    x = tf.ones([2, 273])
    np.testing.assert_array_equal(tf.cast(again(x), tf.float32), tf.cast(layer(x), tf.float32))
    assert again.compute_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_shape": (8, 8)}, r"image_shape is \(height, width, channels\) and filters at least one, got \(8, 8\)"),
        ({"image_shape": (8, 8, 1), "filters": ()}, "filters at least one"),
        ({"image_shape": (8, 0, 1)}, "image_shape must be an integer >= 1, got 0"),
        ({"image_shape": (8, 8, 1), "dtype": "mixed_float16"}, "take float32 or bfloat16"),
        ({"image_shape": (8, 8, 1), "seed": -1}, "seed must be"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        ConvEncoder(**arguments)
