"""Small models, and the weights of a model as arguments of tests/reference.py."""

import keras
import numpy as np

import iwae_tf

# Units of 1, 2 and 3 stochastic layers, all different so that a mix-up of axes or layers shows.
SMALL_NETWORKS = {
    1: {"latent_units": (5,), "hidden_units": ((7, 6),)},
    2: {"latent_units": (5, 3), "hidden_units": ((7, 6), (4,))},
    3: {"latent_units": (5, 3, 2), "hidden_units": ((7, 6), (4,), (8,))},
}
SMALL_DIM = 12


def small_model(layers: int = 1, gain: float = 3.0, **kwargs) -> iwae_tf.IWAE:
    """An untrained model of 12 pixels, with kernels `gain` times Glorot's so that every layer matters."""
    model = iwae_tf.IWAE(**{"data_dim": SMALL_DIM, **SMALL_NETWORKS[layers], **kwargs})
    for variable in model.trainable_variables:
        if variable.name == "kernel":
            variable.assign(gain * variable)
    return model


def binary_images(n: int, dim: int = SMALL_DIM, seed: int = 0) -> np.ndarray:
    """n images of 0 and 1, float32 [n, dim]."""
    return (np.random.default_rng(seed).random((n, dim)) < 0.4).astype(np.float32)


def reference_weights(model: iwae_tf.IWAE) -> dict:
    """The model's weights as NumPy float64, the keyword arguments of `reference.iwae_log_weights`."""
    generative = [_stage(stage) for stage in reversed(model.generative_network.stages)]
    return {
        "inference": [_stage(stage) for stage in model.inference_network.stages],
        "generative": generative,
        "likelihood": model.likelihood_name,
    }


def _stage(stage) -> dict:
    heads = {
        name: _dense(getattr(stage.head, name)) for name in ("loc", "log_scale", "logits") if hasattr(stage.head, name)
    }
    return {"hidden": [_dense(dense) for dense in stage.hidden.dense], **heads}


def _dense(dense: keras.layers.Dense) -> tuple[np.ndarray, np.ndarray]:
    return tuple(variable.numpy().astype(np.float64) for variable in (dense.kernel, dense.bias))


def standard_noise(model: iwae_tf.IWAE, num_samples: int, batch: int, seed: int = 1) -> np.ndarray:
    """Standard normal noise of NumPy's generator for the samples of a batch, float32 [k, B, sum of H_l]."""
    shape = (num_samples, batch, sum(model.latent_units))
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def by_layer(model: iwae_tf.IWAE, noise: np.ndarray) -> list[np.ndarray]:
    """The noise of each stochastic layer, float64 [k, B, H_l], as the references take it."""
    return np.split(noise.astype(np.float64), np.cumsum(model.latent_units)[:-1], axis=-1)


def with_policy(model: iwae_tf.IWAE, policy: str) -> iwae_tf.IWAE:
    """The same model with another dtype policy."""
    other = type(model).from_config({**model.get_config(), "dtype": policy})
    other.set_weights(model.get_weights())
    return other
