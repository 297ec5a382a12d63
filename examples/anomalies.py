"""Anomaly scores on a table: a model of benign tumours meets malignant ones.

scikit-learn's breast cancer data, 30 measurements each of 357 benign and 212 malignant tumours. Trained on 200 benign
ones; the score of another row is -log p(x). What is left of the benign, and all malignant, are ranked by it.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import iwae_tf
from iwae_tf.plots import style

EPOCHS = 100
SAMPLES = 1000  # of q for each row
SEEDS = range(5)  # each with another draw of the 200
NUM_TRAIN = 200


def split(seed: int):
    """Standardised rows to train on [200, 30], rows to score [369, 30], and which of these are malignant [369]."""
    table = load_breast_cancer()
    malignant = table.target == 0
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~malignant))
    train, rest = order[:NUM_TRAIN], np.append(order[NUM_TRAIN:], np.flatnonzero(malignant))
    scaler = StandardScaler().fit(table.data[train])
    x = scaler.transform(table.data).astype("float32")
    return x[train], x[rest], malignant[rest]


def iwae_scores(train: np.ndarray, x: np.ndarray, seed: int) -> np.ndarray:
    """-log p(x) in nats, [N]."""
    keras.utils.set_random_seed(seed)
    model = iwae_tf.IWAE(30, (5,), ((50,),), likelihood="student-t", data_mean=train.mean(axis=0), seed=seed)
    model.compile(objective=iwae_tf.objectives.DReG(num_samples=20))
    model.fit(train, epochs=EPOCHS, batch_size=20, verbose=0)
    return -model.log_likelihood(x, SAMPLES).numpy()


def baseline_scores(train: np.ndarray, x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Minus log-density of a Gaussian mixture, components chosen by BIC, and the score of an isolation forest, [N]."""
    mixtures = [GaussianMixture(n, reg_covar=1e-3, random_state=seed).fit(train) for n in range(1, 6)]
    mixture = min(mixtures, key=lambda fitted: fitted.bic(train))
    forest = IsolationForest(random_state=seed).fit(train)
    return {"Gaussian mixture": -mixture.score_samples(x), "isolation forest": -forest.score_samples(x)}


def main() -> None:
    """Prints the AUROC of each way to score, mean and standard deviation over the seeds, and draws the curves."""
    figure = style.page(
        "Malignant tumours found by a model of benign ones",
        [f"a line for each of {len(SEEDS)} seeds; the curves go on to (1, 1)"],
    )
    (axes,) = style.panels(figure, [("share of benign tumours flagged", "share of malignant tumours flagged")])
    found = {}
    for seed in SEEDS:
        train, x, malignant = split(seed)
        scores = {"IWAE": iwae_scores(train, x, seed), **baseline_scores(train, x, seed)}
        for color, (name, score) in zip((style.LINE, style.ACCENT, style.QUIET), scores.items(), strict=True):
            found.setdefault(name, []).append(roc_auc_score(malignant, score))
            flagged, hits, _ = roc_curve(malignant, score)
            axes.plot(flagged, hits, color=color, linewidth=1.2, label=None if seed else name)
    for name, values in found.items():
        print(f"{name:<18} AUROC {np.mean(values):.3f}, standard deviation {np.std(values, ddof=1):.3f}")
    axes.set_xlim(-0.01, 0.5)
    axes.legend(loc="lower right", frameon=False)
    Path("runs").mkdir(exist_ok=True)
    style.write(figure, "runs/anomalies.png")


if __name__ == "__main__":
    main()
