"""Objectives with the value of L_k and another gradient of the inference network, through the samples.

The score term of q carries most of the noise of L_k's gradient. Each of these replaces it or mixes bounds, by its three
rows of weights.
"""

import tensorflow as tf

from iwae_tf.declarations import declare
from iwae_tf.errors import InputError, finite_number
from iwae_tf.numerics import log_mean_exp, normalized_weights
from iwae_tf.objectives.bounds import MIWAE, IWAEBound
from iwae_tf.objectives.objective import GradientWeights


@declare("objective", "dreg", "L_k, unbiased, with less noise for the inference network: the first to try")
class DReG(IWAEBound):
    """Value of `IWAEBound`; an unbiased gradient of it whose inference network keeps its signal as k grows.

    Reparameterising the score term of q a second time turns its weights into squares of the normalised weights on the
    path. The generative network keeps the normalised weights.

    Reference: Tucker, Lawson, Gu, Maddison (2019), section 3.
    """

    def gradient_weights(self, log_w):
        weights = normalized_weights(log_w)
        return GradientWeights.scaled_path(generative=weights, factor=weights)


@declare("objective", "stl", "L_k without the score term: biased for k > 1, no noise where q is the posterior")
class STL(IWAEBound):
    """Sticking the landing: value of `IWAEBound`; the gradient of the inference network leaves out the score of q.

    The gradient is exactly zero where q(h | x) is the posterior. Its mean is the ELBO's for k = 1; for k > 1 it is a
    biased estimate of the gradient of L_k, and `DReG` is the unbiased one.

    Reference: Roeder, Wu, Duvenaud (2017); the bias is shown by Tucker, Lawson, Gu, Maddison (2019), section 3.
    """

    def gradient_weights(self, log_w):
        weights = normalized_weights(log_w)
        return GradientWeights.scaled_path(generative=weights, factor=tf.ones_like(weights))


@declare(
    "objective",
    "piwae",
    "iwae for the generative network, miwae for the inference network",
    settings={"groups": "M, groups of k / M samples"},
)
class PIWAE(MIWAE):
    """Value of `IWAEBound` with all k samples, whose gradient moves theta; phi climbs `MIWAE` with the same samples.

    The generative network gains from a tight bound, the inference network from a bound of few samples, whose gradient
    has more signal. M = 1 is `IWAEBound`.

    Args:
        num_samples: k, all samples together.
        groups: M, a divisor of k.
        **kwargs: see `Objective`.

    Reference: Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh (2018), section 5.
    """

    def bound(self, log_w):
        return log_mean_exp(log_w, axis=0)

    def gradient_weights(self, log_w):
        of_groups = super().gradient_weights(log_w)
        return GradientWeights(normalized_weights(log_w), path=of_groups.path, score=of_groups.score)


@declare(
    "objective",
    "dreg-alpha",
    "between dreg (alpha = 0) and rws-dreg (1)",
    settings={"alpha": "0 is dreg, 1 rws-dreg"},
)
class DReGAlpha(IWAEBound):
    """Value of `IWAEBound`; phi moves along (1 - alpha) times the gradient of `DReG` plus alpha times `RWSDReG`'s.

    With wn the normalised weights the path has alpha wn + (1 - 2 alpha) wn^2. alpha = 0 is `DReG`, alpha = 1 is
    `RWSDReG`, and alpha = 1/2 half the inference gradient of `STL`. Only alpha = 0 is unbiased for L_k.

    Args:
        num_samples: k.
        alpha: in [0, 1].
        **kwargs: see `Objective`.

    Reference: Tucker, Lawson, Gu, Maddison (2019), section 6.
    """

    def __init__(self, num_samples: int = 50, alpha: float = 0.5, **kwargs):
        super().__init__(num_samples, **kwargs)
        if not 0.0 <= finite_number("alpha", alpha) <= 1.0:
            raise InputError(f"alpha must be in [0, 1], got {alpha}: 0 is dreg, 1 is rws-dreg")
        if alpha == 1.0 and num_samples < 2:
            raise InputError(f"alpha = 1 needs at least 2 samples, got {num_samples}, or q would learn nothing")
        self.alpha = float(alpha)

    def gradient_weights(self, log_w):
        weights = normalized_weights(log_w)
        return GradientWeights.scaled_path(generative=weights, factor=self.alpha + (1.0 - 2.0 * self.alpha) * weights)


@declare("objective", "rws-dreg", "rws with its score reparameterised: q covers the posterior, less noise")
class RWSDReG(IWAEBound):
    """Value of `IWAEBound`; the mean gradient of `RWS`, through the samples and with less noise where q is good.

    Reparameterising the score term of the wake phase turns its weights wn into wn - wn^2 on the path.

    Reference: Tucker, Lawson, Gu, Maddison (2019), section 5.
    """

    needs_several_samples = "its normalised weight would always be 1, and q would learn nothing"

    def gradient_weights(self, log_w):
        weights = normalized_weights(log_w)
        return GradientWeights.scaled_path(generative=weights, factor=1.0 - weights)
