"""Cases of the tests of likelihoods: layers of three dimensions, parameters and values of every size."""

import numpy as np
import reference
import reference_likelihoods
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.distributions.gaussian import GaussianParameters
from iwae_tf.distributions.head import likelihood_class
from iwae_tf.distributions.levels import LogisticMixture
from iwae_tf.distributions.real import StudentTParameters

D, FEATURES = 3, 4
OVER_LEVELS = [("categorical", n) for n in (2, 7, 256)] + [("discretized-logistic", n) for n in (2, 17, 256)]
CASES = [(name, None) for name in ("bernoulli", "gaussian", "continuous-bernoulli", "student-t")] + OVER_LEVELS
# float32: 3 terms of up to 100, each rounded to 1e-7 of itself, some exponentials and logarithms on the way.
FLOAT32 = {"rtol": 3e-6, "atol": 3e-5}


def layer(name, levels=None, mean=None, units=D, seed=0):
    """A built likelihood of `units` dimensions on features of `FEATURES` units."""
    arguments = {} if levels is None else {"levels": levels}
    made = likelihood_class(name)(units, seeds.initializer_seeds(seed), mean=mean, **arguments)
    made.build((None, FEATURES))
    return made


def parameters(name, levels, shape, seed=0, wide=False):
    """Random parameters of [*shape, D]; `wide` ones reach logits of +-100, scales at the bounds, far locations."""
    rng = np.random.default_rng(seed)
    size, scales = (100.0, 7.0) if wide else (3.0, 2.0)

    def uniform(high, *last):
        drawn = rng.uniform(-high, high, (*shape, D, *last))
        return tf.constant(np.where(rng.random(drawn.shape) < 0.3, np.sign(drawn) * high, drawn), tf.float32)

    if name in ("bernoulli", "continuous-bernoulli"):
        return uniform(size)
    if name == "gaussian":
        return GaussianParameters(uniform(size), uniform(scales))
    if name == "categorical":
        return uniform(size, levels)
    if name == "student-t":
        df = rng.uniform(1.0009, 1098.0, D) if wide else np.array([1.5, 4.0, 30.0])
        return StudentTParameters(uniform(size), uniform(scales), tf.constant(df, tf.float32))
    return LogisticMixture(uniform(size, 5), uniform(size / 3, 5), uniform(scales, 5))


def many(q, n):
    """The same parameters [D] for n rows, [n, D]; degrees of freedom, [D], stay."""
    rows = tf.nest.map_structure(lambda v: tf.broadcast_to(v, [n, *v.shape]), q)
    return rows._replace(df=q.df) if isinstance(q, StudentTParameters) else rows


def values(name, levels, shape, seed=1):
    """Possible observations, float32 [*shape, D]; the first two dimensions at the ends where there are ends."""
    rng = np.random.default_rng(seed)
    if name in ("gaussian", "student-t"):
        return (5.0 * rng.standard_t(2.0, (*shape, D))).astype(np.float32)
    drawn = rng.random((*shape, D)) if levels is None else rng.integers(0, levels, (*shape, D)) / (levels - 1)
    drawn[..., 0], drawn[..., 1] = 0.0, 1.0
    return drawn.astype(np.float32)


def in_double(q):
    return [np.asarray(v, np.float64) for v in (q if isinstance(q, tuple) else (q,))]


def expected_log_prob(name, levels, q, value):
    """log p of every row in float64, by formulas that share no code with the package; q as `in_double` gives it."""
    value = value.astype(np.float64)
    if name in ("bernoulli", "gaussian"):
        return getattr(reference, f"{name}_log_prob")(value, *q)
    function = getattr(reference_likelihoods, name.replace("-", "_"))
    return function(value, *q, **({} if levels is None else {"levels": levels})).sum(axis=-1)
