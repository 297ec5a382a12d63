import numpy as np
import pytest
import reference
from iwae_tf.layers.mlp import MLP

from iwae_tf import seeds


def built(units=(5, 3), seed=0, inputs=4):
    mlp = MLP(units, seeds.initializer_seeds(seed))
    mlp.build((None, inputs))
    return mlp


@pytest.mark.parametrize("units", [(5, 3), (6,), ()])
def test_the_output_is_tanh_after_every_dense_layer(units):
    mlp = built(units)
    for dense in mlp.dense:
        dense.bias.assign(np.linspace(-1.0, 1.0, dense.units))
    x = np.random.default_rng(0).normal(0.0, 3.0, (7, 2, 4)).astype(np.float32)
    expected = reference.mlp(x, [dense.weights for dense in mlp.dense])
    assert mlp(x).shape == mlp.compute_output_shape(x.shape) == expected.shape
    np.testing.assert_allclose(mlp(x), expected, rtol=1e-5, atol=1e-6)  # two float32 matrix products


def test_the_kernels_are_glorot_uniform_with_a_seed_each_and_the_biases_0():
    mlp = built((4, 4))
    first, second = (dense.kernel.numpy() for dense in mlp.dense)
    limit = np.sqrt(6.0 / 8.0)
    for kernel in (first, second):
        assert limit / 2 < np.abs(kernel).max() <= limit
    assert (first != second).all()
    for dense in mlp.dense:
        np.testing.assert_array_equal(dense.bias, np.zeros(4))


def test_the_weights_are_a_function_of_the_seed():
    one, again, other = (built(seed=seed).weights for seed in (1, 1, 2))
    for a, b, c in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        if a.name == "kernel":
            assert (a.numpy() != c.numpy()).all()
