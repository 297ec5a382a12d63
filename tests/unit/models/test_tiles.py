"""Log-weights in tiles are those of all images and samples at once."""

import numpy as np
import pytest
import tensorflow as tf
from small_models import binary_images, small_model

from iwae_tf.models import tiles
from iwae_tf.models.evaluation_noise import evaluation_noise
from iwae_tf.models.tiles import log_weights_in_tiles


def _arguments(images, blocks, first_block=3, first_row=5):
    """x, numbers of the rows and of the blocks, seed; neither numbers begin at 0."""
    rows, numbers = first_row + tf.range(images), first_block + tf.range(blocks)
    return tf.constant(binary_images(images)), rows, numbers, tf.constant(7)


def _at_once(model, x, rows, blocks, seed):
    return model.log_weights_from_noise(x, evaluation_noise(rows, blocks, seed, sum(model.latent_units)))


@pytest.mark.parametrize("blocks_in_tile", [1, 2, 3, 20])
@pytest.mark.parametrize(("images", "blocks"), [(1, 1), (1, 7), (5, 1), (5, 2), (7, 3)])
@pytest.mark.parametrize("latent", ["gaussian", "bernoulli"])  # parameters in a tuple, and in a tensor
@pytest.mark.parametrize("known", [True, False])  # whether the graph knows how many there are
def test_tiles_are_put_together_as_they_were_cut(monkeypatch, blocks_in_tile, images, blocks, latent, known):
    monkeypatch.setattr(tiles, "BLOCKS_IN_TILE", blocks_in_tile)
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


def test_a_tile_is_of_a_thousand_rows_and_no_image_comes_oftener_than_it_must():
    sizes = []

    class Counted:
        def __init__(self, model):
            self.inference_network, self.latent_units = model.inference_network, model.latent_units

        def log_weights_from_noise(self, x, noise, first_parameters):
            sizes.append((len(x), len(noise)))
            return tf.zeros(noise.shape[:2])

    model = small_model()
    for images, blocks in [(200, 1), (3, 1), (4, 21), (6, 5)]:
        log_weights_in_tiles(Counted(model), *_arguments(images, blocks))
    assert sizes == [(20, 50)] * 10 + [(3, 50)] + [(1, 550)] * 8 + [(4, 250)] * 2
