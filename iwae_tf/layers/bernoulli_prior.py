"""The prior of binary units: independent Bernoulli with logits of its own."""

import keras
import tensorflow as tf

from iwae_tf.layers.bernoulli import Bernoulli


class BernoulliPrior(keras.layers.Layer):
    """p(h) = prod_j sigmoid(b_j)^h_j (1 - sigmoid(b_j))^(1 - h_j) for h in {0, 1}^H, with learned b, at first 0.

    Args:
        units: H, the number of units.
    """

    description = "independent Bernoulli, learned logits that start at 0"

    def __init__(self, units: int):
        super().__init__(name="prior", dtype="float32")  # whatever the policy: see `iwae_tf.models.precision`
        self.logits = self.add_weight(shape=(units,), initializer="zeros", name="logits")
        self.built = True

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """log p(value) in nats, summed over units: [..., H] -> [...]."""
        return Bernoulli.log_prob(tf.convert_to_tensor(self.logits), value)

    def sample(self, n: int, key: tf.Tensor) -> tf.Tensor:
        """n draws of 0 and 1, float32 [n, H]."""
        logits = tf.convert_to_tensor(self.logits)
        return Bernoulli.sample(tf.broadcast_to(logits, [n, logits.shape[0]]), key)

    def mean(self) -> tf.Tensor:
        """Probability of each unit being 1, float32 [H]."""
        return Bernoulli.mean(tf.convert_to_tensor(self.logits))
