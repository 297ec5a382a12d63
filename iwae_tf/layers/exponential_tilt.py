"""Where the logit of an exponential family on [0, 1] starts: at the training mean."""

from collections.abc import Callable

import numpy as np


def logit_of_mean(mean, mean_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The logit l with mean_of(l) = clip(mean, 0.01, 0.99), by bisection in float64.

    Args:
        mean: in [0, 1], [D].
        mean_of: increasing function of l, elementwise, that reaches 0.01 and 0.99 within [-200, 200].

    Returns:
        float64 [D].
    """
    mean = np.clip(np.asarray(mean, np.float64), 0.01, 0.99)
    low, high = np.full_like(mean, -200.0), np.full_like(mean, 200.0)
    for _ in range(60):  # 400 / 2^60 is below float64's rounding of the logit
        middle = 0.5 * (low + high)
        below = mean_of(middle) < mean
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)
