"""The model of a run: from settings and data, and with the weights of another run."""

from pathlib import Path

from iwae_tf.config import ModelConfig, RunConfig
from iwae_tf.data import Dataset
from iwae_tf.errors import InputError
from iwae_tf.layers.conv import ConvDecoder, ConvEncoder
from iwae_tf.layers.registry import likelihood_class
from iwae_tf.models.iwae import IWAE
from iwae_tf.models.precision import POLICIES
from iwae_tf.training.trained import read_trained

# What weights have to fit.
ARCHITECTURE = ("data_dim", "latent_units", "hidden_units", "likelihood", "latent", "levels")


def build_model(config: RunConfig, dataset: Dataset) -> IWAE:
    """The model that the settings ask for, untrained."""
    model, networks = config.model, {}
    if model.network == "conv":
        networks = _convolutions(config, dataset)
    return IWAE(
        dataset.data_dim,
        latent_units=model.latent_units,
        hidden_units=model.hidden_units,
        latent=model.latent,
        likelihood=model.likelihood,
        data_mean=dataset.train_mean(),
        seed=config.training.seed,
        dtype=POLICIES[model.precision],
        levels=_levels(model, dataset),
        **networks,
    )


def _convolutions(config: RunConfig, dataset: Dataset) -> dict:
    """The encoder and the decoder of `--network conv`."""
    if dataset.image_shape[0] == 1:
        raise InputError(
            f"--network conv needs images, and {dataset.name} has rows of {dataset.data_dim} values: use mlp"
        )
    arguments = {"seed": config.training.seed, "dtype": POLICIES[config.model.precision]}
    shape = (*dataset.image_shape, 1)
    return {"encoder": ConvEncoder(shape, **arguments), "decoder": ConvDecoder(shape, **arguments)}


def _levels(config: ModelConfig, dataset: Dataset) -> int | None:
    """Values of a pixel for a likelihood over levels: as given, or as the data set has them."""
    if config.levels is None and likelihood_class(config.likelihood).needs_levels:
        return dataset.levels
    return config.levels


def check_levels(model: IWAE, dataset: Dataset) -> None:
    """Raises `InputError` for images between the levels of the likelihood, before anything is trained."""
    if model.levels is None:
        return
    for part in ("train", "valid", "test"):
        x = dataset.intensities(part)
        if len(x):
            model.checked(x)


def take_weights(model: IWAE, path: Path) -> None:
    """Sets the weights to those of a finished run; its optimiser, objective and data do not matter."""
    other = read_trained(path).model
    mine, its = ({name: m.get_config()[name] for name in ARCHITECTURE} for m in (model, other))
    different = [
        f"{name} is {its[name]} there and {mine[name]} here" for name in ARCHITECTURE if mine[name] != its[name]
    ]
    if not different and [w.shape for w in model.weights] != [w.shape for w in other.weights]:
        different = ["its networks have weights of other shapes"]
    if different:
        raise InputError(f"--init-from: the model of {path} is another: {'; '.join(different)}")
    model.set_weights(other.get_weights())
