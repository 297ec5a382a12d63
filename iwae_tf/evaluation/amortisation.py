"""The amortisation gap and the approximation gap of each row: the two costs of q(h | x).

With L_1 of a proposal r the mean of log p(x, h) - log r(h), and r* the best diagonal Gaussian for one row,

    log p(x) - L_1[q]  =  (log p(x) - L_1[r*])   approximation gap: a diagonal Gaussian is not the posterior
                        + (L_1[r*] - L_1[q])     amortisation gap: the inference network does not find r*

Reference: Cremer, Li, Duvenaud (2018), Inference suboptimality in variational autoencoders, section 3.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from iwae_tf.errors import InputError, check_seed, positive_integer
from iwae_tf.models.checks import check_gaussian, one_for_each
from iwae_tf.models.streaming import BLOCK, batch_noise
from iwae_tf.seeds import Purpose

RATE = 0.05  # of Adam, falling to 0 by a cosine


@dataclasses.dataclass(frozen=True, eq=False)
class InferenceGap:
    """Parts of log p(x) - L_1 of each row, float64 [N], in nats.

    Attributes:
        amortisation: L_1 of the fitted diagonal Gaussian minus L_1 of q(h | x), from the same noise.
        approximation: log p(x) minus L_1 of the fitted diagonal Gaussian.
        standard_error: of `amortisation`, by the samples.
    """

    amortisation: np.ndarray
    approximation: np.ndarray
    standard_error: np.ndarray


def inference_gap(
    model,
    x: np.ndarray,
    log_likelihood: np.ndarray,
    num_steps: int = 300,
    num_samples: int = 1000,
    seed: int = 0,
    batch_size: int = 100,
    progress: Callable[[int], None] | None = None,
) -> InferenceGap:
    """Fits a diagonal Gaussian to the posterior of each row and compares L_1 under it, under q(h | x), and log p(x).

    The Gaussian is over the noise from which the inference network makes h: for one stochastic layer a diagonal
    Gaussian over h, for more an offset and a factor for every unit of every layer. It starts at q(h | x); Adam
    maximises L_1 with the gradient of 50 samples a step, whose variance vanishes where it is the posterior ("sticking
    the landing"). Other samples estimate L_1 afterwards.

    Args:
        model: an `iwae_tf.IWAE` with Gaussian units.
        x: [N, D].
        log_likelihood: log p(x) of the rows, [N], such as `estimate_log_likelihood(model, x).log_likelihood`.
        num_steps: steps of Adam.
        num_samples: samples of L_1, a multiple of 50.
        seed: seed of the noise, which also depends on the content of a row.
        batch_size: rows that are fitted at once; it changes nothing else.
        progress: called with the number of rows that are done since the last call.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, log-likelihoods that are not one finite number
            for each row, numbers out of range, or binary units.
    """
    check_gaussian(model, "the inference gap", "its fit follows the gradient with respect to the units")
    num_steps, blocks = positive_integer("num_steps", num_steps), positive_integer("num_samples", num_samples) // BLOCK
    if num_samples % BLOCK:
        raise InputError(f"num_samples must be a multiple of {BLOCK}, got {num_samples}")
    batch_size = positive_integer("batch_size", batch_size)
    seed, rows = tf.constant(check_seed(seed), tf.int64), model.checked(x)
    log_likelihood = one_for_each(log_likelihood, len(rows))
    log_ratios = tf.function(functools.partial(_log_ratios, model), reduce_retracing=True)
    gradients = tf.function(functools.partial(_gradients, model), reduce_retracing=True)
    fitted, own = [], []
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        loc, log_scale = (keras.Variable(tf.zeros([len(batch), sum(model.latent_units)])) for _ in range(2))
        adam = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, num_steps))
        adam.build([loc, log_scale])
        for step in range(num_steps):
            number = tf.constant(step * BLOCK)
            adam.apply(gradients(batch, seed, number, loc.value, log_scale.value))
        q = tf.zeros_like(loc.value), tf.zeros_like(log_scale.value)
        firsts = [tf.constant((num_steps + block) * BLOCK) for block in range(blocks)]
        for gaussian, values in (((loc.value, log_scale.value), fitted), (q, own)):
            ratios = [log_ratios(batch, seed, first, *gaussian).numpy() for first in firsts]
            values.append(np.concatenate(ratios).astype(np.float64))  # [num_samples, rows]
        if progress:
            progress(len(batch))
    fitted, own = (np.concatenate(values, axis=1) for values in (fitted, own))
    gained = fitted - own
    return InferenceGap(
        amortisation=gained.mean(axis=0),
        approximation=log_likelihood - fitted.mean(axis=0),
        standard_error=gained.std(axis=0, ddof=1) / np.sqrt(len(gained)),
    )


def _log_ratios(model, x, seed, first, loc, log_scale, fixed=None):
    """Returns log p(x, h) - log r(h) at 50 samples of r, [50, B]; `fixed` are its parameters in the density."""
    z = batch_noise(x, seed, first, BLOCK, loc.shape[1], Purpose.LOCAL_FIT)
    noise = loc + tf.exp(log_scale) * z
    fixed_loc, fixed_scale = fixed or (loc, log_scale)
    standard = (noise - fixed_loc) * tf.exp(-fixed_scale)
    prior_over_r = 0.5 * (tf.square(standard) - tf.square(noise)) + fixed_scale
    return model.log_weights_from_noise(x, noise) + tf.reduce_sum(prior_over_r, axis=-1)


def _gradients(model, x, seed, first, loc, log_scale):
    """Returns the gradients of -L_1 of every row by loc and log scale, [B, H] each, without the score of r."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch((loc, log_scale))
        fixed = tf.stop_gradient(loc), tf.stop_gradient(log_scale)
        loss = -tf.reduce_sum(tf.reduce_mean(_log_ratios(model, x, seed, first, loc, log_scale, fixed), axis=0))
    return tape.gradient(loss, (loc, log_scale))
