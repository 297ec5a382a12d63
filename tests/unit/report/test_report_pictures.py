import base64
import io

import numpy as np
import pytest
from linear_gaussian_models import linear_gaussian
from matplotlib.image import imread
from run_files import config_of, record_of, scores_of
from small_models import binary_images, reference_weights, small_model

from iwae_tf.report.gallery import best_and_worst, grids
from iwae_tf.report.model_pictures import ModelPictures, interpolations
from iwae_tf.report.png import FRAME, GAP, drawable, png


def pixels(uri: str) -> np.ndarray:
    """The picture of a data URI as [height, width, 4] of 0 to 255."""
    kind, text = uri.split(",")
    assert kind == "data:image/png;base64"
    return np.round(255 * imread(io.BytesIO(base64.b64decode(text)), format="png")).astype(int)


# ---------------------------------------------------------------------------------------------- interpolation


@pytest.mark.parametrize("layers", [1, 2])
def test_between_two_images_lie_the_means_on_the_line_between_their_posterior_means(layers):
    model, exact = linear_gaussian(layers)
    x = np.random.default_rng(1).standard_normal((6, 6)).astype(np.float32)
    rows = interpolations(model, x)
    assert rows.shape == (3, 10, 6)
    a, b, posterior = (exact.a, exact.b, exact.posterior) if layers == 1 else (exact.a1, exact.b1, exact.posterior_h1)
    means, _ = posterior(x.astype(np.float64))  # [6, H]
    for pair, row in enumerate(rows):
        np.testing.assert_array_equal(row[[0, -1]], x[2 * pair : 2 * pair + 2])
        for t, image in zip(np.linspace(0, 1, 8), row[1:-1], strict=True):
            h = (1 - t) * means[2 * pair] + t * means[2 * pair + 1]
            np.testing.assert_allclose(image, a @ h + b, atol=1e-5)  # float32 networks


@pytest.mark.parametrize("latent", ["gaussian", "bernoulli"])
def test_the_ends_of_the_line_are_the_reconstructions(latent):
    model, x = small_model(2, latent=latent), binary_images(4)
    rows = interpolations(model, x)
    np.testing.assert_allclose(rows[:, [1, -2]].reshape(4, -1), model.reconstruct(x), atol=1e-6)  # float32
    assert not np.allclose(rows[:, 1], rows[:, 4])


def test_an_odd_image_at_the_end_has_no_pair_and_four_pairs_are_enough():
    model = small_model()
    assert interpolations(model, binary_images(3)).shape == (1, 10, 12)
    assert interpolations(model, binary_images(40)).shape == (4, 10, 12)
    assert reference_weights(model)["likelihood"] == "bernoulli"


# ---------------------------------------------------------------------------------------------- pictures as files


def test_pixels_are_copied_and_framed():
    images = np.array([[0.0, 1.0, 0.25, 0.5], [1.0, 0.0, 2.0, -1.0]])
    uri, width, height = png([images], (2, 2))
    page = pixels(uri)
    side = 56  # 28 output pixels for each of an image's
    assert (height, width) == page.shape[:2] == (2 * GAP + side, 3 * GAP + 2 * side)
    assert tuple(page[0, 0]) == FRAME
    grey = page[GAP + 14 :: 28, GAP + 14 :: 28][:2, :2]
    np.testing.assert_array_equal(grey[..., 0], [[0, 255], [64, 128]])
    np.testing.assert_array_equal(grey[..., 3], 255)
    second = page[GAP + 14 : GAP + side : 28, 2 * GAP + side + 14 :: 28, 0]
    np.testing.assert_array_equal(second, [[255, 0], [255, 0]])  # outside [0, 1]: white and black


def test_blocks_of_rows_stand_apart_and_a_short_row_leaves_its_place_empty():
    image = np.zeros((3, 4))
    plain, blocks = (png([image, image, image[:1], image[:1]], (2, 2), block)[2] for block in (1, 2))
    assert blocks > plain
    page = pixels(png([image, image[:1]], (2, 2))[0])
    assert page[-10, -10, 3] == 0


def test_a_large_image_is_not_enlarged():
    assert png([np.zeros((1, 64 * 60))], (64, 60))[1:] == (66, 70)


@pytest.mark.parametrize(
    ("shape", "is_one"), [([8, 8], True), ([1, 7], False), ([7, 1], False), ([8, 8, 3], False), ([], False)]
)
def test_rows_of_numbers_are_no_pictures(shape, is_one):
    assert drawable(shape) is is_one


# ---------------------------------------------------------------------------------------------- what is shown


def some_pictures(number=25, dim=64, **changes):
    x = np.random.default_rng(0).random((number, dim))
    ends = {"reconstructions": 1.0 - x[:20], "interpolations": np.zeros((4, 10, dim))}
    return ModelPictures(**{"samples": x, "x_test": x, **ends, **changes})


def test_each_reconstruction_stands_below_its_image():
    pictures = some_pictures()
    found = grids(pictures, (8, 8))
    assert list(found) == ["Samples", "Reconstructions", "Interpolation"]
    page = pixels(found["Reconstructions"].uri)[..., 0]
    first = page[GAP + 3 : GAP + 56 : 7, GAP + 3 : GAP + 56 : 7]
    below = page[2 * GAP + 59 : 2 * GAP + 112 : 7, GAP + 3 : GAP + 56 : 7]
    np.testing.assert_allclose(first, 255 * pictures.x_test[0].reshape(8, 8), atol=0.51)
    np.testing.assert_allclose(first + below, 255, atol=1.01)  # both are rounded
    assert "20 test images" in found["Reconstructions"].alt


def test_without_test_images_there_are_samples_alone():
    pictures = some_pictures(x_test=None, reconstructions=None, interpolations=None)
    assert list(grids(pictures, (8, 8))) == ["Samples"]
    assert grids(some_pictures(), (1, 64)) == {}


def test_best_and_worst_are_the_images_with_these_scores(tmp_path):
    log_p = np.random.default_rng(2).permutation(25) - 40.0
    record = record_of(tmp_path / "run", scores=scores_of(log_p))
    x = some_pictures().x_test
    found = best_and_worst(record, x)
    order = np.argsort(log_p)
    assert [scored.row for scored in found["Best"]] == list(order[::-1][:10])
    assert [scored.row for scored in found["Worst"]] == list(order[:10])
    best, row = found["Best"][0], order[-1]
    assert (best.score, best.error) == ("−16.00", "0.12")  # 0.125
    shown = pixels(best.picture.uri)[GAP + 3 : -GAP : 7, GAP + 3 : -GAP : 7, 0]
    np.testing.assert_allclose(shown, 255 * x[row].reshape(8, 8), atol=0.51)
    assert best.picture.alt == f"Test image {row}, log p(x) −16.00 nats"


def test_scores_of_rows_that_are_no_images_have_no_pictures(tmp_path):
    scores = scores_of(np.arange(25.0))
    x = some_pictures().x_test
    rows = record_of(tmp_path / "rows", scores=scores, config=config_of(data={"image_shape": [1, 64]}))
    other = record_of(tmp_path / "other", scores=scores_of(np.arange(24.0)))  # another data set than was scored
    for record, images in ((rows, x), (other, x), (rows, None)):
        assert all(scored.picture is None for found in best_and_worst(record, images).values() for scored in found)
    assert best_and_worst(record_of(tmp_path / "none", scores=None), x) == {}
