"""log p(x) of a data set, how far to trust it, and the bounds L_k below it, all from one stream of samples."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from iwae_tf.config import RELIABLE_PARETO_K
from iwae_tf.errors import positive_integer
from iwae_tf.numerics import empty_grouped_bound, grouped_bound, update_grouped_bound
from iwae_tf.scoring_config import most_samples
from iwae_tf.weight_statistics import (
    WeightStatistics,
    WeightSummary,
    empty_statistics,
    gather_statistics,
    scatter_statistics,
    summarize,
    update_statistics,
)

# The numbers of samples the paper trains and evaluates with, and what lies between.
PAPER_SAMPLE_SIZES = (1, 5, 50, 500, 5000)

_update = tf.function(update_statistics, reduce_retracing=True, autograph=False)
_update_bounds = tf.function(
    lambda bounds, log_w: {k: update_grouped_bound(bound, log_w, k) for k, bound in bounds.items()},
    reduce_retracing=True,
    autograph=False,
)
_summarize = tf.function(summarize, reduce_retracing=True, autograph=False)


@dataclasses.dataclass(frozen=True, eq=False)
class LikelihoodEstimate:
    """log p(x) of every example of a data set. All arrays have one entry for each example, [N], and are in nats.

    Attributes:
        log_likelihood: log of the mean importance weight, float64.
        elbo: mean of the log-weights, float64.
        standard_error: of `log_likelihood`, by the delta method, float64; NaN for one sample. Too small where the
            effective sample size is.
        effective_sample_size: (sum w)^2 / sum w^2, float64.
        pareto_k: shape of the tail of the weights, float64; above 0.7 the estimate is not to be relied on.
        num_samples: how many samples were drawn, int32.
        converged: whether `pareto_k` is below 0.7 and, if one was asked for, the standard error has reached its target.
        bounds: for each k an unbiased estimate of L_k, float64.
    """

    log_likelihood: np.ndarray
    elbo: np.ndarray
    standard_error: np.ndarray
    effective_sample_size: np.ndarray
    pareto_k: np.ndarray
    num_samples: np.ndarray
    converged: np.ndarray
    bounds: dict[int, np.ndarray]

    @property
    def mean_bounds(self) -> dict[int, float]:
        """Mean L_k over the examples, for each k."""
        return {k: float(values.mean()) for k, values in self.bounds.items()}

    @property
    def bound_standard_errors(self) -> dict[int, float]:
        """Standard error over the examples of each mean bound; NaN for a single example."""
        return {k: standard_error_of_mean(values) for k, values in self.bounds.items()}


def estimate_log_likelihood(
    model,
    x: np.ndarray,
    num_samples: int = 5000,
    seed: int = 0,
    sample_sizes: Sequence[int] = PAPER_SAMPLE_SIZES,
    batch_size: int = 100,
    target_standard_error: float | None = None,
    max_samples: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> LikelihoodEstimate:
    """Estimates log p(x) for every row of x, with what says how far to trust it, and L_k.

    One stream of log-weights serves all, in memory that does not grow with the number of samples: L_k is the mean over
    consecutive groups of k of the first `num_samples`. The noise of a row depends on (seed, row) alone, so that the
    batch size changes nothing but rounding.

    With a target, every row goes on by itself after `num_samples`: it doubles the number of its samples until its own
    standard error is at most the target and its `pareto_k` below 0.7, or `max_samples` is reached.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D].
        num_samples: samples for each row, k of the estimate of log p(x); with a target, to begin with.
        seed: seed of the noise.
        sample_sizes: further k to estimate L_k for; those above `num_samples` are left out.
        batch_size: rows that go through the networks together.
        target_standard_error: in nats, > 0; None draws `num_samples` for every row.
        max_samples: the most samples for a row, with a target; 40 times `num_samples` if None.
        progress: called with the number of rows that are done since the last call, for a progress bar.

    Returns:
        A `LikelihoodEstimate`.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, or numbers out of range.

    Reference: Burda, Grosse, Salakhutdinov (2016), equation 8 and section 5.
    """
    batches = likelihood_batches(
        model, x, num_samples, seed, sample_sizes, batch_size, target_standard_error, max_samples
    )
    parts = []
    for part in batches:
        parts.append(part)
        if progress:
            progress(len(part.log_likelihood))
    return concatenate(parts)


def likelihood_batches(
    model,
    x: np.ndarray,
    num_samples: int,
    seed: int,
    sample_sizes: Sequence[int],
    batch_size: int,
    target_standard_error: float | None,
    max_samples: int | None,
    first_row: int = 0,
) -> Iterator[LikelihoodEstimate]:
    """`estimate_log_likelihood` in parts, for each batch of rows as soon as it is done, beginning with `first_row`."""
    num_samples = positive_integer("num_samples", num_samples)
    batch_size = positive_integer("batch_size", batch_size)
    sizes = {positive_integer("sample_sizes", k) for k in sample_sizes} | {num_samples}
    sizes = sorted(k for k in sizes if k <= num_samples)
    most = most_samples(num_samples, target_standard_error, max_samples)
    for first in range(first_row, max(len(x), 1), batch_size):  # no rows at all: the model says so
        rows = x[first : first + batch_size]
        numbers = first + tf.range(len(rows))
        bounds = {k: empty_grouped_bound(len(rows)) for k in sizes}
        state = empty_statistics(len(rows), most)
        for log_w in model.log_weight_chunks(rows, num_samples, seed, rows=numbers):
            bounds = _update_bounds(bounds, log_w)
            state = _update(state, log_w, tf.ones_like(log_w, tf.bool))
        if target_standard_error is not None:
            state = _go_on(model, rows, numbers, state, seed, target_standard_error, most)
        summary = _summarize(state)
        yield LikelihoodEstimate(
            **{name: values.numpy() for name, values in summary._asdict().items()},
            num_samples=state.count.numpy(),
            converged=_converged(summary, target_standard_error).numpy(),
            bounds={k: grouped_bound(bound).numpy() for k, bound in bounds.items()},
        )


def concatenate(parts: Sequence[LikelihoodEstimate]) -> LikelihoodEstimate:
    """The estimate for consecutive rows as one."""
    columns = [field.name for field in dataclasses.fields(LikelihoodEstimate) if field.name != "bounds"]
    return LikelihoodEstimate(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        bounds={k: np.concatenate([part.bounds[k] for part in parts]) for k in parts[0].bounds},
    )


def standard_error_of_mean(values: np.ndarray) -> float:
    """Standard error of the mean over the examples; NaN for a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def monte_carlo_error(standard_errors: np.ndarray) -> float:
    """Standard error, over draws of the samples, of the mean of independent estimates with these standard errors."""
    return float(np.sqrt(np.sum(standard_errors**2)) / len(standard_errors))


def _converged(summary: WeightSummary, target: float | None) -> tf.Tensor:
    reliable = summary.pareto_k < RELIABLE_PARETO_K
    return reliable if target is None else reliable & (summary.standard_error <= target)


def _go_on(
    model, x: np.ndarray, rows: tf.Tensor, state: WeightStatistics, seed: int, target: float, most: int
) -> WeightStatistics:
    """Doubles the samples of rows that have not converged. A row's own weights alone decide when it stops."""
    done = int(state.count[0])
    while done < most:
        open_rows = tf.where(~_converged(_summarize(state), target))[:, 0]
        if not len(open_rows):
            break
        more = min(done, most - done)
        part = gather_statistics(state, open_rows)
        numbers = tf.gather(rows, open_rows)
        for log_w in model.log_weight_chunks(x[open_rows], more, seed, rows=numbers, first_sample=done):
            part = _update(part, log_w, tf.ones_like(log_w, tf.bool))
        state = scatter_statistics(state, open_rows, part)
        done += more
    return state
