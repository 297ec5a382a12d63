"""A user's layer in the place of the hidden tanh layers."""

from collections.abc import Callable

import keras
import tensorflow as tf

from iwae_tf.errors import InputError


class Folded(keras.layers.Layer):
    """A layer that knows one batch axis, for inputs with any leading axes.

        [..., C] -> [N, C] -> layer -> [N, *S] -> [..., *S], or [..., prod S] with `flatten`

    Args:
        layer: any Keras layer or model from [N, C] to [N, *S], without state: see `check_stateless`.
        role: "encoder" or "decoder", for messages.
        flatten: joins the axes of the features.
    """

    def __init__(self, layer: keras.layers.Layer, role: str, flatten: bool = False, **kwargs):
        super().__init__(dtype="float32", autocast=False, **kwargs)  # the layer has a policy of its own
        if not isinstance(layer, keras.layers.Layer):
            raise InputError(f"the {role} must be a Keras layer, got {layer!r}")
        self.layer, self.role, self.flatten = layer, role, flatten

    def build(self, input_shape):
        try:
            features = self.layer(tf.zeros([2, input_shape[-1]]))
        except (ValueError, tf.errors.InvalidArgumentError) as error:  # of the layer's own shapes
            first_line = str(error).strip().splitlines()[0]
            raise InputError(f"the {self.role} must take rows [N, {input_shape[-1]}]: {first_line}") from error
        if not tf.is_tensor(features) or features.shape.rank < 2 or features.shape[0] != 2:
            found = features.shape if tf.is_tensor(features) else type(features).__name__
            raise InputError(f"the {self.role} must give features [N, ...] for rows [N, ...], got {found} for 2 rows")
        check_stateless(self.layer, self.role)
        shape = features.shape[1:]
        self.feature_shape = (shape.num_elements(),) if self.flatten else tuple(shape)
        self.built = True

    def call(self, inputs):
        """[..., C] -> float32 features [..., *S]."""
        return on_rows(lambda rows: tf.cast(self.layer(rows), tf.float32), inputs, self.feature_shape)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], *self.feature_shape)


def on_rows(function: Callable[[tf.Tensor], tf.Tensor], inputs: tf.Tensor, feature_shape: tuple[int, ...]) -> tf.Tensor:
    """A function of rows, [N, C] -> [N, ...], for inputs with any leading axes: [..., C] -> [..., *feature_shape]."""
    features = function(tf.reshape(inputs, [-1, inputs.shape[-1]]))
    shaped = tf.reshape(features, tf.concat([tf.shape(inputs)[:-1], feature_shape], axis=0))
    return tf.ensure_shape(shaped, [*inputs.shape[:-1], *feature_shape])


def check_stateless(layer: keras.layers.Layer, role: str) -> None:
    """Raises `InputError` for a layer with weights that are not trained by gradient, or with random numbers.

    All samples of an image are weighed under one q(h | x), and a row is scored as it is, whatever its batch and however
    often: statistics of batches and dropped units would break both. Frozen layers (`trainable = False`) have no state.
    """
    for part in layer._flatten_layers():
        if part._non_trainable_variables or part._seed_generators:
            what = "weights that no gradient trains" if part._non_trainable_variables else "random numbers of its own"
            raise InputError(
                f"the {role} has the layer {part.name!r} ({type(part).__name__}) with {what}: a score must not depend "
                "on its batch or on chance. Leave out dropout; LayerNormalization can stand for BatchNormalization"
            )
