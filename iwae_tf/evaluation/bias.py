"""Bias and spread of L_k: jackknife corrections of the bias, and the mean absolute deviation with its bound.

A correction has less bias than the log of the mean weight, usually more variance, and is no bound. With
a_i = w_i / sum_j w_j, everything is written in differences from L_n, which are small where L_n is good:

    L without i:          L_n + d_i,                 d_i  = log(1 - a_i) - log(1 - 1/n)
    L without i and j:    L_n + d_i + d_j + g_ij,    g_ij = log(1 - t_i t_j) - log(1 - 1/(n-1)^2),  t = a / (1 - a)

so that the large coefficients of the jackknife cancel on paper and not in float64. The second line holds as
(1 - a_i)(1 - a_j)(1 - t_i t_j) = 1 - a_i - a_j.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from iwae_tf.errors import InputError, positive_integer
from iwae_tf.models.checks import one_for_each
from iwae_tf.numerics import log_mean_exp

ORDERS = (1, 2)
TINY = 2.0**-53  # half the distance from 1 to the next float64


@dataclasses.dataclass(frozen=True, eq=False)
class JackknifeEstimate:
    """L_k and its corrections for every example, from the same draws; keys are orders, 0 is L_k itself.

    Attributes:
        estimates: estimates of log p(x), each float64 [N], in nats. Only that of order 0 is a lower bound on average.
        standard_errors: of each estimate over draws of the samples, float64 [N], in nats; orders 1 and 2 share theirs.
            They are too small if no sample falls where p(x, h) is large.
        num_samples: k.
    """

    estimates: dict[int, np.ndarray]
    standard_errors: dict[int, np.ndarray]
    num_samples: int


@dataclasses.dataclass(frozen=True, eq=False)
class Deviation:
    """Spread of independent estimates of L_k for every example.

    Attributes:
        mean_absolute_deviation: of the estimates from their mean, float64 [N], in nats.
        gap: delta, log p(x) minus the mean estimate, float64 [N], in nats.
        k: number of samples of each estimate.
        num_estimates: number of estimates for each example.
    """

    mean_absolute_deviation: np.ndarray
    gap: np.ndarray
    k: int
    num_estimates: int

    @property
    def bound(self) -> np.ndarray:
        """Upper bound 2 + 2 delta on the mean absolute deviation, float64 [N], in nats."""
        return 2.0 + 2.0 * self.gap


def jackknife(log_w, order: int) -> np.ndarray:
    """Returns L_n with the first terms of its bias in 1/n removed: bias O(n^-2) for order 1, O(n^-3) for order 2.

    sum_{j=0..m} c(n, m, j) mean over subsets without j samples of L_{n-j}, c = (-1)^j (n-j)^m / ((m-j)! j!), that is

        order 1:  L_n - (n-1)/n sum_i d_i
        order 2:  L_n - (2n-3)/n sum_i d_i + (n-2)^2 / (n(n-1)) sum_{i<j} g_ij

    with d and g as at the head of the file. O(n) memory, O(n log n) time. The variance rises with the order where the
    weights have a long tail, and no order above 0 is a bound: where one weight is e^M times the sum of the others, M
    large, order 1 lies about M nats above L_n.

    Args:
        log_w: log-weights in nats, [n, B], n > order; may hold -inf.
        order: m, 1 or 2.

    Returns:
        float64 [B], in nats. -inf if all log-weights are. If only one is finite, L without it is -inf: order 1 is inf
        and order 2 is undefined, NaN; if only two are, order 2 is -inf.

    Raises:
        InputError: (a `ValueError`) for another order, another shape, or too few samples.

    Reference: Nowozin (2018), Debiasing evidence approximations, the estimators JVI-1 and JVI-2; the coefficients are
    those of Sharot (1976), The generalized jackknife.
    """
    if order not in ORDERS:
        raise InputError(f"order must be 1 or 2, got {order!r}")
    log_w = _falling(log_w, order)
    with np.errstate(divide="ignore", invalid="ignore"):  # for log-weights of -inf
        single = _without_one(log_w)
        return _corrected(log_w, single, _without_two(log_w) if order == 2 else None)


def jackknife_log_likelihood(
    model,
    x: np.ndarray,
    num_samples: int = 5000,
    seed: int = 0,
    batch_size: int = 100,
    progress: Callable[[int], None] | None = None,
) -> JackknifeEstimate:
    """Returns L_k of every row of x with its corrections of order 1 and 2, from the same draws.

    The weights are those of the L_k of `estimate_log_likelihood` with the same seed, of samples of q(h | x). Those of a
    batch are held together, float32 [k, batch_size].

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D].
        num_samples: k, >= 3.
        seed: seed of the noise.
        batch_size: rows that go through the networks together.
        progress: called with the number of row-samples done since the last call, for a progress bar.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, or a number out of range.
    """
    check_jackknife(num_samples)
    batches = _log_weights(model, x, num_samples, seed, batch_size, progress)
    estimates, errors = np.concatenate([_all_orders(log_w) for log_w in batches], axis=-1)  # each [3, N]
    return JackknifeEstimate(dict(enumerate(estimates)), dict(enumerate(errors)), num_samples)


def check_jackknife(num_samples: int) -> None:
    """Raises `InputError` for too few samples."""
    if positive_integer("num_samples", num_samples) < 3:
        raise InputError(f"num_samples must be at least 3 for corrections of order 1 and 2, got {num_samples}")


def deviation(
    model,
    x: np.ndarray,
    k: int,
    num_estimates: int,
    log_likelihood: np.ndarray,
    seed: int = 0,
    batch_size: int = 100,
) -> Deviation:
    """Returns the mean absolute deviation of X = log (1/k sum_i w_i) for every row of x, and its bound 2 + 2 delta.

    With Y = X - log p(x): E e^Y = 1, as the mean weight is unbiased, and E Y = L_k - log p(x) = -delta. Deviations
    above and below the mean have equal expectation, and max(0, y) <= e^y, so

        E |X - L_k| = 2 E max(0, Y + delta) <= 2 delta + 2 E max(0, Y) <= 2 delta + 2 E e^Y = 2 delta + 2

    So a nearly unbiased estimator cannot be noisy, however bad q is. With averages over the estimates in place of
    expectations the same lines give 2 delta + 2 mean_j e^(Y_j): the bound holds for the returned numbers, whatever the
    draw, if `log_likelihood` is not below the log mean weight of the same samples, and up to its noise otherwise.

    The weights of a batch are held together, float32 [k num_estimates, batch_size].

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D].
        k: samples of each estimate.
        num_estimates: estimates for each row, >= 2, from consecutive groups of k samples.
        log_likelihood: log p(x) or the best estimate of it, [N], in nats, e.g. from `estimate_log_likelihood` with
            many more samples than k. An estimate tends to be too low, which makes the bound too small.
        seed: seed of the noise.
        batch_size: rows that go through the networks together.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, log-likelihoods that are not one finite number
            for each row, or a number out of range.

    Reference: Burda, Grosse, Salakhutdinov (2016), appendix B.
    """
    k = positive_integer("k", k)
    if positive_integer("num_estimates", num_estimates) < 2:
        raise InputError(f"num_estimates must be at least 2: one estimate has no spread, got {num_estimates}")
    x = model.checked(x)
    log_likelihood = one_for_each(log_likelihood, len(x))
    estimates = []
    for log_w in _log_weights(model, x, k * num_estimates, seed, batch_size):
        groups = tf.constant(log_w.reshape(num_estimates, k, -1), tf.float64)
        estimates.append(log_mean_exp(groups, axis=1).numpy())  # [num_estimates, B]
    estimates = np.concatenate(estimates, axis=1)
    mean = estimates.mean(axis=0)
    return Deviation(np.abs(estimates - mean).mean(axis=0), log_likelihood - mean, k, num_estimates)


def _log_weights(model, x, num_samples: int, seed: int, batch_size: int, progress=None) -> Iterator[np.ndarray]:
    """Yields the log-weights of each batch of rows, float32 [num_samples, B]."""
    x, batch_size = model.checked(x), positive_integer("batch_size", batch_size)
    for first in range(0, len(x), batch_size):
        chunks = []
        for log_w in model.log_weight_chunks(x[first : first + batch_size], num_samples, seed):
            chunks.append(log_w.numpy())
            if progress:
                progress(log_w.shape.num_elements())
        yield np.concatenate(chunks)


def _all_orders(log_w) -> np.ndarray:
    """Returns estimates of order 0, 1, 2 and their standard errors: [n, B] -> float64 [2, 3, B].

    The errors are the jackknife's, sqrt((n-1)/n sum_i (T_i - mean T)^2), T_i the estimate without sample i. Of order 1
    it is T_i = const + d_i - (n-2)/(n-1) (sum_{j != i} g_ij - d_i). Those of order 2 would need the triples and differ
    from order 1's in a term of higher order, so order 1's are used.

    Reference: Efron and Stein (1981), The jackknife estimate of variance, section 1.
    """
    log_w = _falling(log_w, 2)
    n = len(log_w)
    with np.errstate(divide="ignore", invalid="ignore"):
        single, pairs = _without_one(log_w), _without_two(log_w)
        bound = _log_sum(log_w) - np.log(n)
        estimates = [bound, _corrected(log_w, single), _corrected(log_w, single, pairs)]
        order_1 = single - (n - 2) / (n - 1) * (pairs - single)
        errors = [np.sqrt((n - 1) * np.var(without_one, axis=0)) for without_one in (single, order_1, order_1)]
    return np.array([estimates, errors])


def _falling(log_w, order: int) -> np.ndarray:
    """Returns the log-weights in float64 and falling order, so that the largest come first. [n, B] -> [n, B]."""
    log_w = np.asarray(log_w, np.float64)
    if log_w.ndim != 2 or len(log_w) <= order:
        raise InputError(
            f"log_w must be [samples, batch] with more than {order} samples for order {order}, got {log_w.shape}"
        )
    return np.sort(log_w, axis=0)[::-1]


def _log_sum(log_w: np.ndarray) -> np.ndarray:
    """Returns log sum_i w_i of log-weights in falling order: [n, B] -> [B]."""
    top = np.where(np.isneginf(log_w[0]), 0.0, log_w[0])  # without a finite log-weight the sum is 0, its log -inf
    return top + np.log(np.sum(np.exp(log_w - top), axis=0))


def _log_others(log_w: np.ndarray) -> np.ndarray:
    """Returns log(1 - a_i) for every sample, log-weights in falling order: [n, B] -> [n, B].

    1 - a_i is the sum of the others. Only the largest a_i can be near 1; for it that sum is taken, not the difference.
    """
    log_w = log_w - log_w[0]
    log_sum = _log_sum(log_w)
    return np.concatenate([[_log_sum(log_w[1:]) - log_sum], np.log1p(-np.exp(log_w[1:] - log_sum))])


def _without_one(log_w: np.ndarray) -> np.ndarray:
    """Returns d_i, the change of L_n without sample i: log-weights in falling order, [n, B] -> [n, B]."""
    return _log_others(log_w) - np.log1p(-1.0 / len(log_w))


def _without_two(log_w: np.ndarray) -> np.ndarray:
    """Returns sum_{j != i} g_ij for every i: log-weights in falling order, [n, B] -> [n, B].

    With the largest weight 1 - t_1 t_j = (1 - b_j) / (1 - a_j), b_j = a_j / (1 - a_1) the normalised weights without
    the first, so that neither t_1 nor a difference of near equals is needed. For the others a series converges.
    """
    n = len(log_w)
    log_others = _log_others(log_w)
    with_largest = _log_others(log_w[1:]) - log_others[1:]  # [n - 1, B]
    sums = with_largest + _series(np.exp(log_w[1:] - _log_sum(log_w) - log_others[1:]))
    return np.concatenate([[with_largest.sum(axis=0)], sums]) - (n - 1) * np.log1p(-1.0 / (n - 1) ** 2)


def _series(t: np.ndarray) -> np.ndarray:
    """Returns sum_{j != i} log(1 - t_i t_j) = -sum_m t_i^m (sum_j t_j^m - t_i^m) / m: t in falling order, [n, B].

    Without the largest of all weights the largest product, r = t_1 t_2, is at most 1/4: t_1 <= (1-a)/(1+a) and
    t_2 = a/(1-a) with a <= 1/3. Cut after M terms the sum over all pairs lacks at most 8/3 r^M / (M+1) < 2^-51.
    """
    ratio = np.nanmax(t[0] * t[1], initial=TINY)
    terms = int(np.ceil(np.log(TINY) / np.log(ratio)))
    power, total = np.ones_like(t), np.zeros_like(t)
    for m in range(1, terms + 1):
        power = power * t
        total -= power * (power.sum(axis=0) - power) / m
    return total


def _corrected(log_w: np.ndarray, single: np.ndarray, pairs: np.ndarray | None = None) -> np.ndarray:
    """Returns the estimate of order 1, or with `pairs` that of order 2; all [n, B] -> [B]."""
    n, bound, gain = len(log_w), _log_sum(log_w) - np.log(len(log_w)), single.sum(axis=0)
    if pairs is None:
        corrected = bound - (n - 1) / n * gain
    else:
        corrected = bound - (2 * n - 3) / n * gain + (n - 2) ** 2 / (n * (n - 1)) * 0.5 * pairs.sum(axis=0)
    return np.where(np.isneginf(bound), bound, corrected)  # every L is -inf, and so is any mean of them
