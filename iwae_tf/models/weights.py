"""The weights of the networks as tensors, for the length of a computation."""

import keras
import tensorflow as tf


def weights_read_once(model) -> keras.StatelessScope:
    """A context in which every layer of the two networks finds its weights read already.

    Reading a variable is an effect that TensorFlow keeps in order, so that a loop whose body reads one waits at the end
    of every turn, and layers that compute the same of the same weights do it twice. With the weights read before, on
    two CPU cores, 20 rows by a SavedModel take 0.55 of the time and a training step with 5 backward samples 0.95.

    Args:
        model: has `inference_network` and `generative_network`.
    """
    variables = [*model.inference_network.variables, *model.generative_network.variables]
    return keras.StatelessScope([(variable, tf.convert_to_tensor(variable)) for variable in variables])
