"""An importance weighted autoencoder written the straightforward way with Keras layers and TFP distributions."""

import keras
import numpy as np
import tensorflow as tf


class TiledTFP(keras.Model):
    """Every image k times through both networks, distributions as objects, the gradient of log-mean-exp by autodiff.

    Args:
        latent_units: of each stochastic layer, nearest x first.
        hidden_units: of the tanh layers below each.
        x: the images of a step, [B, D].
        k: importance samples.
    """

    def __init__(self, latent_units, hidden_units, x: np.ndarray, k: int):
        super().__init__()
        self.k, self.x = k, tf.constant(x)
        below, self.inference, self.generative = x.shape[1], [], []
        for units, hidden in zip(latent_units, hidden_units, strict=True):
            self.inference.append((_mlp(hidden, below), _dense(units, hidden[-1]), _dense(units, hidden[-1])))
            heads = 2 if self.generative else 1
            self.generative.append((_mlp(hidden[::-1], units), *(_dense(below, hidden[0]) for _ in range(heads))))
            below = units
        self.prior_units = below
        self.flat = [layer for layers in (*self.inference, *self.generative) for layer in layers]  # Keras finds these
        self.compile(optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-4))
        self.optimizer.build(self.trainable_variables)
        self.compiled_step = tf.function(self.train_step, autograph=False)

    def step(self) -> float:
        """Takes a training step; returns the bound before it, in nats."""
        return float(self.compiled_step(self.x)["bound"])

    def arrays(self) -> list[np.ndarray]:
        """Returns all weights."""
        return self.get_weights()

    def zero(self) -> None:
        """Sets all weights to 0."""
        for variable in self.trainable_variables:
            variable.assign(tf.zeros_like(variable))

    def log_weights(self, x):
        """Returns log importance weights, [B, D] -> [k, B]."""
        from tensorflow_probability import distributions as tfd

        def normal(mlp, loc, log_scale, condition):
            features = mlp(condition)
            return tfd.Independent(tfd.Normal(loc(features), tf.exp(log_scale(features))), 1)

        x = tf.repeat(x[None], self.k, axis=0)
        x = tf.reshape(x, [-1, x.shape[-1]])  # [k B, D]
        log_w, condition, h = 0.0, x, []
        for layers in self.inference:
            q = normal(*layers, condition)
            condition = q.sample()
            log_w -= q.log_prob(condition)
            h.append(condition)
        prior = tfd.Independent(tfd.Normal(tf.zeros(self.prior_units), 1.0), 1)
        log_w += prior.log_prob(h[-1])
        for layers, value, above in zip(self.generative[1:], h[:-1], h[1:], strict=True):
            log_w += normal(*layers, above).log_prob(value)
        mlp, logits = self.generative[0]
        log_w += tfd.Independent(tfd.Bernoulli(logits=logits(mlp(h[0]))), 1).log_prob(x)
        return tf.reshape(log_w, [self.k, -1])

    def train_step(self, data):
        with tf.GradientTape() as tape:
            log_w = self.log_weights(data)
            bound = tf.reduce_mean(tf.reduce_logsumexp(log_w, axis=0)) - tf.math.log(float(self.k))
            loss = -bound
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"bound": bound}


def _dense(units: int, below: int, activation=None) -> keras.layers.Dense:
    layer = keras.layers.Dense(units, activation=activation)
    layer.build((None, below))
    return layer


def _mlp(hidden, below: int) -> keras.Sequential:
    widths = (below, *hidden)
    return keras.Sequential([_dense(units, width, "tanh") for width, units in zip(widths, hidden, strict=False)])
