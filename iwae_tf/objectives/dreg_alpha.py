"""Between the doubly reparameterised gradients of the bound and of the wake phase."""

from iwae_tf.errors import InputError, finite_number
from iwae_tf.objectives.iwae import IWAEBound
from iwae_tf.objectives.objective import GradientWeights, serializable


@serializable
class DReGAlpha(IWAEBound):
    """Value of `IWAEBound`; phi moves along (1 - alpha) times the gradient of `DReG` plus alpha times `RWSDReG`'s.

    With wn the normalised weights the path has alpha wn + (1 - 2 alpha) wn^2. alpha = 0 is `DReG`, alpha = 1 is
    `RWSDReG`, and alpha = 1/2 half the inference gradient of `STL`. Unbiased for L_k at alpha = 0 alone.

    Args:
        num_samples: k.
        alpha: in [0, 1].
        **kwargs: as of `Objective`.

    Reference: Tucker, Lawson, Gu, Maddison (2019), section 6.
    """

    single_backward = False

    def __init__(self, num_samples: int = 50, alpha: float = 0.5, **kwargs):
        super().__init__(num_samples, **kwargs)
        if not 0.0 <= finite_number("alpha", alpha) <= 1.0:
            raise InputError(f"alpha must be in [0, 1], got {alpha}: 0 is dreg, 1 is rws-dreg")
        if alpha == 1.0 and num_samples < 2:
            raise InputError(f"alpha = 1 needs at least 2 samples, got {num_samples}, or q would learn nothing")
        self.alpha = float(alpha)

    def gradient_weights(self, log_w):
        weights = super().gradient_weights(log_w).generative
        factor = self.alpha + (1.0 - 2.0 * self.alpha) * weights
        return GradientWeights(generative=weights, path=factor * weights, score=None, path_factor=factor)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}
