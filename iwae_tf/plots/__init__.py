"""Pictures of a run, one PNG each; importing this package imports matplotlib."""

from iwae_tf.plots.bounds import save_bounds
from iwae_tf.plots.reconstructions import save_reconstructions
from iwae_tf.plots.samples import save_samples

__all__ = ["save_bounds", "save_reconstructions", "save_samples"]
