"""Package models whose log p(x) has a closed form, with q equal to the posterior or off it by a stated amount."""

import numpy as np
import reference

import iwae_tf

DIM, UNITS = 6, 3


def linear_gaussian(layers: int, mean_error: float = 0.0, scale_factor: float = 1.0, dim: int = DIM):
    """A model of 1 or 2 layers and its exact counterpart.

    Columns of A are orthogonal, so that the posteriors are diagonal and q can be exact. `mean_error` is added to every
    posterior mean, and `scale_factor` multiplies every posterior scale.
    """
    rng = np.random.default_rng(0)
    a = np.linalg.qr(rng.standard_normal((dim, UNITS)))[0] * [0.8, 1.5, 2.5]  # [D, H]
    b, s = rng.standard_normal(dim), np.full(dim, 0.7)
    model = iwae_tf.IWAE(dim, (UNITS,) * layers, ((),) * layers, likelihood="gaussian")
    stages = model.generative_network.stages
    set_gaussian(stages[0], a.T, b, s)
    if layers == 1:
        exact = reference.LinearGaussian(a, b, s)
        posteriors = [(exact.posterior, dim)]
    else:
        a2, b2, s2 = np.diag([0.5, 1.0, -2.0]), rng.standard_normal(UNITS), np.full(UNITS, 0.6)
        exact = reference.TwoLayerLinearGaussian(a, b, s, a2, b2, s2)
        set_gaussian(stages[1], a2.T, b2, s2)
        posteriors = [(exact.posterior_h1, dim), (exact.posterior_h2, UNITS)]
    for stage, (posterior, size) in zip(model.inference_network.stages, posteriors, strict=True):
        means, covariance = posterior(np.concatenate([np.zeros((1, size)), np.eye(size)]))  # affine maps
        scale = scale_factor * np.sqrt(np.diag(covariance))
        set_gaussian(stage, means[1:] - means[0], means[0] + mean_error, scale)
    return model, exact


def set_gaussian(stage, kernel, bias, scale):
    """Makes a stage without hidden layers N(condition @ kernel + bias, scale^2)."""
    stage.head.loc.kernel.assign(kernel)
    stage.head.loc.bias.assign(bias)
    stage.head.log_scale.kernel.assign(np.zeros(stage.head.log_scale.kernel.shape))
    stage.head.log_scale.bias.assign(7.0 * np.arctanh(np.log(scale) / 7.0))
