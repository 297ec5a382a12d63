"""Independent gradients of every estimator at the same model, images and random numbers, and their sums."""

import numpy as np
import tensorflow as tf

from benchmarks.gradient_quality_statistics import Moments
from iwae_tf import seeds
from iwae_tf.errors import InputError
from iwae_tf.objectives import objective_class
from iwae_tf.objectives.gradients import bound_and_gradients
from iwae_tf.objectives.objective import Objective

GROUPS = 10  # of draws, for the jackknife
REFERENCE = "dreg"  # unbiased for L_k with the least noise; its own reference is `iwae`, unbiased too
NUM_GROUPS = 4  # M of miwae and piwae


def objectives_at(names, k: int) -> dict[str, Objective]:
    """The objectives that exist for k samples, with default settings and M = 4; `iwae` and `dreg` come first."""
    made = {}
    for name in dict.fromkeys(["iwae", "dreg", *names]):
        groups = {"groups": NUM_GROUPS} if name in ("miwae", "piwae") else {}
        try:
            made[name] = objective_class(name)(num_samples=k, **groups)
        except InputError:  # vimco and jvi need 2 samples, miwae and piwae a multiple of M
            continue
    return made


def draw_function(model, x, objectives: dict[str, Objective], seed: int):
    """A compiled function: number of a draw -> gradients of all estimators from the same noise, [E, P].

    P counts the parameters of the inference network, then those of the generative network. The gradient is that of
    the bound's mean over the batch, with the sign of the loss.
    """
    (k,) = {objective.num_samples for objective in objectives.values()}
    shape = [k, x.shape[0], sum(model.latent_units)]  # [k, B, H]

    @tf.function(autograph=False)
    def draw(number):
        def key_of(purpose, counter=0):
            return seeds.key(seed, purpose, number, 1000 * k + counter)

        noise = seeds.normal(shape, key_of(seeds.Purpose.TRAIN_NOISE))
        rows = [bound_and_gradients(model, one, x, noise, key_of)[1] for one in objectives.values()]
        return tf.stack([tf.concat([tf.reshape(part, [-1]) for part in row], axis=0) for row in rows])

    return draw


def network_slices(model) -> dict[str, slice]:
    """Which of the P parameters belong to which network."""
    sizes = [
        sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)
        for network in (model.inference_network, model.generative_network)
    ]
    return {"inference": slice(0, sizes[0]), "generative": slice(sizes[0], sum(sizes))}


def measure(model, x, objectives: dict[str, Objective], repeats: int, seed: int) -> dict[tuple[str, str], list]:
    """Moments of every estimator and network in `GROUPS` groups of draws.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [B, D].
        objectives: name -> objective, all with the same number of samples; `iwae` and `dreg` are among them.
        repeats: draws in all, a multiple of `GROUPS`.
        seed: of the noise.

    Returns:
        (name, network) -> a list of `Moments`, one for each group.
    """
    if repeats % GROUPS or repeats < 2 * GROUPS:
        raise InputError(f"--repeats must be a multiple of {GROUPS} and at least {2 * GROUPS}, got {repeats}")
    draw, slices = draw_function(model, x, objectives, seed), network_slices(model)
    references = _reference_rows(list(objectives))
    found = {(name, network): [] for name in objectives for network in slices}
    each = repeats // GROUPS
    for group in range(GROUPS):
        sums = _Sums(len(objectives), slices)
        for number in range(group * each, (group + 1) * each):
            sums.add(draw(tf.constant(number)).numpy(), references)
        for row, name in enumerate(objectives):
            for network in slices:
                found[name, network].append(sums.moments(row, references[row], network))
    return found


def _reference_rows(names: list[str]) -> list[int]:
    """For each estimator the row of its reference."""
    return [names.index("iwae" if name == REFERENCE else REFERENCE) for name in names]


class _Sums:
    """Running sums of the draws of one group, in float64."""

    def __init__(self, estimators: int, slices: dict[str, slice]):
        parameters = max(part.stop for part in slices.values())
        self.slices = slices
        self.count = 0
        self.total, self.squares = np.zeros((2, estimators, parameters))  # [E, P]
        self.differences = {network: np.zeros(estimators) for network in slices}

    def add(self, gradients: np.ndarray, references: list[int]) -> None:
        """Takes a draw, [E, P]."""
        self.count += 1
        self.total += gradients
        self.squares += np.square(gradients, dtype=np.float64)
        for row, reference in enumerate(references):
            difference = gradients[row] - gradients[reference]  # [P]
            for network, part in self.slices.items():
                self.differences[network][row] += float(difference[part] @ difference[part])

    def moments(self, row: int, reference: int, network: str) -> Moments:
        """The sums of one estimator and network."""
        part = self.slices[network]
        total, squares = self.total[row, part], self.squares[row, part]
        difference = total - self.total[reference, part]
        return Moments(self.count, total, squares, difference, self.differences[network][row])
