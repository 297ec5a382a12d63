"""How far one estimate of L_k strays from its mean, and the bound on that."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from iwae_tf.errors import InputError, positive_integer
from iwae_tf.numerics import log_mean_exp


@dataclasses.dataclass(frozen=True, eq=False)
class Deviation:
    """Spread of independent estimates of L_k for every example.

    Attributes:
        mean_absolute_deviation: of the estimates from their mean, float64 [N], in nats.
        gap: delta, what log p(x) exceeds their mean by, float64 [N], in nats.
        k: number of samples of each estimate.
        num_estimates: how many estimates there were for each example.
    """

    mean_absolute_deviation: np.ndarray
    gap: np.ndarray
    k: int
    num_estimates: int

    @property
    def bound(self) -> np.ndarray:
        """What the mean absolute deviation is at most, 2 + 2 delta, float64 [N], in nats."""
        return 2.0 + 2.0 * self.gap


def deviation(
    model,
    x: np.ndarray,
    k: int,
    num_estimates: int,
    log_likelihood: np.ndarray,
    seed: int = 0,
    batch_size: int = 100,
) -> Deviation:
    """Mean absolute deviation of X = log (1/k sum_i w_i) for every row of x, beside its bound 2 + 2 delta.

    With Y = X - log p(x): E e^Y = 1, as the mean weight is unbiased, and E Y = L_k - log p(x) = -delta. Deviations up
    and down from the mean weigh the same, and max(0, y) <= e^y, so

        E |X - L_k| = 2 E max(0, Y + delta) <= 2 delta + 2 E max(0, Y) <= 2 delta + 2 E e^Y = 2 delta + 2

    So an estimator that is nearly unbiased cannot be noisy, however bad q is. With averages over the estimates in the
    place of expectations the same lines give 2 delta + 2 mean_j e^(Y_j): it holds for the numbers returned, whatever
    the draw, if `log_likelihood` is not below the log mean weight of this very stream, and up to its noise otherwise.

    The estimates come from consecutive groups of k samples of one stream of log-weights.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D].
        k: samples of each estimate.
        num_estimates: estimates for each row, >= 2.
        log_likelihood: log p(x) or the best estimate of it, [N], in nats, e.g. from `estimate_log_likelihood` with
            many more samples than k. Such estimates are rather too low, which makes the bound rather too small.
        seed: seed of the noise.
        batch_size: rows that go through the networks together.

    Returns:
        A `Deviation`.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, log-likelihoods that are not one finite number
            for each row, or a number out of range.

    Reference: Burda, Grosse, Salakhutdinov (2016), appendix B.
    """
    k, batch_size = positive_integer("k", k), positive_integer("batch_size", batch_size)
    if positive_integer("num_estimates", num_estimates) < 2:
        raise InputError(f"num_estimates must be at least 2: one estimate has no spread, got {num_estimates}")
    log_likelihood = np.asarray(log_likelihood, np.float64)
    if log_likelihood.shape != (len(x),) or not np.isfinite(log_likelihood).all():
        raise InputError(
            f"log_likelihood must be one finite number for each of the {len(x)} rows of x, got an array of shape "
            f"{log_likelihood.shape}"
        )
    means, deviations = [], []
    for first in range(0, max(len(x), 1), batch_size):  # no rows at all: the model says so
        rows = x[first : first + batch_size]
        numbers = np.arange(first, first + len(rows))
        chunks = model.log_weight_chunks(rows, k * num_estimates, seed, rows=numbers)
        estimates = np.concatenate(list(_estimates(chunks, k)))  # [num_estimates, B]
        means.append(estimates.mean(axis=0))
        deviations.append(np.abs(estimates - means[-1]).mean(axis=0))
    gap = log_likelihood - np.concatenate(means)
    return Deviation(np.concatenate(deviations), gap, k, num_estimates)


def _estimates(chunks: Iterable, k: int) -> Iterator[np.ndarray]:
    """Log mean w of consecutive groups of k samples: chunks [c, B] of any size -> float64 [groups, B], again and again.

    A group that is not complete waits for the next chunk, so that k or a chunk of samples is held at a time.
    """
    waiting, count = [], 0
    for log_w in chunks:
        waiting.append(np.asarray(log_w, np.float64))
        count += len(waiting[-1])
        if count < k:
            continue
        log_w = np.concatenate(waiting)
        groups = count // k
        yield log_mean_exp(tf.constant(log_w[: groups * k].reshape(groups, k, -1)), axis=1).numpy()
        waiting, count = [log_w[groups * k :]], count - groups * k
