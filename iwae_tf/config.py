"""Settings of a run: one set of frozen dataclasses that are the flags, their help, `config.json` and the Python API.

Each field made by `setting` is a command line flag of the same name with dashes. Nothing here imports TensorFlow.
"""

import dataclasses
import math
from typing import Any, NamedTuple

from iwae_tf.errors import InputError, check_seed, positive_integer
from iwae_tf.fields import check_fields, setting


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
RELIABLE_PARETO_K = 0.7  # Vehtari et al. (2024), section 3.2: above it an importance weighted mean is not to be trusted
EXPORT_DIR = "export/models"
DEFAULT_EPOCHS = 60  # the default data set, digits, gains nothing from more


def _comma_list(text: str) -> tuple[int, ...]:
    return () if text == "none" else tuple(int(number) for number in text.split(","))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images."""

    dataset: str = setting(
        "digits",
        "a name, or the path of an .npz file with x_train, x_test and if wanted x_valid (uint8, or float in [0, 1])",
        metavar="NAME|FILE.npz",
        names="iwae_tf.data.registry:DATASETS",
    )
    data_dir: str | None = setting(
        None, "folder to read the data from, without network: IDX, .npz, .amat, chardata.mat or a TFDS folder"
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
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
    latent: str = setting("gaussian", "units of the stochastic layers", names="iwae_tf.layers.registry:LATENTS")
    likelihood: str = setting(
        "bernoulli",
        "distribution of a pixel; scores under different ones do not compare",
        names="iwae_tf.layers.registry:LIKELIHOODS",
    )
    levels: int | None = setting(
        None,
        "discretized-logistic, categorical: values that a pixel can have (default: as the data set was read, 256 for "
        "8-bit grey values)",
        parse=int,
    )
    network: str = setting(
        "mlp",
        "conv: convolutions from the image to the first stochastic layer and back, in place of its tanh layers",
        choices=("mlp", "conv"),
    )
    precision: str = setting(
        "float32",
        "of the networks' products; weights, densities and log-weights are float32 in each",
        choices=("float32", "bfloat16", "float16"),
    )

    def __post_init__(self):
        check_fields(self)
        for name in ("latent_units", "hidden_units"):
            units = getattr(self, name)
            if units is None:
                object.__setattr__(self, name, getattr(PAPER_NETWORKS[self.layers], name))
            elif len(units) != self.layers:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} needs {self.layers} entries for --layers {self.layers}, got {len(units)}")
        object.__setattr__(self, "latent_units", tuple(positive_integer("latent_units", n) for n in self.latent_units))
        if self.levels is not None:
            positive_integer("levels", self.levels)
        hidden = tuple(tuple(positive_integer("hidden_units", n) for n in layer) for layer in self.hidden_units)
        object.__setattr__(self, "hidden_units", hidden)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What is maximised, and how."""

    objective: str = setting("iwae", "the bound and its gradient", names="iwae_tf.objectives.registry:OBJECTIVES")
    k: int = setting(50, "importance samples for each image; with iwae, k = 1 is the VAE", parse=int)
    epochs: int | None = setting(
        None,
        f"passes over the training images (default: {DEFAULT_EPOCHS}, or {PAPER_EPOCHS} with --schedule paper)",
        parse=int,
    )
    batch_size: int = setting(20, "images in a step", parse=int)
    learning_rate: float = setting(1e-3, "Adam's step size at the start", parse=float)
    schedule: str = setting(
        "constant",
        "constant, or the paper's eight stages from the learning rate down to a tenth of it, stretched over the epochs",
        choices=("constant", "paper"),
    )
    jit: str = setting("auto", "compile the step with XLA; auto: on a GPU", choices=("auto", "on", "off"))
    seed: int = setting(0, "seed of weights, data order, binarisation and noise", parse=int)
    early_stopping: int | None = setting(
        None,
        "stop when the validation bound has not risen for so many epochs, and take the model of the best epoch",
        parse=int,
        metavar="EPOCHS",
    )
    init_from: str | None = setting(None, "start from the weights of this run, with a new optimiser", metavar="RUN")

    def __post_init__(self):
        if self.epochs is None:
            object.__setattr__(self, "epochs", PAPER_EPOCHS if self.schedule == "paper" else DEFAULT_EPOCHS)
        check_fields(self, positive=("k", "epochs", "batch_size"))
        if self.early_stopping is not None:
            positive_integer("early_stopping", self.early_stopping)
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not (math.isfinite(rate) and rate > 0):
            raise InputError(f"learning_rate must be a positive number, got {rate!r}")
        check_seed(self.seed)


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What some objectives have beside k; `python -m iwae_tf objectives` lists which."""

    groups: int | None = setting(None, "miwae, piwae: M, groups of k / M samples (default: 5)", parse=int)
    beta: float | None = setting(None, "ciwae: share of the ELBO, from 0 to 1 (default: 0.05)", parse=float)
    learn_beta: bool = setting(False, "ciwae: beta is where it starts, and falls as the bound is climbed")
    alpha: float | None = setting(
        None, "vr-iwae: order, 0 is iwae, near 1 elbo; dreg-alpha: 0 is dreg, 1 rws-dreg (default: 0.5)", parse=float
    )
    order: int | None = setting(None, "jvi: 1 or 2 (default: 1)", parse=int)
    points: int | None = setting(None, "tvo: K, terms of the sum (default: 5)", parse=int)
    backward_samples: int | None = setting(
        None, "send only this many of the k samples, drawn by their weights, through the backward pass", parse=int
    )
    kl_annealing: int | None = setting(
        None, "elbo, elbo-kl: epochs over which the weight of the KL divergence rises to 1", parse=int
    )

    def __post_init__(self):  # the objectives themselves check what they take
        if self.kl_annealing is not None:
            positive_integer("kl_annealing", self.kl_annealing)

    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None and value is not False}


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How log p(x) of the test images is estimated."""

    eval_samples: int = setting(5000, "importance samples for each test image", parse=int)

    def __post_init__(self):
        check_fields(self, positive=("eval_samples",))


@dataclasses.dataclass(frozen=True)
class WorkersConfig:
    """On how many devices and hosts; changes a result by rounding alone."""

    strategy: str = setting(
        "none",
        "mirrored: all GPUs of this host; multiworker: all workers that TF_CONFIG names, each with the same command",
        choices=("none", "mirrored", "multiworker"),
    )
    worker_timeout: int = setting(300, "seconds to wait for the other workers at the start", parse=int)

    def __post_init__(self):
        check_fields(self, positive=("worker_timeout",))


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """Where the run is kept, and what is shown."""

    output_dir: str | None = setting(None, "run folder (default: runs/DATASET-OBJECTIVE-kK-lLAYERS-seedSEED)")
    export: bool = setting(False, f"write a SavedModel for a server to {EXPORT_DIR}/RUN when all is done")
    tensorboard: bool = setting(False, "write event files for TensorBoard to RUN/tensorboard, after each epoch")
    resume: bool = setting(False, "go on with the run in the run folder")
    overwrite: bool = setting(False, "replace the run in the run folder")
    verbose: int = setting(
        1, "0: the closing table only, 1: progress bars, 2: a line for each epoch as well", parse=int, choices=(0, 1, 2)
    )

    def __post_init__(self):
        check_fields(self)
        if self.resume and self.overwrite:
            raise InputError("--resume keeps the run in the folder and --overwrite deletes it: give one of them")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Every setting that shapes the result of a run; written to `config.json`."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def to_json(self) -> dict:
        """Nested plain types; tuples as lists, as JSON has them."""
        return {
            section: {name: _as_lists(value) for name, value in values.items()}
            for section, values in dataclasses.asdict(self).items()
        }


def _as_lists(value):
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value
