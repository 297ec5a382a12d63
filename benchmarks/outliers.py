"""How well outliers are found by scikit-learn's estimators: `python -m benchmarks.outliers [--seeds 5]`.

200 benign tumours of scikit-learn's breast cancer table (30 real columns) are fitted by `iwae_tf.sklearn.IWAEDensity`
with its defaults and by scikit-learn's own estimators with theirs. Prints the AUROC of their scores for the other 157
benign and the 212 malignant tumours, mean and standard deviation over seeds, each of which draws the 200 rows and
seeds the estimator; and the mean processor time of `fit` and of `score_samples`, of all cores together, in seconds.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from iwae_tf.sklearn import IWAEDensity

NUM_TRAIN = 200


def estimators(seed: int) -> dict:
    """Returns the estimators by name."""
    return {
        "IWAEDensity": IWAEDensity(random_state=seed),
        "GaussianMixture": make_pipeline(StandardScaler(), GaussianMixture(random_state=seed)),
        "LocalOutlierFactor": make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)),
        "IsolationForest": IsolationForest(random_state=seed),
    }


def measure(estimator, seed: int) -> tuple[float, float, float]:
    """Returns AUROC, and processor time of `fit` and of `score_samples` in seconds."""
    table = load_breast_cancer()
    benign = np.random.default_rng(seed).permutation(np.flatnonzero(table.target == 1))
    scored = np.append(benign[NUM_TRAIN:], np.flatnonzero(table.target == 0))
    start = time.process_time()
    estimator.fit(table.data[benign[:NUM_TRAIN]])
    fitted = time.process_time()
    scores = estimator.score_samples(table.data[scored])
    seconds = fitted - start, time.process_time() - fitted
    return roc_auc_score(table.target[scored], scores), *seconds


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    print("| estimator | AUROC | `fit`, s | `score_samples`, s |\n|---|---|---|---|")
    for name in estimators(0):
        found = np.array([measure(estimators(seed)[name], seed) for seed in range(arguments.seeds)])
        auroc, fit, score = found.mean(axis=0)
        print(f"| {name} | {auroc:.3f} +- {found[:, 0].std(ddof=1):.3f} | {fit:.1f} | {score:.1f} |", flush=True)


if __name__ == "__main__":
    main()
