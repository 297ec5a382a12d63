"""One gradient routine for every objective and any number of stochastic layers."""

from collections.abc import Callable

import tensorflow as tf

from iwae_tf import replicas, seeds
from iwae_tf.objectives.backward_samples import draw_backward_samples, gather_samples
from iwae_tf.objectives.objective import GradientWeights, Objective
from iwae_tf.seeds import Purpose


def bound_and_gradients(
    model,
    objective: Objective,
    x: tf.Tensor,
    noise: tf.Tensor,
    key_of: Callable[..., tf.Tensor] | None = None,
    share: replicas.Share | None = None,
):
    """The bound and the gradient of the loss, -mean over the batch of the bound.

    Args:
        model: has `inference_network`, `generative_network` and `log_weights_from_noise`.
        objective: gives the bound and the three rows of weights.
        x: [B, D].
        noise: standard normal [k, B, sum of H_l].
        key_of: (purpose, counter) -> key of the random numbers that an objective needs beside the noise; only for
            `backward_samples` and `sleep_phase`.
        share: which rows of the whole batch x and the noise are; None for all.

    Returns:
        bound [B], and a list of gradients for the trainable variables of the inference network, those of the
        generative network, and those of the objective's state; of a share of the batch its part of their sum.
    """
    share = share or replicas.whole(x)
    backward = _single_backward if objective.single_backward else _three_rows
    if objective.backward_samples is None:
        log_w, phi_gradients, theta_gradients = backward(model, objective, x, noise, objective.gradient_weights, share)
    else:
        log_w = objective.log_weights(model, x, noise)
        uniforms = seeds.uniform([objective.backward_samples, share.size], key_of(Purpose.BACKWARD_SAMPLES))
        drawn, rows = draw_backward_samples(objective.gradient_weights(log_w), share.of(uniforms))
        noise = gather_samples(noise, drawn)  # [m, B, H]
        _, phi_gradients, theta_gradients = backward(model, objective, x, noise, lambda _: rows, share)
    if objective.sleep_phase:
        phi_gradients = _sleep_gradients(model, key_of, share)
    gradients = [*phi_gradients, *theta_gradients, *_state_gradients(objective, log_w, share)]
    return objective.bound(log_w), gradients


def _variables(layer) -> list[tf.Variable]:
    """What TensorFlow differentiates by for a layer's trainable variables; a tape watches only those.

    Variables of TensorFlow, or tensors where the weights have been read (`iwae_tf.models.weights`).
    """
    return [variable.value for variable in layer.trainable_variables]


def _loss_weights(weights: tf.Tensor, share) -> tf.Tensor:
    """Weights in the gradient of the loss: negative, and averaged over the whole batch. [k, B] -> [k, B]."""
    return -weights / tf.cast(share.size, weights.dtype)


def _loss_rows(rows: GradientWeights, share) -> GradientWeights:
    return GradientWeights(*(None if row is None else _loss_weights(row, share) for row in rows[:3]), rows.path_factor)


def _single_backward(model, objective, x, noise, rows_of, share):
    """Generative = path = -score: the gradient of sum_i weights_i log w_i with the weights held constant."""
    phi, theta = _variables(model.inference_network), _variables(model.generative_network)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(phi + theta)
        log_w, target = objective.log_weights_and_target(model, x, noise)
    weights = rows_of(log_w).generative
    gradients = tape.gradient(target, phi + theta, output_gradients=_loss_weights(weights, share))
    return log_w, gradients[: len(phi)], gradients[len(phi) :]


def _three_rows(model, objective, x, noise, rows_of, share):
    """Any rows: samples on one tape, densities at the samples as leaves on another.

    The leaves keep the path through the samples apart from the score of q, with nothing frozen: with more than one
    layer a later layer's parameters depend on the sample of the one before, and that dependence is part of the path.
    """
    phi, theta = _variables(model.inference_network), _variables(model.generative_network)
    with tf.GradientTape(watch_accessed_variables=False) as sampling:
        if objective.needs_path:
            sampling.watch(phi)
        h, _ = model.inference_network.transform(x, noise)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as density:
        density.watch([*(h if objective.needs_path else ()), *phi, *theta])
        log_q = model.inference_network.log_prob(x, h)
        log_w = model.generative_network.log_prob(x, h) - log_q
    rows = _loss_rows(rows_of(log_w), share)
    theta_gradients, h_gradients = _density_gradients(density, log_w, theta, h, rows)
    phi_gradients = [tf.zeros_like(variable) for variable in phi]
    if h_gradients is not None:
        phi_gradients = _sum(phi_gradients, sampling.gradient(h, phi, output_gradients=h_gradients))
    if rows.score is not None:
        phi_gradients = _sum(phi_gradients, density.gradient(log_q, phi, output_gradients=rows.score))
    del density
    return log_w, phi_gradients, theta_gradients


def _density_gradients(density, log_w, theta, h, rows: GradientWeights):
    """The gradients by theta and, unless there is no path, by the samples; one pass where a factor joins the rows."""
    if rows.path is None:
        return density.gradient(log_w, theta, output_gradients=rows.generative), None
    if rows.path_factor is None:
        theta_gradients = density.gradient(log_w, theta, output_gradients=rows.generative)
        return theta_gradients, density.gradient(log_w, h, output_gradients=rows.path)
    both = density.gradient(log_w, [*theta, *h], output_gradients=rows.generative)
    factor = rows.path_factor[..., None]  # sample i enters log w_i alone, so its gradient is rescaled as its row is
    return both[: len(theta)], [factor * gradient for gradient in both[len(theta) :]]


def _sum(one: list, other: list) -> list:
    return [a + b for a, b in zip(one, other, strict=True)]


def _sleep_gradients(model, key_of, share):
    """The gradient of -log q(h | x) by phi, mean over B draws of (x, h) from the generative network."""
    x, _, h = model.generative_network.sample(share.size, lambda layer: key_of(Purpose.SLEEP_PHASE, layer))
    x, *h = (share.of(values[None])[0] for values in (x, *h))
    phi = _variables(model.inference_network)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(phi)
        loss = -tf.reduce_sum(model.inference_network.log_prob(x, h)) / tf.cast(share.size, x.dtype)
    return tape.gradient(loss, phi)


def _state_gradients(objective, log_w, share):
    """The gradient of the loss by what the objective itself learns."""
    if objective.state is None:
        return []
    variables = _variables(objective.state)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        loss = -tf.reduce_sum(objective.bound(log_w)) / tf.cast(share.size, log_w.dtype)
    return tape.gradient(loss, variables)
