"""Log-weights in tiles are those of all images and samples at once."""

import numpy as np
import pytest
import tensorflow as tf
from iwae_tf.layers.shared_terms import SharedTerms
from iwae_tf.models.evaluation_noise import evaluation_noise
from iwae_tf.models.tiles import log_weights_in_tiles
from small_models import binary_images, small_model

from iwae_tf.models import tiles


def _arguments(images, blocks, first_block=3, first_row=5):
    """x, numbers of the rows and of the blocks, seed; neither numbers begin at 0."""
    rows, numbers = first_row + tf.range(images), first_block + tf.range(blocks)
    return tf.constant(binary_images(images)), rows, numbers, tf.constant(7)


def _at_once(model, x, rows, blocks, seed):
    return model.log_weights_from_noise(x, evaluation_noise(rows, blocks, seed, sum(model.latent_units)))


@pytest.mark.parametrize(("blocks_in_tile", "lanes"), [(1, 20), (1, 2), (2, 3), (3, 1), (20, 20)])
@pytest.mark.parametrize(("images", "blocks"), [(1, 1), (1, 7), (5, 1), (5, 2), (7, 3)])
@pytest.mark.parametrize("latent", ["gaussian", "bernoulli"])  # parameters in a tuple, and in a tensor
@pytest.mark.parametrize("known", [True, False])  # whether the graph knows how many there are
def test_tiles_are_put_together_as_they_were_cut(monkeypatch, blocks_in_tile, lanes, images, blocks, latent, known):
    monkeypatch.setattr(tiles, "BLOCKS_IN_TILE", blocks_in_tile)
    monkeypatch.setattr(tiles, "LANES", lanes)
    model, arguments = small_model(gain=1.0, latent=latent), _arguments(images, blocks)
    specs = [
        tf.TensorSpec([images if known else None, model.data_dim]),
        tf.TensorSpec([images if known else None], tf.int32),
        tf.TensorSpec([blocks if known else None], tf.int32),
        tf.TensorSpec([], tf.int32),
    ]
    in_tiles = tf.function(lambda *those: log_weights_in_tiles(model, *those), input_signature=specs, autograph=False)
    log_w = in_tiles(*arguments)
    assert log_w.shape == (50 * blocks, images)
    np.testing.assert_allclose(log_w, _at_once(model, *arguments), rtol=1e-5, atol=1e-4)  # float32


class _Counted:
    """A model that notes the sizes of its tiles, and gives every image its own shared terms."""

    def __init__(self):
        self.latent_units, self.sizes = (5,), []

    def shared_terms(self, x):
        return SharedTerms(of_images=tf.reduce_sum(x, axis=1))

    def log_weights_from_noise(self, x, noise, shared):
        self.sizes.append((len(x), len(noise)))
        np.testing.assert_array_equal(shared.of_images, tf.reduce_sum(x, axis=1))
        return tf.zeros(noise.shape[:2])


@pytest.mark.parametrize(
    ("images", "blocks", "sizes"),
    [
        (200, 1, [(20, 50)] * 10),
        (3, 1, [(3, 50)]),
        (4, 21, [(1, 550)] * 8),
        (6, 5, [(4, 250)] * 2),
        (1, 100, [(1, 1000)] * 5),
        (41, 20, [(1, 1000)] * 42),  # in 14 lanes of 3
    ],
)
def test_a_tile_is_of_a_thousand_rows_and_no_image_comes_oftener_than_it_must(images, blocks, sizes):
    model = _Counted()
    log_weights_in_tiles(model, *_arguments(images, blocks))
    assert model.sizes == sizes
