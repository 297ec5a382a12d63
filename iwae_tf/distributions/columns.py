"""Rows whose values are of different kinds: what the networks see of each value, and a likelihood for each.

A model of such rows takes them as they are, in their own units, and log p(x) is that of the row in those units:

    real values     y = (x - loc) / scale,  log p(x) = log p(y) - log scale
    all others      log p(x) is the log of a probability of x itself

Reference for the idea: Nazabal, Olmos, Ghahramani, Valera (2020), Handling incomplete heterogeneous data using VAEs;
for missing values, which drop out of the sum over columns: Mattei and Frellsen (2019), MIWAE, equation 4.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.declarations import declare, find
from iwae_tf.distributions.head import Likelihood
from iwae_tf.distributions.levels import NEAR
from iwae_tf.errors import InputError, positive_integer

SMALLEST_SCALE = 1e-6  # of the location: float32 then has some 16 values within it


class ColumnModel(NamedTuple):
    """One value of a row, for a model.

    Attributes:
        name: for messages.
        likelihood: a declared name.
        loc: of the column, about its mean; the networks see (x - loc) / scale.
        scale: about its standard deviation, > 0.
        levels: C, for likelihoods over levels: the value is one of 0 ... C - 1, and the networks see it as C values of
            0 and 1; else None.
    """

    name: str
    likelihood: str
    loc: float = 0.0
    scale: float = 1.0
    levels: int | None = None


def checked_columns(columns: Sequence, data_dim: int) -> tuple[ColumnModel, ...]:
    """Returns the columns of a model; raises `InputError` unless there is one for each value, with usable numbers."""
    try:
        found = tuple(ColumnModel(*column) for column in columns)
    except TypeError as error:
        raise InputError(f"columns must be {data_dim} ColumnModel(name, likelihood, ...), got {columns!r}") from error
    if len(found) != data_dim:
        raise InputError(f"columns must be one for each of the {data_dim} values of a row, got {len(found)}")
    for column in found:
        kind = find("likelihood", column.likelihood)
        if kind.name == Columns.declaration.name:
            raise InputError(f"column {column.name!r} needs a likelihood of single values, not {kind.name}")
        needs_levels = bool(kind.facts.get("needs_levels"))
        if needs_levels != (column.levels is not None):
            wanted = "needs levels, the number of its categories" if needs_levels else "has no levels"
            raise InputError(f"column {column.name!r}: the likelihood {kind.name} {wanted}, got {column.levels}")
        if needs_levels and positive_integer(f"levels of column {column.name!r}", column.levels) < 2:
            raise InputError(f"column {column.name!r} has one category: there is nothing to learn, leave it out")
        numbers = np.asarray([column.loc, column.scale], np.float64)
        if not np.isfinite(numbers).all() or column.scale <= 0:
            raise InputError(
                f"column {column.name!r}: loc must be finite and scale above 0, got {column.loc} and {column.scale}"
            )
        if kind.facts.get("real") and column.scale < SMALLEST_SCALE * abs(column.loc):
            raise InputError(
                f"column {column.name!r}: float32 cannot hold differences of {column.scale:g} around {column.loc:g}: "
                "subtract a constant from its values and from loc"
            )
    return tuple(column._replace(loc=float(column.loc), scale=float(column.scale)) for column in found)


class ColumnFeatures:
    """Maps a row to the features that the inference network sees: x [..., D] -> [..., F].

    Numbers are (x - loc) / scale; a category is C values of 0 and 1. With `missing`, what is missing is 0, and D values
    follow that are 1 where x is observed.

    Args:
        columns: of the rows.
        missing: whether values may be missing, which is NaN.
    """

    def __init__(self, columns: Sequence[ColumnModel], missing: bool):
        self.columns, self.missing = columns, missing
        self.numbers = [i for i, column in enumerate(columns) if column.levels is None]
        self.categories = [i for i, column in enumerate(columns) if column.levels is not None]
        self.loc, self.scale = (
            np.float32([getattr(columns[i], name) for i in self.numbers]) for name in ("loc", "scale")
        )

    @property
    def width(self) -> int:
        """F."""
        levels = sum(self.columns[i].levels for i in self.categories)
        return len(self.numbers) + levels + (len(self.columns) if self.missing else 0)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        parts = [(_select(x, self.numbers) - self.loc) / self.scale]
        for i in self.categories:  # the code of a missing value, -1, is 0 in all C values
            code = tf.cast(tf.round(tf.where(tf.math.is_nan(x[..., i]), -1.0, x[..., i])), tf.int32)
            parts.append(tf.one_hot(code, self.columns[i].levels))
        if self.missing:
            observed = tf.logical_not(tf.math.is_nan(x))
            parts[0] = tf.where(tf.math.is_nan(parts[0]), 0.0, parts[0])
            parts.append(tf.cast(observed, tf.float32))
        return tf.concat(parts, axis=-1) if len(parts) > 1 else parts[0]


class _Group:
    """Columns with one likelihood: their head, numbers, location and scale."""

    def __init__(self, columns: Sequence[ColumnModel], numbers: list[int], initializer_seeds: Iterator[int]):
        kind = find("likelihood", columns[numbers[0]].likelihood).load()
        of_group = [columns[i] for i in numbers]
        loc, scale = (np.float32([getattr(column, name) for column in of_group]) for name in ("loc", "scale"))
        self.numbers = numbers
        if kind.needs_levels:  # the head observes i / (C - 1)
            self.head = kind(len(numbers), initializer_seeds, levels=of_group[0].levels)
            loc, scale = np.zeros_like(loc), np.full_like(scale, of_group[0].levels - 1.0)
        elif kind.real:
            self.head = kind(len(numbers), initializer_seeds)
        else:
            self.head = kind(len(numbers), initializer_seeds, mean=loc)
            loc, scale = np.zeros_like(loc), np.ones_like(scale)
        self.loc, self.scale = loc, scale
        # What stands in for a missing value: the location, or 0 where that is possible and the location may not be.
        self.fill = loc if self.possible(tf.zeros_like(loc)) else np.float32([column.loc for column in of_group])
        self.log_volume = float(np.log(self.scale).sum()) if kind.real else 0.0

    def seen(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the values that the head observes: x [..., D] -> [..., G]."""
        return (_select(x, self.numbers) - self.loc) / self.scale

    def log_prob(self, features: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns log p of the group's values: features [k, B, F], x [B, D] -> [k, B]."""
        return self.head.log_prob_of_features(features, self.seen(x)) - self.log_volume

    def log_prob_of_observed(self, features: tf.Tensor, x: tf.Tensor, observed: tf.Tensor) -> tf.Tensor:
        """Returns the same over the observed values: x without NaN, observed bool [B, D]."""
        each = self.log_prob_of_each(self.head(features), x)
        return tf.reduce_sum(tf.where(_select(observed, self.numbers), each, 0.0), axis=-1)

    def log_prob_of_each(self, parameters, x: tf.Tensor) -> tf.Tensor:
        """Returns log p of each value of the group: parameters of [k, B, ...], x without NaN [B, D] -> [k, B, G]."""
        if self.head.needs_levels:
            return self.head.log_prob_of_each(parameters, self.seen(x))
        return self.of_each(parameters).log_prob(_select(x, self.numbers))

    def possible(self, seen: tf.Tensor) -> tf.Tensor:
        """Returns whether the head can observe every value; a scalar."""
        # A pixel may be an intensity, whose expected log-likelihood is meant; a column of 0 and 1 may not.
        binary = tf.reduce_all((seen == 0.0) | (seen == 1.0)) if self.head.binarised else True
        return self.head.in_support(seen) & binary

    @property
    def support(self) -> str:
        """The possible values of a column, in words."""
        if self.head.binarised:
            return "0 or 1"
        return f"a category 0 ... {self.head.levels - 1}" if self.head.needs_levels else self.head.support

    def of_each(self, parameters):
        """Returns the TFP distribution of each value in its own units, batch [..., G]."""
        from tensorflow_probability import bijectors as tfb
        from tensorflow_probability import distributions as tfd

        if self.head.needs_levels:
            numbers = tf.range(self.head.levels, dtype=tf.float32)
            return tfd.FiniteDiscrete(numbers, logits=self.head.level_log_probs(parameters), atol=NEAR, rtol=0.0)
        each = self.head.independent(parameters).distribution
        return tfd.TransformedDistribution(each, tfb.Shift(self.loc)(tfb.Scale(self.scale))) if self.head.real else each

    def expectations(self, parameters) -> tf.Tensor:
        """Returns the means, [..., G], or the probabilities of each category, [..., G C]."""
        if not self.head.needs_levels:
            return self.mean(parameters)
        log_p = self.head.level_log_probs(parameters)
        flat = tf.concat([tf.shape(log_p)[:-2], [len(self.numbers) * self.head.levels]], axis=0)
        return tf.reshape(tf.exp(log_p), flat)

    def mean(self, parameters) -> tf.Tensor:
        """Returns the mean in its own units, [..., G]; the most probable category."""
        if self.head.needs_levels:
            return tf.cast(tf.argmax(self.head.level_log_probs(parameters), axis=-1), tf.float32)
        return self.loc + self.scale * self.head.mean(parameters)


@declare("likelihood", "columns", "the columns of a table, each by a likelihood for its kind", needs_columns=True)
class Columns(Likelihood):
    """Maps features to independent columns, each with its own likelihood.

    Parameters are a tuple, those of each group of columns with one likelihood.

    Args:
        units: D.
        initializer_seeds: source of the seeds of the initialisers.
        columns: `ColumnModel`, one for each value.
        missing: whether values may be missing, which is NaN; log p(x) is then that of the observed values.
    """

    bias_start = "of the column's likelihood, at the column's loc"
    advice = "give every column its values in the units of the training data"

    def __init__(self, units: int, initializer_seeds: Iterator[int], columns, missing: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.columns, self.missing = checked_columns(columns, units), missing
        members: dict[tuple, list[int]] = {}
        for number, column in enumerate(self.columns):
            members.setdefault((column.likelihood, column.levels), []).append(number)
        self.groups = [_Group(self.columns, numbers, initializer_seeds) for numbers in members.values()]
        self.heads = [group.head for group in self.groups]  # so that Keras finds their weights
        self._order = np.argsort(np.concatenate([group.numbers for group in self.groups]))
        self._fill = np.concatenate([group.fill for group in self.groups])[self._order]
        for group in self.groups if missing else ():
            if not group.possible(group.seen(self._fill)):
                column = self.columns[group.numbers[0]]
                raise InputError(
                    f"column {column.name!r}: its loc, {column.loc:g}, stands in for a missing value; expected "
                    f"{group.support}: give another loc"
                )
        self.support = "a possible value of every column" + (" or NaN" if missing else "")

    def build(self, input_shape):
        for head in self.heads:
            head.build(input_shape)
        self.built = True

    def call(self, features) -> tuple:
        """[..., F] -> the parameters of each group."""
        return tuple(head(features) for head in self.heads)

    def log_prob_of_features(self, features: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """Returns log p of the observed values: features [k, B, F], value [B, D] -> [k, B]."""
        if not self.missing:
            return tf.add_n([group.log_prob(features, value) for group in self.groups])
        filled, observed = self._filled(value)
        return tf.add_n([group.log_prob_of_observed(features, filled, observed) for group in self.groups])

    def log_prob_of_each(self, parameters: tuple, value: tf.Tensor) -> tf.Tensor:
        """Returns log p of each value, 0 where it is missing: parameters of [k, B, ...], value [B, D] -> [k, B, D]."""
        filled, observed = self._filled(value)
        groups = zip(self.groups, parameters, strict=True)
        each = [group.log_prob_of_each(of_group, filled) for group, of_group in groups]
        return tf.where(observed, tf.gather(tf.concat(each, axis=-1), self._order, axis=-1), 0.0)

    def in_support(self, value: tf.Tensor) -> tf.Tensor:
        """Returns whether every value is possible in its column; a scalar."""
        if self.missing:
            value, _ = self._filled(value)
        return tf.reduce_all([group.possible(group.seen(value)) for group in self.groups])

    def found(self, value: tf.Tensor) -> str:
        """Returns the first impossible value, with its row and column, in values [N, D]."""
        row, end = 0, len(value)
        while end - row > 1:  # all rows before `row` are possible, and not all before `end`
            middle = (row + end) // 2
            row, end = (middle, end) if self.in_support(value[:middle]) else (row, middle)
        for number, column in enumerate(self.columns):
            group = next(group for group in self.groups if number in group.numbers)
            x, seen = float(value[row, number]), group.seen(value[row : row + 1])
            own = seen[:, group.numbers.index(number)]
            if np.isfinite(x) and not np.isfinite(own).all():
                return f"{x:g} in column {column.name!r} of row {row}, too far from its loc for float32"
            if not (self.missing and np.isnan(x)) and not group.possible(own):
                return f"{x:g} in column {column.name!r} of row {row} (expected {group.support})"
        raise AssertionError("found(value) is for values that are not all possible")

    def distribution(self, parameters: tuple):
        """Returns the distribution of all columns, whether observed or not."""
        from tensorflow_probability import bijectors as tfb
        from tensorflow_probability import distributions as tfd

        groups = [tfd.Independent(g.of_each(p), 1) for g, p in zip(self.groups, parameters, strict=True)]
        if len(groups) == 1:
            return groups[0]
        return tfd.TransformedDistribution(tfd.Blockwise(groups, dtype_override=tf.float32), tfb.Permute(self._order))

    def sample(self, parameters: tuple, key: tf.Tensor) -> tf.Tensor:
        """Returns one draw of every column, [..., D]; in graphs of one row TFP's Blockwise joins other ranks."""
        pair, drawn = seeds.int32_pair(key), []
        for number, (group, of_group) in enumerate(zip(self.groups, parameters, strict=True)):
            own = tf.random.experimental.stateless_fold_in(pair, number)
            drawn.append(tf.cast(group.of_each(of_group).sample(seed=own), tf.float32))
        return tf.gather(tf.concat(drawn, axis=-1), self._order, axis=-1)

    def mean(self, parameters: tuple) -> tf.Tensor:
        """Returns the mean of every column, [..., D]; of a category, the most probable one."""
        means = [group.mean(of_group) for group, of_group in zip(self.groups, parameters, strict=True)]
        return tf.gather(tf.concat(means, axis=-1), self._order, axis=-1)

    def expectations(self, parameters: tuple) -> tf.Tensor:
        """Returns what averages over h: group by group the means, or the probabilities of all categories: [..., E]."""
        groups = zip(self.groups, parameters, strict=True)
        return tf.concat([group.expectations(of_group) for group, of_group in groups], axis=-1)

    def from_expectations(self, values: np.ndarray) -> np.ndarray:
        """Returns the means, and the most probable categories, of averaged `expectations`: [..., E] -> [..., D]."""
        found, first = [], 0
        for group in self.groups:
            size, levels = len(group.numbers), group.head.levels if group.head.needs_levels else 1
            own = values[..., first : first + size * levels]
            first += size * levels
            if levels > 1:
                shares = own.reshape(*own.shape[:-1], size, levels)
                own = np.where(np.isnan(shares).any(-1), np.nan, shares.argmax(-1))
            found.append(own)
        return np.concatenate(found, axis=-1)[..., self._order]

    def _filled(self, value: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the values with something possible where they are missing, and where they are observed."""
        observed = tf.logical_not(tf.math.is_nan(value))
        return tf.where(observed, value, self._fill), observed


def _select(values: tf.Tensor, numbers: list[int]) -> tf.Tensor:
    """Returns some of the last axis, which is not copied if they are all of it."""
    if numbers == list(range(values.shape[-1])):
        return values
    return tf.gather(values, np.int32(numbers), axis=-1)  # an empty list would be float32
