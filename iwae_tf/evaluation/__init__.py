"""Evaluation: log p(x), the bounds below it, and what the latent units do."""

from iwae_tf.evaluation.active_units import active_units, unit_activities
from iwae_tf.evaluation.annealing import AnnealedEstimate, annealed_log_likelihood
from iwae_tf.evaluation.bidirectional import BidirectionalBounds, bidirectional_bounds
from iwae_tf.evaluation.deviation import Deviation, deviation
from iwae_tf.evaluation.jackknife import JackknifeEstimate, jackknife, jackknife_log_likelihood
from iwae_tf.evaluation.estimate import PAPER_SAMPLE_SIZES, LikelihoodEstimate, estimate_log_likelihood
from iwae_tf.evaluation.posterior import posterior_expectation, posterior_samples
from iwae_tf.evaluation.prune import pruned

__all__ = [
    "PAPER_SAMPLE_SIZES",
    "AnnealedEstimate",
    "BidirectionalBounds",
    "Deviation",
    "JackknifeEstimate",
    "LikelihoodEstimate",
    "active_units",
    "annealed_log_likelihood",
    "bidirectional_bounds",
    "deviation",
    "estimate_log_likelihood",
    "jackknife",
    "jackknife_log_likelihood",
    "posterior_expectation",
    "posterior_samples",
    "pruned",
    "unit_activities",
]
