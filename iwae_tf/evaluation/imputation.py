"""Missing values from the observed ones: their posterior mean, and draws.

    E[x_missing | x_observed] = sum_i wn_i E[x_missing | h_i],   wn_i = w_i / sum_j w_j,   h_i from q(h | x_observed)

Reference: Mattei and Frellsen (2019), MIWAE, section 3.3: equation 12 for the mean, sampling importance resampling for
draws.
"""

import numpy as np

from iwae_tf import seeds
from iwae_tf.errors import InputError
from iwae_tf.evaluation.posterior import ROWS_TOGETHER, posterior_expectation, posterior_samples


def impute(model, x, num_samples: int = 5000, seed: int = 0) -> np.ndarray:
    """Returns x with every missing value replaced by its posterior mean, or a category by its most probable value.

    The mean has the smallest expected squared error of all fillings, under the model.

    Args:
        model: an `iwae_tf.IWAE` with `missing=True`.
        x: [B, D]; NaN is missing.
        num_samples: importance samples for each row.
        seed: of the noise, which also depends on the content of the row.

    Returns:
        float32 [B, D]; observed values are unchanged.

    Raises:
        InputError: (a `ValueError`) for a model without missing values, or an x that it cannot observe.
    """
    x, filled = _checked(model, x), []
    stage = model.generative_network.likelihood_stage
    for first in range(0, len(x), ROWS_TOGETHER):
        found = posterior_expectation(
            model,
            lambda h: stage.head.expectations(stage(h[0])),
            x[first : first + ROWS_TOGETHER],
            num_samples,
            seed,
        )
        filled.append(stage.head.from_expectations(found.mean.numpy()))
    return np.where(np.isnan(x), np.concatenate(filled), x).astype(np.float32)


def impute_draws(model, x, n: int, num_samples: int = 5000, seed: int = 0) -> np.ndarray:
    """Returns n draws of the missing values of every row, float32 [n, B, D]; observed values are unchanged.

    Args are those of `impute`, and n, the number of draws. Their spread is the uncertainty of the missing values. The
    noise of x given h depends on the place of the row, so equal rows have other draws.
    """
    x, stage = _checked(model, x), model.generative_network.likelihood_stage
    h = posterior_samples(model, x, n, num_samples, seed)
    drawn = stage.head.sample(stage(h[0]), seeds.key(seed, seeds.Purpose.IMPUTATION))
    return np.where(np.isnan(x), drawn.numpy(), x).astype(np.float32)


def _checked(model, x) -> np.ndarray:
    if not model.missing:
        raise InputError("this model takes no missing values: train with --missing, or build it with missing=True")
    return model.checked(x).numpy()
