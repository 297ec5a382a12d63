"""Package models with binary latent units, and their weights as arguments of tests/reference_bernoulli.py."""

import numpy as np
from small_models import reference_weights, small_model

import iwae_tf


def binary_model(layers: int = 1, gain: float = 3.0, **kwargs) -> iwae_tf.IWAE:
    """`small_model` with binary units and a prior that differs from unit to unit."""
    return with_prior(small_model(layers, gain, latent="bernoulli", **kwargs))


def belief_network(dim: int, units: tuple[int, ...], gain: float = 2.0) -> iwae_tf.IWAE:
    """A linear sigmoid belief network small enough to sum over all its states."""
    return binary_model(len(units), gain, data_dim=dim, latent_units=units, hidden_units=((),) * len(units))


def with_prior(model: iwae_tf.IWAE) -> iwae_tf.IWAE:
    """The model, its top prior at logits from -1 to 1.5."""
    logits = model.generative_network.prior.logits
    logits.assign(np.linspace(-1.0, 1.5, logits.shape[0]))
    return model


def generative_weights(model: iwae_tf.IWAE) -> dict:
    """Keyword arguments of `reference_bernoulli.log_prob` and `posterior`, except x and units."""
    weights = reference_weights(model)
    del weights["inference"]
    return {**weights, "prior_logits": model.generative_network.prior.logits.numpy().astype(np.float64)}


def inference_weights(model: iwae_tf.IWAE) -> list[dict]:
    """The stages of the inference network."""
    return reference_weights(model)["inference"]
