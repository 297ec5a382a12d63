"""What tests of the likelihoods share: layers of three dimensions, parameters and values of every size."""

import numpy as np
import reference_likelihoods as reference
import tensorflow as tf
from iwae_tf.layers.discretized_logistic import LogisticMixture
from iwae_tf.layers.registry import likelihood_class
from iwae_tf.layers.student_t import StudentTParameters

from iwae_tf import seeds

D, FEATURES = 3, 4
LEVELS = {"categorical": 7, "discretized-logistic": 17}
NAMES = ["categorical", "continuous-bernoulli", "discretized-logistic", "student-t"]
# float32: 3 terms of up to 100, each rounded to 1e-7 of itself, some exponentials and logarithms on the way.
FLOAT32 = {"rtol": 3e-6, "atol": 3e-5}


def layer(name, mean=None, **kwargs):
    arguments = {"levels": LEVELS[name]} if name in LEVELS else {}
    made = likelihood_class(name)(D, seeds.initializer_seeds(0), mean=mean, **arguments, **kwargs)
    made.build((None, FEATURES))
    return made


def parameters(name, shape, seed=0, wide=False):
    """Random parameters of [*shape, D]; `wide` ones reach logits of +-100, scales at the bounds, far locations."""
    rng = np.random.default_rng(seed)
    size = 100.0 if wide else 3.0

    def uniform(low, high, *last):
        values = rng.uniform(low, high, (*shape, D, *last))
        return tf.constant(np.where(rng.random(values.shape) < 0.3, np.sign(values) * high, values), tf.float32)

    if name == "continuous-bernoulli":
        return uniform(-size, size)
    if name == "categorical":
        return uniform(-size, size, LEVELS[name])
    scales = 7.0 if wide else 2.0
    if name == "student-t":
        df = rng.uniform(1.0009, 1098.0, D) if wide else np.array([1.5, 4.0, 30.0])
        return StudentTParameters(uniform(-size, size), uniform(-scales, scales), tf.constant(df, tf.float32))
    return LogisticMixture(uniform(-size, size, 5), uniform(-size / 3, size / 3, 5), uniform(-scales, scales, 5))


def values(name, shape, seed=1):
    rng = np.random.default_rng(seed)
    if name in LEVELS:
        last = LEVELS[name] - 1
        drawn = rng.integers(0, last + 1, (*shape, D)) / last
    elif name == "student-t":
        drawn = 5.0 * rng.standard_t(2.0, (*shape, D))
    else:
        drawn = rng.random((*shape, D))
        drawn[..., 0], drawn[..., 1] = 0.0, 1.0
    return drawn.astype(np.float32)


def in_double(values):
    parts = values if isinstance(values, tuple) else (values,)
    return [part.numpy().astype(np.float64) for part in parts]


def expected_log_prob(name, q, value):
    function = getattr(reference, name.replace("-", "_"))
    levels = {"levels": LEVELS[name]} if name in LEVELS else {}
    return function(value.astype(np.float64), *in_double(q), **levels)
