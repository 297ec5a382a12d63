"""The search for a recipe: learning rates, the table over seeds, the figure, and what is not done again."""

import csv

import keras
import numpy as np
import pytest

from benchmarks import recipes
from benchmarks.recipes import FIELDS, RATES, Recipe
from iwae_tf.adam import Adam
from iwae_tf.data import load


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(rate=0.4, schedule="constant"), [0.4, 0.4, 0.4]),
        (Recipe(rate=0.4), [0.4, 0.2, 0.0]),
        (Recipe(rate=0.4, optimizer="muon"), [0.4, 0.2, 0.0]),
        (Recipe(rate=0.4, warmup=0.1), [0.0, 0.2 * (1 + np.cos(np.pi * 4 / 9)), 0.0]),
        (Recipe(rate=0.4, schedule="paper"), [0.4 * 10 ** (-3 / 7), 0.04, 0.04]),
    ],
)
def test_the_rate_follows_its_schedule_over_all_steps(recipe, expected):
    optimizer, found = recipe.build_optimizer(100), []
    for step in (0, 50, 100):
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert type(optimizer) is {"adam": Adam, "muon": keras.optimizers.Muon}[recipe.optimizer]


def test_the_names_of_all_recipes_tell_them_apart():
    found = {recipe.name: recipe for group in recipes.GROUPS.values() for recipe in group}
    assert len(found) == len({recipe for group in recipes.GROUPS.values() for recipe in group})


def test_a_second_run_goes_on_with_more_samples_at_half_the_rate():
    (one, share), (other, rest) = Recipe(k=50, backward=10, first=5, rate=0.8).runs
    assert (one.name, other.name) == (
        "dreg k5 batch100 0.8 cosine",
        "dreg k50 batch100 0.4 cosine backward10",
    )
    assert share == pytest.approx(2 * rest)
    assert share + rest == pytest.approx(1.0)


def test_the_best_comes_first_with_its_spread_over_seeds_and_both_are_drawn(tmp_path):
    def row(name, minutes, seed, passes, validation, test):
        return dict(zip(FIELDS, (name, minutes, seed, passes, 1, 1, validation, test, 0.5), strict=True))

    searched = [Recipe(rate=rate, schedule=s).name for s in ("constant", "paper", "cosine") for rate in RATES]
    rows = [row(name, 3.0, 0, 2, -90 - 2 * number, -91) for number, name in enumerate(searched)]
    rows += [
        row(searched[0], 3.0, 1, 4, -92, -94),
        row(searched[0], 6.0, 0, 4, -80, -81),
        row(searched[0], 1.0, 0, 1, -99, -99),
    ]
    with (tmp_path / "found.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    groups = recipes.grouped(tmp_path / "found.csv")
    lines = recipes.table(groups).splitlines()
    assert lines[3] == f"| 3 | {searched[0]} | 2 | 3.0 | -91.00 +- 1.41 | -92.50 +- 2.12 |"
    assert lines[-1] == f"| 6 | {searched[0]} | 1 | 4.0 | -80.00 | -81.00 |"
    recipes.draw(groups, tmp_path / "found.png")
    assert (tmp_path / "found.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [Recipe(k=2, batch=20, ema=0.9), Recipe(k=50, batch=20, first=2, backward=3)])
def test_a_recipe_trains_for_its_processor_time(monkeypatch, recipe):
    for name, few in {"TRACED": 2, "TIMED": 10, "NUM_SAMPLES": 20, "NUM_TEST": 20}.items():
        monkeypatch.setattr(recipes, name, few)
    fitted, models = recipes._fitted, []
    monkeypatch.setattr(recipes, "_fitted", lambda *given, **more: models.append(fitted(*given, **more)) or models[-1])
    found = recipes.measured(recipe, load("digits"), 0.02, 3)
    assert (found["minutes"], found["seed"]) == (0.02, 3)
    speeds = [10 / seconds for _, seconds in models[: len(recipe.runs)]]
    assert found["steps"] == sum(
        max(1, round(1.2 * share * speed)) for (_, share), speed in zip(recipe.runs, speeds, strict=True)
    )
    assert float(found["test"]) < -10
    model = models[-1][0]
    assert model.objective.num_samples == recipe.k
    if recipe.first:
        assert models[-2][0] is model
        assert found["steps"] > model.step > 0
    assert float(found["used"]) == pytest.approx(sum(seconds for one, seconds in models if one is model) / 60, abs=0.01)
