"""Whether one model scores images higher than another, from the log p(x) that each gives them.

The two models are compared by the mean of d_i = a_i - b_i over the images they share. What varies from image to image
in both is common to both and cancels in d_i, so that the mean difference is known far better than either mean.

An estimate is a_i = log p_A(x_i) + e_i, with a Monte Carlo error e_i that has noise of its own for every image. Hence

    Var(mean d) = (Var_x(log p_A - log p_B) + mean Var(e_A,i - e_B,i)) / N

and the spread of the d_i over the images, from which the standard error comes, already holds both terms in quadrature:
the images are one sample of many and the noise is drawn with them. To add the errors of the estimates once more would
count them twice, and the interval would cover more than it says. No part of the noise is common to several images.
Where A and B were scored under one seed their noise on an image is common to both; what of it cancels, cancels in d_i
too, and under two seeds nothing does: the interval is right in both cases, and seeds need not agree.

What no interval holds is the bias: an estimate lies below log p(x) on average, by about half its variance.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from iwae_tf.config import RELIABLE_PARETO_K
from iwae_tf.errors import InputError
from iwae_tf.evaluation.log_likelihood import monte_carlo_error

LEVEL = 0.95


class Scores(NamedTuple):
    """The scores of one model: log p(x) with its Monte Carlo error, in nats, and Pareto k-hat, each float64 [N]."""

    log_likelihood: np.ndarray
    standard_error: np.ndarray
    pareto_k: np.ndarray


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What two sets of scores say of each other; all in nats, A minus B. Swapped scores swap or negate everything.

    Attributes:
        paired: whether the scores are of the same images.
        num_images: of A and of B.
        means: mean log p(x) of A and of B.
        mean_errors: standard error of each mean over its images; NaN for one image.
        difference: mean of A minus mean of B.
        standard_error: of the difference; NaN where a side has one image.
        interval: 95% interval of the difference, by Student's t; NaN where the standard error is.
        monte_carlo_error: what of `standard_error` comes from the samples, and more of them would take away, if the
            noise of A and B is independent (under one seed it is less as a rule); NaN where an error is not known.
        better: share of images where A, and where B, has the higher score; ties are in neither. None if not paired.
        doubtful: rows whose Pareto k is above 0.7 or not known: in A or B if paired, else of A and B together.
    """

    paired: bool
    num_images: tuple[int, int]
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
        """Decimals that the difference is worth: the first digit of its standard error, at least 2 and at most 6."""
        error = self.standard_error
        return min(max(2, -math.floor(math.log10(error))), 6) if error > 0 else 2

    def conclusion(self, names: tuple[str, str]) -> str:
        """One sentence for A and B of these names; the same for both orders if a difference can be seen."""
        low, high = self.interval
        if math.isnan(low):
            return f"nothing can be said: A - B is {self._words(self.difference)} nats on one image"
        better, sign = (names[0], 1) if low > 0 else (names[1], -1)
        if low <= 0 <= high:
            return f"no difference can be seen: A - B is {self._words(self.difference)} nats, {self.interval_words()}"
        ends = sorted(sign * end for end in self.interval)
        size = self._words(sign * self.difference)
        return f"{better} is better by {size} nats, 95% interval {self._words(ends[0])} to {self._words(ends[1])}"

    def interval_words(self) -> str:
        """The interval of A - B in words."""
        return f"95% interval {self._words(self.interval[0])} to {self._words(self.interval[1])}"

    def _words(self, value: float) -> str:
        return f"{round(value, self.decimals) + 0.0:.{self.decimals}f}"  # never -0.00


def compare_scores(first: Scores, second: Scores, paired: bool = True) -> Comparison:
    """Compares the scores of two models.

    Paired, with d_i = a_i - b_i and s the standard deviation of the d_i:

        mean d +- t_{N-1} s / sqrt(N)

    Not paired, images of A and of B independent (Welch): a variance and a mean of each, and

        mean a - mean b +- t_v sqrt(s_a^2 / N + s_b^2 / M),   v by Welch and Satterthwaite

    Args:
        first: scores of A, [N].
        second: scores of B, [N] of the same images in the same order; [M] of any if not paired.
        paired: whether row i of both is one image.

    Returns:
        A `Comparison`.

    Raises:
        InputError: (a `ValueError`) if there is no row, shapes differ, or a score is not finite and there is no mean.

    Reference: Welch (1947), The generalization of "Student's" problem when several different population variances are
    involved; Satterthwaite (1946), An approximate distribution of estimates of variance components.
    """
    first, second = (_checked(scores, name) for scores, name in ((first, "A"), (second, "B")))
    a, b = first.log_likelihood, second.log_likelihood
    if paired and len(a) != len(b):
        raise InputError(f"scores of {len(a)} and {len(b)} images are no pairs; compare them as not paired")
    doubtful = [~(scores.pareto_k <= RELIABLE_PARETO_K) for scores in (first, second)]  # NaN is doubtful
    sizes, variances = (len(a), len(b)), (_mean_variance(a), _mean_variance(b))
    if paired:
        variance, freedom = _mean_variance(a - b), len(a) - 1
        difference = float((a - b).mean())
    else:
        variance, freedom = sum(variances), _welch_freedom(variances, sizes)
        difference = float(a.mean() - b.mean())
    error = math.sqrt(variance)
    reach = _t_quantile(freedom) * error
    return Comparison(
        paired=paired,
        num_images=sizes,
        means=(float(a.mean()), float(b.mean())),
        mean_errors=(math.sqrt(variances[0]), math.sqrt(variances[1])),
        difference=difference,
        standard_error=error,
        interval=(difference - reach, difference + reach),
        monte_carlo_error=math.hypot(*(monte_carlo_error(scores.standard_error) for scores in (first, second))),
        better=(float((a > b).mean()), float((b > a).mean())) if paired else None,
        doubtful=int((doubtful[0] | doubtful[1]).sum() if paired else sum(map(np.sum, doubtful))),
    )


def _checked(scores: Scores, name: str) -> Scores:
    """The scores in float64; raises `InputError`."""
    scores = Scores(*(np.asarray(values, np.float64) for values in scores))
    shapes = [values.shape for values in scores]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or not shapes[0][0]:
        raise InputError(f"scores of {name} must be three arrays [N] with N >= 1, got shapes {shapes}")
    bad = np.flatnonzero(~np.isfinite(scores.log_likelihood))
    if len(bad):
        raise InputError(
            f"log p(x) of {name} is not finite for {len(bad)} of {shapes[0][0]} images, first in row {bad[0]}: their "
            "mean has no value; score them with more samples"
        )
    return scores


def _mean_variance(values: np.ndarray) -> float:
    """Variance of the mean of float [N]; NaN for one."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else math.nan


def _welch_freedom(variances: tuple[float, float], sizes: tuple[int, int]) -> float:
    """Degrees of freedom v = (u + w)^2 / (u^2 / (N-1) + w^2 / (M-1)) of variances u, w of two means."""
    if not sum(variances) > 0:  # constants, which have no spread to be unsure of; or NaN for one image
        return max(sum(sizes) - 2, 0)
    parts = [variance**2 / (size - 1) for variance, size in zip(variances, sizes, strict=True)]
    return sum(variances) ** 2 / sum(parts)


def _t_quantile(freedom: float) -> float:
    """Student's t that |T| exceeds in 5% of cases; NaN without freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + LEVEL / 2)) if freedom > 0 else math.nan
