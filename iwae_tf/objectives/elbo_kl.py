"""The VAE's bound with the KL divergence in closed form: version B of the VAE paper."""

from iwae_tf.errors import InputError
from iwae_tf.objectives.elbo import ELBO
from iwae_tf.objectives.objective import serializable


@serializable
class AnalyticKLELBO(ELBO):
    """L_VAE = 1/k sum_i log p(x | h_i) - KL(q(h | x) || p(h)), the KL of two Gaussians in closed form.

    Same expectation as `ELBO`, usually with less variance. It exists for the VAE's bound alone, which is k = 1's: an
    expectation of a log splits into likelihood and KL, the log of a mean of weights does not. It needs one
    stochastic layer, where q(h | x) and p(h) are both Gaussian.

    Reference: Kingma & Welling (2014), equation 7 (estimator B) and appendix B.
    """

    def log_weights(self, model, x, noise):
        """log p(x | h_i) - KL(q(h | x) || p(h)) in the place of log w_i; [k, B]."""
        return sum(self.log_weight_parts(model, x, noise))

    def log_weight_parts(self, model, x, noise):
        return model.log_weight_parts_with_analytic_kl(x, noise)

    def check_model(self, latent_units, latent):
        super().check_model(latent_units, latent)
        if len(latent_units) != 1:
            raise InputError(
                f"objective 'elbo-kl' needs a model with one stochastic layer, got {len(latent_units)}: with more, the "
                "KL divergence has no closed form; use 'elbo'"
            )
