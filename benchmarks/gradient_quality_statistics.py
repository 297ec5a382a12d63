"""Bias, variance and signal-to-noise ratio of a gradient estimator from sums over independent draws of it.

With g_1 ... g_N independent gradients, m their mean, r_n a reference gradient made of the same random numbers and
d_n = g_n - r_n, and with norms and traces over P parameters:

    variance        tr Cov(g)
    signal squared  ||E g||^2      estimated by ||m||^2 - variance / N, which has no bias
    bias squared    ||E d||^2      estimated by (||sum d||^2 - sum ||d||^2) / (N (N - 1)), which has none either
    snr             ||E g|| / sqrt(tr Cov(g)), from the two lines above
    snr_parameters  mean over parameters of |m| / std, as Rainforth et al. (2018), section 3; parameters that never
                    move are left out. The noise of m alone makes it sqrt(2 / (pi N)) where there is no signal.
"""

import math
from typing import NamedTuple

import numpy as np

QUANTITIES = ("variance", "signal_squared", "bias_squared", "snr", "snr_parameters")


class Moments(NamedTuple):
    """Sums over `count` draws: of g and of g^2, [P]; of d, [P]; and of ||d||^2."""

    count: int
    total: np.ndarray
    squares: np.ndarray
    difference: np.ndarray
    difference_squares: float

    @classmethod
    def of(cls, gradients: np.ndarray, reference: np.ndarray) -> "Moments":
        """The sums over draws of gradient and reference, both [N, P]."""
        difference = gradients - reference
        return cls(
            len(gradients), gradients.sum(0), (gradients**2).sum(0), difference.sum(0), float((difference**2).sum())
        )

    def minus(self, part: "Moments") -> "Moments":
        """The sums over the draws that are not in `part`."""
        return Moments(*(a - b for a, b in zip(self, part, strict=True)))


def quantities(moments: Moments) -> np.ndarray:
    """The values of `QUANTITIES`, float64 [5]; the two squares may come out below 0 where they are lost in noise."""
    n = moments.count
    mean = moments.total / n  # [P]
    variances = np.maximum(moments.squares - n * mean**2, 0.0) / (n - 1)
    variance = variances.sum()
    signal = mean @ mean - variance / n
    bias = (moments.difference @ moments.difference - moments.difference_squares) / (n * (n - 1))
    moving = variances > 0.0
    parameters = np.mean(np.abs(mean[moving]) / np.sqrt(variances[moving])) if moving.any() else math.nan
    snr = math.sqrt(max(signal, 0.0) / variance) if variance > 0.0 else math.nan
    return np.array([variance, signal, bias, snr, parameters])


def with_errors(groups: list[Moments]) -> dict[str, float]:
    """Every quantity and, as `<name>_se`, its standard error by the jackknife over groups of draws of equal size."""
    whole = Moments(*(sum(parts) for parts in zip(*groups, strict=True)))
    left_out = np.stack([quantities(whole.minus(group)) for group in groups])  # [G, 5]
    errors = np.sqrt((len(groups) - 1) * np.mean((left_out - left_out.mean(0)) ** 2, axis=0))
    values = dict(zip(QUANTITIES, quantities(whole), strict=True))
    return {**values, **{f"{name}_se": error for name, error in zip(QUANTITIES, errors, strict=True)}}


def has_signal(row: dict) -> bool:
    """Whether the squared signal of `with_errors` is above two standard errors; below, its log can be any number."""
    return row["signal_squared"] > 2 * row["signal_squared_se"]


def snr_parameters_floor(count: int) -> float:
    """What `snr_parameters` is on average for `count` draws of pure noise: E|m| / std = sqrt(2 / (pi N))."""
    return math.sqrt(2.0 / (math.pi * count))


def fit_slope(k, snr) -> tuple[float, float]:
    """Slope of log snr on log k by least squares, and its standard error from the residuals.

    The residuals hold both noise and departures from a power law. NaN where there are fewer than 3 points or a value
    has no logarithm.
    """
    k, snr = np.asarray(k, np.float64), np.asarray(snr, np.float64)
    if len(k) < 3 or not (snr > 0.0).all():
        return math.nan, math.nan
    x, y = np.log(k) - np.log(k).mean(), np.log(snr) - np.log(snr).mean()
    slope = x @ y / (x @ x)
    residuals = y - slope * x
    return float(slope), float(np.sqrt(residuals @ residuals / (len(k) - 2) / (x @ x)))
