"""One gradient routine for every objective and any number of stochastic layers, and the paper's cheap backward pass."""

from collections.abc import Callable

import tensorflow as tf

from iwae_tf import replicas, seeds
from iwae_tf.errors import InputError
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
    """Returns the bound and the gradient of the loss, -mean over the batch of the bound.

    Args:
        model: has `inference_network`, `generative_network` and `log_weights_from_noise`.
        objective: gives the bound and the three rows of weights.
        x: [B, D].
        noise: standard normal [k, B, sum of H_l].
        key_of: (purpose, counter) -> key of the random numbers that an objective needs besides the noise; only for
            `backward_samples` and `sleep_phase`.
        share: the rows of the whole batch that x and the noise are; None for all.

    Returns:
        bound [B], and a list of gradients for the trainable variables of the inference network, those of the
        generative network, and those of the objective's state; for a share of the batch its contribution to their sum.
    """
    share = share or replicas.whole(x)
    backward = _single_backward if objective.is_bound_derivative else _three_rows
    if objective.backward_samples is None:
        log_w, phi_gradients, theta_gradients = backward(model, objective, x, noise, objective.gradient_weights, share)
    else:
        log_w = objective.log_weights(model, x, noise)
        uniforms = seeds.uniform([objective.backward_samples, share.size], key_of(Purpose.BACKWARD_SAMPLES))
        drawn, rows = draw_backward_samples(objective.gradient_weights(log_w), share.of(uniforms))
        noise = gather_samples(noise, drawn)  # [m, B, H]
        _, phi_gradients, theta_gradients = backward(model, objective, x, noise, lambda _: rows, share)
    if objective.sleep_phase:
        phi_gradients = _sleep_gradients(model, x, key_of, share)
    gradients = [*phi_gradients, *theta_gradients, *_state_gradients(objective, log_w, share)]
    return objective.bound(log_w), gradients


def _single_backward(model, objective, x, noise, rows_of, share):
    """Generative = path = -score: the gradient of sum_i weights_i log w_i with the weights held constant."""
    phi, theta = _variables(model.inference_network), _variables(model.generative_network)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(phi + theta)
        log_w, target = objective.log_weights_and_target(model, x, noise)
    weights = rows_of(log_w).generative
    gradients = tape.gradient(target, phi + theta, output_gradients=_loss_weights(weights, share))
    phi_gradients = _checked(gradients[: len(phi)], model.inference_network)
    return log_w, phi_gradients, _checked(gradients[len(phi) :], model.generative_network)


def _three_rows(model, objective, x, noise, rows_of, share):
    """Any rows: one tape records the samples, another the densities at the samples as leaves.

    The leaves separate the path through the samples from the score of q without freezing anything: with more than one
    layer the parameters of a later layer depend on the sample before it, and that dependence belongs to the path.
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
    rows = rows_of(log_w).map(lambda row: _loss_weights(row, share))
    theta_gradients, h_gradients = _density_gradients(density, log_w, theta, h, rows)
    theta_gradients = _checked(theta_gradients, model.generative_network)
    phi_gradients = [tf.zeros_like(variable) for variable in phi]
    if h_gradients is not None:
        of_path = sampling.gradient(h, phi, output_gradients=h_gradients)
        phi_gradients = _sum(phi_gradients, _checked(of_path, model.inference_network))
    if rows.score is not None:
        of_score = density.gradient(log_q, phi, output_gradients=rows.score)
        phi_gradients = _sum(phi_gradients, _checked(of_score, model.inference_network))
    del density
    return log_w, phi_gradients, theta_gradients


def _density_gradients(density, log_w, theta, h, rows: GradientWeights):
    """Returns the gradients by theta and, unless there is no path, by the samples; one pass if a factor joins them."""
    if rows.path is None:
        return density.gradient(log_w, theta, output_gradients=rows.generative), None
    if rows.path_factor is None:
        theta_gradients = density.gradient(log_w, theta, output_gradients=rows.generative)
        return theta_gradients, density.gradient(log_w, h, output_gradients=rows.path)
    both = density.gradient(log_w, [*theta, *h], output_gradients=rows.generative)
    factor = rows.path_factor[..., None]  # sample i enters log w_i alone, so its gradient scales as its weight does
    return both[: len(theta)], [factor * gradient for gradient in both[len(theta) :]]


def _sleep_gradients(model, x, key_of, share):
    """Returns the gradient of -log q(h | x) by phi, averaged over B draws of (x, h) from the generative network.

    What is missing in the rows x [B, D] of the batch is missing in the draws too.
    """
    drawn, _, h = model.generative_network.sample(share.size, lambda layer: key_of(Purpose.SLEEP_PHASE, layer))
    drawn, *h = (share.of(values[None])[0] for values in (drawn, *h))
    x = tf.where(tf.math.is_nan(x), x, drawn)
    phi = _variables(model.inference_network)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(phi)
        loss = -tf.reduce_sum(model.inference_network.log_prob(x, h)) / tf.cast(share.size, x.dtype)
    return _checked(tape.gradient(loss, phi), model.inference_network)


def _state_gradients(objective, log_w, share):
    """Returns the gradient of the loss by the objective's own trainable weights."""
    if objective.state is None:
        return []
    variables = _variables(objective.state)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        loss = -tf.reduce_sum(objective.bound(log_w)) / tf.cast(share.size, log_w.dtype)
    return tape.gradient(loss, variables)


def _variables(layer) -> list[tf.Variable]:
    """Returns what TensorFlow differentiates by for a layer's trainable variables; a tape watches only those.

    TensorFlow's variables, or tensors inside `iwae_tf.models.networks.weights_read_once`.
    """
    return [variable.value for variable in layer.trainable_variables]


def _checked(gradients: list, layer) -> list:
    """Returns the gradients by a layer's trainable variables; raises `InputError` where one does not exist."""
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        if gradient is None:
            raise InputError(
                f"the bound has no gradient by the weight {variable.path}: its layer takes no part in the network, or "
                "an operation after it, such as rounding, has no gradient. Take it out, or set trainable = False on it"
            )
    return gradients


def _loss_weights(weights: tf.Tensor, share) -> tf.Tensor:
    """Weights in the gradient of the loss: negative, and averaged over the whole batch. [k, B] -> [k, B]."""
    return -weights / tf.cast(share.size, weights.dtype)


def _sum(one: list, other: list) -> list:
    return [a + b for a, b in zip(one, other, strict=True)]


def draw_backward_samples(weights: GradientWeights, uniforms: tf.Tensor) -> tuple[tf.Tensor, GradientWeights]:
    """Draws m of the k samples of every example, with rows that keep the mean of every weighted sum over the samples.

    Sample i is drawn with probability r_i, the mean over the rows in use of |row_i| / sum_j |row_j|, and gets the new
    weight row_i / (m r_i), so that the sum over the drawn samples has the sum over all samples as its mean. A row of
    zeros, such as w~ (1 - w~) of one dominating weight, is not in use for its example. For `iwae` r is the normalised
    weights and every new weight is 1/m, as in the paper. No new weight exceeds the number of rows times its row's sum
    over m. The m draws are stratified: draw j takes its uniform number from [j/m, (j+1)/m).

    Args:
        weights: rows of [k, B].
        uniforms: independent uniform numbers in [0, 1), [m, B].

    Returns:
        Indices of the drawn samples, int32 [m, B], and their rows, [m, B].

    Reference: Burda, Grosse, Salakhutdinov (2016), section 3, for one sample drawn by the normalised weights.
    """
    num_drawn = uniforms.shape[0]
    rows = [row for row in weights.rows if row is not None]
    shares = [tf.math.divide_no_nan(tf.abs(row), tf.reduce_sum(tf.abs(row), axis=0)) for row in rows]
    summed = tf.add_n(shares)  # [k, B]
    probabilities = tf.math.divide_no_nan(summed, tf.reduce_sum(summed, axis=0))
    cumulative = tf.cumsum(probabilities, axis=0)
    strata = tf.range(num_drawn, dtype=uniforms.dtype)[:, None]
    points = (strata + uniforms) / num_drawn * cumulative[-1]  # [m, B]
    passed = tf.reduce_sum(tf.cast(cumulative[None] <= points[:, None], tf.int32), axis=1)  # [m, B]
    # A uniform number near 1 may round up to the end of its stratum: never go beyond the last sample with weight.
    drawn = tf.minimum(passed, tf.reduce_sum(tf.cast(cumulative < cumulative[-1], tf.int32), axis=0))
    expected_draws = num_drawn * gather_samples(probabilities, drawn)

    def reweight(row):
        return tf.math.divide_no_nan(gather_samples(row, drawn), expected_draws)

    return drawn, weights.map(reweight, select=lambda factor: gather_samples(factor, drawn))


def gather_samples(values: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """Gathers values [k, B, ...] at samples drawn for every example, int [m, B] -> [m, B, ...]."""
    columns = tf.broadcast_to(tf.range(tf.shape(drawn)[1])[None], tf.shape(drawn))
    return tf.gather_nd(values, tf.stack([drawn, columns], axis=-1))
