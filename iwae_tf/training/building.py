"""The objects that a run is built of: images, objective, optimiser, model, and the content of `config.json`."""

import importlib.metadata
import platform
from pathlib import Path

import keras
import numpy as np

from iwae_tf.adam import Adam
from iwae_tf.config import RunConfig
from iwae_tf.data import Dataset
from iwae_tf.data.binarization import EVALUATION_SEED, binarize_once
from iwae_tf.declarations import find
from iwae_tf.errors import InputError
from iwae_tf.layers import ConvDecoder, ConvEncoder
from iwae_tf.models.iwae import IWAE
from iwae_tf.models.mixed_precision import POLICIES
from iwae_tf.training.run_folder import differences, read_trained
from iwae_tf.version import __version__

# Settings that decide which weights a model can take.
ARCHITECTURE = ("data_dim", "latent_units", "hidden_units", "likelihood", "latent", "levels")
PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy", "scikit-learn")
STAGES = 8  # of the paper's schedule


def binarised(likelihood: str) -> bool:
    """Returns whether pixels are binarised for a likelihood."""
    return find("likelihood", likelihood).facts.get("binarised", False)


def scored_images(dataset: Dataset, split: str, likelihood: str, most: int | None = None) -> np.ndarray:
    """Returns the first `most` images of a split as they are scored, float32 [N, D]: binarised once if necessary."""
    x = dataset.intensities(split)[:most]
    return binarize_once(x, split) if binarised(likelihood) else x


def build_optimizer(config: RunConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """Returns the paper's Adam, with its schedule if asked for."""
    rate = config.training.learning_rate
    if config.training.schedule == "paper":
        rate = paper_schedule(rate, total_steps)
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


def build_model(config: RunConfig, dataset: Dataset) -> IWAE:
    """Returns the untrained model."""
    model, levels, convolutions = config.model, config.model.levels, {}
    common = {"seed": config.training.seed, "dtype": POLICIES[model.precision]}
    if levels is None and find("likelihood", model.likelihood).facts.get("needs_levels"):
        levels = dataset.levels
    if model.network == "conv":
        if dataset.image_shape[0] == 1:
            raise InputError(
                f"--network conv needs images, and {dataset.name} has rows of {dataset.data_dim} values: use mlp"
            )
        shape = (*dataset.image_shape, 1)
        convolutions = {"encoder": ConvEncoder(shape, **common), "decoder": ConvDecoder(shape, **common)}
    return IWAE(
        dataset.data_dim,
        latent_units=model.latent_units,
        hidden_units=model.hidden_units,
        latent=model.latent,
        likelihood=model.likelihood,
        data_mean=dataset.train_mean(),
        levels=levels,
        **common,
        **convolutions,
    )


def take_weights(model: IWAE, path: Path) -> None:
    """Sets the weights to those of a finished run, whatever its optimiser, objective and data."""
    other = read_trained(path).model
    here, there = ({name: m.get_config()[name] for name in ARCHITECTURE} for m in (model, other))
    found = differences(there, here)
    if not found and [w.shape for w in model.weights] != [w.shape for w in other.weights]:
        found = "its networks have weights of other shapes"
    if found:
        raise InputError(f"--init-from: {path} holds another kind of model: {found}")
    model.set_weights(other.get_weights())


def manifest(config: RunConfig, dataset: Dataset, model: IWAE, steps_per_epoch: int) -> dict:
    """Returns the content of `config.json`: the settings and all else that shapes the result; `model` is compiled."""
    content, head = config.to_json(), model.generative_network.likelihood_stage.head
    in_training = in_evaluation = "none"
    if binarised(config.model.likelihood):
        in_training = "drawn anew each time a pixel is seen, from (seed, epoch, place in the epoch)"
        in_evaluation = f"drawn once, from (seed {EVALUATION_SEED}, image)"
    content["data"] |= {
        "source": dataset.source,
        "split": dataset.split,
        "num_train": len(dataset.x_train),
        "num_valid": len(dataset.x_valid),
        "num_test": len(dataset.x_test),
        "image_shape": list(dataset.image_shape),
        "intensity": f"value / {dataset.scale:g}",
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
    stages = (*model.inference_network.stages, *model.generative_network.stages)
    if any(hasattr(stage.head, "log_scale") for stage in stages):
        content["model"]["log_scale"] = "7 tanh(raw / 7)"
    content["training"] |= {
        "optimizer": keras.saving.serialize_keras_object(model.optimizer)["config"],
        "objective_config": model.objective.get_config(),
        "steps_per_epoch": steps_per_epoch,
        "total_steps": config.training.epochs * steps_per_epoch,
        "xla": model.uses_xla,
        "noise": "philox, from (seed, batches seen)",
    }
    content["evaluation"] |= {"noise": "philox, from (seed, content of the image, block of 50 samples)"}
    content["versions"] = {"iwae-tf": __version__, "python": platform.python_version()}
    content["versions"] |= {package: importlib.metadata.version(package) for package in PACKAGES}
    return content
