"""How well missing values are filled in: `python -m benchmarks.missing [--seeds 5] [--holes 0.2 0.5]`.

A share of the values of scikit-learn's breast cancer table (569 rows, 30 real columns) is removed at random, in
training and test rows alike. Prints the root mean squared error of the removed test values, in standard deviations of
their columns, of the means of the columns, of scikit-learn's IterativeImputer (Bayesian ridge regression, the default)
and of `iwae_tf.evaluation.impute`; mean and spread over seeds, each of which draws the holes, the split and the
weights.
"""

import argparse

import keras
import numpy as np

import iwae_tf
from iwae_tf.evaluation import impute
from iwae_tf.layers import ColumnModel
from iwae_tf.objectives import IWAEBound

TRAIN_SHARE, EPOCHS, NUM_SAMPLES = 0.8, 200, 2000


def errors(seed: int, share: float) -> dict[str, float]:
    """Returns the error of each method for one draw of the holes."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401, so that the next import works
    from sklearn.impute import IterativeImputer

    rng = np.random.default_rng(seed)
    x = load_breast_cancer().data
    x = x[rng.permutation(len(x))]
    holes = rng.random(x.shape) < share
    holes[holes.all(axis=1), 0] = False
    given, cut = np.where(holes, np.nan, x), int(TRAIN_SHARE * len(x))
    loc, scale = np.nanmean(given[:cut], axis=0), np.nanstd(given[:cut], axis=0)

    def error(filled):
        difference = ((filled - x[cut:]) / scale)[holes[cut:]]
        return float(np.sqrt(np.mean(np.square(difference))))

    ridge = IterativeImputer(random_state=seed, max_iter=30, tol=1e-2).fit(given[:cut])
    columns = [ColumnModel(str(i), "student-t", loc[i], scale[i]) for i in range(x.shape[1])]
    model = iwae_tf.IWAE(x.shape[1], (10,), ((64, 64),), likelihood="columns", columns=columns, missing=True, seed=seed)
    keras.utils.set_random_seed(seed)  # of the order of the batches
    model.compile(optimizer=keras.optimizers.Adam(2e-3), objective=IWAEBound(20))
    model.fit(given[:cut].astype(np.float32), epochs=EPOCHS, batch_size=20, verbose=0)
    return {
        "means of the columns": error(np.broadcast_to(loc, x[cut:].shape)),
        "scikit-learn's IterativeImputer": error(ridge.transform(given[cut:])),
        "`impute`": error(impute(model, given[cut:], NUM_SAMPLES)),
    }


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--holes", type=float, nargs="+", default=[0.2, 0.5], help="shares of the values")
    arguments = parser.parse_args()
    found = {share: [errors(seed, share) for seed in range(arguments.seeds)] for share in arguments.holes}
    print("| filled by |", *(f"{share:.0%} removed |" for share in found))
    print("|---|" + "---|" * len(found))
    for method in found[arguments.holes[0]][0]:
        values = [np.array([one[method] for one in of_share]) for of_share in found.values()]
        print(f"| {method} |", *(f"{v.mean():.3f} +- {v.std(ddof=1):.3f} |" for v in values))


if __name__ == "__main__":
    main()
