"""The memory that sizes ask for, summed before anything is built."""

import contextlib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from iwae_tf.errors import InputError

# Of a control group, such as a container: version 2, version 1.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available() -> int:
    """Returns the memory of this machine, or of the process's control group, in bytes."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
            found.append(int(Path(path).read_text()))
    return min(found)


def check_fits(parts: Mapping[str, int], advice: str) -> None:
    """Raises `InputError` with the sum if more numbers of 4 bytes are asked for than fit into memory.

    Args:
        parts: how many numbers for each purpose.
        advice: what to give less of.
    """
    memory = available()
    if 4 * sum(parts.values()) > memory:
        words = " + ".join(f"{_size(4 * numbers)} for {purpose}" for purpose, numbers in parts.items() if numbers)
        raise InputError(f"not enough memory: {words} is more than the {_size(memory)} of this machine; {advice}")


def _size(number: int) -> str:
    return f"{min(number, 10**30) / 2**30:,.3g} GiB"


def count_weights(data_dim: int, latent_units: Sequence[int], hidden_units: Sequence[Sequence[int]]) -> int:
    """Returns the number of weights of an `IWAE` of dense layers, to within the heads' own."""
    total, below, outputs = 0, data_dim, data_dim
    for units, hidden in zip(latent_units, hidden_units, strict=True):
        for widths in ((below, *hidden, 2 * units), (units, *reversed(hidden), outputs)):
            total += sum((a + 1) * b for a, b in itertools.pairwise(widths))
        below, outputs = units, 2 * units  # mean and scale
    return total


def check_training(sizes: tuple, objective, batch_size: int, scored: int = 0) -> None:
    """Raises `InputError` if a training step, or validation, would not fit into memory.

    Args:
        sizes: D, the latent units and the hidden units, as in `IWAE`.
        objective: an `iwae_tf.objectives.Objective`.
        batch_size: rows in a step.
        scored: rows that validation scores together.
    """
    data_dim, latent_units, hidden_units = sizes
    outputs = [data_dim, *latent_units, *itertools.chain(*hidden_units)]  # of layers, for a sample
    kept = objective.backward_samples or objective.num_samples
    advice = "lower k (--k, num_samples), the batch size or the units"
    check_fits(
        {
            "weights, gradients and Adam's moments": 4 * count_weights(*sizes),
            f"the layers' outputs of {batch_size} x {kept} samples": batch_size * kept * sum(outputs),
            "noise and log-weights": batch_size * (objective.num_samples * sum(latent_units) + objective.numbers),
        },
        advice,
    )
    check_fits({f"validation with k = {objective.num_samples}": scored * objective.num_samples * max(outputs)}, advice)
