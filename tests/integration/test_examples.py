"""The examples run with few epochs, and print every result, in order."""

import contextlib
import importlib.util
import json
import re
import types
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow
import pyarrow.csv
import pytest
from test_document_commands import SCRIPTS, commands
from test_documents import ROOT, blocks

import iwae_tf
from iwae_tf.evaluation import annealing, posterior_expectation

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.slow


@pytest.fixture
def example(tmp_path, monkeypatch):
    """name, settings -> the example's module with those settings, in an empty folder."""

    def load(name, **settings):
        monkeypatch.chdir(tmp_path)
        specification = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        for setting, value in settings.items():
            assert hasattr(module, setting)
            setattr(module, setting, value)
        return module

    (tmp_path / "runs").mkdir()
    return load


def numbers(printed: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", printed)]


def test_an_array_of_digits_is_fitted_and_has_bits(example, capsys):
    example("fit_array", EPOCHS=2, SAMPLES=50).main()
    log_p, bits = numbers(capsys.readouterr().out)
    assert bits == pytest.approx(-log_p / 64 / np.log(2), abs=0.002)  # both are rounded, log p(x) to 0.1 nats
    assert bits < np.log2(17)  # the bits of a level that one knows nothing about
    assert Path("runs/fit_array.png").stat().st_size > 5_000


def test_rows_to_score_are_neither_trained_on_nor_held_out(example):
    module = example("anomalies")
    module.prepare(Path("a"), seed=0)
    module.prepare(Path("b"), seed=1)
    known, others = (pyarrow.csv.read_csv(f"a/{name}.csv") for name in ("benign", "others"))
    assert (len(known), len(others)) == (277, 292)
    assert "tumour" not in known.column_names
    assert set(known["id"].to_pylist()).isdisjoint(others["id"].to_pylist())
    assert others["tumour"].to_pylist() == ["benign"] * 80 + ["malignant"] * 212
    assert Path("a/others.csv").read_text() != Path("b/others.csv").read_text()


def test_alarms_of_several_runs_are_reported_with_their_spread(example, capsys):
    module, folders = example("anomalies"), [Path("a"), Path("b")]
    for seed, folder in enumerate(folders):
        module.prepare(folder, seed)
        others = np.arange(292)
        p_value = np.where(others < 80, (others + 1) / 80, 0.01 + 0.08 * (others % 2) * seed).astype(np.float32)
        scores = {"log_prob": p_value - 5.0, "p_value": p_value}
        names = {f"strange_{place}": np.full(292, f"column {place}") for place in (1, 2, 3)}
        pyarrow.csv.write_csv(pyarrow.table(scores | names), folder / "scores.csv")
    module.report(folders, Path("runs/anomalies.png"))
    printed = dict(line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines())
    printed = {name.strip(): numbers(values) for name, values in printed.items()}
    assert printed["benign rows that alarm at 0.1"] == [0.1, 0.0]
    assert printed["malignant rows that alarm at 0.05"] == [0.75, 0.354]  # all, and every other one
    for name in ("Gaussian mixture", "isolation forest"):
        assert 0.9 < printed[f"AUROC, {name}"][0] < 1.0
    assert Path("runs/anomalies.png").stat().st_size > 5_000


def test_the_commands_of_five_runs_are_those_of_the_page(example, monkeypatch):
    module, given, reported = example("anomalies"), [], []
    monkeypatch.setattr(module, "main", lambda words: given.append(words))
    monkeypatch.setattr(module, "report", lambda *arguments: reported.append(arguments))
    module.repeat(Path("all"), Path("all.png"))
    folders = [Path("all") / f"seed{seed}" for seed in range(5)]
    assert reported == [(folders, Path("all.png"))]
    assert len({(folder / "benign.csv").read_text() for folder in folders}) == 5
    page = [words for block in blocks(ROOT / "docs/anomalies.md", "sh") for words in commands(block)][1:4]
    assert [SCRIPTS[words[1]] for words in page] * 5 == [words[0] for words in given]
    own = {"--seed", "--output-dir", "--overwrite", "--verbose"}
    defaults = {"--eval-samples": "5000", "--num-samples": "5000"}
    for number, words in enumerate(given):
        expected, found = settings_of(page[number % 3][2:]), settings_of(words[1:])
        assert {name: value for name, value in found.items() if name not in own | {*defaults}} == expected
        assert all(found.get(name, value) == value for name, value in defaults.items())
        assert found.get("--seed", str(number // 3)) == str(number // 3)


def settings_of(words: list[str]) -> dict[str, str]:
    """Returns the flags of a command; a path stands for its name."""
    found = {}
    for flag, value in zip(words, [*words[1:], "--"], strict=True):
        if flag.startswith("--"):
            found[flag] = "" if value.startswith("--") else Path(value).name
    return found


def test_missing_pixels_are_filled_better_by_weighting_than_by_their_means(example, capsys):
    example("missing_pixels", EPOCHS=8, SAMPLES=100).main()
    error = dict(zip(("mean", "neighbours", "q", "weighted"), numbers(capsys.readouterr().out), strict=True))
    assert error["weighted"] < 0.95 * error["mean"]
    assert Path("runs/missing_pixels.png").stat().st_size > 5_000


def test_the_posterior_gap_falls_with_the_samples_of_q(example, capsys, monkeypatch):
    digits = iwae_tf.data.load("digits")
    few = types.SimpleNamespace(intensities=lambda split: digits.intensities(split)[: 40 if split == "test" else None])
    monkeypatch.setattr(iwae_tf.data, "load", lambda name: few)  # all 400 test images take 15 s
    example("posterior_2d", EPOCHS=2, SAMPLES=500, IMAGES=1, DRAWS=50).main()
    for line in capsys.readouterr().out.splitlines()[1:]:
        log_p, one, fifty = numbers(line)
        assert log_p < 0 < fifty < one
    for k in (1, 50):
        assert Path(f"runs/posterior_2d-k{k}.png").stat().st_size > 10_000


def test_draws_of_the_weighted_q_have_the_mean_of_their_own_image_s_posterior(example):
    module = example("posterior_2d", DRAWS=400, IMAGES=2)
    model = iwae_tf.IWAE(64, (2,), ((8,),), seed=1)
    x = (np.random.default_rng(0).random((2, 64)) < 0.5).astype("float32")
    draws = module.weighted_q(model, x)  # [400, 2, 2]
    posterior = np.asarray(posterior_expectation(model, lambda h: h[0], x, 20_000).mean)
    q = np.asarray(model.encode(x)[0].loc)
    # Four standard errors of 400 draws with a deviation below 1 are 0.2; the bias of 50 samples is 0.1 here.
    np.testing.assert_allclose(draws.mean(axis=0), posterior, atol=0.3)
    assert np.abs(posterior[0] - posterior[1]).max() > 0.6
    assert np.abs(posterior - q).max(axis=1).min() > 0.5


def test_the_binomial_is_a_probability_of_counts_with_the_mean_that_it_says(example, capsys):
    from scipy.stats import binom

    module = example("custom", EPOCHS=2, SAMPLES=50)
    layer, logits = module.Binomial(2, iter((1,)), mean=[4.0, 8.0]), np.array([[[-0.5, 1.5]]], np.float32)
    for counts in ([0, 16], [3, 9], [16, 0]):
        expected = binom.logpmf(counts, 16, 1 / (1 + np.exp(-logits[0, 0].astype(float)))).sum()
        found = layer.log_prob(logits, np.array([counts], np.float32))
        np.testing.assert_allclose(found, [[expected]], rtol=1e-5)  # float32
    np.testing.assert_allclose(layer.mean(logits)[0, 0], 16 / (1 + np.exp(-logits[0, 0])), rtol=1e-5)
    drawn = np.mean([layer.sample(logits, (0, key))[0, 0] for key in range(100)], axis=0)
    np.testing.assert_allclose(drawn, layer.mean(logits)[0, 0], atol=0.8)  # four standard errors of at most 2 / 10
    module.main()
    binomial, _, categorical, _, difference, _ = numbers(capsys.readouterr().out)
    assert binomial < 0 > categorical
    assert difference == pytest.approx(categorical - binomial, abs=0.011)
    assert Path("runs/custom.png").stat().st_size > 5_000


def test_the_nines_are_ranked_among_the_other_digits_by_their_scores(example, capsys):
    module, folder = example("unseen_digit"), Path("runs/unseen-digit")
    module.prepare(folder)
    assert iwae_tf.data.load(str(folder / "digits-0-to-8.npz")).data_dim == 64
    with np.load(folder / "digits-0-to-8.npz") as train, np.load(folder / "test.npz") as test:
        assert len(train["x_train"]) + len(train["x_test"]) + len(test["x"]) == 1797  # each digit once
        assert (test["y"] == 9).sum() == 180
        assert test["x"].max() == 1.0
        unseen = test["y"] == 9
    hidden = np.arange(len(unseen)) % 4 == 0  # nines that q takes for one of the others
    refined, plain = np.where(unseen, -30.0, -20.0), np.where(unseen & ~hidden, -31.0, -21.0)
    errors, reliable = np.where(unseen, 0.4, 0.05), np.arange(len(unseen)) % 2
    p_value = np.where(unseen, 0.01, 0.07).astype(np.float32)
    scores = {"log_prob": refined, "standard_error": errors, "reliable": reliable, "p_value": p_value}
    np.savez(folder / "scores.npz", **scores)
    np.savez(folder / "scores-q.npz", log_prob=plain, elbo=-refined, standard_error=errors / 2)
    module.report(folder, Path("runs/unseen_digit.png"))
    printed = capsys.readouterr().out
    found = 1 - np.mean(hidden[unseen]) / 2  # a tie counts half
    assert "log p(x), refined  1.000            -20.00       -30.00\n" in printed
    assert f"L_5000             {found:.3f}            -21.00" in printed
    assert "ELBO               0.000" in printed
    assert "refined  0.050 (0 to 8), 0.400 (9), medians\nstandard error, q        0.025 (0 to 8), 0.200 (9)" in printed
    assert f"reliable: {reliable.mean():.1%} of" in printed
    assert "alarms at a false alarm rate of 5%: 0.0% of 0 to 8, 100.0% of the nines\n" in printed
    assert "alarms at a false alarm rate of 10%: 100.0% of 0 to 8, 100.0% of the nines\n" in printed
    assert Path("runs/unseen_digit.png").stat().st_size > 10_000


def test_the_contributions_of_the_strangest_nines_are_drawn(example, monkeypatch):
    module, folder, asked = example("unseen_digit"), Path("runs/unseen-digit"), []

    class Client(contextlib.nullcontext):
        def explain(self, x):
            asked.append(x)
            return x - 0.5

    monkeypatch.setattr(module, "ScoringClient", lambda url: Client(Client()))
    module.prepare(folder)
    with np.load(folder / "test.npz") as test:
        x, unseen = test["x"], test["y"] == 9
    log_prob = -np.arange(len(x), dtype=np.float32)
    np.savez(folder / "scores.npz", log_prob=log_prob, p_value=np.full(len(x), 0.5))
    module.explain(folder, "export/models/digits-0-to-8", Path("runs/contributions.png"))
    assert asked[0][0].tolist() in x[~unseen].tolist()
    np.testing.assert_array_equal(asked[0][1:], x[unseen][::-1][:5])
    assert Path("runs/contributions.png").stat().st_size > 10_000


def test_every_estimate_of_the_same_images_is_in_the_table(example, capsys, monkeypatch):
    monkeypatch.setattr(annealing, "PILOT_TRANSITIONS", 20)
    module = example("estimates")
    Path("m").mkdir()
    iwae_tf.IWAE(64, (3,), ((8,),), seed=1).save("m/model.keras")
    module.main(Path("m"), images=3, num_temperatures=20, sizes=(50, 500))
    printed = capsys.readouterr().out
    lines = [line.split(" | ") for line in printed.splitlines()]
    found = {line[0].strip("| "): float(line[1]) for line in lines[2:10]}
    corrected = [f"JVI-{order}, k = {k}" for k in (50, 500) for order in (1, 2)]
    assert list(found) == ["L_50", "L_500", "refined proposal", *corrected, "AIS"]
    # All estimate the same number; a mild model of 64 pixels is known to about 0.3 nats from 50 samples.
    np.testing.assert_allclose(list(found.values()), found["L_500"], atol=1.5)
    assert "BDMC on 3 simulated images: gap" in printed


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    cells = json.loads((EXAMPLES / "iwae.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    short = {"EPOCHS = 60": "EPOCHS = 2", "num_samples=5000": "num_samples=500", "500, 5000": "500"}
    short |= {'binarized("test")': 'binarized("test")[:60]', "held_out=digits.x_test": "held_out=digits.x_test[:40]"}
    assert all(text in "\n".join(code) for text in short)
    page = vars(types.ModuleType("notebook"))
    for cell in code:
        for text, shorter in short.items():
            cell = cell.replace(text, shorter)
        exec(cell, page)
    plt.close("all")
    vae, iwae, difference, _, lit = capsys.readouterr().out.strip().splitlines()
    assert numbers(iwae)[0] > numbers(vae)[0]
    assert numbers(difference)[0] > 0
    assert "strangest: pixel (0, 0)" in lit
