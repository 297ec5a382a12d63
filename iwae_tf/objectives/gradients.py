"""One gradient routine for every objective and any number of stochastic layers."""

import tensorflow as tf

from iwae_tf.objectives.objective import Objective


def bound_and_gradients(model, objective: Objective, x: tf.Tensor, noise: tf.Tensor):
    """The bound and the gradient of the loss, -mean over the batch of the bound.

    Args:
        model: has `inference_network`, `generative_network` and `log_weights_from_noise`.
        objective: gives the bound and the three rows of weights.
        x: [B, D].
        noise: standard normal [k, B, sum of H_l].

    Returns:
        bound [B], and a list of gradients for the trainable variables of the inference network followed by those of
        the generative network.
    """
    one_pass = _single_backward if objective.single_backward else _three_rows
    log_w, gradients = one_pass(model, objective, x, noise)
    return objective.bound(log_w), gradients


def _variables(network) -> list[tf.Variable]:
    """The TensorFlow variables behind a network's trainable Keras variables; a tape watches only those."""
    return [variable.value for variable in network.trainable_variables]


def _loss_weights(weights: tf.Tensor) -> tf.Tensor:
    """Weights in the gradient of the loss: negative, and averaged over the batch. [k, B] -> [k, B]."""
    return -weights / tf.cast(tf.shape(weights)[1], weights.dtype)


def _single_backward(model, objective, x, noise):
    """Generative = path = -score: the gradient of sum_i weights_i log w_i with the weights held constant."""
    variables = _variables(model.inference_network) + _variables(model.generative_network)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        log_w = objective.log_weights(model, x, noise)
    weights = objective.gradient_weights(log_w).generative
    return log_w, tape.gradient(log_w, variables, output_gradients=_loss_weights(weights))


def _three_rows(model, objective, x, noise):
    """Any rows: samples on one tape, densities at the samples as leaves on another.

    The leaves keep the path through the samples apart from the score of q, with nothing frozen: with more than one
    layer a later layer's parameters depend on the sample of the one before, and that dependence is part of the path.
    """
    phi, theta = _variables(model.inference_network), _variables(model.generative_network)
    with tf.GradientTape(watch_accessed_variables=False) as sampling:
        sampling.watch(phi)
        h, _ = model.inference_network.transform(x, noise)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as density:
        density.watch([*h, *phi, *theta])
        log_q = model.inference_network.log_prob(x, h)
        log_w = model.generative_network.log_prob(x, h) - log_q
    weights = objective.gradient_weights(log_w)
    generative, path = _loss_weights(weights.generative), _loss_weights(weights.path)
    if weights.path is weights.generative:  # theta is in log p alone, so one pass over log w serves both
        from_density = density.gradient(log_w, [*theta, *h], output_gradients=generative)
        theta_gradients, h_gradients = from_density[: len(theta)], from_density[len(theta) :]
    else:
        theta_gradients = density.gradient(log_w, theta, output_gradients=generative)
        h_gradients = density.gradient(log_w, h, output_gradients=path)
    phi_gradients = sampling.gradient(h, phi, output_gradients=h_gradients)
    if weights.score is not None:
        score = density.gradient(log_q, phi, output_gradients=_loss_weights(weights.score))
        phi_gradients = [a + b for a, b in zip(phi_gradients, score, strict=True)]
    del density
    return log_w, [*phi_gradients, *theta_gradients]
