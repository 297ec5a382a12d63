"""The same model in JAX as one writes it for speed: images encoded once, the whole step in one `jax.jit`."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-4


class CompiledJax:
    """Forward and backward pass and Adam in one compiled function.

    Args:
        latent_units: of each stochastic layer, nearest x first.
        hidden_units: of the tanh layers below each.
        x: the images of a step, [B, D].
        k: importance samples.
    """

    def __init__(self, latent_units, hidden_units, x: np.ndarray, k: int):
        self.x, keys = jnp.asarray(x), iter(jax.random.split(jax.random.key(0), 100))
        below, inference, generative = x.shape[1], [], []
        for units, hidden in zip(latent_units, hidden_units, strict=True):
            inference.append(_layer(keys, (below, *hidden), (units, units)))
            heads = (below, below) if generative else (below,)
            generative.append(_layer(keys, (units, *reversed(hidden)), heads))
            below = units
        weights = (inference, generative)
        zeros = jax.tree.map(jnp.zeros_like, (weights, weights))
        key = jax.random.key(1, impl="rbg")  # XLA's generator: JAX's default takes longer on a CPU
        self.state = (weights, *zeros, jnp.zeros((), jnp.int32), key)
        self.compiled_step = jax.jit(partial(_step, k), donate_argnums=0)

    def step(self) -> float:
        """Takes a training step; returns the bound before it, in nats."""
        self.state, bound = self.compiled_step(self.state, self.x)
        return float(bound)

    def arrays(self) -> list[np.ndarray]:
        """Returns all weights."""
        return [np.asarray(weights) for weights in jax.tree.leaves(self.state[0])]

    def zero(self) -> None:
        """Sets all weights to 0."""
        self.state = (jax.tree.map(jnp.zeros_like, self.state[0]), *self.state[1:])


def _layer(keys, widths, heads):
    """Returns kernels and biases of tanh layers between the widths and of the heads on top, Glorot uniform."""
    shapes = [*itertools.pairwise(widths), *((widths[-1], units) for units in heads)]
    initializer = jax.nn.initializers.glorot_uniform()
    return [(initializer(next(keys), shape), jnp.zeros(shape[1])) for shape in shapes]


def _heads(layer, number: int, condition):
    """Returns the values of the last `number` dense layers, on top of the tanh layers before."""
    for kernel, bias in layer[:-number]:
        condition = jnp.tanh(condition @ kernel + bias)
    return [condition @ kernel + bias for kernel, bias in layer[-number:]]


def log_weights(weights, x, key, k: int):
    """Returns log importance weights, [B, D] -> [k, B]; the constants of q and prior cancel.

    log q(h) = -|noise|^2 / 2 - sum log scale + const
    """
    inference, generative = weights
    log_w, condition, h = 0.0, x, []
    for layer, layer_key in zip(inference, jax.random.split(key, len(inference)), strict=True):
        loc, log_scale = _heads(layer, 2, condition)  # [B, H_0], then [k, B, H_l]
        noise = jax.random.normal(layer_key, (k, *loc.shape[-2:]))
        condition = loc + jnp.exp(log_scale) * noise  # [k, B, H_l]
        log_w += 0.5 * jnp.sum(noise**2, -1) + jnp.sum(log_scale, -1)
        h.append(condition)
    log_w -= 0.5 * jnp.sum(h[-1] ** 2, -1)
    for layer, value, above in zip(generative[1:], h[:-1], h[1:], strict=True):
        loc, log_scale = _heads(layer, 2, above)
        log_w -= jnp.sum(0.5 * ((value - loc) * jnp.exp(-log_scale)) ** 2 + log_scale, -1)
    (logits,) = _heads(generative[0], 1, h[0])  # [k, B, D]
    return log_w + jnp.sum(x * logits - jax.nn.softplus(logits), -1)


def _step(k: int, state, x):
    weights, means, squares, count, key = state
    key, step_key = jax.random.split(key)
    count = count + 1

    def loss(weights):
        return jnp.log(k) - jnp.mean(logsumexp(log_weights(weights, x, step_key, k), axis=0))

    value, gradients = jax.value_and_grad(loss)(weights)
    means = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, means, gradients)
    squares = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g**2, squares, gradients)
    rate = RATE * jnp.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
    weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPSILON), weights, means, squares)
    return (weights, means, squares, count, key), -value
