"""Pictures of a run, one PNG each; importing this package imports matplotlib."""

from iwae_tf.plots.activities import save_activities
from iwae_tf.plots.bounds import save_bounds
from iwae_tf.plots.differences import save_differences
from iwae_tf.plots.distributions import save_distributions
from iwae_tf.plots.extremes import save_extremes
from iwae_tf.plots.posterior import save_posteriors
from iwae_tf.plots.reconstructions import save_reconstructions
from iwae_tf.plots.reliability import save_reliability
from iwae_tf.plots.reproduction import save_reproduction
from iwae_tf.plots.samples import save_samples
from iwae_tf.plots.scores import save_scores

__all__ = [
    "save_activities",
    "save_bounds",
    "save_differences",
    "save_distributions",
    "save_extremes",
    "save_posteriors",
    "save_reconstructions",
    "save_reliability",
    "save_reproduction",
    "save_samples",
    "save_scores",
]
