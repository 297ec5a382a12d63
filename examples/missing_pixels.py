"""Digits with holes: trained on images of which half the pixels are missing, the model fills in what it never saw.

MIWAE (Mattei & Frellsen 2019): q sees 0 at the holes and where they are, the likelihood counts observed pixels alone,
and a missing pixel is imputed by E[x_missing | x_observed] = sum_i w~_i E[x_missing | h_i]. Holes are NaN.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import iwae_tf
from iwae_tf.evaluation import impute
from iwae_tf.layers import ColumnModel
from iwae_tf.plots import save_rows

EPOCHS = 100
SAMPLES = 5000  # of q for each image


def main() -> None:
    """Trains on images with holes, prints the error of several ways to fill those of others, and draws some."""
    keras.utils.set_random_seed(0)
    rng, whole = np.random.default_rng(0), load_digits().data  # [1797, 64]
    # Noise of one level makes the values continuous; without, a density of pixels that are always 0 has no bound.
    whole = ((whole + rng.random(whole.shape)) / 17).astype("float32")
    x = np.where(rng.random(whole.shape) < 0.5, np.nan, whole)
    train, test, truth = x[:1397], x[1397:], whole[1397:]
    means = np.nanmean(train, axis=0)
    columns = [ColumnModel(f"pixel {i}", "student-t", means[i], 0.3) for i in range(64)]
    model = iwae_tf.IWAE(64, (20,), ((200, 200),), likelihood="columns", columns=columns, missing=True)
    model.compile(objective=iwae_tf.objectives.DReG(num_samples=20))
    model.fit(train, epochs=EPOCHS, batch_size=50, verbose=0)

    hole = np.isnan(test)
    filled = {
        "mean": np.where(hole, means, test),
        "5 neighbours": KNNImputer(n_neighbors=5, keep_empty_features=True).fit(train).transform(test),
        "mean of q": np.where(hole, model.reconstruct(test), test),
        "weighted": impute(model, test, SAMPLES),
    }
    for name, images in filled.items():
        error = np.sqrt(np.mean(np.square(images - truth)[hole]))
        print(f"{name:<14} RMSE of missing pixels {error:.3f}")
    Path("runs").mkdir(exist_ok=True)
    rows = [
        np.clip(np.reshape(images[:10], (-1, 8, 8)), 0, 1) for images in (truth, np.nan_to_num(test), *filled.values())
    ]
    title = "Half of the pixels are missing (black in the second row), filled in four ways"
    save_rows("runs/missing_pixels.png", rows, title, ("whole", "observed", *filled))


if __name__ == "__main__":
    main()
