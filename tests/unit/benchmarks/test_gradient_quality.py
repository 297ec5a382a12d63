"""The benchmark of gradient estimators: its statistics on estimators that are known, its draws, and what it writes."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import tensorflow as tf
from iwae_tf.objectives.gradients import bound_and_gradients
from small_models import binary_images, small_model

from benchmarks import gradient_quality_measure as measuring
from benchmarks.gradient_quality_figure import gradient_quality_figure
from benchmarks.gradient_quality_models import linear_gaussian, perturb, trained_digits
from benchmarks.gradient_quality_report import COLUMNS, relative_bias, series, slope_words, table, write_csv
from benchmarks.gradient_quality_statistics import (
    QUANTITIES,
    Moments,
    fit_slope,
    quantities,
    snr_parameters_floor,
    with_errors,
)
from iwae_tf import seeds
from iwae_tf.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
SCALES = np.linspace(0.5, 2.0, 40)  # standard deviations of the known estimator's parameters


def _known_groups(rng, mean, shift, draws=500, groups=10):
    """Groups of moments of g ~ N(mean, SCALES^2), with a reference that is `shift` below g plus noise of its own."""
    made = []
    for _ in range(groups):
        gradients = mean + SCALES * rng.standard_normal((draws // groups, len(SCALES)))
        made.append(Moments.of(gradients, gradients - shift - 0.5 * rng.standard_normal(gradients.shape)))
    return made


def test_quantities_of_a_gaussian_estimator_are_its_own():
    mean, shift = np.full(40, 0.3), np.full(40, 0.1)
    found = with_errors(_known_groups(np.random.default_rng(0), mean, shift))
    variance, signal, bias = (SCALES**2).sum(), mean @ mean, shift @ shift
    expected = [variance, signal, bias, np.sqrt(signal / variance)]
    for name, value in zip(QUANTITIES[:4], expected, strict=True):
        assert 0.0 < found[f"{name}_se"] < 0.3 * value, name
        # 4 standard errors: the jackknife over 10 groups knows the error to a quarter
        assert abs(found[name] - value) < 4 * found[f"{name}_se"], name


def test_signal_and_bias_of_pure_noise_are_zero_on_average():
    rng = np.random.default_rng(1)
    found = np.array([quantities(_known_groups(rng, 0.0, 0.0, 20, 1)[0]) for _ in range(400)])
    for column, noise in ((1, (SCALES**2).sum() / 20), (2, 0.25 * 40 / 20)):  # what the squares hold if left biased
        error = found[:, column].std() / np.sqrt(400)
        assert error < 0.05 * noise  # so that the bias would show
        assert abs(found[:, column].mean()) < 3.5 * error  # fixed seed; 3.5 standard errors


def test_mean_ratio_over_parameters_of_pure_noise_is_its_floor():
    rng = np.random.default_rng(2)
    found = [quantities(_known_groups(rng, 0.0, 0.0, 200, 1)[0])[4] for _ in range(50)]
    # 50 times 40 parameters: |N(0, 1)| has a relative deviation of 0.756, 4 x 0.756 / sqrt(2000) = 0.07
    assert np.mean(found) == pytest.approx(snr_parameters_floor(200), rel=0.07)


def test_parameters_that_never_move_do_not_count_in_the_mean_ratio():
    gradients = np.random.default_rng(3).standard_normal((50, 3)) + 1.0
    padded = np.concatenate([gradients, np.zeros((50, 5))], axis=1)
    expected = np.mean(np.abs(gradients.mean(0)) / gradients.std(0, ddof=1))
    assert quantities(Moments.of(padded, 0.0 * padded))[4] == pytest.approx(expected, rel=1e-12)


def test_standard_errors_are_the_spread_of_repeated_measurements():
    rng = np.random.default_rng(4)
    runs = [with_errors(_known_groups(rng, 0.3, 0.1, 200)) for _ in range(100)]
    for name in QUANTITIES:
        spread = np.std([run[name] for run in runs])
        # 100 runs know the spread to 7 %, their mean jackknife error to 3 %; it may be a little too wide
        assert np.mean([run[f"{name}_se"] for run in runs]) == pytest.approx(spread, rel=0.3), name


def test_slope_of_a_power_law_is_its_exponent():
    slope, error = fit_slope([1, 4, 16, 64], [3.0 * k**-0.5 for k in (1, 4, 16, 64)])
    assert slope == pytest.approx(-0.5, abs=1e-12)
    assert error == pytest.approx(0.0, abs=1e-12)


def test_slope_and_its_error_are_those_of_a_least_squares_fit():
    k, snr = np.array([1, 2, 4, 16, 64]), np.array([0.5, 0.3, 0.25, 0.1, 0.08])
    coefficients, covariance = np.polyfit(np.log(k), np.log(snr), 1, cov=True)
    assert fit_slope(k, snr) == pytest.approx((coefficients[0], np.sqrt(covariance[0, 0])), rel=1e-9)


@pytest.mark.parametrize("snr", [[0.1, 0.2], [0.1, 0.0, 0.2]])
def test_no_slope_where_none_can_be_fitted(snr):
    assert np.isnan(fit_slope([1, 2, 4][: len(snr)], snr)).all()


def test_draws_are_the_gradients_of_the_package():
    model, x = small_model(gain=1.0), tf.constant(binary_images(2))
    objectives = measuring.objectives_at(["stl", "miwae"], 4)
    drawn = measuring.draw_function(model, x, objectives, seed=3)(tf.constant(7)).numpy()
    noise = seeds.normal([4, 2, 5], seeds.key(3, seeds.Purpose.TRAIN_NOISE, 7, 4000))
    slices = measuring.network_slices(model)
    assert drawn.shape == (4, model.count_params())
    for row, objective in zip(drawn, objectives.values(), strict=True):
        parts = [part.numpy().ravel() for part in bound_and_gradients(model, objective, x, noise)[1]]
        inference = len(model.inference_network.trainable_variables)
        expected = {"inference": np.concatenate(parts[:inference]), "generative": np.concatenate(parts[inference:])}
        for network, values in expected.items():  # equal but for float32 sums in another order
            np.testing.assert_allclose(row[slices[network]], values, rtol=1e-4, atol=1e-5 * np.abs(values).max())


def test_moments_are_sums_over_draws_with_dreg_as_the_reference():
    model, x = small_model(), tf.constant(binary_images(2))
    objectives = measuring.objectives_at(["stl"], 2)
    draw = measuring.draw_function(model, x, objectives, seed=0)
    draws = np.stack([draw(tf.constant(number)).numpy() for number in range(20)]).astype(np.float64)  # [N, E, P]
    found = measuring.measure(model, x, objectives, 20, seed=0)
    for (name, network), groups in found.items():
        row, other = list(objectives).index(name), {"iwae": 1, "dreg": 0, "stl": 1}[name]
        part = measuring.network_slices(model)[network]
        whole = Moments(*(sum(parts) for parts in zip(*groups, strict=True)))
        expected = Moments.of(draws[:, row, part], draws[:, other, part])
        for value, wanted in zip(whole, expected, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)  # differences are taken in float32


def test_objectives_that_do_not_exist_for_k_are_left_out():
    assert list(measuring.objectives_at(["vimco", "jvi", "elbo", "miwae"], 1)) == ["iwae", "dreg", "elbo"]
    assert list(measuring.objectives_at(["vimco", "jvi", "miwae"], 4)) == ["iwae", "dreg", "vimco", "jvi", "miwae"]


@pytest.mark.parametrize("repeats", [10, 25])
def test_repeats_that_make_no_equal_groups_are_refused(repeats):
    model, x = small_model(), tf.constant(binary_images(2))
    with pytest.raises(InputError, match="multiple of 10"):
        measuring.measure(model, x, measuring.objectives_at([], 1), repeats, seed=0)


def test_a_missing_run_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"train\.py --k 50"):
        trained_digits(tmp_path / "none", 2)


def test_linear_gaussian_model_is_what_it_says():
    model, x = linear_gaussian(3, seed=0)
    exact = reference.LinearGaussian(np.eye(20), np.zeros(20), np.ones(20))
    log_w = model.log_weights(x, 4000).numpy().astype(np.float64)
    # Var(w) / E(w)^2 is below 2 (2/3 against 1/2 in 20 dimensions gives 0.91): 4 sqrt(2 / 4000) = 0.09
    np.testing.assert_allclose(reference.iwae(log_w), exact.log_prob(x.numpy().astype(np.float64)), atol=0.09)
    posterior = model.encode(x)[0]
    np.testing.assert_allclose(posterior.loc, x / 2, atol=1e-6)  # float32
    np.testing.assert_allclose(posterior.scale, np.sqrt(2 / 3), rtol=1e-5)


def test_linear_gaussian_images_are_draws_of_the_model():
    _, x = linear_gaussian(500, seed=0)
    # 10,000 numbers with the variance 2; 5 standard errors of a standard deviation and of a mean
    assert np.std(x) == pytest.approx(np.sqrt(2), rel=5 / np.sqrt(20_000))
    assert abs(np.mean(x)) < 5 * np.sqrt(2 / 10_000)


def test_perturbation_moves_every_weight_by_its_deviation():
    moved, same = small_model(), small_model()
    perturb(moved, 0.01, seed=0)
    steps = [(a - b).numpy().ravel() for a, b in zip(moved.trainable_variables, same.trainable_variables, strict=True)]
    assert all((step != 0).all() for step in steps)
    count = moved.count_params()  # 5 standard errors of a standard deviation
    assert np.concatenate(steps).std() == pytest.approx(0.01, rel=5 / np.sqrt(2 * count))


def _row(name="iwae", k=1, network="inference", **changed):
    values = dict.fromkeys(COLUMNS, 1.0) | {f"{quantity}_se": 0.1 for quantity in QUANTITIES}
    return values | {"estimator": name, "k": k, "network": network, "repeats": 20} | changed


def test_csv_has_a_line_for_each_row_with_its_columns(tmp_path):
    write_csv(tmp_path / "q.csv", [_row(variance=1 / 3), _row("dreg", 4)])
    with (tmp_path / "q.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == COLUMNS
    assert (first["estimator"], first["k"], first["variance"]) == ("iwae", "1", "0.333333")
    assert (second["estimator"], second["k"], second["repeats"]) == ("dreg", "4", "20")


def test_points_whose_signal_is_lost_in_noise_are_left_out_of_slope_and_figure():
    rows = [_row(k=k, snr=k**-0.5) for k in (4, 1, 16)] + [_row(k=64, snr=9.0, signal_squared=0.19)]
    assert [row["k"] for row in series(rows, "iwae", "inference")] == [1, 4, 16]
    assert slope_words(series(rows, "iwae", "inference")) == "-0.50 +- 0.00"
    snr, variance = gradient_quality_figure(rows, "title", []).axes[:2]
    assert list(snr.lines[0].get_xdata()) == [1, 4, 16]
    assert list(variance.lines[0].get_xdata()) == [1, 4, 16, 64]


@pytest.mark.parametrize(
    ("squared", "error", "words"), [(0.04, 0.001, "0.1"), (0.01, 0.02, "< 0.11"), (-0.01, 0.02, "< 0.1"), (0, 0, "0")]
)
def test_bias_is_a_share_of_the_gradient_or_a_limit(squared, error, words):
    assert relative_bias({"bias_squared": squared, "bias_squared_se": error}, signal=2.0) == words


def test_table_has_both_networks_of_every_estimator_at_one_k():
    both = [
        _row(name, k, network, variance=k * (2.0 if network == "generative" else 1.0))
        for name in ("dreg", "stl")
        for k in (1, 64, 256)
        for network in ("generative", "inference")
    ]
    lines = table(both, 64)
    assert [line.split("|")[1].strip() for line in lines[-2:]] == ["`dreg`", "`stl`"]
    cells = [cell.strip() for cell in lines[-1].split("|")]
    assert (cells[2], cells[6]) == ("64.00 +- 0.10", "128.00 +- 0.10")


@pytest.mark.slow
def test_the_script_writes_its_three_files(tmp_path):
    script = ROOT / "benchmarks" / "gradient_quality.py"
    flags = ["--linear-gaussian", "--repeats", "20", "--k", "1", "4", "64", "--images", "2", "--backward-samples"]
    done = subprocess.run(
        [sys.executable, script, *flags, "--out", tmp_path], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "`dreg`, inference: SNR" in done.stdout
    with (tmp_path / "gradient_quality.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["k"] for row in rows} == {"1", "4", "50", "64"}
    assert {row["network"] for row in rows} == {"inference", "generative"}
    assert {"iwae (m = 1)", "iwae (m = 5)", "vimco"} <= {row["estimator"] for row in rows}
    text = (tmp_path / "gradient_quality.md").read_text()
    assert "| `iwae` |" in text
    assert "`iwae (m = 1)`" in text
    assert (tmp_path / "gradient_quality.png").read_bytes().startswith(b"\x89PNG")
