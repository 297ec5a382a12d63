"""log p(x) of a data set and the bounds L_k below it, all from one stream of samples."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from iwae_tf.errors import positive_integer
from iwae_tf.numerics import empty_grouped_bound, grouped_bound, update_grouped_bound

# The numbers of samples the paper trains and evaluates with, and what lies between.
PAPER_SAMPLE_SIZES = (1, 5, 50, 500, 5000)


@dataclasses.dataclass(frozen=True, eq=False)
class LikelihoodEstimate:
    """Bounds for every example of a data set.

    Attributes:
        bounds: for each k an unbiased estimate of L_k for every example, float64 [N], in nats.
        num_samples: the largest k, whose bound is the estimate of log p(x).
    """

    bounds: dict[int, np.ndarray]
    num_samples: int

    @property
    def log_likelihood(self) -> np.ndarray:
        """Estimate of log p(x) for every example, float64 [N], in nats."""
        return self.bounds[self.num_samples]

    @property
    def means(self) -> dict[int, float]:
        """Mean L_k over the examples, for each k."""
        return {k: float(values.mean()) for k, values in self.bounds.items()}

    @property
    def standard_errors(self) -> dict[int, float]:
        """Standard error over the examples of each mean; NaN for a single example."""
        return {
            k: float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
            for k, values in self.bounds.items()
        }


def estimate_log_likelihood(
    model,
    x: np.ndarray,
    num_samples: int = 5000,
    seed: int = 0,
    sample_sizes: Sequence[int] = PAPER_SAMPLE_SIZES,
    batch_size: int = 100,
    progress: Callable[[int], None] | None = None,
) -> LikelihoodEstimate:
    """Estimates log p(x) and L_k for every row of x.

    One stream of `num_samples` log-weights serves all: L_k is the mean over consecutive groups of k samples. The
    noise of a row depends on (seed, row) alone, so that the batch size changes nothing but rounding, and memory does
    not grow with `num_samples`.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D].
        num_samples: samples for each row, k of the estimate of log p(x).
        seed: seed of the noise.
        sample_sizes: further k to estimate L_k for; those above `num_samples` are left out.
        batch_size: rows that go through the networks together.
        progress: called with the number of row-samples done since the last call, for a progress bar.

    Returns:
        A `LikelihoodEstimate`.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, or a number that is no integer >= 1.

    Reference: Burda, Grosse, Salakhutdinov (2016), equation 8 and section 5.
    """
    num_samples = positive_integer("num_samples", num_samples)
    batch_size = positive_integer("batch_size", batch_size)
    sizes = {positive_integer("sample_sizes", k) for k in sample_sizes} | {num_samples}
    sizes = sorted(k for k in sizes if k <= num_samples)
    parts: dict[int, list[np.ndarray]] = {k: [] for k in sizes}
    for first in range(0, max(len(x), 1), batch_size):  # no rows at all: the model says so
        rows = x[first : first + batch_size]
        states = {k: empty_grouped_bound(len(rows)) for k in sizes}
        for log_w in model.log_weight_chunks(rows, num_samples, seed, first_row=first):
            states = {k: update_grouped_bound(state, log_w, k) for k, state in states.items()}
            if progress:
                progress(len(rows) * log_w.shape[0])
        for k, state in states.items():
            parts[k].append(grouped_bound(state).numpy())
    return LikelihoodEstimate({k: np.concatenate(values) for k, values in parts.items()}, num_samples)
