"""Comparison of models by the log p(x) that each assigns to the same rows.

Two models are compared by the mean of d_i = a_i - b_i over the rows they share. The variation between rows is
common to both and cancels in d_i, so the mean difference is known far better than either mean.

An estimate is a_i = log p_A(x_i) + e_i. If all rows differ, so that each has a Monte Carlo error e_i of its own,

    Var(mean d) = (Var_x(log p_A - log p_B) + mean Var(e_A,i - e_B,i)) / N

and the spread of the d_i over the rows, which gives the standard error, already contains both terms. Adding the
errors of the estimates would count them twice and widen the interval too much. Under one seed the noise of A and B on
a row is correlated; what cancels, cancels in d_i too. The interval is right in both cases: seeds need not agree.

The noise depends on the content of a row, so equal rows have the same e_i, which does not average out among them. The
spread does not show this; it is added, as if the noise of A and B were independent: n (n - 1) Var(e_A,i) / N^2 for n
equal rows, and the same of B. The interval is then too wide where both are scored under one seed.

No interval contains the bias: an estimate lies below log p(x) on average, by about half its variance.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from iwae_tf.errors import InputError

LEVEL = 0.95
RELIABLE_SHARE = 0.9  # of the rows, from which on their mean is called log p(x)


class Scores(NamedTuple):
    """Scores of one model: log p(x) and its Monte Carlo error, float64 [N] in nats, and whether to rely on it, bool."""

    log_likelihood: np.ndarray
    standard_error: np.ndarray
    reliable: np.ndarray


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Comparison of two models, A minus B, in nats. Swapping the models swaps or negates everything.

    Attributes:
        paired: whether the scores are of the same rows.
        num_rows: of A and of B.
        means: mean log p(x) of A and of B.
        mean_errors: standard error of each mean over its rows; NaN for one row.
        difference: mean of A minus mean of B.
        standard_error: of the difference; NaN if either model has one row.
        interval: 95% interval of the difference, by Student's t; NaN if the standard error is.
        monte_carlo_error: share of `standard_error` that comes from the samples and falls with their number, if the
            noise of A and B is independent (under one seed it is usually less); NaN if an error is unknown.
        better: fraction of rows on which A, and on which B, has the higher score, without ties; None if not paired.
        doubtful: number of rows whose score is not reliable: in A or B if paired, else of A plus of B.
    """

    paired: bool
    num_rows: tuple[int, int]
    means: tuple[float, float]
    mean_errors: tuple[float, float]
    difference: float
    standard_error: float
    interval: tuple[float, float]
    monte_carlo_error: float
    better: tuple[float, float] | None
    doubtful: int

    @property
    def decimals(self) -> int:
        """Decimals to print: up to the first digit of the standard error, at least 2 and at most 6."""
        error = self.standard_error
        return min(max(2, -math.floor(math.log10(error))), 6) if error > 0 else 2

    def conclusion(self, names: tuple[str, str]) -> str:
        """Returns one sentence about A and B with these names; a visible difference reads the same in both orders."""
        low, high = self.interval
        if math.isnan(low):
            return f"nothing can be said: A - B is {self._format(self.difference)} nats on one row"
        better, sign = (names[0], 1) if low > 0 else (names[1], -1)
        if low <= 0 <= high:
            return f"no difference can be seen: A - B is {self._format(self.difference)} nats, {self.interval_words()}"
        ends = sorted(sign * end for end in self.interval)
        size = self._format(sign * self.difference)
        return f"{better} is better by {size} nats, 95% interval {self._format(ends[0])} to {self._format(ends[1])}"

    def interval_words(self) -> str:
        """Returns the interval of A - B in words."""
        return f"95% interval {self._format(self.interval[0])} to {self._format(self.interval[1])}"

    def _format(self, value: float) -> str:
        return f"{round(value, self.decimals) + 0.0:.{self.decimals}f}"  # + 0.0 turns -0.0 into 0.0


def compare_scores(first: Scores, second: Scores, paired: bool = True) -> Comparison:
    """Compares the scores of two models.

    Paired, with d_i = a_i - b_i and s the standard deviation of the d_i:

        mean d +- t_{N-1} s / sqrt(N)

    Not paired, rows of A and of B independent (Welch): a variance and a mean of each, and

        mean a - mean b +- t_v sqrt(s_a^2 / N + s_b^2 / M),   v by Welch and Satterthwaite

    Args:
        first: scores of A, [N].
        second: scores of B, [N] of the same rows in the same order; [M] of any if not paired.
        paired: whether row i of both is the same.

    Returns:
        A `Comparison`.

    Raises:
        InputError: (a `ValueError`) if there is no row, shapes differ, or a score is not finite and has no mean.

    Reference: Welch (1947), The generalization of "Student's" problem when several different population variances are
    involved; Satterthwaite (1946), An approximate distribution of estimates of variance components.
    """
    return compare_with_first([first, second], paired)[0]


def compare_with_first(scores: Sequence[Scores], paired: bool = True) -> list[Comparison]:
    """Compares the first of several models with each of the others: A - B, A - C, ...

    Each interval covers its own difference in 95% of cases; all of them together cover in fewer.

    Arguments and errors are those of `compare_scores`, for two or more models.
    """
    if len(scores) < 2:
        raise InputError(f"scores must be of at least 2 models, got {len(scores)}")
    first, *others = (_checked(model, chr(ord("A") + number)) for number, model in enumerate(scores))
    return [_compare(first, other, paired) for other in others]


def mean_scores(runs: Sequence[Scores]) -> Scores:
    """Returns the mean scores of runs on the same rows: refits, which differ in the seed of their training alone.

    The errors are those of means of independent estimates, and a mean is reliable if all of its scores are.
    """
    values, errors, reliable = (np.stack(columns) for columns in zip(*runs, strict=True))
    return Scores(values.mean(axis=0), np.sqrt((errors**2).sum(axis=0)) / len(runs), reliable.all(axis=0))


def compare_refits(first: Sequence[Scores], second: Sequence[Scores]) -> Comparison:
    """Compares two groups of refits by the mean score of each run, as two independent samples of runs (Welch).

    The interval says whether other refits would differ, on the same rows. `compare_scores` of the groups'
    `mean_scores` has the same difference, and its interval says whether these refits would differ on other rows.

    Args:
        first: scores of the runs of A, each [N] of the same rows.
        second: scores of the runs of B, each [N] of these rows.

    Returns:
        A `Comparison` whose "rows" are runs; the interval is NaN if a group has one run.
    """
    groups = [np.array([run.log_likelihood.mean() for run in runs]) for runs in (first, second)]
    return compare_scores(*(Scores(means, means * math.nan, means == means) for means in groups), paired=False)


def _compare(first: Scores, second: Scores, paired: bool) -> Comparison:
    from scipy import stats  # lazy import: it takes a second

    a, b = first.log_likelihood, second.log_likelihood
    if paired and len(a) != len(b):
        raise InputError(f"scores of {len(a)} and {len(b)} rows cannot be paired; compare them with paired=False")
    shared = [_shared_variance(model) for model in (first, second)]
    variances = (_variance_of_mean(a) + shared[0], _variance_of_mean(b) + shared[1])
    if paired:
        difference, variance, freedom = float((a - b).mean()), _variance_of_mean(a - b) + sum(shared), len(a) - 1
    else:
        difference, variance = float(a.mean() - b.mean()), sum(variances)
        freedom = _welch_freedom(variances, (len(a), len(b)))
    error = math.sqrt(variance)
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * error
    doubtful = [~model.reliable for model in (first, second)]
    return Comparison(
        paired=paired,
        num_rows=(len(a), len(b)),
        means=(float(a.mean()), float(b.mean())),
        mean_errors=(math.sqrt(variances[0]), math.sqrt(variances[1])),
        difference=difference,
        standard_error=error,
        interval=(difference - reach, difference + reach),
        monte_carlo_error=math.hypot(*(monte_carlo_error(*model[:2]) for model in (first, second))),
        better=(float((a > b).mean()), float((b > a).mean())) if paired else None,
        doubtful=int((doubtful[0] | doubtful[1]).sum() if paired else sum(map(np.sum, doubtful))),
    )


def _checked(scores: Scores, name: str) -> Scores:
    """Returns the scores in float64; raises `InputError`."""
    scores = Scores(*(np.asarray(values, kind) for values, kind in zip(scores, (float, float, bool), strict=True)))
    shapes = [values.shape for values in scores]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or not shapes[0][0]:
        raise InputError(f"scores of {name} must be three arrays [N] with N >= 1, got shapes {shapes}")
    bad = np.flatnonzero(~np.isfinite(scores.log_likelihood))
    if len(bad):
        raise InputError(
            f"log p(x) of {name} is not finite for {len(bad)} of {shapes[0][0]} rows, first in row {bad[0]}: their "
            "mean is undefined; score them with more samples"
        )
    return scores


def mean_name(reliable: float, num_rows: int) -> str:
    """Returns the name of a mean score: log p(x) only if at least 90% are reliable, as otherwise it is too low."""
    return "log p(x)" if reliable >= RELIABLE_SHARE * num_rows else "lower bound on log p(x)"


def monte_carlo_error(log_likelihood: np.ndarray, standard_error: np.ndarray) -> float:
    """Returns the standard error, over draws of the samples, of the mean of estimates with these errors, [N] each.

    Rows with the same estimate and error, up to rounding, are equal rows, whose noise is the same.
    """
    groups = _equal_rows(log_likelihood, standard_error)
    return float(np.linalg.norm(np.bincount(groups, standard_error)) / len(standard_error))


def _equal_rows(log_likelihood: np.ndarray, standard_error: np.ndarray) -> np.ndarray:
    """Returns a number for each row, int [N], the same for equal rows."""
    with np.errstate(invalid="ignore"):  # infinities, which become NaN
        unit = 10.0 ** (np.floor(np.log10(1.0 + np.abs(log_likelihood))) - 5.0)  # of each score, for float32's rounding
        values = unit * np.round(log_likelihood / unit), np.round(standard_error, 3)
    return np.unique(values, axis=1, return_inverse=True)[1].ravel()


def _shared_variance(scores: Scores) -> float:
    """Returns what equal rows add to the variance of a mean, since they share their noise; 0 for unknown errors."""
    groups, errors = _equal_rows(scores.log_likelihood, scores.standard_error), scores.standard_error
    added = (np.bincount(groups, errors) ** 2 - np.bincount(groups, errors**2)).sum() / len(errors) ** 2
    return max(float(added), 0.0) if math.isfinite(added) else 0.0


def _variance_of_mean(values: np.ndarray) -> float:
    """Returns the variance of the mean of float [N]; NaN for one value."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else math.nan


def _welch_freedom(variances: tuple[float, float], sizes: tuple[int, int]) -> float:
    """Returns the degrees of freedom (u + w)^2 / (u^2 / (N-1) + w^2 / (M-1)) for variances u, w of two means."""
    if not sum(variances) > 0:  # constants without spread, or NaN for one row
        return max(sum(sizes) - 2, 1)
    return sum(variances) ** 2 / sum(u**2 / (size - 1) for u, size in zip(variances, sizes, strict=True))
