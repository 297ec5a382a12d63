"""Settings: frozen dataclasses that define the flags, their help texts, `config.json` and the Python API.

Each field made by `setting` is a command line flag of the same name with dashes. Nothing here imports TensorFlow.
"""

import csv
import dataclasses
import functools
import io
import json
import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

from iwae_tf.declarations import declared
from iwae_tf.errors import MAX_SAMPLES, InputError, check_seed, checked_samples, finite_number, positive_integer


class Network(NamedTuple):
    """Units of the stochastic layers, nearest x first, and of the tanh layers below each."""

    latent_units: tuple[int, ...]
    hidden_units: tuple[tuple[int, ...], ...]


# Burda, Grosse, Salakhutdinov (2016), section 5, by number of stochastic layers.
PAPER_NETWORKS = {
    1: Network(latent_units=(50,), hidden_units=((200, 200),)),
    2: Network(latent_units=(100, 50), hidden_units=((200, 200), (100, 100))),
}
PAPER_EPOCHS = sum(3**stage for stage in range(8))  # 3,280 passes over the training data
PAPER_SAMPLES = 5000  # of the L_k that it reports
RELIABLE_PARETO_K = 0.7  # Vehtari et al. (2024), section 3.2: above it an importance weighted mean is unreliable
REFINE = ("auto", "on", "off")
EXPORT_DIR = "export/models"
SPLITS = ("test", "valid", "train")
FIGURE_FORMATS = ("png", "pdf", "svg")
DEFAULT_EPOCHS = 60  # the default data set, digits, gains nothing from more


def setting(default: Any, text: str, **flag: Any) -> Any:
    """Returns a dataclass field with its help text and the properties of its flag.

    Args:
        default: the default value.
        text: the help text.
        **flag: `parse` (text -> value), `nargs`, `metavar`, `choices`, `positive` (an integer >= 1), or
            `declared`, the kind of declaration whose names are the known values, and `flag`, the name of the flag if it
            is not that of the field.
    """
    return dataclasses.field(default=default, metadata={"help": text, **flag})


def count(default: int | None, text: str, **flag: Any) -> Any:
    """Returns a field for an integer >= 1, or None if that is the default."""
    return setting(default, text, parse=int, positive=True, **flag)


class Settings:
    """Base class of the dataclasses: checks the fields that are counts or have choices; None is valid as a default."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            name, choices, value = field.name, field.metadata.get("choices"), getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if field.metadata.get("positive"):
                checked_samples(value, name)
            if choices and (isinstance(value, bool) or value not in choices):
                raise InputError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def _comma_list(text: str) -> tuple[int, ...]:
    return () if text == "none" else tuple(int(number) for number in text.split(","))


def name_list(text: str) -> tuple[str, ...]:
    """Returns the names in "A,B", without the blanks around them; a name with a comma is in quotation marks."""
    try:
        names = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:  # a line break outside quotation marks
        raise ValueError(error) from None
    return tuple(name.strip() for name in names if name.strip())


def word_of(value: Any) -> str:
    """Returns a value as its flag takes it: a list by its entries with commas, in quotation marks where necessary."""
    if value == []:
        return "none"  # hidden layers
    if not isinstance(value, list):
        return str(value)
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(value)
    return line.getvalue()


def share_list(text: str) -> tuple[float, ...]:
    """Returns the numbers in "0.8,0.1,0.1"."""
    return tuple(float(number) for number in text.split(","))


def checked_shares(split: Sequence[float]) -> tuple[float, float, float]:
    """Returns the shares of train, valid and test as floats.

    Raises:
        InputError: they are not three numbers >= 0 that sum to 1, or the share of train or test is 0.
    """
    numeric = isinstance(split, (list, tuple)) and all(
        isinstance(share, numbers.Real) and not isinstance(share, bool) for share in split
    )
    fits = numeric and len(split) == 3 and min(split) >= 0 and split[0] > 0 and split[2] > 0
    if not (fits and abs(math.fsum(split) - 1) <= 1e-6):  # NaN neither
        got = ",".join(map(str, split)) if isinstance(split, (list, tuple)) else repr(split)
        raise InputError(
            f"split (--split) must be the shares of train, valid and test, which sum to 1, got {got}: give for "
            "example 0.8,0.1,0.1; only that of valid may be 0"
        )
    return tuple(float(share) for share in split)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Data: a declared name, or your own files, and which of their columns."""

    dataset: str = setting(
        "digits",
        "a name below; a table (.csv, .parquet); an array (.npy, .npz; an .npz may hold x_train, x_test and if wanted "
        "x_valid); a folder with train, valid and test files of one of these kinds; a folder of PNG or JPEG images, "
        "with a subfolder for each class if wanted; or tfds:NAME[/CONFIG] of TensorFlow Datasets",
        metavar="NAME|PATH",
        declared="dataset",
    )
    data_dir: str | None = setting(
        None,
        "folder to read the data from, without network: IDX, .npz, .amat, chardata.mat, a TFDS folder, or that of "
        "your own files",
    )
    columns: tuple[str, ...] | None = setting(
        None, "columns of a table to model, in this order (default: all)", parse=name_list, metavar="A,B"
    )
    drop: tuple[str, ...] = setting((), "columns of a table to leave out", parse=name_list, metavar="A,B")
    id_column: str | None = setting(
        None,
        "column of a table that names its rows; not modelled, copied to the scores; rows of one id share a split",
        metavar="NAME",
    )
    label_column: str | None = setting(
        None, "column of a table that holds a class or another known outcome; not modelled", metavar="NAME"
    )
    split_shares: tuple[float, ...] | None = setting(
        None,
        "shares of train, valid and test, for a table, an array or a folder that is not split yet; each row's split "
        "depends on its content or id alone (default: 0.8,0.1,0.1)",
        parse=share_list,
        metavar="A,B,C",
        flag="split",
    )

    def __post_init__(self):
        for name in ("columns", "drop"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(value))
        if self.columns == ():
            raise InputError("columns (--columns) names no column: give at least one, or leave it out for all")
        if self.split_shares is not None:
            object.__setattr__(self, "split_shares", checked_shares(self.split_shares))


@dataclasses.dataclass(frozen=True)
class ModelConfig(Settings):
    """The networks and the distribution of the pixels."""

    layers: int = setting(1, "number of stochastic layers; the paper's networks", choices=(1, 2))
    latent_units: tuple[int, ...] | None = setting(
        None,
        "units of each stochastic layer, nearest x first (paper: 50, or 100 50)",
        parse=int,
        nargs="+",
        metavar="N",
    )
    hidden_units: tuple[tuple[int, ...], ...] | None = setting(
        None,
        "tanh layers below each stochastic layer, or none (paper: 200,200, or 200,200 100,100)",
        parse=_comma_list,
        nargs="+",
        metavar="N,N",
    )
    latent: str = setting("gaussian", "units of the stochastic layers", declared="latent")
    likelihood: str = setting(
        "auto",
        "distribution of a value; auto: bernoulli for pixels, columns for tables and real values; scores under "
        "different likelihoods are not comparable",
        declared="likelihood",
    )
    column_likelihoods: tuple[str, ...] = setting(
        (),
        "likelihoods of single columns of a table, in place of those for their kind",
        parse=name_list,
        metavar="NAME=LIKELIHOOD,...",
    )
    scaling: str = setting(
        "standard",
        "location and scale by which the networks see the real columns of a table: mean and standard deviation, median "
        "and interquartile range, or the values as they are",
        choices=("standard", "robust", "none"),
    )
    missing: bool = setting(False, "NaN, or an empty cell, is a missing value: log p(x) is that of the observed ones")
    levels: int | None = count(
        None,
        "likelihoods over levels: number of values that a pixel can have (default: from the data set, 256 for 8-bit "
        "grey values)",
    )
    network: str = setting(
        "mlp",
        "conv: convolutions between the image and the first stochastic layer, in place of its tanh layers",
        choices=("mlp", "conv"),
    )
    precision: str = setting(
        "float32",
        "dtype of the hidden layers; weights, densities and log-weights are always float32",
        choices=("float32", "bfloat16", "float16"),
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("latent_units", "hidden_units"):
            units = getattr(self, name)
            if units is None:
                object.__setattr__(self, name, getattr(PAPER_NETWORKS[self.layers], name))
            elif len(units) != self.layers:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} needs {self.layers} entries for --layers {self.layers}, got {len(units)}")
        object.__setattr__(self, "latent_units", tuple(positive_integer("latent_units", n) for n in self.latent_units))
        object.__setattr__(self, "column_likelihoods", tuple(self.column_likelihoods))
        hidden = tuple(tuple(positive_integer("hidden_units", n) for n in layer) for layer in self.hidden_units)
        object.__setattr__(self, "hidden_units", hidden)


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Settings):
    """Objective and optimisation."""

    objective: str = setting("iwae", "the bound and its gradient", declared="objective")
    k: int = count(50, "importance samples for each row; with iwae, k = 1 is the VAE")
    epochs: int | None = count(
        None, f"passes over the training rows (default: {DEFAULT_EPOCHS}, or {PAPER_EPOCHS} with --schedule paper)"
    )
    batch_size: int = count(20, "rows in a step")
    optimizer: str = setting(
        "adam",
        "adam: the paper's; muon: Keras' Muon, which orthogonalises the step of every weight matrix and takes Adam's "
        "for the rest; with batches of some hundred rows it needs far fewer passes",
        choices=("adam", "muon"),
    )
    learning_rate: float = setting(1e-3, "step size of the optimiser at the start", parse=float)
    schedule: str = setting(
        "constant",
        "constant; paper: its eight stages from the learning rate down to a tenth of it; cosine: half a cosine down to "
        "0; both over all epochs",
        choices=("constant", "paper", "cosine"),
    )
    jit: str = setting("auto", "compile the step with XLA; auto: on a GPU", choices=("auto", "on", "off"))
    seed: int = setting(0, "seed of weights, data order, binarisation and noise", parse=int)
    early_stopping: int | None = count(
        None,
        "stop when the validation bound has not risen for this many epochs, and keep the model of the best epoch",
        metavar="EPOCHS",
    )
    init_from: str | None = setting(None, "start from the weights of this run, with a new optimiser", metavar="RUN")

    def __post_init__(self):
        if self.epochs is None:
            object.__setattr__(self, "epochs", PAPER_EPOCHS if self.schedule == "paper" else DEFAULT_EPOCHS)
        super().__post_init__()
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not (math.isfinite(rate) and rate > 0):
            raise InputError(f"learning_rate must be a positive number, got {rate!r}")
        object.__setattr__(self, "learning_rate", float(rate))  # of NumPy's types too
        check_seed(self.seed)


# Settings of training under one name, for `--recipe`; flags and files override them.
RECIPES = {
    "paper": {"objective": "iwae", "batch_size": 20, "learning_rate": 1e-3, "schedule": "paper"},
    "fast": {"objective": "dreg", "batch_size": 400, "optimizer": "muon", "learning_rate": 8e-3, "schedule": "cosine"},
}


def objective_config() -> type:
    """Returns a dataclass with the settings of every declared objective, plugins included, each None if not given."""
    return _objective_config(tuple(declared("objective")))


@functools.cache
def _objective_config(names: tuple[str, ...]) -> type:
    own: dict[str, dict] = {}
    for name, declaration in declared("objective").items():
        for field, spec in declaration.settings.items():
            own.setdefault(field, {}).setdefault((spec.help, spec.type, spec.default), []).append(name)
    fields = []
    for field, variants in own.items():
        lines = [
            f"{', '.join(names)}: {text}" + ("" if default in (None, False) else f" (default: {default})")
            for (text, _, default), names in variants.items()
        ]
        kind = next(iter(variants))[1]
        if any(other is not kind for _, other, _ in variants):
            of_each = ", ".join(f"{names[0]} has {other.__name__}" for (_, other, _), names in variants.items())
            raise InputError(f"objectives declare the setting {field!r} with several types ({of_each}): rename one")
        flag = (False, {}) if kind is bool else (None, {"parse": kind})
        fields.append((field, Any, setting(flag[0], "; ".join(lines), **flag[1])))
    return dataclasses.make_dataclass("ObjectiveConfig", fields, bases=(_ObjectiveConfig,), frozen=True)


@dataclasses.dataclass(frozen=True)
class _ObjectiveConfig:
    """Settings of single objectives besides k; `python -m iwae_tf objectives` lists which has which."""

    backward_samples: int | None = setting(
        None, "send only this many of the k samples, drawn by their weights, through the backward pass", parse=int
    )

    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given, by name; the constructor of the objective checks them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None and value is not False}


ObjectiveConfig = objective_config()


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(Settings):
    """Estimation of log p(x) of the test rows."""

    eval_samples: int = count(PAPER_SAMPLES, "importance samples for each test row")


@dataclasses.dataclass(frozen=True)
class WorkersConfig(Settings):
    """Devices and hosts; they change a result by rounding alone."""

    strategy: str = setting(
        "none",
        "mirrored: all GPUs of this host; multiworker: all workers that TF_CONFIG names, each with the same command",
        choices=("none", "mirrored", "multiworker"),
    )
    worker_timeout: int = count(300, "seconds to wait for the other workers at the start")


@dataclasses.dataclass(frozen=True)
class OutputConfig(Settings):
    """Outputs: run folder, exports, progress."""

    output_dir: str | None = setting(None, "run folder (default: runs/DATASET-OBJECTIVE-kK-lLAYERS-seedSEED)")
    export: bool = setting(False, f"write a SavedModel for a server to {EXPORT_DIR}/RUN at the end")
    tensorboard: bool = setting(False, "write event files for TensorBoard to RUN/tensorboard after each epoch")
    resume: bool = setting(False, "continue the run in the run folder")
    overwrite: bool = setting(False, "replace the run in the run folder")
    verbose: int = setting(
        1, "0: the closing table only, 1: progress bars, 2: a line for each epoch as well", parse=int, choices=(0, 1, 2)
    )

    def __post_init__(self):
        super().__post_init__()
        if self.resume and self.overwrite:
            raise InputError("--resume keeps the run in the folder and --overwrite deletes it: give one of them")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Every setting that shapes the result of a run; written to `config.json`."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    objective: _ObjectiveConfig = dataclasses.field(default_factory=lambda: objective_config()())
    evaluation: EvaluationConfig = EvaluationConfig()
    plugins: tuple[str, ...] = ()
    callbacks: tuple[str, ...] = ()

    def to_json(self) -> dict:
        """Nested plain types; tuples as lists, as JSON has them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


# What a run's `config.json` records besides settings, by section; `--config` passes over it.
RECORDED = {
    "data": (
        *("source", "split", "num_train", "num_valid", "num_test", "sha256", "image_shape", "colours"),
        *("scale", "intensity", "binarization_train", "binarization_evaluation", "table_columns"),
    ),
    "model": (
        *("data_dim", "output_bias", "kernel_initializer", "prior", "levels_of_a_pixel", "column_models", "log_scale"),
    ),
    "training": (
        *("optimizer_config", "objective_config", "steps_per_epoch", "total_steps", "xla", "noise", "init_from_model"),
    ),
    "evaluation": ("noise",),
    None: ("versions",),
}


def most_samples(num_samples: int, target: float | None, max_samples: int | None) -> int:
    """Returns the largest number of samples of an example, given a target for its standard error or None.

    Raises:
        InputError: the three do not fit together.
    """
    if target is None:
        if max_samples is not None:
            raise InputError(f"max_samples = {max_samples} without target_standard_error: give both, or num_samples")
        return num_samples
    if finite_number("target_standard_error", target) <= 0:
        raise InputError(f"target_standard_error must be a number of nats > 0, got {target!r}")
    if num_samples < 2:
        raise InputError("num_samples must be at least 2 with a target_standard_error: one sample has no error")
    most = min(40 * num_samples, MAX_SAMPLES) if max_samples is None else checked_samples(max_samples, "max_samples")
    if most < num_samples:
        raise InputError(f"max_samples must be at least num_samples = {num_samples}, got {max_samples}")
    return most


@dataclasses.dataclass(frozen=True)
class ScoringConfig(Settings):
    """Scoring of a trained model."""

    split: str = setting("test", "rows of the run's data set to score", choices=SPLITS, flag="part")
    num_samples: int = count(5000, "importance samples for each row, the largest k of L_k; with a target, the fewest")
    target_standard_error: float | None = setting(
        None,
        "choose each row's number of samples by pilot runs for this standard error, in nats",
        parse=float,
    )
    max_samples: int | None = setting(
        None, "the most samples for a row, with a target (default: 40 times --num-samples)", parse=int
    )
    refine: str = setting(
        "auto",
        "refine the proposal of each row before log p(x) is estimated; auto: of Gaussian units; off: samples of "
        "q(h given x)",
        choices=REFINE,
    )
    seed: int = setting(0, "seed of the importance samples", parse=int)
    gap: bool = setting(False, "score as many training rows too: the train-test gap")
    prune: bool = setting(False, "score again without the inactive latent units")
    jackknife: bool = setting(False, "correct the bias of the estimate by the jackknife, of order 1 and 2")
    annealed: int = setting(
        0, "also score this many of the rows by annealed importance sampling, and certify it", parse=int
    )
    inference_gap: int = setting(
        0,
        "also split log p(x) - L_1 of this many of the rows into the cost of a Gaussian posterior and of amortisation",
        parse=int,
    )
    deviation: bool = setting(False, "measure the spread of single estimates of L_50 against the paper's bound on it")
    data_dir: str | None = setting(None, "folder to read the data from, if it is not the run's")

    def __post_init__(self):
        super().__post_init__()
        most_samples(self.num_samples, self.target_standard_error, self.max_samples)
        check_seed(self.seed)
        for name in ("annealed", "inference_gap"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise InputError(f"{name} must be a number of rows >= 0, got {number!r}")


@dataclasses.dataclass(frozen=True)
class ExportConfig(Settings):
    """Settings of an exported model."""

    num_samples: int = count(5000, "samples of a serving_default score; with a refined proposal 500 to 4 times this")
    max_samples: int = count(50_000, "largest number of samples that a request may ask for")
    input: str | None = setting(
        None,
        "pixels between 0 and 1 are drawn from their intensity (binary, the default), or scored by their expected "
        "log-likelihood (intensity); for Bernoulli pixels only",
        choices=("binary", "intensity"),
    )
    refine: str = setting(
        "auto",
        "serving_default scores with a proposal refined for each row; auto: of Gaussian units; off: q(h given x)",
        choices=REFINE,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.num_samples > self.max_samples:
            raise InputError(f"num_samples must be at most max_samples = {self.max_samples}, got {self.num_samples}")
