"""An encoder and a likelihood of your own: grey levels of the digits as what they are, counts of ink.

Each of the 64 pixels counts the black ones in a block of 4 x 4: 0 to 16, so that a binomial with 16 trials is the
likelihood to try. It is compared with the package's `categorical`, which has a logit for each of the 17 levels.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from tensorflow_probability import distributions as tfd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import iwae_tf
from iwae_tf.plots import save_rows

EPOCHS = 30
SAMPLES = 1000  # of q for each image
TRIALS = 16


@keras.saving.register_keras_serializable("examples")
class Binomial(iwae_tf.layers.Likelihood):
    """p(x | h) = C(16, x) p^x (1 - p)^(16 - x), with p = sigmoid(features W + b) for each pixel."""

    support = "counts 0 to 16"
    advice = "round to whole numbers"

    def __init__(self, units, initializer_seeds, mean=None, **kwargs):
        super().__init__(**kwargs)
        share = None if mean is None else np.clip(np.divide(mean, TRIALS), 0.001, 0.999)
        self.logits = self.dense(units, initializer_seeds, None if share is None else np.log(share / (1 - share)))

    def call(self, features):
        return self.logits(features)  # [..., D]

    def distribution(self, logits):
        return tfd.Independent(tfd.Binomial(TRIALS, logits=logits), 1)  # log_prob, mean and sample follow

    def in_support(self, value):
        return tf.reduce_all((value >= 0.0) & (value <= TRIALS) & (value == tf.round(value)))


def encoder(unit: float) -> keras.Model:
    """Convolutions from x [N, 64], in units of so many counts of ink, to features [N, 4, 4, 32]."""
    conv = [keras.layers.Conv2D(n, 3, strides=s, padding="same", activation="elu") for n, s in ((16, 1), (32, 2))]
    return keras.Sequential([keras.layers.Rescaling(unit / TRIALS), keras.layers.Reshape((8, 8, 1)), *conv])


def fitted(x: np.ndarray, unit: float, **settings) -> iwae_tf.IWAE:
    """A model of x [N, 64] with 20 latent units."""
    keras.utils.set_random_seed(0)
    model = iwae_tf.IWAE(64, (20,), ((100, 100),), encoder=encoder(unit), data_mean=x.mean(axis=0), **settings)
    model.compile(objective=iwae_tf.objectives.DReG(num_samples=10))
    model.fit(x, epochs=EPOCHS, batch_size=50, verbose=0)
    return model


def main() -> None:
    """Prints log p(x) of the same images, a log-probability of the same 17 levels under each, and draws a sheet."""
    counts = load_digits().data.astype("float32")
    train, test = counts[:1397], counts[1397:]
    binomial = fitted(train, 1, likelihood=Binomial)
    levels = fitted(train / TRIALS, TRIALS, likelihood="categorical", levels=TRIALS + 1)
    scores = {}
    for name, model, x in (("binomial", binomial, test), ("categorical", levels, test / TRIALS)):
        scores[name] = iwae_tf.evaluation.estimate_log_likelihood(model, x, SAMPLES).log_likelihood
    scores["difference"] = scores["categorical"] - scores["binomial"]  # of the same images
    for name, values in scores.items():
        print(f"{name:<12}{values.mean():8.2f} +- {values.std() / len(values) ** 0.5:.2f} nats")
    binomial.save("runs/custom.keras")
    same = keras.saving.load_model("runs/custom.keras")
    rows = np.reshape(same.sample(40, mean=True) / TRIALS, (4, 10, 8, 8))
    save_rows("runs/custom.png", list(rows), "Means under the binomial likelihood, h from the prior")


if __name__ == "__main__":
    Path("runs").mkdir(exist_ok=True)
    main()
