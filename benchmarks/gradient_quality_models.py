"""The models at which gradients are measured: trained digits, and a linear-Gaussian one where the theory is exact."""

from pathlib import Path

import numpy as np
import tensorflow as tf

import iwae_tf
from iwae_tf import seeds
from iwae_tf.data.binarization import binarize_once
from iwae_tf.errors import InputError
from iwae_tf.training.run_folder import read_trained

LINEAR_DIM = 20
TAIL_SAMPLES = 5000


def trained_digits(run: Path, images: int):
    """The model of a run on the digits and the first training images, binarised once: model, x [B, 64]."""
    if not run.is_dir():
        raise InputError(f"there is no run folder {run}; python train.py --k 50 makes runs/digits-iwae-k50-l1-seed0")
    trained = read_trained(run)
    if trained.config["data"]["dataset"] != "digits":
        raise InputError(f"{run} must be a run on the digits, got one on {trained.config['data']['dataset']}")
    x = binarize_once(iwae_tf.data.load("digits").intensities("train"), "train")[:images]
    return trained.model, tf.constant(x)


def linear_gaussian(images: int, seed: int):
    """p(h) = N(0, I), p(x | h) = N(h, I), q(h | x) = N(x / 2, 2/3 I) in 20 dimensions, with draws of x: [B, 20].

    The posterior is N(x / 2, I / 2). As q is wider, all moments of the weights are finite; a slight
    perturbation leaves those that matter so.

    Reference: Rainforth et al. (2018), section 4, with the prior's mean at 0.
    """
    eye, zeros = np.eye(LINEAR_DIM), np.zeros(LINEAR_DIM)
    model = iwae_tf.IWAE(LINEAR_DIM, (LINEAR_DIM,), ((),), likelihood="gaussian")
    (inference,), (generative,) = model.inference_network.stages, model.generative_network.stages
    for stage, kernel, variance in ((inference, eye / 2, 2 / 3), (generative, eye, 1.0)):
        stage.head.loc.kernel.assign(kernel)
        stage.head.loc.bias.assign(zeros)
        stage.head.log_scale.kernel.assign(0 * eye)
        stage.head.log_scale.bias.assign(zeros + 7.0 * np.arctanh(0.5 * np.log(variance) / 7.0))
    x = np.sqrt(2.0) * seeds.normal([images, LINEAR_DIM], seeds.key(seed, seeds.Purpose.SIMULATION))
    return model, tf.constant(x)


def perturb(model, deviation: float, seed: int) -> None:
    """Adds N(0, deviation^2) to every weight: near the optimum, not at it, where gradients would have no signal.

    Reference: Rainforth et al. (2018), section 4, with a deviation of 0.01.
    """
    for number, variable in enumerate(model.trainable_variables):
        noise = seeds.normal(variable.shape, seeds.key(seed, seeds.Purpose.WEIGHTS, number))
        variable.assign(variable + deviation * noise)


def weight_spread(model, x, seed: int) -> list[str]:
    """How uneven the importance weights of the images are, in words.

    The exponents of the theory are those of an expansion in Var(w) / (k E(w)^2). With tanh layers that variance is
    infinite where a unit's scale s in q is below sqrt(1/2): log p(x | h) stays above some constant however far out h
    is, and p(h)^2 / q(h | x) grows there as exp(h^2 / (2 s^2) - h^2).
    """
    log_w = model.log_weights(x, TAIL_SAMPLES, seed).numpy().astype(np.float64)  # [k, B]
    w = np.exp(log_w - log_w.max(axis=0))
    spread = w.var(axis=0) / w.mean(axis=0) ** 2  # [B]
    lines = [
        f"Var(w) / E(w)^2 of the images, from {TAIL_SAMPLES} samples: median {np.median(spread):.3g}, largest "
        f"{spread.max():.3g}; the theory's slopes need k far above it"
    ]
    if any(model.hidden_units):
        narrow = int((model.encode(x)[0].scale.numpy() < 0.5**0.5).any(axis=1).sum())
        lines.append(
            f"images with a scale of q below sqrt(1/2), for which Var(w) is infinite: {narrow} of {len(x)}; with "
            "`--linear-gaussian` it is finite"
        )
    return lines
