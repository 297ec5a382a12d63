"""log p(x) of a data set, how far to trust it, and the bounds L_k below it, all from one stream of samples."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from iwae_tf.config import REFINE, most_samples
from iwae_tf.errors import InputError, check_seed, checked_samples, positive_integer
from iwae_tf.models.checks import check_gaussian, dense_numbers

# The numbers of samples the paper trains and evaluates with, and steps between them.
PAPER_SAMPLE_SIZES = (1, 5, 50, 500, 5000)
REFINED = "refined"  # the proposal, in protocols


@dataclasses.dataclass(frozen=True, eq=False)
class LikelihoodEstimate:
    """log p(x) of every example of a data set. All arrays have one entry for each example, [N], and are in nats.

    Attributes:
        log_likelihood: log of the mean importance weight, float64.
        elbo: mean of the log-weights of the proposal, float64; `bounds[1]` is L_1 of q(h | x).
        standard_error: of `log_likelihood`, by the delta method, float64; NaN for one sample. The largest of that of
            the estimate and those that two pilot runs predict, since a single run often misses the largest weights.
        effective_sample_size: (sum w)^2 / sum w^2, float64.
        pareto_k: shape of the tail of the weights, float64.
        num_samples: samples of the estimate, int32.
        reliable: whether the pilot runs have a mean Pareto k below 0.7 and predict a standard error of at most 0.1
            nats, or the target; bool.
        bounds: for each k an unbiased estimate of L_k under q(h | x), float64.
    """

    log_likelihood: np.ndarray
    elbo: np.ndarray
    standard_error: np.ndarray
    effective_sample_size: np.ndarray
    pareto_k: np.ndarray
    num_samples: np.ndarray
    reliable: np.ndarray
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
    refine: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> LikelihoodEstimate:
    """Estimates log p(x) for every row of x, its reliability, and L_k.

    L_k is the mean over consecutive groups of k of `num_samples` samples of q(h | x). log p(x) is estimated with
    samples of a proposal refined for the row, where weights vary less by orders of magnitude, or with those of q(h | x)
    without refinement. Memory does not grow with the number of samples. The noise of a row depends on (seed, content of
    the row) alone, so the order of the rows and the batch size change nothing.

    Two pilot runs, whose samples are not used again, tell whether the estimate is reliable, and how many samples of a
    refined proposal each row needs: from 500 to `num_samples` for a standard error of 0.05 nats, and up to four times
    `num_samples` where these are not enough for 0.1 nats.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D], or `tf.data` batches of such rows.
        num_samples: samples of q(h | x) for each row, the largest k of L_k; with a target, the fewest of an estimate.
        seed: seed of the noise.
        sample_sizes: further k to estimate L_k for; those above `num_samples` are left out.
        batch_size: rows that one call of the compiled stream scores.
        target_standard_error: in nats, > 0; every row has as many samples as it takes. None: see above.
        max_samples: the largest number of samples of a row, with a target; 40 times `num_samples` if None.
        refine: "auto" refines the proposal of Gaussian units, "on" also raises an error for others, "off" takes
            q(h | x).
        progress: called with the number of rows that are done since the last call, for a progress bar.

    Returns:
        A `LikelihoodEstimate`, of arrays; inside `tf.function` of tensors.

    Raises:
        InputError: (a `ValueError`) for x of the wrong size or values, or numbers out of range.

    Reference: Burda, Grosse, Salakhutdinov (2016), equation 8 and section 5.
    """
    batches = likelihood_batches(
        model, x, num_samples, seed, sample_sizes, batch_size, target_standard_error, max_samples, refine
    )
    estimates = []
    for estimate in batches:
        estimates.append(estimate)
        if progress:
            progress(len(estimate.log_likelihood))
    return concatenate(estimates) if len(estimates) > 1 else estimates[0]


def likelihood_batches(
    model,
    x: np.ndarray,
    num_samples: int,
    seed: int,
    sample_sizes: Sequence[int],
    batch_size: int,
    target_standard_error: float | None,
    max_samples: int | None,
    refine: str = "auto",
    first_row: int = 0,
) -> Iterator[LikelihoodEstimate]:
    """Yields `estimate_log_likelihood` for each batch of rows as soon as it is done, beginning with `first_row`."""
    num_samples = checked_samples(num_samples)
    batch_size = positive_integer("batch_size", batch_size)
    sizes = {positive_integer("sample_sizes", k) for k in sample_sizes} | {num_samples}
    sizes = tuple(sorted(k for k in sizes if k <= num_samples))
    most = most_samples(num_samples, target_standard_error, max_samples)
    target = None if target_standard_error is None else float(target_standard_error)
    seed, refined = tf.constant(check_seed(seed), tf.int64), refines(model, refine)
    x = dense_numbers(x, model.columns)
    in_graph = not tf.executing_eagerly()  # where the number of rows is unknown: one batch, of tensors
    for first in [0] if in_graph else range(first_row, max(len(x), 1), batch_size):  # without rows `checked` raises
        rows = model.checked(x if in_graph else x[first : first + batch_size])
        found = model._estimate_rows(rows, seed, tf.constant(num_samples), tf.constant(most), sizes, target, refined)
        found["bounds"] = dict(zip(sizes, tf.unstack(found["bounds"], len(sizes), axis=1), strict=True))
        if not in_graph:
            found = tf.nest.map_structure(lambda values: values.numpy(), found)
        yield LikelihoodEstimate(num_samples=found.pop("count"), **found)


def refines(model, refine: str) -> bool:
    """Returns whether the proposal of a model is refined; raises `InputError` for "on" without Gaussian units."""
    if refine not in REFINE:
        raise InputError(f"refine must be one of {', '.join(REFINE)}, got {refine!r}")
    if refine == "on":
        check_gaussian(model, "refine='on'", "a proposal follows the gradient with respect to the units; use 'auto'")
    return refine != "off" and model.gaussian_latents


def proposal_name(model, refine: str) -> str:
    """Returns the proposal of scores with this `refine`, as protocols name it."""
    return REFINED if refines(model, refine) else "q(h|x)"


def concatenate(estimates: Sequence[LikelihoodEstimate]) -> LikelihoodEstimate:
    """Joins the estimates of consecutive rows."""
    columns = [field.name for field in dataclasses.fields(LikelihoodEstimate) if field.name != "bounds"]
    return LikelihoodEstimate(
        **{name: np.concatenate([getattr(estimate, name) for estimate in estimates]) for name in columns},
        bounds={k: np.concatenate([estimate.bounds[k] for estimate in estimates]) for k in estimates[0].bounds},
    )


def standard_error_of_mean(values: np.ndarray) -> float:
    """Returns the standard error of the mean over the examples; NaN for a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
