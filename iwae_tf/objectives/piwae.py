"""The whole bound for the generative network, the mean of bounds of groups for the inference network."""

from iwae_tf.objectives.iwae import IWAEBound
from iwae_tf.objectives.miwae import checked_groups, weights_in_groups
from iwae_tf.objectives.objective import GradientWeights, serializable


@serializable
class PIWAE(IWAEBound):
    """Value of `IWAEBound` with all k samples, whose gradient moves theta; phi climbs `MIWAE` with the same samples.

    The generative network gains from a tight bound, the inference network from one of few samples, whose gradient
    has more signal; neither pays for the other here. M = 1 is `IWAEBound`.

    Args:
        num_samples: k, all samples together.
        groups: M, a divisor of k.
        **kwargs: as of `Objective`.

    Reference: Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh (2018), section 5.
    """

    single_backward = False

    def __init__(self, num_samples: int = 50, groups: int = 5, **kwargs):
        super().__init__(num_samples, **kwargs)
        self.groups = checked_groups(num_samples, groups)

    def gradient_weights(self, log_w):
        weights = weights_in_groups(log_w, self.groups)
        return GradientWeights(generative=super().gradient_weights(log_w).generative, path=weights, score=-weights)

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}
