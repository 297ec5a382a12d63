"""Names of the package that are not public, in one place.

`python -m benchmarks --against DIR` runs these benchmarks on another version of the package, which may hold a name in
another module, so `_find` tries every module that has held it.
"""

import importlib
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf


def _find(attribute: str, *modules: str):
    """Returns the attribute of the first of these modules of the package that has it."""
    for module in modules:
        try:
            return getattr(importlib.import_module(f"iwae_tf.{module}"), attribute)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"iwae_tf has no {attribute} in {', '.join(modules)}: name its new module in {__file__}")


def set_threads() -> None:
    """Sets TensorFlow's threads as the commands of the package do."""
    _find("one_thread_per_operation", "replicas")()


def run_callbacks(folder: str, steps: int) -> list:
    """Returns the callbacks with which `train.py` calls `fit` in every epoch."""
    callbacks = importlib.import_module("iwae_tf.training.callbacks")
    history = callbacks.HistoryFile(Path(folder) / "history.csv", 0, steps)
    return [callbacks.ProgressBar(10**9, steps, 0, verbose=0), history]


def bound_and_gradients(model, objective, x, noise, key_of):
    """Returns the bound, [B], and the gradients of inference network, generative network and objective."""
    return _find("bound_and_gradients", "models.gradients", "objectives.gradients")(model, objective, x, noise, key_of)


def binarized(dataset, split: str) -> np.ndarray:
    """Returns the images of a split, binarised once: float32 [N, D]."""
    return _find("binarize_once", "data.binarization")(dataset.intensities(split), split)


def read_run(folder: Path):
    """Returns a trained run: `model` and `config`."""
    return _find("read_trained", "training.run_folder")(folder)


def set_linear(network, kernel: np.ndarray, scale: float) -> None:
    """Makes a network of one Gaussian layer without hidden units N(kernel x, scale^2)."""
    head = network.stages[0].head
    head.loc.kernel.assign(kernel)
    head.log_scale.kernel.assign(np.zeros_like(kernel))
    log_scale = np.full(
        len(kernel), 7.0 * np.arctanh(np.log(scale) / 7.0)
    )  # heads clip smoothly: 7 tanh(log_scale / 7)
    head.log_scale.bias.assign(log_scale)


def training_graph(model, x: tf.Tensor):
    """Returns the graph of a training step, whole, however many cores this machine has."""
    step = tf.function(model.train_step, autograph=False)
    with mock.patch("iwae_tf.replicas.num_sub_batches", return_value=1):
        return step.get_concrete_function(x).graph


def evaluation_graph(model, x: tf.Tensor, num_samples: int):
    """Returns the graph that computes log-weights of these numbers of images and samples."""
    arguments = x, tf.constant(0, tf.int64), tf.constant(0), num_samples  # a multiple of 50
    return model._chunk_log_weights.get_concrete_function(*arguments).graph
