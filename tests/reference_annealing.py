"""Annealed importance sampling once more, in NumPy float64, on latents and with derivatives by differences.

Where the package moves noise under log N(noise; 0, I) + beta log_w, here the latents h are moved under
(1 - beta) log q(h) + beta log p(x, h), with q = N(loc, scale^2) and the mass of each coordinate 1 / scale^2: one
stochastic layer. Shapes: h and momentum [C, H] for one x; a density maps [C, H] to [C].
"""

import itertools

import numpy as np
import reference


def temperatures(num_temperatures):
    """beta_t = (s_t - s_0) / (s_T - s_0), s_t = 1 / (1 + exp(-4 (2 t / T - 1))), t = 0, ..., T; [T + 1]."""
    s = [1.0 / (1.0 + np.exp(-4.0 * (2.0 * t / num_temperatures - 1.0))) for t in range(num_temperatures + 1)]
    return np.array([(value - s[0]) / (s[-1] - s[0]) for value in s])


def gradient(density, h, width=1e-5):
    """Central differences, (f(h + d) - f(h - d)) / (2 |d|) for each coordinate; [C, H] -> [C, H]."""
    columns = [(density(h + d) - density(h - d)) / (2.0 * width) for d in width * np.eye(h.shape[-1])]
    return np.stack(columns, axis=-1)


def leapfrog(density, h, momentum, step, scale, num_steps):
    """Half a kick, drifts with whole kicks between, half a kick: h += step scale^2 p; step [C]; [C, H] each."""
    step = step[:, None]
    momentum = momentum + step / 2.0 * gradient(density, h)
    for number in range(num_steps):
        h = h + step * scale**2 * momentum
        kick = step if number < num_steps - 1 else step / 2.0
        momentum = momentum + kick * gradient(density, h)
    return h, momentum


def transition(density, h, normal, uniform, step, scale, num_steps):
    """Metropolis: momentum N(0, 1 / scale^2), taken where uniform < exp(H(start) - H(end)); [C, H], bool [C]."""

    def energy(h, momentum):
        return -density(h) + 0.5 * np.sum((scale * momentum) ** 2, axis=-1)

    momentum = normal / scale
    end, end_momentum = leapfrog(density, h, momentum, step, scale, num_steps)
    taken = uniform < np.exp(np.minimum(energy(h, momentum) - energy(end, end_momentum), 0.0))
    return np.where(taken[:, None], end, h), taken


def annealed_log_weights(log_p, loc, scale, betas, h, draws, steps, num_steps):
    """log w = sum_t log f_{t}(h_{t-1}) - log f_{t-1}(h_{t-1}); the transition t leaves f_t as it is; [C].

    Args:
        log_p: log p(x, h) as a function of h [C, H].
        loc: mean of q, [H].
        scale: standard deviation of q, [H].
        betas: [T + 1], from 0 to 1, or the other way round.
        h: where the chains start, [C, H].
        draws: T - 1 pairs of normal numbers [C, H] and uniform ones [C].
        steps: T - 1 arrays of step sizes, [C].
        num_steps: leapfrog steps.
    """

    def annealed(beta):
        return lambda h: (1.0 - beta) * reference.gaussian_log_prob(h, loc, np.log(scale)) + beta * log_p(h)

    log_w = 0.0
    for number, (before, after) in enumerate(itertools.pairwise(betas)):
        log_w = log_w + annealed(after)(h) - annealed(before)(h)
        if number < len(betas) - 2:
            h, _ = transition(annealed(after), h, *draws[number], steps[number], scale, num_steps)
    return log_w
