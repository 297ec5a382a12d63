"""A callback that lets the KL divergence in slowly."""

import keras

from iwae_tf.errors import InputError, positive_integer


class KLAnnealing(keras.callbacks.Callback):
    """Raises the weight of the KL divergence in the gradient of `ELBO` and `AnalyticKLELBO` to 1 over some epochs.

    In epoch e = 1, 2, ... the gradient is that of log p(x | h) + min(1, e / epochs) (log p(h) - log q(h | x)). Latent
    units that the full divergence would switch off early get time to be of use. The reported bounds are the full ones.
    The weight is a function of the epoch alone, so that a run which stops and goes on has the same weights; every `fit`
    begins at 1, so that one without the callback is not annealed.

    Args:
        epochs: in which epoch the weight reaches 1.

    Raises:
        InputError: when `fit` starts, if the model's objective is of another family.

    Reference: Bowman et al. (2016); Sonderby et al. (2016), there named warm-up.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = positive_integer("epochs", epochs)

    def on_train_begin(self, logs=None):
        if not hasattr(self.model.objective, "kl_weight"):
            raise InputError(
                f"KL annealing is for the objectives elbo and elbo-kl, got {type(self.model.objective).__name__}, in "
                "whose bound the KL divergence is no separate term"
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.model.objective.kl_weight.assign(min(1.0, (epoch + 1) / self.epochs))
