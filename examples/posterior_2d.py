"""What k does to the posterior: models with two latent units, so that p(h | x) can be drawn on a grid.

Beside the posterior stand q(h | x) and the importance weighted q: draws of q, each chosen from k = 50 by its weight
(Cremer, Morris, Duvenaud 2017, Reinterpreting importance-weighted autoencoders).
"""

import sys
from pathlib import Path

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import iwae_tf
from iwae_tf import evaluation
from iwae_tf.plots.posterior import save_posteriors

EPOCHS = 60
IMAGES = 2  # to draw
DRAWS = 400  # of the importance weighted q, for each of them


def main() -> None:
    """Trains with k = 1 and k = 50, prints how far q is from each posterior, and draws both."""
    digits = iwae_tf.data.load("digits")
    train, test = ((digits.intensities(part) > 0.5).astype("float32") for part in ("train", "test"))
    Path("runs").mkdir(exist_ok=True)
    print("trained with   log p(x)   log p(x) - L_1   log p(x) - L_50   sample size of 5000")
    for k in (1, 50):
        keras.utils.set_random_seed(0)
        model = iwae_tf.IWAE(64, (2,), ((100, 100),), data_mean=train.mean(axis=0))
        model.compile(objective=iwae_tf.objectives.IWAEBound(num_samples=k))
        model.fit(train, epochs=EPOCHS, batch_size=50, verbose=0)
        scores = evaluation.estimate_log_likelihood(model, test, sample_sizes=(1, 50))
        log_p, size = scores.log_likelihood.mean(), np.median(scores.effective_sample_size)
        gaps = [log_p - scores.bounds[few].mean() for few in (1, 50)]
        print(f"k = {k:<11}{log_p:8.2f}{gaps[0]:17.2f}{gaps[1]:18.3f}{size:22.0f}")
        title = f"Trained with k = {k}; on the right the importance weighted q, k = 50"
        save_posteriors(f"runs/posterior_2d-k{k}.png", model, test[:IMAGES], weighted_q(model, test), (8, 8), title)


def weighted_q(model, test: np.ndarray) -> np.ndarray:
    """Draws of the importance weighted q of the first images: float32 [DRAWS, IMAGES, 2]."""
    rows = np.tile(test[:IMAGES], (DRAWS, 1))  # every draw is a row, and so has 50 draws of q of its own
    (h,) = evaluation.posterior_samples(model, rows, n=1, num_samples=50)  # [1, DRAWS * IMAGES, 2]
    return h.numpy().reshape(DRAWS, IMAGES, 2)


if __name__ == "__main__":
    main()
