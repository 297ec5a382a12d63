"""The fused Adam: Keras' own, step by step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from iwae_tf.adam import Adam


def _after(optimizer_class, steps, **arguments):
    """Variables and optimiser state after steps with gradients of widely different sizes."""
    optimizer = optimizer_class(**arguments)
    values = np.linspace(-1.0, 1.0, 6).reshape(2, 3), np.ones(4)
    variables = [keras.Variable(value, dtype="float32") for value in values]
    optimizer.build(variables)
    apply = tf.function(lambda *gradients: optimizer.apply(list(gradients), variables), autograph=False)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        scale = 10.0 ** rng.uniform(-6, 3)
        apply(*(tf.constant(scale * rng.normal(size=variable.shape), tf.float32) for variable in variables))
    return [variable.numpy() for variable in variables], [variable.numpy() for variable in optimizer.variables]


@pytest.mark.parametrize(
    "arguments",
    [
        {"learning_rate": 1e-2, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-4},
        {"learning_rate": 1e-2, "clipnorm": 1.0, "weight_decay": 0.01, "use_ema": True, "ema_overwrite_frequency": 7},
        {"learning_rate": 1e-2, "gradient_accumulation_steps": 3},
        {"learning_rate": 1e-2, "amsgrad": True},
        {"learning_rate": keras.optimizers.schedules.PiecewiseConstantDecay([3, 6], [0.1, 0.01, 0.001])},
    ],
    ids=lambda arguments: list(arguments)[-1],
)
def test_it_takes_the_steps_of_keras_adam_and_keeps_the_same_state(arguments):
    weights, state = _after(Adam, 10, **arguments)
    expected_weights, expected_state = _after(keras.optimizers.Adam, 10, **arguments)
    for mine, its in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-6)  # another order of the same float32 operations
    for mine, its in zip(state, expected_state, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-7)


def test_a_gradient_in_slices_is_taken_as_keras_takes_it():
    after = []
    for optimizer_class in (Adam, keras.optimizers.Adam):
        variable, optimizer = keras.Variable(np.ones((4, 2)), dtype="float32"), optimizer_class(0.1)
        for _ in range(3):
            slices = tf.IndexedSlices(tf.constant([[1.0, -2.0], [3.0, 4.0]]), tf.constant([2, 0]), tf.constant([4, 2]))
            optimizer.apply([slices], [variable])
        after.append(variable.numpy())
    assert (after[0][[0, 2]] != 1.0).all()
    np.testing.assert_allclose(*after, rtol=1e-5)
