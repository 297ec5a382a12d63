"""The scores of images: what a model says of each row, and a line that sums them up."""

from typing import NamedTuple

import numpy as np

from iwae_tf.config import RELIABLE_PARETO_K
from iwae_tf.errors import InputError

OK, BAD_X, BAD_NUM_SAMPLES, NOT_FINITE = range(4)
STATUSES = {
    OK: "ok",
    BAD_X: "x has NaN or values that the likelihood cannot observe",
    BAD_NUM_SAMPLES: "num_samples is not in [1, max_samples]",
    NOT_FINITE: "the score is not finite",
}


class Scores(NamedTuple):
    """One entry for each image, [N]; NaN where the status is not 0.

    Attributes:
        log_prob: estimate of log p(x), float32, in nats.
        elbo: the mean of the log importance weights, float32, in nats.
        standard_error: of log_prob, float32, in nats; NaN for one sample.
        effective_sample_size: float32, between 1 and the number of samples.
        pareto_k: shape of the tail of the importance weights, float32; log_prob is unreliable above 0.7. inf where
            there are fewer than 21 samples.
        status: int32; 0 is good, see `STATUSES`.
    """

    log_prob: np.ndarray
    elbo: np.ndarray
    standard_error: np.ndarray
    effective_sample_size: np.ndarray
    pareto_k: np.ndarray
    status: np.ndarray


DTYPES = {name: np.int32 if name == "status" else np.float32 for name in Scores._fields}


def from_outputs(outputs: dict[str, np.ndarray], rows: int) -> Scores:
    """The scores in a model's outputs.

    Raises:
        InputError: an output is missing, or has another shape than [rows].
    """
    missing = [name for name in Scores._fields if name not in outputs]
    if missing:
        raise InputError(
            f"the model answered without {', '.join(missing)} (it has {', '.join(sorted(outputs)) or 'no outputs'}); "
            "expected a model that export_saved_model wrote"
        )
    for name in Scores._fields:
        if outputs[name].shape != (rows,):
            raise InputError(f"the model answered with {name} of shape {list(outputs[name].shape)} for {rows} rows")
    return Scores(**{name: outputs[name].astype(dtype, copy=False) for name, dtype in DTYPES.items()})


def concatenate(parts: list[Scores]) -> Scores:
    """The scores of consecutive chunks as one; of no chunk, no rows."""
    columns = zip(*parts, strict=True) if parts else [[np.empty(0, dtype)] for dtype in DTYPES.values()]
    return Scores(*map(np.concatenate, columns))


def summary(scores: Scores) -> str:
    """One line: rows, mean log p(x), and how many rows are not to be trusted."""
    good = scores.status == OK
    parts = [f"{len(good)} rows"]
    if good.any():
        mean = scores.log_prob[good].mean(dtype=np.float64)
        doubtful = np.count_nonzero(scores.pareto_k[good] > RELIABLE_PARETO_K)
        parts.append(f"mean log_prob {mean:.3f} over {np.count_nonzero(good)} good rows")
        parts.append(f"{doubtful} of them with pareto_k > {RELIABLE_PARETO_K}")
    for status in np.unique(scores.status[~good]):
        words = STATUSES.get(int(status), "unknown to this client")
        parts.append(f"{np.count_nonzero(scores.status == status)} with status {status} ({words})")
    return "; ".join(parts)
