"""The objects that a run is built of: data, objective, optimiser, model, and the content of `config.json`."""

import dataclasses
import hashlib
import importlib.metadata
import itertools
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from iwae_tf.adam import Adam
from iwae_tf.config import ModelConfig, RunConfig
from iwae_tf.data import Dataset, load
from iwae_tf.data.binarization import EVALUATION_SEED
from iwae_tf.data.columns import location_and_scale
from iwae_tf.data.dataset import SPLITS
from iwae_tf.declarations import find
from iwae_tf.errors import InputError, unknown_name
from iwae_tf.layers import ColumnModel, ConvDecoder, ConvEncoder
from iwae_tf.models.iwae import IWAE
from iwae_tf.models.mixed_precision import POLICIES
from iwae_tf.training.run_folder import differences, model_checksum, read_json, read_trained
from iwae_tf.version import __version__

# Settings that decide which weights a model can take.
ARCHITECTURE = ("data_dim", "latent_units", "hidden_units", "likelihood", "latent", "levels", "columns", "missing")
PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy", "scikit-learn")
STAGES = 8  # of the paper's schedule
AUTO, PIXEL_LIKELIHOOD, TABLE_LIKELIHOOD = "auto", "bernoulli", "columns"  # auto: one of the others, by the data
KINDS = {"real": "student-t", "binary": "bernoulli", "count": "negative-binomial", "category": "categorical"}


def load_data(data: Mapping, data_dir: str | None = None) -> Dataset:
    """Loads the data set of settings or of a run's `config.json`, section "data"; from `data_dir` if it is given."""
    options = {name: data.get(name) for name in ("columns", "drop", "id_column", "label_column")}
    return load(data["dataset"], data_dir or data["data_dir"], split=data.get("split_shares"), **options)


def check_same_data(had: Mapping, dataset: Dataset) -> None:
    """Raises `InputError` unless the data set is that of a run's `config.json`, section "data"."""
    here = {f"num_{split}": len(getattr(dataset, f"x_{split}")) for split in SPLITS}
    if dataset.columns:
        here["table_columns"] = _described(dataset.columns)
    changed = differences(had, here)
    if not changed and had.get("sha256"):
        names = [split for split, found in checksums(dataset).items() if found != had["sha256"].get(split)]
        changed = f"the content of {' and '.join(names)} has changed" if names else ""
    if changed:
        raise InputError(f"the data set is not the one that the run was trained on: {changed}; {dataset.source}")


def _described(columns) -> list[dict]:
    """Returns columns as `config.json` has them."""
    return [{"name": column.name, "kind": column.kind, "categories": list(column.categories)} for column in columns]


def checksums(dataset: Dataset) -> dict[str, str]:
    """Returns the SHA-256 of the values of each split."""
    arrays = {split: np.ascontiguousarray(getattr(dataset, f"x_{split}")) for split in SPLITS}
    return {split: hashlib.sha256(x).hexdigest() for split, x in arrays.items()}


def resolved(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Returns the settings with the likelihood that the data ask for in place of "auto"."""
    model = config.model
    if dataset.columns:
        own = model.column_likelihoods
        if model.likelihood not in (AUTO, TABLE_LIKELIHOOD):  # of every number, unless a column has its own
            own = (*(f"{c.name}={model.likelihood}" for c in dataset.columns if not c.categories), *own)
        model = dataclasses.replace(model, likelihood=TABLE_LIKELIHOOD, column_likelihoods=own)
    elif model.likelihood == AUTO:
        model = dataclasses.replace(model, likelihood=PIXEL_LIKELIHOOD)
    return dataclasses.replace(config, model=model)


def binarised(dataset: Dataset, likelihood: str) -> bool:
    """Returns whether pixels are binarised for a likelihood; the columns of a table never are."""
    return not dataset.columns and find("likelihood", likelihood).facts.get("binarised", False)


def scored_images(dataset: Dataset, split: str, likelihood: str, most: int | None = None) -> np.ndarray:
    """Returns the first `most` rows of a split as they are scored, float32 [N, D]: binarised once if necessary."""
    x = dataset.binarized(split) if binarised(dataset, likelihood) else dataset.intensities(split)
    return x[:most]


def build_optimizer(config: RunConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """Returns the paper's Adam, or Muon, at the learning rate, or on the schedule, of the settings."""
    rate = config.training.learning_rate
    if config.training.schedule == "paper":
        rate = paper_schedule(rate, total_steps)
    elif config.training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, total_steps)
    if config.training.optimizer == "muon":
        return keras.optimizers.Muon(rate, epsilon=1e-4, weight_decay=None, adam_weight_decay=None)
    return Adam(rate, beta_1=0.9, beta_2=0.999, epsilon=1e-4)


def paper_schedule(learning_rate: float, total_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the paper's eight stages: stage i takes 3^i / 3280 of the steps at learning_rate * 10^(-i/7).

    Over 3,280 passes stage i takes 3^i passes; shorter runs shorten every stage in proportion.

    Reference: Burda, Grosse, Salakhutdinov (2016), section 5.
    """
    ends = np.cumsum(3 ** np.arange(STAGES)).tolist()
    boundaries = [round(total_steps * end / ends[-1]) for end in ends[:-1]]
    # Keras changes the rate after the boundary step, the paper at it.
    rates = [learning_rate * 10 ** (-i / (STAGES - 1)) for i in range(STAGES)]
    return keras.optimizers.schedules.PiecewiseConstantDecay([b - 1 for b in boundaries], rates)


def build_model(
    config: RunConfig,
    dataset: Dataset,
    start: Path | None = None,
    agreed: Callable[[np.ndarray], np.ndarray] = lambda values: values,
) -> IWAE:
    """Returns the untrained model.

    Args:
        config: `resolved` settings.
        dataset: the data set.
        start: a run as in which the columns of a table are standardised, if it has the same columns with the same
            likelihoods; None for none.
        agreed: called with each column's location and scale, [D, 2], returns those of the chief worker.
    """
    model, levels, convolutions = config.model, config.model.levels, {}
    common = {"seed": config.training.seed, "dtype": POLICIES[model.precision]}
    if dataset.columns:
        columns = column_models(config, dataset)
        if start and (start / "config.json").is_file():
            columns = _standardised_as(read_json(start / "config.json"), columns)
        numbers = agreed(np.array([[column.loc, column.scale] for column in columns]))
        pairs = zip(columns, numbers.tolist(), strict=True)
        columns = tuple(column._replace(loc=loc, scale=scale) for column, (loc, scale) in pairs)
        observations = {"likelihood": TABLE_LIKELIHOOD, "columns": columns, "missing": model.missing}
    else:
        for name in ("missing", "column_likelihoods", "scaling"):
            if getattr(model, name) != getattr(ModelConfig, name):
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"{flag} is for tables and real values; {dataset.name} holds pixels: leave it out")
        facts = find("likelihood", model.likelihood).facts
        if facts.get("real"):
            _check_varying(dataset, model.likelihood)
        if levels is None and facts.get("needs_levels"):
            levels = dataset.levels
        observations = {
            "likelihood": model.likelihood,
            "data_mean": dataset.train_mean(),
            "levels": levels,
            "scale": dataset.scale,
        }
    if model.network == "conv":
        if dataset.image_shape[0] == 1:
            raise InputError(
                f"--network conv needs images, and {dataset.name} has rows of {dataset.data_dim} values: use mlp"
            )
        shape = dataset.picture_shape if dataset.colours else (*dataset.picture_shape, 1)
        convolutions = {"encoder": ConvEncoder(shape, **common), "decoder": ConvDecoder(shape, **common)}
    return IWAE(
        dataset.data_dim,
        latent_units=model.latent_units,
        hidden_units=model.hidden_units,
        latent=model.latent,
        **observations,
        **common,
        **convolutions,
    )


def column_models(config: RunConfig, dataset: Dataset) -> tuple[ColumnModel, ...]:
    """Returns what the model has to know of each column; location and scale are those of the training rows.

    Raises:
        InputError: a likelihood does not fit its column, or a value is missing or cannot be used.
    """
    given, names = config.model.column_likelihoods, [column.name for column in dataset.columns]
    own = dict(_name_and_likelihood(text) for text in given)
    if unknown := [name for name in own if name not in names]:
        raise unknown_name("column", unknown[0], names)
    if not config.model.missing:
        _check_complete(dataset, names)
    models = []
    for number, column in enumerate(dataset.columns):
        x = dataset.x_train[:, number].astype(np.float64)
        x = x[~np.isnan(x)]
        declaration = find("likelihood", own.get(column.name) or KINDS[column.kind])
        levels, loc, scale = None, *location_and_scale(x, config.model.scaling)
        if not scale > 0.0:
            raise InputError(
                f"column {column.name!r} has no two different values in the training rows: leave it out with --drop"
            )
        if column.categories:
            levels, loc, scale = len(column.categories), 0.0, 1.0
            if not declaration.facts.get("needs_levels"):
                raise InputError(
                    f"column {column.name!r} is text, and {declaration.name} is for numbers: use categorical, or leave "
                    "the column out with --drop"
                )
        elif declaration.facts.get("needs_levels"):
            highest = max(
                np.nanmax(of[:, number], initial=0) for of in (dataset.x_train, dataset.x_valid, dataset.x_test)
            )
            levels = config.model.levels or int(highest) + 1
        elif not declaration.facts.get("real"):
            loc, scale = float(x.mean()), float(x.std())  # of counts; also where the initial mean comes from
        elif config.model.scaling == "none":
            loc, scale = 0.0, 1.0
        models.append(ColumnModel(column.name, declaration.name, loc, scale, levels))
    return tuple(models)


def _standardised_as(config: dict, columns: tuple[ColumnModel, ...]) -> tuple[ColumnModel, ...]:
    """Returns the columns with location and scale of those of a run's `config.json`, if these are the same columns."""
    found = tuple(ColumnModel(**column) for column in config["model"].get("column_models", ()))
    plain = [[column._replace(loc=0.0, scale=1.0) for column in of_model] for of_model in (found, columns)]
    return found if plain[0] == plain[1] else columns


def _name_and_likelihood(text: str) -> tuple[str, str]:
    name, equals, likelihood = text.rpartition("=")
    if not equals:
        raise InputError(f"--column-likelihoods {text}: expected NAME=LIKELIHOOD, e.g. age=gaussian")
    return name, likelihood


def _check_complete(dataset: Dataset, names: list[str]) -> None:
    for split in SPLITS:
        rows, columns = np.nonzero(np.isnan(getattr(dataset, f"x_{split}")))
        if len(rows):
            raise InputError(
                f"{dataset.source}: {len(rows)} values of the {split} split are missing, the first in column "
                f"{names[columns[0]]!r}: train with --missing, which scores the observed values, or fill them in"
            )


def _check_varying(dataset: Dataset, likelihood: str) -> None:
    """Raises `InputError` for a pixel that never changes, whose density would rise without limit in training."""
    constant = np.flatnonzero(dataset.x_train.min(axis=0) == dataset.x_train.max(axis=0))
    if len(constant):
        first = divmod(int(constant[0]), dataset.image_shape[1])
        raise InputError(
            f"--likelihood {likelihood}: {len(constant)} pixels of {dataset.name} have the same value in all training "
            f"images, the first is {first}, and a density there has no limit: use "
            f"{'discretized-logistic' if dataset.levels else 'continuous-bernoulli'}, or leave these pixels out"
        )


def take_weights(model: IWAE, path: Path) -> str:
    """Sets the weights to those of a finished run, whatever its optimiser, objective and data; returns its checksum."""
    other, checksum = read_trained(path).model, model_checksum(path)
    here, there = ({name: m.get_config()[name] for name in ARCHITECTURE} for m in (model, other))
    if here["columns"] and there["columns"]:  # only those that differ
        pairs = [pair for pair in itertools.zip_longest(here["columns"], there["columns"]) if pair[0] != pair[1]]
        here["columns"], there["columns"] = ([pair[side] for pair in pairs] for side in (0, 1))
    found = differences(there, here)
    own = model.weights[: len(other.weights)]  # what the objective learns comes last and starts anew
    if not found and [w.shape for w in own] != [w.shape for w in other.weights]:
        found = "its networks have weights of other shapes"
    if found:
        raise InputError(f"--init-from: {path} holds another kind of model: {found}")
    for variable, value in zip(own, other.weights, strict=True):
        variable.assign(value)
    return checksum


def manifest(config: RunConfig, dataset: Dataset, model: IWAE, steps_per_epoch: int, taken: str | None) -> dict:
    """Returns the content of `config.json`: the settings and all else that shapes the result.

    Args:
        config: the settings.
        dataset: the data set.
        model: the compiled model.
        steps_per_epoch: steps of one pass over the training rows.
        taken: `model_checksum` of the weights that the run started from; None for initial ones.
    """
    content, head = config.to_json(), model.generative_network.likelihood_stage.head
    in_training = in_evaluation = "none"
    if binarised(dataset, config.model.likelihood):
        in_training = "drawn anew each time a pixel is seen, from (seed, epoch, place in the epoch)"
        in_evaluation = f"drawn once, from (seed {EVALUATION_SEED}, image)"
    content["data"] |= {
        "source": dataset.source,
        "split": dataset.split,
        "num_train": len(dataset.x_train),
        "num_valid": len(dataset.x_valid),
        "num_test": len(dataset.x_test),
        "sha256": checksums(dataset),
        "image_shape": list(dataset.image_shape),
        "colours": dataset.colours,
        "scale": dataset.scale,
        "intensity": "values as they are" if dataset.columns else f"value / {dataset.scale:g}",
        "binarization_train": in_training,
        "binarization_evaluation": in_evaluation,
    }
    content["model"] |= {
        "data_dim": dataset.data_dim,
        "output_bias": head.bias_start,
        "kernel_initializer": "Glorot uniform",
        "prior": model.generative_network.prior.description,
    }
    if model.levels is not None:
        content["model"]["levels_of_a_pixel"] = model.levels
    if dataset.columns:
        content["data"]["table_columns"] = _described(dataset.columns)
        content["model"]["column_models"] = [column._asdict() for column in model.columns]
    stages = (*model.inference_network.stages, *model.generative_network.stages)
    if any(hasattr(stage.head, "log_scale") for stage in stages):
        content["model"]["log_scale"] = "7 tanh(raw / 7)"
    content["training"] |= {
        "optimizer_config": keras.saving.serialize_keras_object(model.optimizer)["config"],
        "objective_config": model.objective.get_config(),
        "steps_per_epoch": steps_per_epoch,
        "total_steps": config.training.epochs * steps_per_epoch,
        "xla": model.uses_xla,
        "noise": "philox, from (seed, batches seen)",
    }
    if taken:
        content["training"]["init_from_model"] = taken
    content["evaluation"] |= {"noise": "philox, from (seed, content of the row, block of 50 samples)"}
    content["versions"] = {"iwae-tf": __version__, "python": platform.python_version()}
    content["versions"] |= {package: importlib.metadata.version(package) for package in PACKAGES}
    return content
