"""Gradients by plain automatic differentiation, of whatever a test writes down."""

import numpy as np
import tensorflow as tf


def flat(gradients):
    """All gradients behind one another, [parameters]."""
    return np.concatenate([np.ravel(gradient) for gradient in gradients])


def number_of_parameters(network):
    """How many numbers the trainable variables of a network hold."""
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


def autodiff(model, gain):
    """The gradient of minus the batch mean of `gain()` [B] by both networks; 0 where it does not depend on a variable.

    What is to be held constant in `gain` is stopped there.
    """
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(gain())
    return tape.gradient(loss, variables, unconnected_gradients="zero")


def densities(model, x, noise, stopped=False):
    """log p(x, h) and log q(h | x) at h made of noise, [k, B]; with `stopped`, h counts as a constant."""
    h, _ = model.inference_network.transform(x, noise)
    if stopped:
        h = tuple(map(tf.stop_gradient, h))
    return model.generative_network.log_prob(x, h), model.inference_network.log_prob(x, h)
