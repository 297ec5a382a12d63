"""A conditional distribution: a multilayer perceptron with a distribution's parameters at its end."""

import keras

from iwae_tf.layers.mlp import MLP
from iwae_tf.layers.shared_terms import NO_TERMS


class Conditional(keras.layers.Layer):
    """p(value | condition): hidden tanh layers, then a head that makes the parameters.

    Args:
        hidden: the deterministic layers.
        head: of latent units or of observations; its methods read the parameters.
    """

    def __init__(self, hidden: MLP, head: keras.layers.Layer, **kwargs):
        super().__init__(dtype="float32", **kwargs)  # the hidden layers may have another
        self.hidden = hidden
        self.head = head

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.head.build(self.hidden.compute_output_shape(input_shape))
        self.built = True

    def shared_terms(self, value):
        """What `log_prob` can be given, for a likelihood as the head and value [B, D]."""
        return self.head.shared_terms(value, self.hidden.compute_dtype)

    def log_prob(self, condition, value, shared=NO_TERMS):
        """log p(value | condition), [...], in nats: condition [..., C], value [..., D]."""
        return self.head.log_prob_of_features(self.hidden(condition), value, shared)

    def call(self, condition):
        """[..., C] -> parameters of the distribution, with the same leading axes."""
        return self.head(self.hidden(condition))
