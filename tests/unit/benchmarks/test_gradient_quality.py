"""The benchmark of gradient estimators: its statistics on a known estimator, its draws, and its files."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import binary_images, small_model

from benchmarks import gradient_quality as quality
from benchmarks import package
from iwae_tf import InputError, seeds

SCALES = np.linspace(0.5, 2.0, 40)  # standard deviations of the known estimator's parameters


def known_sums(rng, mean, shift, draws, groups):
    """Sums of g ~ N(mean, SCALES^2) in groups; the reference is g - shift with noise of its own."""
    g = mean + SCALES * rng.standard_normal((groups, draws // groups, 40))
    d = shift + 0.5 * rng.standard_normal(g.shape)
    return [np.full(groups, draws // groups), g.sum(1), (g**2).sum(1), d.sum(1), (d**2).sum((1, 2))]


def test_quantities_of_a_gaussian_estimator_are_its_own_and_their_errors_its_spread():
    rng = np.random.default_rng(4)
    runs = [quality.with_errors(known_sums(rng, 0.3, 0.1, 200, 10)) for _ in range(100)]
    variance, signal, bias = (SCALES**2).sum(), 40 * 0.3**2, 40 * 0.1**2
    expected = dict(zip(quality.QUANTITIES, [variance, signal, bias, (signal / variance) ** 0.5], strict=False))
    for name in quality.QUANTITIES:
        values = [run[name] for run in runs]
        # 100 runs know the spread to 7%, their mean jackknife error to 3%; it may be a little too wide
        assert np.mean([run[f"{name}_se"] for run in runs]) == pytest.approx(np.std(values), rel=0.3), name
        if name in expected:
            assert np.mean(values) == pytest.approx(expected[name], abs=0.4 * np.std(values))  # 4 standard errors


def test_signal_and_bias_of_pure_noise_are_zero_on_average_and_the_mean_ratio_is_its_floor():
    rng = np.random.default_rng(1)
    sums = [[values[0] for values in known_sums(rng, 0.0, 0.0, 20, 1)] for _ in range(400)]
    found = np.array([quality.quantities(*one) for one in sums])
    for column, noise in ((1, (SCALES**2).sum() / 20), (2, 0.25 * 40 / 20)):  # of the squares without correction
        error = found[:, column].std() / np.sqrt(400)
        assert error < 0.05 * noise  # so that a bias would show
        assert abs(found[:, column].mean()) < 3.5 * error  # fixed seed
    # |t| of 19 degrees of freedom is 4% above |N(0, 1)|; 16,000 numbers leave 1% of noise
    assert found[:, 4].mean() == pytest.approx(1.04 * np.sqrt(2 / (np.pi * 20)), rel=0.03)
    count, *arrays, norm = sums[0]
    still = [np.concatenate([values, np.zeros(5)]) for values in arrays]  # parameters that never move do not count
    assert quality.quantities(count, *still, norm)[4] == pytest.approx(found[0, 4], rel=1e-12)


def test_rows_are_the_moments_of_the_packages_gradients_with_dreg_as_the_reference():
    model, x = small_model(), tf.constant(binary_images(2))
    objectives = quality.objectives_at(["stl"], 2)
    draw, inference = quality.draw_function(model, x, objectives, seed=3), quality.network_slices(model)["inference"]
    draws = np.stack([draw(tf.constant(number)).numpy() for number in range(20)]).astype(np.float64)  # [N, E, P]
    noise = seeds.normal([2, 2, 5], seeds.key(3, seeds.Purpose.TRAIN_NOISE, 7, 2000))
    gradients = package.bound_and_gradients(model, objectives["stl"], x, noise, None)[1]
    expected = np.concatenate([gradient.numpy().ravel() for gradient in gradients])
    np.testing.assert_allclose(draws[7, 2], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())  # order of sums
    assert inference.stop == sum(np.prod(v.shape) for v in model.inference_network.trainable_variables)
    rows = {(r["estimator"], r["network"]): r for r in quality.measure(model, x, objectives, 20, seed=3)}
    for name, own, other in (("stl", 2, 1), ("dreg", 1, 0), ("iwae", 0, 1)):
        g = draws[:, own, inference]
        d = g - draws[:, other, inference]
        expected = quality.quantities(20, g.sum(0), (g**2).sum(0), d.sum(0), (d**2).sum())
        found = rows[name, "inference"]
        np.testing.assert_allclose([found[q] for q in quality.QUANTITIES], expected, rtol=1e-6, atol=1e-9)
        assert found["snr_parameters_floor"] == pytest.approx(np.sqrt(2 / (np.pi * 20)))


def test_objectives_that_do_not_exist_for_k_are_left_out():
    assert list(quality.objectives_at(["vimco", "jvi", "elbo", "miwae"], 1)) == ["iwae", "dreg", "elbo"]
    assert list(quality.objectives_at(["vimco", "jvi", "miwae"], 4)) == ["iwae", "dreg", "vimco", "jvi", "miwae"]


def test_wrong_repeats_and_a_missing_run_are_refused(tmp_path):
    for repeats in (10, 25):
        with pytest.raises(InputError, match=f"multiple of 10 and at least 20, got {repeats}"):
            quality.measure(None, None, {}, repeats, seed=0)
    with pytest.raises(InputError, match=r"train\.py --k 50"):
        quality.trained_digits(tmp_path / "none", 2)


def test_the_linear_gaussian_model_is_what_it_says_and_perturbation_moves_its_weights():
    model, x = quality.linear_gaussian(500, seed=0)
    assert np.std(x) == pytest.approx(np.sqrt(2), rel=5 / np.sqrt(20_000))  # 5 standard errors, as below
    exact = reference.LinearGaussian(np.eye(20), np.zeros(20), np.ones(20))
    log_w = model.log_weights(x[:3], 4000).numpy().astype(np.float64)
    # Var(w) / E(w)^2 is below 2 (2/3 against 1/2 in 20 dimensions gives 0.91): 4 sqrt(2 / 4000) = 0.09
    np.testing.assert_allclose(reference.iwae(log_w), exact.log_prob(x[:3].numpy().astype(np.float64)), atol=0.09)
    np.testing.assert_allclose(model.encode(x[:3])[0].loc, x[:3] / 2, atol=1e-6)  # float32
    np.testing.assert_allclose(model.encode(x[:3])[0].scale, np.sqrt(2 / 3), rtol=1e-5)
    before = [variable.numpy() for variable in model.trainable_variables]
    quality.perturb(model, 0.01, seed=0)
    steps = np.concatenate([np.ravel(a - b) for a, b in zip(model.trainable_variables, before, strict=True)])
    assert (steps != 0).all()
    assert steps.std() == pytest.approx(0.01, rel=5 / np.sqrt(2 * len(steps)))


def test_points_whose_signal_is_lost_in_noise_are_left_out_of_slope_and_figure():
    row = dict.fromkeys(quality.COLUMNS, 1.0) | {f"{name}_se": 0.1 for name in quality.QUANTITIES}
    row |= {"estimator": "iwae", "network": "inference"}
    rows = [{**row, "k": k, "snr": k**-0.5, "variance": float(k)} for k in (4, 1, 16)]
    rows.append({**row, "k": 64, "signal_squared": 0.19})
    points = quality.series(rows, "iwae", "inference")
    assert [row["k"] for row in points] == [1, 4, 16]
    assert quality.slope_words(points) == "-0.50 +- 0.00"
    assert quality.slope_words(points, "variance") == "+0.50 +- 0.00"  # of its root
    assert quality.slope_words(points[:2]) == "-"
    snr, _, variance, _ = quality.quality_figure(rows, "title", []).axes
    assert [list(axes.lines[0].get_xdata()) for axes in (snr, variance)] == [[1, 4, 16], [1, 4, 16, 64]]


@pytest.mark.parametrize(
    ("squared", "error", "words"), [(0.04, 0.001, "0.1"), (0.01, 0.02, "< 0.11"), (-0.01, 0.02, "< 0.1"), (0, 0, "0")]
)
def test_bias_is_a_share_of_the_gradient_or_a_limit(squared, error, words):
    assert quality.relative_bias({"bias_squared": squared, "bias_squared_se": error}, signal=2.0) == words


@pytest.mark.slow
def test_the_script_writes_its_three_files(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "LOOKS", {name: quality.LOOKS[name] for name in ("iwae", "stl")})
    flags = ["--linear-gaussian", "--repeats", "20", "--k", "64", "--images", "2", "--backward-samples"]
    quality.main(quality._parser().parse_args([*flags, "--out", str(tmp_path)]))
    header, *lines = (tmp_path / "gradient_quality.csv").read_text().splitlines()
    assert header.split(",") == quality.COLUMNS
    assert {tuple(line.split(",")[:3]) for line in lines} >= {
        ("stl", "64", "inference"),
        ("iwae (m = 5)", "50", "generative"),
    }
    text = (tmp_path / "gradient_quality.md").read_text()
    assert "| `stl` |" in text
    assert "| `iwae (m = 1)` | generative |" in text
    assert (tmp_path / "gradient_quality.png").read_bytes().startswith(b"\x89PNG")
