"""What `config.json` says beside the settings: everything else that shaped the result of a run."""

import importlib.metadata
import platform

import keras

from iwae_tf.config import RunConfig
from iwae_tf.data import Dataset
from iwae_tf.data.binarization import EVALUATION_SEED
from iwae_tf.models.iwae import IWAE
from iwae_tf.version import __version__

PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy", "scikit-learn")
WITH_LOG_SCALE = {"gaussian", "discretized-logistic", "student-t"}


def manifest(config: RunConfig, dataset: Dataset, model: IWAE, steps_per_epoch: int) -> dict:
    """The content of `config.json`: the settings, completed by data, binarisation, optimiser and versions.

    Args:
        config: the settings.
        dataset: the images.
        model: the compiled model.
        steps_per_epoch: steps of one pass over the training images.
    """
    binarized = config.model.likelihood == "bernoulli"
    content, head = config.to_json(), model.generative_network.likelihood_stage.head
    content["data"] |= {
        "source": dataset.source,
        "split": dataset.split,
        "num_train": len(dataset.x_train),
        "num_valid": len(dataset.x_valid),
        "num_test": len(dataset.x_test),
        "image_shape": list(dataset.image_shape),
        "intensity": f"value / {dataset.scale:g}",
        "binarization_train": "drawn anew each time a pixel is seen, from (seed, epoch, batch)"
        if binarized
        else "none",
        "binarization_evaluation": f"drawn once, from (seed {EVALUATION_SEED}, image)" if binarized else "none",
    }
    content["model"] |= {
        "data_dim": dataset.data_dim,
        "output_bias": head.bias_start,
        "kernel_initializer": "Glorot uniform",
        "prior": model.generative_network.prior.description,
    }
    if head.levels is not None:
        content["model"]["levels_of_a_pixel"] = head.levels
    if WITH_LOG_SCALE & {config.model.latent, config.model.likelihood}:
        content["model"]["log_scale"] = "7 tanh(raw / 7)"
    content["training"] |= {
        "optimizer": keras.saving.serialize_keras_object(model.optimizer)["config"],
        "objective_config": model.objective.get_config(),
        "steps_per_epoch": steps_per_epoch,
        "total_steps": config.training.epochs * steps_per_epoch,
        "xla": model.uses_xla,
        "noise": "philox, from (seed, step)",
    }
    content["evaluation"] |= {"noise": "philox, from (seed, image, block of 50 samples)"}
    content["versions"] = {"iwae-tf": __version__, "python": platform.python_version()}
    content["versions"] |= {package: importlib.metadata.version(package) for package in PACKAGES}
    return content
