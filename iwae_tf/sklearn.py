"""`IWAEDensity`: an importance weighted autoencoder of a table of real values, as an estimator of scikit-learn."""

import numbers

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from iwae_tf.adam import Adam
from iwae_tf.config import ScoringConfig, TrainingConfig
from iwae_tf.data import Dataset, training_batches
from iwae_tf.data.columns import check_precision, check_values, location_and_scale
from iwae_tf.data.pipeline import steps_per_epoch
from iwae_tf.declarations import declared, find
from iwae_tf.errors import MAX_SEED, InputError
from iwae_tf.evaluation import estimate_log_likelihood
from iwae_tf.layers import ColumnModel
from iwae_tf.models.checks import check_memory
from iwae_tf.models.iwae import IWAE
from iwae_tf.objectives import build_objective

__all__ = ["IWAEDensity"]


class IWAEDensity(OutlierMixin, BaseEstimator):
    """Density of the rows of a table of real values, and outliers among them.

    Scores are log p(x) in nats, in the units of X: standardisation is part of the model. A scaler before it in a
    pipeline changes log p(x) of every row by the same constant, the sum of the logs of its scales, the training by
    rounding alone, and a score by its sampling error as well, since the noise of a score depends on the row's values.

    Args:
        latent_units: H, units of the stochastic layer; or a sequence, one entry for each layer, nearest x first.
        hidden_units: widths of the tanh layers below the stochastic layer; or a sequence of such, one for each layer.
        likelihood: of every column given h, a declared likelihood of real values: "student-t" or "gaussian".
        missing: whether NaN in X is a missing value; log p(x) is then that of the observed values, which is not
            comparable between rows that lack different columns, and so neither is `predict`.
        objective: name of a declared objective; `python -m iwae_tf objectives` lists them.
        k: importance samples for each row in training.
        epochs: passes over the training rows.
        batch_size: rows in a training step.
        learning_rate: Adam's step size.
        num_samples: importance samples for each row when it is scored.
        refine: "auto" or "on" refines the proposal of each row before it is scored, "off" takes samples of q(h | x).
            Scores by another `num_samples` or `refine` than in `fit` have no threshold.
        contamination: share of the training rows that `predict` calls outliers, in (0, 0.5].
        random_state: int, `numpy.random.RandomState` or None: seed of the initial weights, the order of the rows and
            the noise in training. The noise of a score depends on the row alone, so equal rows have equal scores.

    Attributes:
        model_: the trained `iwae_tf.IWAE`, which takes rows in the units of X.
        offset_: threshold of log p(x), the quantile `contamination` of the scores of the training rows.
        n_features_in_: D, the number of columns of X.
        feature_names_in_: names of the columns, [D], if X had names in `fit`.
    """

    def __init__(
        self,
        latent_units=5,
        hidden_units=(50,),
        *,
        likelihood="student-t",
        missing=False,
        objective="dreg",
        k=20,
        epochs=100,
        batch_size=20,
        learning_rate=1e-3,
        num_samples=1000,
        refine="auto",
        contamination=0.1,
        random_state=None,
    ):
        self.latent_units = latent_units
        self.hidden_units = hidden_units
        self.likelihood = likelihood
        self.missing = missing
        self.objective = objective
        self.k = k
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.num_samples = num_samples
        self.refine = refine
        self.contamination = contamination
        self.random_state = random_state

    def fit(self, X, y=None):
        """Trains the model, and scores the training rows for `offset_`.

        Args:
            X: real values, array or data frame, [N, D]; N >= 2.
            y: ignored.

        Returns:
            The estimator itself.

        Raises:
            InputError: (a `ValueError`) for a constructor argument out of range, a column that is constant or whose
                values float32 cannot tell apart, or a bound that stops being finite.
            ValueError: X is no matrix of finite numbers with two rows or more; NaN is accepted with `missing`.
        """
        seed = _seed(self.random_state)
        training = TrainingConfig(
            objective=self.objective,
            k=self.k,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=seed,
        )
        ScoringConfig(num_samples=self.num_samples, refine=self.refine)  # raises before the training, not after it
        self._check_contamination()
        X = self._checked(X, reset=True)
        columns, x = self._column_models(X), X.astype(np.float32)

        model = IWAE(
            x.shape[1],
            self.latent_units,
            self.hidden_units,
            likelihood="columns",
            columns=columns,
            missing=self.missing,
            seed=seed,
        )
        objective = build_objective(training.objective, training.k, {})
        sizes = model.data_dim, model.latent_units, model.hidden_units
        check_memory(sizes, objective, min(training.batch_size, len(x)))
        model.compile(optimizer=Adam(training.learning_rate, epsilon=1e-4), objective=objective)
        dataset = Dataset("X", x, x[:0], x[:0], scale=1.0, image_shape=(1, x.shape[1]), source="X", split="none")
        model.fit(
            training_batches(dataset, training.batch_size, seed, binarized=False),
            epochs=training.epochs,
            steps_per_epoch=steps_per_epoch(len(x), training.batch_size),
            verbose=0,
        )
        self.model_ = model
        self._offset_of = self.num_samples, self.refine
        self.offset_ = float(np.quantile(self._log_likelihood(x), self.contamination))
        return self

    def score_samples(self, X):
        """Returns log p(x) of every row, in nats: X [N, D] -> float64 [N].

        It is `iwae_tf.evaluation.estimate_log_likelihood(model_, X, num_samples, refine=refine).log_likelihood`; that
        function also says how reliable each score is.

        Raises:
            ValueError: X has other columns than in `fit`, or values that cannot be scored.
        """
        check_is_fitted(self)
        return self._log_likelihood(self._checked(X))

    def score(self, X, y=None):
        """Returns the mean of log p(x) over the rows, in nats; y is ignored."""
        return float(self.score_samples(X).mean())

    def decision_function(self, X):
        """Returns log p(x) - `offset_` of every row, float64 [N]: negative for outliers.

        Raises:
            InputError: `num_samples` or `refine` are others than in `fit`, which `offset_` is for.
            ValueError: as `score_samples`.
        """
        check_is_fitted(self)
        if self._offset_of != (self.num_samples, self.refine):
            raise InputError(
                f"offset_ is a threshold of scores by num_samples and refine {self._offset_of}, not "
                f"{(self.num_samples, self.refine)}: fit again, or choose a threshold of score_samples"
            )
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Returns -1 for rows that score below `offset_`, the outliers, and 1 for all others, int [N]."""
        return np.where(self.decision_function(X) < 0.0, -1, 1)

    def sample(self, n_samples=1, random_state=None):
        """Returns draws from p(x) as an array, as `sklearn.neighbors.KernelDensity` does.

        Args:
            n_samples: number of draws.
            random_state: int, `RandomState` or None, which draws others each time.

        Returns:
            float32 [n_samples, D], in the units of X.
        """
        check_is_fitted(self)
        return self.model_.sample(n_samples, seed=_seed(random_state)).numpy()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = bool(self.missing)
        return tags

    def _checked(self, X, reset: bool = False) -> np.ndarray:
        """Returns X as floats, [N, D]; `reset` records the number and names of the columns."""
        return validate_data(
            self,
            X,
            reset=reset,
            dtype=(np.float64, np.float32),
            ensure_all_finite="allow-nan" if self.missing else True,
            ensure_min_samples=2 if reset else 1,
        )

    def _log_likelihood(self, x: np.ndarray) -> np.ndarray:
        return estimate_log_likelihood(self.model_, x, self.num_samples, refine=self.refine).log_likelihood

    def _column_models(self, X: np.ndarray) -> list[ColumnModel]:
        """Returns what the model has to know of each column; location and scale are those of the rows, as float32."""
        if not find("likelihood", self.likelihood).facts.get("real"):
            known = ", ".join(name for name, kind in declared("likelihood").items() if kind.facts.get("real"))
            raise InputError(f"likelihood must be one of real values ({known}), got {self.likelihood!r}")
        columns = []
        for name, values in zip(getattr(self, "feature_names_in_", range(X.shape[1])), X.T, strict=True):
            present, place = values[~np.isnan(values)], f"X: column {name!r}"
            check_values(present, place, "leave it out")
            check_precision(present, place, "leave it out")
            loc, scale = location_and_scale(present.astype(np.float32).astype(np.float64))
            columns.append(ColumnModel(str(name), self.likelihood, loc, scale))
        return columns

    def _check_contamination(self) -> None:
        share = self.contamination
        if isinstance(share, bool) or not isinstance(share, numbers.Real) or not 0.0 < share <= 0.5:
            raise InputError(f"contamination must be a share of the rows in (0, 0.5], got {share!r}")


def _seed(random_state) -> int:
    """Returns a seed for the package from a `random_state` of scikit-learn."""
    return int(check_random_state(random_state).randint(MAX_SEED))
