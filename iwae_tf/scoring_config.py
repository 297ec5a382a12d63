"""Settings of what is done with a trained model: scoring images and exporting. See `iwae_tf.config`."""

import dataclasses

from iwae_tf.errors import InputError, check_seed, positive_integer
from iwae_tf.fields import check_fields, setting


def most_samples(num_samples: int, target: float | None, max_samples: int | None) -> int:
    """The most samples that an example may need, given a target for its standard error or none.

    Raises:
        InputError: the three do not fit together.
    """
    if target is None:
        if max_samples is not None:
            raise InputError(f"max_samples = {max_samples} without target_standard_error: give both, or num_samples")
        return num_samples
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target < float("inf"):
        raise InputError(f"target_standard_error must be a number of nats > 0, got {target!r}")
    if num_samples < 2:
        raise InputError("num_samples must be at least 2 with a target_standard_error: one sample has no error")
    most = 40 * num_samples if max_samples is None else positive_integer("max_samples", max_samples)
    if most < num_samples:
        raise InputError(f"max_samples must be at least num_samples = {num_samples}, got {max_samples}")
    return most


@dataclasses.dataclass(frozen=True)
class ScoringConfig:
    """How log p(x) is estimated, and of what."""

    part: str = setting("test", "which images of the run's data set", choices=("test", "valid", "train"))
    num_samples: int = setting(5000, "importance samples for each image; with a target, to begin with", parse=int)
    target_standard_error: float | None = setting(
        None, "draw for each image until its standard error is this small, in nats, and its Pareto k good", parse=float
    )
    max_samples: int | None = setting(
        None, "the most samples for an image, with a target (default: 40 times --num-samples)", parse=int
    )
    seed: int = setting(0, "seed of the importance samples", parse=int)
    gap: bool = setting(False, "score as many training images too: the train-test gap")
    prune: bool = setting(False, "score again without the inactive latent units")
    jackknife: bool = setting(False, "correct the bias of the estimate by the jackknife, of order 1 and 2")
    annealed: int = setting(
        0, "score this many of the images by annealed importance sampling as well, and certify it", parse=int
    )
    data_dir: str | None = setting(None, "folder to read the data from, where it is not what the run had")

    def __post_init__(self):
        check_fields(self, positive=("num_samples",))
        most_samples(self.num_samples, self.target_standard_error, self.max_samples)
        check_seed(self.seed)
        if isinstance(self.annealed, bool) or not isinstance(self.annealed, int) or self.annealed < 0:
            raise InputError(f"annealed must be a number of images >= 0, got {self.annealed!r}")


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What a server is to compute."""

    num_samples: int = setting(5000, "importance samples of a score when the request does not say", parse=int)
    max_samples: int = setting(50_000, "the most samples that a request may ask for", parse=int)
    input: str | None = setting(
        None,
        "pixels between 0 and 1 are drawn from their intensity (binary, the default), or scored by their expected "
        "log-likelihood (intensity); for Bernoulli pixels only",
        choices=("binary", "intensity"),
    )

    def __post_init__(self):
        check_fields(self, positive=("num_samples", "max_samples"))
        if self.num_samples > self.max_samples:
            raise InputError(f"num_samples must be at most max_samples = {self.max_samples}, got {self.num_samples}")
