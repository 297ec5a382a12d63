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
from iwae_tf.plots import save_posteriors

EPOCHS = 60
SAMPLES = 5000  # of q for each image
IMAGES = 2  # to draw
DRAWS = 400  # of the importance weighted q, for each of them


def main() -> None:
    """Trains with k = 1 and k = 50, prints how far q is from each posterior, and draws both."""
    digits = iwae_tf.data.load("digits")
    train, test = ((digits.intensities(part) > 0.5).astype("float32") for part in ("train", "test"))
    Path("runs").mkdir(exist_ok=True)
    print(f"trained with   log p(x)   log p(x) - L_1   log p(x) - L_50   sample size of {SAMPLES}")
    for k in (1, 50):
        keras.utils.set_random_seed(0)
        model = iwae_tf.IWAE(64, (2,), ((100, 100),), data_mean=train.mean(axis=0))
        model.compile(objective=iwae_tf.objectives.IWAEBound(num_samples=k))
        model.fit(train, epochs=EPOCHS, batch_size=50, verbose=0)
        log_p = evaluation.estimate_log_likelihood(model, test, SAMPLES).log_likelihood.mean()
        of_q = evaluation.estimate_log_likelihood(model, test, SAMPLES, sample_sizes=(1, 50), refine="off")
        gaps = [log_p - of_q.bounds[few].mean() for few in (1, 50)]
        size = np.median(of_q.effective_sample_size)
        print(f"k = {k:<11}{log_p:8.2f}{gaps[0]:17.2f}{gaps[1]:18.3f}{size:22.0f}")
        of = f"test images under a model trained with k = {k}; right: the importance weighted q, k = 50"
        save_posteriors(f"runs/posterior_2d-k{k}.png", model, test[:IMAGES], weighted_q(model, test), (8, 8), of)


def weighted_q(model, test: np.ndarray) -> np.ndarray:
    """Draws of the importance weighted q of the first images: float32 [DRAWS, IMAGES, 2]."""
    x, q = test[:IMAGES], model.posterior(test[:IMAGES])
    h = q.sample(DRAWS * 50, seed=0)  # every draw has 50 draws of q to choose from
    log_w = (model.generative_network.log_prob(x, h) - q.log_prob(h)).numpy().reshape(DRAWS, 50, IMAGES)
    gumbel = np.random.default_rng(0).gumbel(size=log_w.shape)
    chosen = np.argmax(log_w + gumbel, axis=1)  # [DRAWS, IMAGES], each with its normalised weight as probability
    return np.take_along_axis(h[0].numpy().reshape(DRAWS, 50, IMAGES, 2), chosen[:, None, :, None], axis=1)[:, 0]


if __name__ == "__main__":
    main()
