"""Adam with one fused operation per variable."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("iwae_tf")
class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` by TensorFlow's fused kernel: the same arithmetic, settings and saved state.

    Keras writes an update as some ten operations that each read and write a variable. A training step of 20 images of
    the paper's one-layer network with Keras' Adam takes 1.20 (k = 1), 1.16 (k = 5) and 1.07 (k = 50) of the time, on
    two cores of an AMD EPYC.

    Reference: Kingma & Ba (2015), algorithm 1, in the form before section 2.1, with epsilon added to the root.
    """

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        """Folds the bias correction of both moments into the learning rate, once for all variables."""
        if not self.amsgrad:
            step = tf.cast(self.iterations, tf.float32) + 1.0
            correction = tf.sqrt(1.0 - tf.pow(self.beta_2, step)) / (1.0 - tf.pow(self.beta_1, step))
            learning_rate = tf.cast(learning_rate, tf.float32) * correction
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.zeros([], variable.dtype),  # the learning rate is corrected already
            beta2_power=tf.zeros([], variable.dtype),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
        )
