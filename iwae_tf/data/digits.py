"""scikit-learn's handwritten digits: real images that come with the installation, for a first run and for tests."""

import numpy as np

from iwae_tf.data.dataset import Dataset

# scikit-learn's file follows the writers, so it is shuffled before it is cut; a constant, never a run's seed.
_ORDER = 1797
_TRAIN, _VALID = 1297, 100


def load_digits() -> Dataset:
    """The digits as uint8 in 0 to 16: 1,297 training, 100 validation and 400 test images of 8x8 pixels."""
    from sklearn import datasets

    images = datasets.load_digits().images.astype(np.uint8).reshape(-1, 64)
    # NumPy keeps the numbers of RandomState as they are for good, those of its newer generators it does not.
    images = images[np.random.RandomState(_ORDER).permutation(len(images))]
    return Dataset(
        name="digits",
        x_train=images[:_TRAIN],
        x_valid=images[_TRAIN : _TRAIN + _VALID],
        x_test=images[_TRAIN + _VALID :],
        scale=16.0,
        image_shape=(8, 8),
        source="scikit-learn's load_digits",
        split="1297 / 100 / 400 of one fixed permutation",
    )
