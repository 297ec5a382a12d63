"""Objectives whose gradient is the bound's own derivative: the VAE's bound, L_k, and bounds between and beyond them.

Each is a function of the log importance weights; its rows are generative = path = -score = d bound / d log_w, and one
backward pass gives the gradient of both networks.
"""

import math

import keras
import tensorflow as tf

from iwae_tf.declarations import declare
from iwae_tf.errors import InputError, finite_number, positive_integer
from iwae_tf.numerics import is_largest, log_mean_exp, log_sum_of_others, normalized_weights
from iwae_tf.objectives.objective import GradientWeights, Objective


@declare(
    "objective",
    "elbo",
    "the VAE's bound; k samples lower its variance",
    settings={"kl_annealing": "epochs over which the weight of the KL divergence rises to 1"},
)
class ELBO(Objective):
    """L_VAE = 1/k sum_i log w_i, the bound a VAE maximises.

    More samples lower the variance of its gradient and leave the bound itself as it is; `IWAEBound` makes better use
    of the same samples.

    Args:
        num_samples: k.
        kl_annealing: epochs over which `fit` raises the weight of the KL divergence to 1 (`KLAnnealing`); None keeps
            it at 1.
        **kwargs: see `Objective`.

    Reference: Kingma & Welling (2014), equation 6 (estimator A).
    """

    def __init__(self, num_samples: int = 1, kl_annealing: int | None = None, **kwargs):
        super().__init__(num_samples, **kwargs)
        self.kl_annealing = None if kl_annealing is None else positive_integer("kl_annealing", kl_annealing)
        self.kl_weight = tf.Variable(1.0, trainable=False, name="kl_weight")

    def bound(self, log_w):
        return tf.reduce_mean(log_w, axis=0)

    def gradient_weights(self, log_w):
        return GradientWeights.of_bound(tf.ones_like(log_w) / tf.cast(tf.shape(log_w)[0], log_w.dtype))

    def log_weights_and_target(self, model, x, noise):
        log_likelihood, minus_kl = self.log_weight_terms(model, x, noise)
        return log_likelihood + minus_kl, log_likelihood + self.kl_weight * minus_kl

    def log_weight_terms(self, model, x, noise):
        """Returns log p(x | h) and log p(h) - log q(h | x), whose sum is log w; both [k, B]."""
        return model.log_weight_terms(x, noise)

    def callbacks(self):
        return [] if self.kl_annealing is None else [KLAnnealing(self.kl_annealing)]

    def reset(self):
        self.kl_weight.assign(1.0)


@declare(
    "objective",
    "elbo-kl",
    "the same with the KL in closed form; one Gaussian layer only",
    settings={"kl_annealing": "epochs over which the weight of the KL divergence rises to 1"},
)
class AnalyticKLELBO(ELBO):
    """L_VAE = 1/k sum_i log p(x | h_i) - KL(q(h | x) || p(h)), the KL of two Gaussians in closed form.

    Same expectation as `ELBO`, usually with less variance. Only the VAE's bound has this form: the expectation of a
    log splits into likelihood and KL, the log of a mean of weights does not. It needs one stochastic layer, where
    q(h | x) and p(h) are both Gaussian.

    Reference: Kingma & Welling (2014), equation 7 (estimator B) and appendix B.
    """

    needs_standard_prior = True

    def log_weights(self, model, x, noise):
        """Returns log p(x | h_i) - KL(q(h | x) || p(h)) in place of log w_i; [k, B]."""
        return sum(self.log_weight_terms(model, x, noise))

    def log_weight_terms(self, model, x, noise):
        return model.log_weight_terms_with_analytic_kl(x, noise)

    def check_model(self, latent_units, reparameterised):
        super().check_model(latent_units, reparameterised)
        if len(latent_units) != 1:
            raise InputError(
                f"objective 'elbo-kl' needs a model with one stochastic layer, got {len(latent_units)}: with more, the "
                "KL divergence has no closed form; use 'elbo'"
            )


class KLAnnealing(keras.callbacks.Callback):
    """Raises the weight of the KL divergence in the gradient of `ELBO` and `AnalyticKLELBO` to 1 over some epochs.

    In epoch e = 1, 2, ... the gradient is that of log p(x | h) + min(1, e / epochs) (log p(h) - log q(h | x)), which
    gives latent units time to become useful before the full divergence would switch them off. The reported bounds are
    the full ones. The weight depends on the epoch alone, so a resumed run has the same weights; every `fit` starts
    at 1.

    Args:
        epochs: in which epoch the weight reaches 1.

    Raises:
        InputError: when `fit` starts, if the model's objective has no KL term.

    Reference: Bowman et al. (2016); Sonderby et al. (2016), there named warm-up.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = positive_integer("epochs", epochs)

    def on_train_begin(self, logs=None):
        if not hasattr(self.model.objective, "kl_weight"):
            raise InputError(
                f"KL annealing is for the objectives elbo and elbo-kl, got {type(self.model.objective).__name__}, "
                "whose bound has no separate KL term"
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.model.objective.kl_weight.assign(min(1.0, (epoch + 1) / self.epochs))


@declare("objective", "iwae", "the k-sample bound of the paper; k = 1 is the VAE")
class IWAEBound(Objective):
    """L_k = log 1/k sum_i w_i, which rises with k from the VAE's bound (k = 1) towards log p(x).

    Reference: Burda, Grosse, Salakhutdinov (2016), equation 8; the gradient is equation 14.
    """

    def bound(self, log_w):
        return log_mean_exp(log_w, axis=0)

    def gradient_weights(self, log_w):
        return GradientWeights.of_bound(normalized_weights(log_w))


@declare(
    "objective",
    "miwae",
    "mean of M bounds of k / M samples: more signal for the inference network",
    settings={"groups": "M, groups of k / M samples"},
)
class MIWAE(Objective):
    """1/M sum_m log 1/K sum_{i in group m} w_i: the mean of M bounds of K = k / M samples each.

    Its expectation is L_K. The mean over groups lowers the noise of the inference network's gradient and leaves its
    signal, where more samples in one bound drown it. M = 1 is `IWAEBound`, M = k is `ELBO`.

    Args:
        num_samples: k, all samples together.
        groups: M, a divisor of k.
        **kwargs: see `Objective`.

    Reference: Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh (2018), section 5.
    """

    def __init__(self, num_samples: int = 50, groups: int = 5, **kwargs):
        super().__init__(num_samples, **kwargs)
        self.groups = positive_integer("groups", groups)
        if num_samples % groups:
            divisors = [d for n in range(1, math.isqrt(num_samples) + 1) for d in (n, num_samples // n)]
            divisors = [n for n in divisors if num_samples % n == 0]
            nearest = min(divisors, key=lambda n: abs(n - groups))
            raise InputError(f"groups must divide the number of samples, {num_samples}, got {groups}; {nearest} does")

    def _in_groups(self, log_w):
        return tf.reshape(log_w, [self.groups, -1, tf.shape(log_w)[1]])  # [M, K, B]

    def bound(self, log_w):
        return tf.reduce_mean(log_mean_exp(self._in_groups(log_w), axis=1), axis=0)

    def gradient_weights(self, log_w):
        weights = tf.nn.softmax(self._in_groups(log_w), axis=1) / tf.cast(self.groups, log_w.dtype)
        return GradientWeights.of_bound(tf.reshape(weights, tf.shape(log_w)))


@declare(
    "objective",
    "ciwae",
    "beta elbo + (1 - beta) iwae: some of the ELBO's signal in a tight bound",
    settings={"beta": "share of the ELBO, from 0 to 1", "learn_beta": "learn beta, starting from --beta"},
)
class CIWAE(Objective):
    """beta ELBO + (1 - beta) L_k, both from the same k samples; beta = 0 is `IWAEBound`, beta = 1 `ELBO`.

    A small share of the ELBO keeps signal in the inference network's gradient where k is large.

    A learned beta climbs the bound like every other parameter. As the ELBO is the smaller of the two for every x and
    every draw, beta can only fall: training starts with the signal of the ELBO and ends at the importance weighted
    bound, at a pace set by the gap between the two.

    Args:
        num_samples: k.
        beta: in [0, 1]; the initial value, inside (0, 1), if it is learned.
        learn_beta: whether beta is trained along with the networks.
        **kwargs: see `Objective`.

    Reference: Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh (2018), section 5.
    """

    def __init__(self, num_samples: int = 50, beta: float = 0.05, learn_beta: bool = False, **kwargs):
        super().__init__(num_samples, **kwargs)
        if not 0.0 <= finite_number("beta", beta) <= 1.0:
            raise InputError(f"beta must be in [0, 1], got {beta}: 0 is the bound of iwae, 1 that of elbo")
        if not isinstance(learn_beta, bool):
            raise InputError(f"learn_beta must be True or False, got {learn_beta!r}")
        if learn_beta and beta in (0.0, 1.0):
            raise InputError(f"a learned beta must start between 0 and 1, got {beta}: it would stay at that value")
        self.beta, self.learn_beta = float(beta), learn_beta
        self.state = _LearnedShare(self.beta) if learn_beta else None

    def current_beta(self) -> tf.Tensor:
        """Returns the present value of beta, scalar."""
        return tf.constant(self.beta) if self.state is None else self.state.share()

    def bound(self, log_w):
        beta = tf.cast(self.current_beta(), log_w.dtype)
        return beta * tf.reduce_mean(log_w, axis=0) + (1.0 - beta) * log_mean_exp(log_w, axis=0)

    def gradient_weights(self, log_w):
        beta = tf.cast(self.current_beta(), log_w.dtype)
        equal = 1.0 / tf.cast(tf.shape(log_w)[0], log_w.dtype)
        return GradientWeights.of_bound(beta * equal + (1.0 - beta) * normalized_weights(log_w))


class _LearnedShare(keras.layers.Layer):
    """A number between 0 and 1: sigmoid of a trainable scalar."""

    def __init__(self, start: float):
        super().__init__(name="beta", dtype="float32")
        logit = math.log(start / (1.0 - start))
        self.logit = self.add_weight(shape=(), initializer=keras.initializers.Constant(logit), name="logit")
        self.built = True

    def share(self) -> tf.Tensor:
        return tf.sigmoid(tf.convert_to_tensor(self.logit))


@declare(
    "objective",
    "vr-iwae",
    "Renyi bound of order alpha, from iwae (0) to elbo (1): a looser bound, more even weights",
    settings={"alpha": "order, 0 is iwae, near 1 elbo"},
)
class VRIWAE(Objective):
    """1/(1 - alpha) log 1/k sum_i w_i^(1 - alpha), for alpha in [0, 1).

    Between `IWAEBound`, alpha = 0, and `ELBO`, the limit alpha -> 1: a larger alpha gives a looser bound and more even
    weights.

    Args:
        num_samples: k.
        alpha: in [0, 1).
        **kwargs: see `Objective`.

    Reference: Li & Turner (2016), section 4; Daudel, Benton, Shi, Doucet (2023), where it is named VR-IWAE.
    """

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
        power, largest = 1.0 - self.alpha, tf.reduce_max(log_w, axis=0)  # [B]
        largest = tf.where(tf.math.is_finite(largest), largest, tf.zeros_like(largest))
        shifted = power * (log_w - largest)  # at most 0
        minus_one = tf.reduce_mean(tf.math.expm1(shifted), axis=0)  # exact for the small powers of an alpha near 1
        log_mean = tf.where(minus_one > -0.5, tf.math.log1p(minus_one), log_mean_exp(shifted, axis=0))
        return largest + log_mean / power

    def gradient_weights(self, log_w):
        return GradientWeights.of_bound(normalized_weights((1.0 - self.alpha) * log_w))


@declare("objective", "vr-max", "gradient of the best sample alone; with --backward-samples 1 the cheapest")
class VRMax(Objective):
    """log max_i w_i - log k, with the gradient of the sample of largest weight.

    The constant log k, which no gradient sees, makes the value a bound: it is the least that L_k can be with that
    largest weight. In effect one sample goes through the backward pass, so `backward_samples=1` gives the same
    gradient for the cost of one.

    Reference: Li & Turner (2016), section 4, where the value is log max_i w_i.
    """

    def bound(self, log_w):
        return tf.reduce_max(log_w, axis=0) - tf.math.log(tf.cast(tf.shape(log_w)[0], log_w.dtype))

    def gradient_weights(self, log_w):
        return GradientWeights.of_bound(tf.cast(is_largest(log_w), log_w.dtype))


@declare(
    "objective",
    "jvi",
    "L_k with its bias in k jackknifed away: near log p(x), but no bound",
    settings={"order": "1 or 2"},
)
class JVI(Objective):
    """The jackknife of order m of L_k, an estimate of log p(x) with a bias of order k^-(m + 1); m is 1 or 2.

        order 1:  k L_k - (k-1) mean_i L_{k-1} without i
        order 2:  k^2/2 L_k - (k-1)^2 mean_i L_{k-1} without i + (k-2)^2/2 mean_{i<j} L_{k-2} without i and j

    Written in small differences, as in `iwae_tf.evaluation.bias`: d_i = log(1 - a_i) - log(1 - 1/k) and
    g_ij = log(1 - t_i t_j) - log(1 - 1/(k-1)^2), with a the normalised weights and t = a / (1 - a). Order 2 takes
    memory for k^2 numbers an example.

    It is no lower bound: where few weights dominate it may lie above log p(x), and training can come to exploit that.
    Watch L_k on validation images.

    Args:
        num_samples: k, more than the order.
        order: m, 1 or 2.
        **kwargs: see `Objective`.

    Reference: Nowozin (2018), the estimators JVI-1 and JVI-2.
    """

    def __init__(self, num_samples: int = 50, order: int = 1, **kwargs):
        super().__init__(num_samples, **kwargs)
        if positive_integer("order", order) > 2:
            raise InputError(f"order must be 1 or 2, got {order}")
        if num_samples <= order:
            raise InputError(
                f"a jackknife of order {order} leaves {order} of the samples out and needs more than that, got "
                f"{num_samples}: raise --k (num_samples)"
            )
        self.order = order

    @property
    def numbers(self):
        return self.num_samples**self.order

    def bound(self, log_w):
        n = float(self.num_samples)
        # Shift by the maximum, or the d_i drown in the rounding of log_w.
        shifted = log_w - tf.stop_gradient(tf.reduce_max(log_w, axis=0))
        log_others = log_sum_of_others(shifted) - tf.reduce_logsumexp(shifted, axis=0)  # log(1 - a_i), [k, B]
        gain = tf.reduce_sum(log_others, axis=0) - n * math.log1p(-1.0 / n)  # sum_i d_i
        if self.order == 1:
            return log_mean_exp(log_w) - (n - 1) / n * gain
        pairs = _sum_over_pairs(shifted, log_others) - n * (n - 1) / 2 * math.log1p(-1.0 / (n - 1) ** 2)
        return log_mean_exp(log_w) - (2 * n - 3) / n * gain + (n - 2) ** 2 / (n * (n - 1)) * pairs

    def gradient_weights(self, log_w):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(log_w)
            bound = self.bound(log_w)
        return GradientWeights.of_bound(tape.gradient(bound, log_w))


def _sum_over_pairs(log_w: tf.Tensor, log_others: tf.Tensor) -> tf.Tensor:
    """Returns sum_{i<j} log(1 - t_i t_j) from log-weights and log(1 - a_i): [k, B] -> [B].

    Where i is the largest weight, t_i may overflow and 1 - a_i - a_j is a difference of near equals. The term is then
    log(1 - b_j) - log(1 - a_j), with b the normalised weights without the largest.
    """
    largest = is_largest(log_w)
    log_a = log_w - tf.reduce_logsumexp(log_w, axis=0)
    t = tf.exp(tf.where(largest, float("-inf"), log_a - log_others))  # [k, B], 0 at the largest
    products = tf.where(tf.eye(tf.shape(t)[0], dtype=tf.bool)[..., None], 0.0, t[:, None] * t[None])  # [k, k, B]
    rest = tf.where(largest, float("-inf"), log_w)
    with_largest = log_sum_of_others(rest) - tf.reduce_logsumexp(rest, axis=0) - log_others  # [k, B]
    with_largest = tf.where(largest, 0.0, with_largest)
    return 0.5 * tf.reduce_sum(tf.math.log1p(-products), axis=[0, 1]) + tf.reduce_sum(with_largest, axis=0)
