"""What is the same for all samples of some images, computed once for many of them."""

from typing import Any, NamedTuple

import tensorflow as tf


class SharedTerms(NamedTuple):
    """Tensors in any nest of tuples; `()` where there are none.

    Attributes:
        of_images: functions of the images, [B, ...] each.
        of_weights: functions of the weights alone.
    """

    of_images: Any = ()
    of_weights: Any = ()

    def at(self, images: tf.Tensor) -> "SharedTerms":
        """The terms of some of the images, int [n]."""
        return SharedTerms(
            tf.nest.map_structure(lambda values: tf.gather(values, images), self.of_images), self.of_weights
        )


NO_TERMS = SharedTerms()
