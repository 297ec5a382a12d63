"""`fit` on an array of your own: float [N, D], here 1,797 digits in 17 grey levels."""

import sys
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import iwae_tf
from iwae_tf.plots import save_rows

EPOCHS = 30
SAMPLES = 1000  # of q for each row


def main() -> None:
    """Fits, prints bits per dimension of rows that were not trained on, and draws rows from the model."""
    keras.utils.set_random_seed(0)  # the order of the rows; all other noise is the model's `seed`
    x = load_digits().data.astype("float32") / 16  # your array: 17 values i / 16, so "categorical"; README has others
    train, test = x[:1397], x[1397:]
    model = iwae_tf.IWAE(64, (20,), ((100, 100),), likelihood="categorical", levels=17, data_mean=train.mean(axis=0))
    model.compile(objective=iwae_tf.objectives.DReG(num_samples=10))
    model.fit(train, epochs=EPOCHS, batch_size=50, validation_data=(test, None), verbose=0)
    log_p = iwae_tf.evaluation.estimate_log_likelihood(model, test, SAMPLES).log_likelihood  # nats, one for each row
    print(f"log p(x) {log_p.mean():.1f} nats, {-log_p.mean() / 64 / np.log(2):.3f} bits per dimension")
    Path("runs").mkdir(exist_ok=True)
    rows = np.reshape(model.sample(40, mean=True), (4, 10, 8, 8))
    save_rows("runs/fit_array.png", list(rows), "Means of p(x | h), h from the prior")


if __name__ == "__main__":
    main()
