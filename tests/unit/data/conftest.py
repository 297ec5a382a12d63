import numpy as np
import pytest


@pytest.fixture
def grey():
    """Makes uint8 images of 28x28, all different; the first pixel of image i is i."""

    def make(count, seed=0):
        images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = np.arange(count)
        images[0, 0, 1] = 255
        return images

    return make


@pytest.fixture
def save(tmp_path):
    """Writes a .npz file into the test's folder and returns its path."""

    def write(name="images.npz", **parts):
        np.savez(tmp_path / name, **parts)
        return tmp_path / name

    return write
