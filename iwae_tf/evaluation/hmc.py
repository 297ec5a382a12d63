"""Hamiltonian Monte Carlo for the latents of every image, moved as the noise that the inference network makes them of.

With h = T(noise) the sample that q(h | x) makes of standard normal noise, the annealed density is

    log f_beta(h) + log |dh / dnoise| = log N(noise; 0, I) + beta log_w(noise),   log_w = log p(x, h) - log q(h | x)

so f_beta = q^(1-beta) p^beta needs the log-weights alone, and q's scales, in every layer, are the mass matrix.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Chains(NamedTuple):
    """Where C chains for each of B images are, and what is known there; none of it depends on the temperature.

    Attributes:
        noise: [C, B, H], H the units of all stochastic layers together.
        log_w: log importance weights at the noise, [C, B], in nats.
        gradient: derivative of `log_w` by the noise, [C, B, H].
    """

    noise: tf.Tensor
    log_w: tf.Tensor
    gradient: tf.Tensor

    def log_density(self, beta: tf.Tensor) -> tf.Tensor:
        """log f_beta of the noise up to a constant, [C, B]."""
        return beta * self.log_w - 0.5 * _squared_norm(self.noise)

    def force(self, beta: tf.Tensor) -> tf.Tensor:
        """Derivative of `log_density` by the noise, [C, B, H]."""
        return beta * self.gradient - self.noise


def chains_at(log_weights: Callable[[tf.Tensor], tf.Tensor], noise: tf.Tensor) -> Chains:
    """The chains at some noise.

    Args:
        log_weights: from noise [C, B, H] to log importance weights [C, B], each a function of its own noise alone.
        noise: [C, B, H].
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(noise)
        log_w = log_weights(noise)
    return Chains(noise, log_w, tape.gradient(log_w, noise))


def leapfrog(log_weights, chains: Chains, momentum, beta, step, num_steps: int) -> tuple[Chains, tf.Tensor]:
    """Follows the motion with energy 1/2 |momentum|^2 - log f_beta for some steps.

        momentum <- momentum + step / 2 force
        noise    <- noise + step momentum
        momentum <- momentum + step / 2 force

    Volumes are kept, and with the momentum turned round the same steps lead back.

    Args:
        log_weights: as in `chains_at`.
        chains: where the motion starts.
        momentum: [C, B, H].
        beta: inverse temperature, float32 scalar in [0, 1].
        step: step sizes, [C, B].
        num_steps: how many steps.

    Returns:
        The chains and the momentum [C, B, H] where it ends.

    Reference: Neal (2011), MCMC using Hamiltonian dynamics, section 2.3.
    """
    step = step[..., None]  # [C, B, 1]

    def one_step(chains, momentum):
        momentum = momentum + 0.5 * step * chains.force(beta)
        chains = chains_at(log_weights, chains.noise + step * momentum)
        return chains, momentum + 0.5 * step * chains.force(beta)

    return tf.while_loop(
        lambda *_: True, one_step, (chains, momentum), maximum_iterations=num_steps, parallel_iterations=1
    )


def hmc_transition(log_weights, chains: Chains, momentum, uniform, beta, step, num_steps: int):
    """A transition that leaves f_beta invariant and is its own reversal.

    The end of the trajectory is taken with probability min(1, exp(energy at its start - energy at its end)). A chain
    stays where it is if that is not a number.

    Args:
        log_weights: as in `chains_at`.
        chains: where the chains are.
        momentum: standard normal, [C, B, H].
        uniform: uniform in [0, 1), [C, B].
        beta: inverse temperature, float32 scalar in [0, 1].
        step: step sizes, [C, B]; they must not depend on where these chains have been.
        num_steps: leapfrog steps.

    Returns:
        The chains after the transition, and the probability of acceptance, [C, B].

    Reference: Neal (2011), MCMC using Hamiltonian dynamics, section 3.2.
    """
    end, end_momentum = leapfrog(log_weights, chains, momentum, beta, step, num_steps)
    energy_lost = end.log_density(beta) - chains.log_density(beta)
    energy_lost += 0.5 * (_squared_norm(momentum) - _squared_norm(end_momentum))  # [C, B]
    probability = tf.exp(tf.minimum(energy_lost, 0.0))
    probability = tf.where(tf.math.is_nan(probability), 0.0, probability)
    accepted = uniform < probability
    moved = Chains(
        noise=tf.where(accepted[..., None], end.noise, chains.noise),
        log_w=tf.where(accepted, end.log_w, chains.log_w),
        gradient=tf.where(accepted[..., None], end.gradient, chains.gradient),
    )
    return moved, probability


def _squared_norm(value):
    return tf.reduce_sum(tf.square(value), axis=-1)
