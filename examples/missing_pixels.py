"""Digits with holes: trained on images of which half the pixels are missing, the model fills in what it never saw.

MIWAE (Mattei & Frellsen 2019): q sees 0 at the holes, the likelihood counts observed pixels alone, and a missing pixel
is imputed by E[x_missing | x_observed] = sum_i w~_i E[x_missing | h_i]. Holes are marked by -1, in training too.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import iwae_tf
from iwae_tf.evaluation import posterior_expectation
from iwae_tf.plots import save_rows

EPOCHS = 100
SAMPLES = 5000  # of q for each image
HOLE = -1.0


@keras.saving.register_keras_serializable("examples")
class Observed(iwae_tf.layers.Likelihood):
    """log p(observed | h) = sum over observed pixels of log N(x; m, s^2), with m = sigmoid(.) and s of each pixel."""

    support = "values in [0, 1], and -1 for holes"

    def __init__(self, units, initializer_seeds, mean=None, **kwargs):
        super().__init__(**kwargs)
        self.logit = self.dense(units, initializer_seeds)
        self.raw_scale = self.dense(units, initializer_seeds, -1.0)

    def call(self, features):
        return tf.sigmoid(self.logit(features)), 0.03 + tf.nn.softplus(self.raw_scale(features))  # both [..., D]

    def log_prob(self, parameters, value):
        loc, scale = parameters
        log_p = -0.5 * tf.square((value - loc) / scale) - tf.math.log(scale) - 0.5 * np.log(2 * np.pi)
        return tf.reduce_sum(tf.where(value == HOLE, 0.0, log_p), axis=-1)

    def mean(self, parameters):
        return parameters[0]

    def distribution(self, parameters):
        from tensorflow_probability import distributions as tfd

        return tfd.Independent(tfd.Normal(*parameters), reinterpreted_batch_ndims=1)


@keras.saving.register_keras_serializable("examples")
class ZeroAtHoles(keras.layers.Layer):
    """What q sees: x [N, D] with 0 in the place of -1."""

    def call(self, x):
        return keras.ops.maximum(x, 0.0)


def main() -> None:
    """Trains on images with holes, prints the error of several ways to fill those of others, and draws some."""
    keras.utils.set_random_seed(0)
    whole = load_digits().data.astype("float32") / 16  # [1797, 64]
    holes = np.random.default_rng(0).random(whole.shape) < 0.5
    x = np.where(holes, np.float32(HOLE), whole)
    train, test = x[:1397], x[1397:]
    encoder = keras.Sequential([ZeroAtHoles(), keras.layers.Dense(200, "tanh"), keras.layers.Dense(200, "tanh")])
    model = iwae_tf.IWAE(64, (20,), ((200, 200),), likelihood=Observed, encoder=encoder)
    model.compile(objective=iwae_tf.objectives.DReG(num_samples=20))
    model.fit(train, epochs=EPOCHS, batch_size=50, verbose=0)

    expected = posterior_expectation(model, lambda h: model.likelihood(h).mean(), test, SAMPLES).mean
    with_nan = np.where(holes, np.nan, whole)
    neighbours = KNNImputer(n_neighbors=5, keep_empty_features=True).fit(with_nan[:1397])
    filled = {
        "mean": np.where(test == HOLE, np.nanmean(with_nan[:1397], axis=0), test),
        "5 neighbours": neighbours.transform(with_nan[1397:]),
        "mean of q": np.where(test == HOLE, model.reconstruct(test), test),
        "weighted": np.where(test == HOLE, expected, test),
    }
    for name, images in filled.items():
        error = np.sqrt(np.mean(np.square(images - whole[1397:])[test == HOLE]))
        print(f"{name:<14} RMSE of missing pixels {error:.3f}")
    Path("runs").mkdir(exist_ok=True)
    rows = [np.reshape(images[:10], (-1, 8, 8)) for images in (whole[1397:], np.maximum(test, 0.0), *filled.values())]
    title = "Half of the pixels are missing (black in the second row), filled in four ways"
    save_rows("runs/missing_pixels.png", rows, title, ("whole", "observed", *filled))


if __name__ == "__main__":
    main()
