"""The variational Renyi bound with importance samples."""

from iwae_tf.errors import InputError, finite_number
from iwae_tf.numerics import log_mean_exp, normalized_weights
from iwae_tf.objectives.objective import GradientWeights, Objective, serializable


@serializable
class VRIWAE(Objective):
    """1/(1 - alpha) log 1/k sum_i w_i^(1 - alpha), for alpha in [0, 1).

    Between `IWAEBound`, alpha = 0, and `ELBO`, the limit alpha -> 1: the larger alpha, the looser the bound and the
    more evenly the samples count.

    Args:
        num_samples: k.
        alpha: in [0, 1).
        **kwargs: as of `Objective`.

    Reference: Li & Turner (2016), section 4; Daudel, Benton, Shi, Doucet (2023), where it is named VR-IWAE.
    """

    single_backward = True

    def __init__(self, num_samples: int = 50, alpha: float = 0.5, **kwargs):
        super().__init__(num_samples, **kwargs)
        if finite_number("alpha", alpha) >= 1.0:
            raise InputError(f"alpha must be below 1, got {alpha}: its limit at 1 is the objective elbo")
        if alpha < 0.0:
            raise InputError(
                f"alpha must be in [0, 1), got {alpha}: below 0 the value is no bound on log p(x); its limit at minus "
                "infinity is the objective vr-max"
            )
        self.alpha = float(alpha)

    def bound(self, log_w):
        power = 1.0 - self.alpha
        return log_mean_exp(power * log_w, axis=0) / power

    def gradient_weights(self, log_w):
        weights = normalized_weights((1.0 - self.alpha) * log_w)
        return GradientWeights(generative=weights, path=weights, score=-weights)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}
