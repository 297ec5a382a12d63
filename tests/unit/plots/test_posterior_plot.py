"""The figure of posteriors: its densities are those of the model, and it draws what it is given."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import binary_images, small_model

import iwae_tf
from iwae_tf import InputError
from iwae_tf.plots import posterior as plot
from iwae_tf.plots import save_posteriors

SHAPE = (3, 4)  # of the images of 12 pixels


def model_with(layers, **kwargs):
    units = {1: ((2,), ((7, 6),)), 2: ((5, 2), ((7, 6), (4,)))}[layers]
    return small_model(layers, gain=1.0, latent_units=units[0], hidden_units=units[1], **kwargs)


def draws_for(images, n=40):
    return np.random.default_rng(1).standard_normal((n, images, 2)) * 0.5


def moments(window, mass):
    """Mean and covariance of a distribution in the cells of a window."""
    left, right, bottom, top = window
    across = left + (np.arange(mass.shape[1]) + 0.5) * (right - left) / mass.shape[1]
    up = bottom + (np.arange(mass.shape[0]) + 0.5) * (top - bottom) / mass.shape[0]
    points = np.stack(np.broadcast_arrays(across[None, :], up[:, None]), axis=-1).reshape(-1, 2)
    mean = mass.ravel() @ points
    return mean, (points - mean).T @ (mass.reshape(-1, 1) * (points - mean))


def linear_gaussian():
    """A model of one layer of two units and its exact posterior, which is narrow, tilted and not at 0."""
    rng = np.random.default_rng(3)
    a, b, s = rng.standard_normal((12, 2)), rng.standard_normal(12), np.full(12, 0.8)
    model = iwae_tf.IWAE(12, (2,), ((),), likelihood="gaussian")
    head = model.generative_network.stages[0].head
    head.loc.kernel.assign(a.T)
    head.loc.bias.assign(b)
    head.log_scale.kernel.assign(np.zeros((2, 12)))
    head.log_scale.bias.assign(7.0 * np.arctanh(np.log(s) / 7.0))
    return model, reference.LinearGaussian(a, b, s)


def test_with_one_layer_the_target_is_the_posterior():
    model, exact = linear_gaussian()
    x = np.random.default_rng(4).random((3, 12)).astype(np.float32)
    means, covariance = exact.posterior(x)
    for row in range(3):
        window, mass, _ = plot.densities(model, x, row, draws_for(3)[:, row])
        seen_mean, seen_covariance = moments(window, mass)
        assert mass.sum() == pytest.approx(1.0)
        # cells are about a fifth of a standard deviation wide, too little to see in sums over a Gaussian; float32
        np.testing.assert_allclose(seen_mean, means[row], atol=1e-3)
        np.testing.assert_allclose(seen_covariance, covariance, atol=1e-3)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_middle_is_q_of_the_top_layer(layers):
    model, x = model_with(layers), binary_images(2)
    noise = tf.random.stateless_normal([5000, 2, sum(model.latent_units)], [1, 2])
    h, _ = model.inference_network.transform(tf.constant(x), noise)
    for row in range(2):
        window, target, mass = plot.densities(model, x, row, draws_for(2)[:, row])
        mean, covariance = moments(window, mass)
        draws = h[-1][:, row].numpy()
        spread = draws.std(axis=0)
        # 200 draws of the layer below and 5,000 to compare with: 1 / sqrt(200) = 0.07 standard deviations each
        assert (np.abs(mean - draws.mean(axis=0)) < 4 * 0.072 * spread).all()
        ratio = np.cov(draws.T) / np.outer(spread, spread)
        np.testing.assert_allclose(covariance / np.outer(spread, spread), ratio, atol=4 * 0.1)
        if layers == 2:  # the target is the prior
            mean, covariance = moments(window, target)
            np.testing.assert_allclose(mean, 0.0, atol=0.01)
            np.testing.assert_allclose(covariance, np.eye(2), atol=0.03)  # the window ends 3.5 deviations out
        else:  # no noise
            (parameters,) = model.encode(x)
            np.testing.assert_allclose(mean, parameters.loc[row], atol=0.01)  # the window cuts 0.1% or so off
            np.testing.assert_allclose(np.sqrt(np.diag(covariance)), parameters.scale[row], rtol=0.02)


def test_the_lines_of_a_gaussian_are_at_half_and_a_twentieth_of_its_peak():
    across = np.linspace(-6, 6, 400)
    mass = np.exp(-0.5 * (across[:, None] ** 2 + across**2))
    levels = np.array(plot.contour_levels(mass / mass.sum())) / (mass.max() / mass.sum())
    # beyond radius r a 2-D Gaussian has exp(-r^2 / 2) of its mass, which is also its height there
    np.testing.assert_allclose(levels, [0.05, 0.5], rtol=0.01)
    single = np.zeros((5, 5))
    single[2, 3] = 1.0
    assert plot.contour_levels(single) == plot.contour_levels(np.full((5, 5), 0.04)) == []


@pytest.mark.parametrize("layers", [1, 2])
def test_a_row_shows_the_image_the_target_q_and_the_draws_on_the_same_axes(layers):
    model, x, draws = model_with(layers), binary_images(2), draws_for(2)
    draws[:, 1] += [6.0, -9.0]  # far from both densities: the window has to hold them
    figure = plot.posteriors_figure(model, x, draws, SHAPE)
    figure.draw_without_rendering()  # warns, which is an error here, if the axes have no room
    target = "p(h | x)" if layers == 1 else "prior p(h)"
    assert figure.axes[1].get_title() == target
    assert figure.texts[0].get_text() == f"{target} and q(h | x), first 2 of test images"
    for row in range(2):
        image, *panels = figure.axes[4 * row : 4 * row + 4]
        window, *masses = plot.densities(model, x, row, draws[:, row])
        np.testing.assert_array_equal(image.images[0].get_array(), x[row].reshape(SHAPE))
        for axes, mass in zip(panels, masses, strict=False):
            np.testing.assert_array_equal(axes.images[0].get_array(), mass)
            assert (axes.images[0].get_extent(), axes.images[0].origin) == (list(window), "lower")
        np.testing.assert_allclose(panels[2].collections[0].get_offsets(), draws[:, row])
        assert all((*axes.get_xlim(), *axes.get_ylim()) == pytest.approx(window) for axes in panels)
        assert (draws[:, row].min(axis=0) > [window[0], window[2]]).all()
        assert (draws[:, row].max(axis=0) < [window[1], window[3]]).all()
        assert window[1] - window[0] == pytest.approx(window[3] - window[2])  # a circle is a circle
        peak = np.unravel_index(masses[0].argmax(), masses[0].shape)
        width = (window[1] - window[0]) / plot.FINE
        for axes in panels:  # the lines follow the left panel: each encloses its peak
            line = axes.collections[-1].get_paths()[-1]
            assert line.contains_point((window[0] + (peak[1] + 0.5) * width, window[2] + (peak[0] + 0.5) * width))


def test_rows_that_are_no_images_are_numbered_and_real_images_are_drawn_by_their_range():
    columns = [("height", "student-t", 170.0, 10.0), ("town", "categorical", 0.0, 1.0, 3)]
    model = iwae_tf.IWAE(2, 2, 3, likelihood="columns", columns=columns, missing=True, seed=0)
    x = np.float32([[181, 2], [np.nan, 0]])
    figure = plot.posteriors_figure(model, x, draws_for(2), None, "2 test rows")
    figure.draw_without_rendering()
    assert [figure.axes[4 * row].texts[0].get_text() for row in range(2)] == ["row 0", "row 1"]
    assert figure.texts[0].get_text() == "p(h | x) and q(h | x), first 2 of 2 test rows"
    real = plot.posteriors_figure(model, x, draws_for(2), (1, 2))
    np.testing.assert_allclose(real.axes[0].images[0].get_array(), [[1, 2 / 181]], rtol=1e-6)


def test_images_after_the_sixth_are_left_out_and_the_same_arguments_give_the_same_bytes(tmp_path, monkeypatch):
    assert plot.MAX_ROWS == 6
    monkeypatch.setattr(plot, "MAX_ROWS", 1)
    model, x, draws = model_with(2), binary_images(2), draws_for(2)
    save_posteriors(tmp_path / "a.png", model, x, draws, SHAPE)
    save_posteriors(tmp_path / "b.png", model, x[:1], draws[:, :1], SHAPE)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(tmp_path):
    path, x, draws = tmp_path / "none.png", binary_images(2), draws_for(2)
    model, five, binary = (
        small_model(latent_units=(units,), latent=latent)
        for units, latent in ((2, "gaussian"), (5, "gaussian"), (2, "bernoulli"))
    )
    for arguments, message in [
        ((five, x, draws, SHAPE), "^posteriors are drawn for 2 units .*, got 5$"),
        ((model, x, draws_for(3), SHAPE), r"\[n, 2, 2\], n >= 1, got shape \(40, 3, 2\)$"),
        ((model, x, draws[:, :, 0], SHAPE), r"\[n, 2, 2\], n >= 1, got shape \(40, 2\)$"),
        ((model, x, np.full((3, 2, 2), np.nan), SHAPE), "^draws must be finite"),
        ((model, x, draws[:0], SHAPE), r"got shape \(0, 2, 2\)$"),
        ((model, x, draws, (4, 4)), "cannot be drawn as 4 x 4"),
        ((model, x[:, :5], draws, SHAPE), r"shape \(2, 5\)"),
        ((model, x[:0], draws_for(0), SHAPE), "no rows"),
        ((binary, x, draws, SHAPE), r"figure of the posterior exists for Gaussian units, .* density"),
    ]:
        with pytest.raises(InputError, match=message):
            save_posteriors(path, *arguments)
    assert not path.exists()
