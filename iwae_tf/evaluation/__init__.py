"""Evaluation: log p(x), the bounds below it, and what the latent units do."""

from iwae_tf.evaluation.active_units import active_units, unit_activities
from iwae_tf.evaluation.log_likelihood import PAPER_SAMPLE_SIZES, LikelihoodEstimate, estimate_log_likelihood

__all__ = ["PAPER_SAMPLE_SIZES", "LikelihoodEstimate", "active_units", "estimate_log_likelihood", "unit_activities"]
