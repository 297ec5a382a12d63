"""All objectives in one table, the gradient routine, and gradients by plain automatic differentiation.

Tests take every name that may move inside the package from this file.
"""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from iwae_tf import objectives, seeds
from iwae_tf.declarations import declared
from iwae_tf.models.gradients import bound_and_gradients, draw_backward_samples, gather_samples  # noqa: F401
from iwae_tf.objectives import GradientWeights, Objective

K = 6
# float32 sums of terms of size 1, in another order
CLOSE = {"rtol": 1e-3, "atol": 1e-5}
# The largest |z| of some hundred parameters in 60 batches (t with 59 degrees of freedom) stays well below 5.
MAX_Z = 5.0


class Entry(NamedTuple):
    """Class, kind of rows, and cases (k, own settings): the smallest k, k = 6, and a larger one.

    kind: "own" (generative = path = -score, the derivative of the bound), "path" (no score), "discrete" (no path), or
    "mixed".
    """

    cls: type
    kind: str
    cases: list


def _cases(smallest=1, *settings):
    """Cases that have the same settings for every k."""
    return [(k, own) for own in settings or ({},) for k in (smallest, K, 50)]


_GROUPS = [(1, {"groups": 1}), (6, {"groups": 2}), (6, {"groups": 3}), (50, {"groups": 5})]
TABLE = {
    "elbo": Entry(objectives.ELBO, "own", _cases()),
    "elbo-kl": Entry(objectives.AnalyticKLELBO, "own", _cases()),
    "iwae": Entry(objectives.IWAEBound, "own", _cases()),
    "dreg": Entry(objectives.DReG, "path", _cases()),
    "stl": Entry(objectives.STL, "path", _cases()),
    "miwae": Entry(objectives.MIWAE, "own", _GROUPS),
    "piwae": Entry(objectives.PIWAE, "mixed", _GROUPS),
    "ciwae": Entry(objectives.CIWAE, "own", [*_cases(1, {"beta": 0.6}), (6, {"beta": 0.3, "learn_beta": True})]),
    "vr-iwae": Entry(objectives.VRIWAE, "own", _cases(1, {"alpha": 0.4}, {"alpha": 0.9})),
    "vr-max": Entry(objectives.VRMax, "own", _cases()),
    "jvi": Entry(objectives.JVI, "own", [*_cases(2, {"order": 1}), *((k, {"order": 2}) for k in (3, 6, 12))]),
    "dreg-alpha": Entry(objectives.DReGAlpha, "path", _cases(1, {"alpha": 0.3})),
    "rws-dreg": Entry(objectives.RWSDReG, "path", _cases(2)),
    "rws": Entry(objectives.RWS, "discrete", _cases(2)),
    "rws-sleep": Entry(objectives.RWSSleep, "discrete", _cases()),
    "vimco": Entry(objectives.VIMCO, "discrete", _cases(2)),
    "tvo": Entry(objectives.TVO, "discrete", [(2, {"points": 1}), (6, {"points": 3}), (50, {"points": 5})]),
}


def of_kind(*kinds):
    """Names of objectives."""
    return [name for name, entry in TABLE.items() if entry.kind in kinds]


def table_cases(names=TABLE, k=None, smallest=1):
    """pytest parameters (name, k, settings) of all cases, or of those with `k` samples."""
    return [
        pytest.param(name, size, own, id="-".join([name, str(size), *map(str, own.values())]))
        for name in names
        for size, own in TABLE[name].cases
        if k in (None, size) and size >= smallest
    ]


def made(name, k=K, **kwargs):
    """An objective with the settings of its first case for k, or for 6."""
    cases = TABLE[name].cases
    own = next((own for size, own in cases if size == k), next(own for size, own in cases if size == K))
    return TABLE[name].cls(k, **{**own, **kwargs})


def declared_settings():
    """Objective -> names of the settings that it declares beside those of all objectives."""
    return {name: set(declaration.settings) for name, declaration in declared("objective").items()}


def row_list(rows):
    """The rows generative, path, score; None for one of zeros."""
    return [rows.generative, rows.path, rows.score]


def filled_rows(objective, log_w):
    """The three rows as one array, [3, k, B]."""
    rows = row_list(objective.gradient_weights(tf.constant(log_w)))
    return np.stack([np.zeros(log_w.shape) if row is None else row for row in rows])


class AnyRows(Objective):
    """Bound and rows of another objective, times a factor for each example, without saying how the rows relate."""

    def __init__(self, objective, factors=1.0):
        super().__init__(objective.num_samples)
        self.objective, self.factors, self.state = objective, factors, objective.state

    @property
    def _row_structure(self):  # the factors are for the examples of one batch, not for those that are probed
        return self.objective.needs_path, False

    def bound(self, log_w):
        return self.factors * self.objective.bound(log_w)

    def gradient_weights(self, log_w):
        rows = row_list(self.objective.gradient_weights(log_w))
        return GradientWeights(*(None if row is None else self.factors * row for row in rows))


def key_of(purpose, counter=0, step=3):
    """Keys of one training step."""
    return seeds.key(1, purpose, step, counter)


def flat(gradients):
    """All gradients in one vector, [parameters]."""
    return np.concatenate([np.ravel(gradient) for gradient in gradients])


def size_of_phi(model):
    """Number of parameters of the inference network, which come first in every gradient."""
    return sum(int(np.prod(variable.shape)) for variable in model.inference_network.trainable_variables)


def gradient(model, objective, x, noise, key_of=key_of):
    """The gradient by the routine, [parameters]."""
    return flat(bound_and_gradients(model, objective, x, noise, key_of)[1])


def autodiff(model, gain):
    """The gradient of minus the batch mean of `gain()` [B] by both networks, [parameters]."""
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(gain())
    return flat(tape.gradient(loss, variables, unconnected_gradients="zero"))


def densities(model, x, noise, stopped=False):
    """log p(x, h) and log q(h | x) at the h made of the noise, [k, B]; with `stopped`, h counts as a constant."""
    h, _ = model.inference_network.transform(x, noise)
    if stopped:
        h = tuple(map(tf.stop_gradient, h))
    return model.generative_network.log_prob(x, h), model.inference_network.log_prob(x, h)


def log_weights(model, x, noise):
    """log w, [k, B]."""
    log_p, log_q = densities(model, x, noise)
    return log_p - log_q


def gradient_by_rows(model, x, noise, rows):
    """The gradient of sum_i g_i log p + path_i log w through h + score_i log q at constant h, [parameters].

    `rows` takes log w as float64 [k, B] to (generative, path, score).
    """
    log_w = log_weights(model, x, noise).numpy().astype(np.float64)
    generative, path, score = (tf.constant(row, tf.float32) for row in rows(log_w))

    def fixed():
        log_p, log_q = densities(model, x, noise, stopped=True)
        return tf.reduce_sum(generative * log_p + score * log_q, axis=0)

    def through():
        _, log_q = densities(model, x, noise, stopped=True)  # removes the score from d log w / d phi
        return tf.reduce_sum(path * (log_weights(model, x, noise) + log_q), axis=0)

    by_path = autodiff(model, through)
    by_path[size_of_phi(model) :] = 0.0
    return autodiff(model, fixed) + by_path


def gradient_samples(model, estimators, x, repeats=60):
    """Gradients by independent batches of noise, shared by estimators of equal k; name -> float64 [repeats, P]."""

    @tf.function(autograph=False)
    def gradients(number):
        def noise(k):
            shape = [k, x.shape[0], sum(model.latent_units)]
            return seeds.normal(shape, seeds.key(2, seeds.Purpose.TRAIN_NOISE, number))

        return {
            name: bound_and_gradients(
                model, each, x, noise(each.num_samples), lambda purpose, counter=0: key_of(purpose, counter, number)
            )[1]
            for name, each in estimators.items()
        }

    draws = [gradients(tf.constant(number)) for number in range(repeats)]
    return {name: np.stack([flat(draw[name]) for draw in draws]).astype(np.float64) for name in estimators}


def z_scores(one, other=0.0):
    """Mean of `one` [repeats, P] minus `other`, paired with it or a constant, in standard errors.

    For the parameters that either estimator moves; of the others the two must be equal.
    """
    difference = one - other
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    moved = error > 1e-9
    assert np.abs(difference[:, ~moved]).max(initial=0.0) < 1e-6
    return difference.mean(axis=0)[moved] / error[moved]
