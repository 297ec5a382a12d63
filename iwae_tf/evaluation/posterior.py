"""p(h | x) by self-normalised importance sampling: expectations and draws, in one pass over draws of q(h | x)."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.errors import InputError, check_seed, positive_integer
from iwae_tf.models.streaming import BLOCK, batch_noise

SAMPLES_IN_CHUNK = 10_000  # times rows: their latents are held together
ROWS_TOGETHER = 200

Latents = tuple[tf.Tensor, ...]


class PosteriorExpectation(NamedTuple):
    """Estimate of E[f(h) | x].

    Attributes:
        mean: the estimate, float64 [B, ...].
        standard_error: of the estimate over draws of the samples, float64 [B, ...]; too small where the effective
            sample size is.
        effective_sample_size: (sum w)^2 / sum w^2, float64 [B], between 1 and the number of samples (Kong 1992).
    """

    mean: tf.Tensor
    standard_error: tf.Tensor
    effective_sample_size: tf.Tensor


class _Moments(NamedTuple):
    """Of values [c, B, F] under weights [c, B]: total weight [B, 1], mean and sum w (f - mean)^2, both [B, F]."""

    total: tf.Tensor
    mean: tf.Tensor
    spread: tf.Tensor


def posterior_expectation(
    model, f: Callable[[Latents], tf.Tensor], x, num_samples: int = 5000, seed: int = 0
) -> PosteriorExpectation:
    """Estimates E[f(h) | x] by sum_i wn_i f(h_i), h_i from q(h | x), wn_i = w_i / sum_j w_j; all B rows together.

    Its standard error is sqrt(sum_i wn_i^2 (f(h_i) - mean)^2). The estimate is biased by O(1 / num_samples). Memory
    does not grow with `num_samples`. The samples are those of `model.log_weights` with the same seed.

    Args:
        model: an `iwae_tf.IWAE`.
        f: maps the latents, a tuple of float32 [c, B, H_l], to [c, B, ...], for any c.
        x: [B, D].
        num_samples: k.
        seed: seed of the noise.

    Returns:
        A `PosteriorExpectation`; NaN for rows all of whose weights are 0.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, a number out of range, or an f of other shape.

    Reference: Owen (2013), Monte Carlo theory, methods and examples, section 9.2.
    """
    x = model.checked(x)
    largest, first, second = tf.fill([x.shape[0]], tf.constant(-float("inf"), tf.float64)), None, None
    for h, log_w in _weighted_samples(model, _compiled_draws(model), x, num_samples, seed):
        values = tf.cast(f(h), tf.float64)
        if values.shape[:2] != log_w.shape:
            wanted = f"[{log_w.shape[0]}, {log_w.shape[1]}, ...]"
            raise InputError(f"f must map these latents to {wanted}, one value for each draw, got {values.shape}")
        shape, values, log_w = values.shape[1:], tf.reshape(values, [*log_w.shape, -1]), tf.cast(log_w, tf.float64)
        before, largest = largest, tf.maximum(largest, tf.reduce_max(log_w, axis=0))
        shift = tf.where(tf.math.is_finite(largest), largest, tf.zeros_like(largest))  # any, while all weights are 0
        weights, rescale = tf.exp(log_w - shift), tf.exp(before - shift)  # at most 1
        first = _add_samples(first, rescale, weights, values)
        second = _add_samples(second, tf.square(rescale), tf.square(weights), values)
    mean = tf.where(first.total > 0, first.mean, float("nan"))
    variance = (second.spread + second.total * tf.square(second.mean - mean)) / tf.square(first.total)
    ess = tf.square(first.total) / second.total
    return PosteriorExpectation(tf.reshape(mean, shape), tf.reshape(tf.sqrt(variance), shape), ess[:, 0])


def _add_samples(before: _Moments | None, rescale: tf.Tensor, weights: tf.Tensor, values: tf.Tensor) -> _Moments:
    """Returns the moments with samples added, without a difference of squares (Chan et al. 1983).

    The weights of `before` are multiplied by `rescale` [B]; the new ones are [c, B], the values float64 [c, B, F].
    """
    weights = weights[:, :, None]
    total = tf.reduce_sum(weights, axis=0)  # [B, 1]
    mean = tf.math.divide_no_nan(tf.reduce_sum(weights * values, axis=0), total)  # [B, F]
    spread = tf.reduce_sum(weights * tf.square(values - mean), axis=0)
    if before is None:
        return _Moments(total, mean, spread)
    rescale = rescale[:, None]
    share = tf.math.divide_no_nan(total, before.total * rescale + total)
    step = mean - before.mean
    spread += before.spread * rescale + before.total * rescale * share * tf.square(step)
    return _Moments(before.total * rescale + total, before.mean + share * step, spread)


def posterior_samples(model, x, n: int, num_samples: int = 5000, seed: int = 0) -> Latents:
    """Returns n approximate draws from p(h | x) for every row: `num_samples` draws of q, resampled by their weights.

    Resampling is multinomial: given the draws of q all n are independent, each h_i with probability wn_i. It needs one
    pass, unlike systematic resampling, which needs the sum of all weights first, and leaves the n draws in no order:
    each moves to the b-th 50 draws of q with probability sum_{i in b} w_i / sum_{i up to b} w_i, and then to h_i in
    proportion to w_i (a weighted reservoir of one). Where the effective sample size is small, many of the n are equal.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [B, D].
        n: draws for each row.
        num_samples: draws of q(h | x) for each row to choose from.
        seed: seed of the noise and of the choice; a row's draws are a function of its x, seed and n.

    Returns:
        A tuple with float32 [n, B, H_l] for each stochastic layer; NaN for rows all of whose weights are 0.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, or a number out of range.

    Reference: Rubin (1988), Using the SIR algorithm to simulate posterior distributions; Chao (1982), A general purpose
    unequal probability sampling plan, for the reservoir.
    """
    x, n, draws = model.checked(x), positive_integer("n", n), _compiled_draws(model)
    batches = []
    for first in range(0, x.shape[0], ROWS_TOGETHER):
        rows = x[first : first + ROWS_TOGETHER]
        samples = _weighted_samples(model, draws, rows, num_samples, seed)
        batches.append(_resampled(samples, n, seeds.row_streams(seed, rows), model.latent_units))
    return tuple(tf.concat(layer, axis=1) for layer in zip(*batches, strict=True))


def _resampled(samples, n: int, streams: tf.Tensor, latent_units) -> list[tf.Tensor]:
    """Returns n of the `samples` for every row, drawn with their weights: [n, B, H_l] for each layer."""
    rows, block = streams.shape[0], 0
    log_total = tf.fill([rows], tf.constant(-float("inf"), tf.float64))
    chosen = tuple(tf.zeros([rows, n, units]) for units in latent_units)
    for h, log_w in samples:
        for start in range(0, log_w.shape[0], BLOCK):
            taken = slice(start, start + BLOCK)
            uniform = _uniform(n, streams, tf.constant(block))
            new, new_log_w = tuple(layer[taken] for layer in h), tf.cast(log_w[taken], tf.float64)
            chosen, log_total = _choose(chosen, log_total, new, new_log_w, uniform)
            block += 1
    valid = tf.math.is_finite(log_total)[:, None, None]
    return [tf.transpose(tf.where(valid, layer, float("nan")), [1, 0, 2]) for layer in chosen]


@tf.function(autograph=False, reduce_retracing=True)
def _choose(chosen, log_total, h, log_w, uniform):
    """Moves each draw to one of the new samples or leaves it; returns the draws and log of the sum of all weights.

    Shapes: `chosen`, the draws, and `h`, the new samples, tuples of [B, n, H_l] and [c, B, H_l]; float64 `log_total`
    [B], log of the sum of the weights so far, `log_w` [c, B] and `uniform` [B, n].
    """
    log_new = tf.reduce_logsumexp(log_w, axis=0)  # [B]
    log_total = tf.reduce_logsumexp(tf.stack([log_total, log_new]), axis=0)
    probability = tf.exp(log_new - log_total)[:, None]  # NaN while all weights are 0, and then no draw moves
    moves = uniform < probability  # [B, n]
    cumulative = tf.cumsum(tf.transpose(tf.exp(log_w - log_new)), axis=1)  # [B, c]
    position = uniform / probability * cumulative[:, -1:]  # of those that move, uniform in [0, total weight)
    index = tf.minimum(tf.searchsorted(cumulative, position, side="right"), tf.shape(log_w)[0] - 1)  # [B, n]
    new = tuple(tf.gather(tf.transpose(layer, [1, 0, 2]), index, batch_dims=1) for layer in h)  # [B, n, H_l]
    return tuple(tf.where(moves[:, :, None], layer, old) for layer, old in zip(new, chosen, strict=True)), log_total


@tf.function(autograph=False, reduce_retracing=True)
def _uniform(n: int, streams: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """Returns uniform numbers in [0, 1), float64 [B, n]; float32 would give a weight of 1e-9 the chance of 1e-7.

    The noise of a row has the key 0 of its stream, the choice among its b-th 50 samples the key b + 1.
    """

    def one(stream):
        key = seeds.stream_key(stream, seeds.Purpose.EVALUATION_NOISE, tf.cast(block, tf.int64) + 1)
        return tf.random.stateless_uniform([n], key, dtype=tf.float64, alg=seeds.ALGORITHM)

    return tf.map_fn(one, streams, fn_output_signature=tf.float64)


def _compiled_draws(model):
    """Returns (x, seed, first, num_samples) -> latents of all layers and, last, the log-weight: [k, B, H + 1]."""

    def draws(x, seed, first, num_samples):
        noise = batch_noise(x, seed, first, num_samples, sum(model.latent_units))
        h, log_q = model.inference_network.transform(x, noise)
        log_w = model.generative_network.log_prob(x, h) - log_q
        return tf.concat([*h, log_w[:, :, None]], axis=-1)

    return tf.function(draws, autograph=False, reduce_retracing=True)


def _weighted_samples(model, draws, x, num_samples: int, seed: int) -> Iterator[tuple[Latents, tf.Tensor]]:
    """Yields the latents behind `model.log_weight_chunks`, tuples of [c, B, H_l], and their log-weights, [c, B]."""
    num_samples, seed = positive_integer("num_samples", num_samples), tf.constant(check_seed(seed), tf.int64)
    chunk_size = BLOCK * max(1, SAMPLES_IN_CHUNK // (BLOCK * x.shape[0]))
    for first in range(0, num_samples, chunk_size):
        samples = draws(x, seed, tf.constant(first), min(chunk_size, num_samples - first))
        *h, log_w = tf.split(samples, [*model.latent_units, 1], axis=-1)
        yield tuple(h), log_w[:, :, 0]
