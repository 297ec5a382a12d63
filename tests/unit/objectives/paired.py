"""Two estimators on the same noise: z-scores of the difference of their means."""

import numpy as np

# Of some hundred parameters the largest |z| of 60 batches (t with 59 degrees of freedom) stays below 5 by far.
MAX_Z = 5.0


def z_scores(one, other=0.0):
    """Means of [repeats, parameters], less those of a pair or less numbers, in standard errors.

    For the parameters that either estimator moves; the others must be equal.
    """
    difference = np.asarray(one, np.float64) - other
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    moved = error > 1e-9
    assert np.abs(difference[:, ~moved]).max(initial=0.0) < 1e-6
    return difference.mean(axis=0)[moved] / error[moved]
