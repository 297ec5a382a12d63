"""The closing table, the options of an evaluation, and the file of scores."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from binary_models import with_prior
from run_files import write_model
from small_models import small_model
from user_networks import networks

from iwae_tf import InputError
from iwae_tf.config import (
    DataConfig,
    ModelConfig,
    OutputConfig,
    RunConfig,
    ScoringConfig,
    TrainingConfig,
    WorkersConfig,
)
from iwae_tf.evaluation import LikelihoodEstimate
from iwae_tf.training import evaluation, evaluation_extras, run
from iwae_tf.training.run_folder import TrainedRun, likelihood_of, model_checksum, read_json
from iwae_tf.training.scores_file import columns_of, read_columns, read_scores, write_columns
from iwae_tf.training.workers import gather_workers

ALONE = gather_workers(WorkersConfig())


def estimate_of(reliable, bounds=(1, 50)) -> LikelihoodEstimate:
    """An estimate whose log p(x) lies a nat above its bounds, as refinement has it, and whose Pareto k says nothing."""
    number = len(reliable)
    values = {name: np.linspace(1.0, 2.0, number) for name in ("elbo", "standard_error", "effective_sample_size")}
    values |= {"log_likelihood": -29.0 - np.arange(float(number)), "pareto_k": np.resize([np.inf, 0.1, np.nan], number)}
    return LikelihoodEstimate(
        **values,
        num_samples=np.full(number, 50, np.int32),
        reliable=np.array(reliable),
        bounds=dict.fromkeys(bounds, values["log_likelihood"] - 1.0),
    )


def table_of(reliable, target=None, **changes) -> list[str]:
    report = evaluation._likelihood_section(estimate_of(reliable))
    report |= {"active_units": [3, 2], "protocol": {"target_standard_error": target}}
    report["reliability"] |= changes.pop("reliability", {})
    return evaluation.table(report | changes).splitlines()


@pytest.mark.parametrize(
    ("reliable", "target", "name", "words"),
    [
        (10, None, "log p(x)", "10 of 10 scores are reliable"),
        (9, None, "log p(x)", "9 of 10 scores are reliable; the others may be too low"),
        (8, None, "lower bound on log p(x)", "8 of 10 scores are reliable; the others may be too low"),
        (0, None, "lower bound on log p(x)", "0 of 10 scores are reliable; the others may be too low"),
        (10, 0.05, "log p(x)", "10 of 10 scores are reliable and reach the target of 0.05 nats"),
        (7, 0.1, "lower bound on log p(x)", "7 of 10 scores are reliable and reach the target of 0.1 nats; the others"),
    ],
)
def test_the_estimate_is_called_log_p_only_if_90_percent_of_the_scores_are_reliable(reliable, target, name, words):
    lines = table_of(np.arange(10) < reliable, target)
    assert lines[:2] == ["       k  mean L_k (nats)", "       1     -34.500 +- 0.957"]
    assert lines[2:4] == ["      50     -34.500 +- 0.957", ""]
    assert lines[4].startswith(f"{name} -33.500, standard error over rows 0.957, of the samples 0.")
    assert lines[5].startswith(words)
    assert lines[6] == "samples per row: 50 on average, at most 50; effective 2 (median)"
    assert lines[7:] == ["active units 3 + 2"]


def test_bits_per_dimension_have_a_line_where_pixels_have_levels():
    assert "bits per dimension 1.2346" in table_of([True], bits_per_dimension=1.23456)


def test_scores_survive_their_file(tmp_path):
    estimate = estimate_of([True, False, True])
    write_columns(tmp_path / "scores.parquet", columns_of(estimate, first_row=100))
    columns = read_columns(tmp_path / "scores.parquet")
    np.testing.assert_array_equal(columns.pop("row"), [100, 101, 102])
    assert columns.keys() == {*vars(estimate), "bound_1", "bound_50"} - {"bounds"}
    for name, values in columns.items():
        expected = estimate.bounds[int(name[6:])] if name.startswith("bound_") else getattr(estimate, name)
        np.testing.assert_array_equal(values, expected, err_msg=name)
        assert values.dtype == expected.dtype


def written(folder, offset=0.0, model=None, **about):
    folder.mkdir(parents=True, exist_ok=True)
    columns = columns_of(estimate_of([True, False]))
    write_columns(folder / "scores.parquet", {**columns, "log_likelihood": columns["log_likelihood"] + offset}, model)
    record = "report.json" if folder.name == "evaluation" else "metrics.json"
    (folder / record).write_text(json.dumps(about | {"model": model}))


def test_scores_of_the_test_images_by_evaluate_come_before_those_by_train(tmp_path):
    assert read_scores(tmp_path) is None
    written(tmp_path / "evaluation", 1.0, protocol={"part": "valid"})
    assert read_scores(tmp_path) is None
    written(tmp_path, 2.0, unit_activities=[[0.5, 0.25]], protocol={"part": "test", "seed": 3})
    found = read_scores(tmp_path)
    assert found.log_likelihood[0] == -27.0
    assert found.reliable.tolist() == [True, False]
    assert found.protocol["seed"] == 3
    np.testing.assert_array_equal(found.unit_activities, [[0.5, 0.25]])
    written(tmp_path / "evaluation", 1.0, protocol={"part": "test"})
    assert read_scores(tmp_path).log_likelihood[0] == -28.0


def test_scores_of_an_earlier_model_are_left_out_if_by_evaluate_and_refused_if_by_train(tmp_path):
    write_model(tmp_path, weight=1.0)
    before = model_checksum(tmp_path)
    written(tmp_path, 2.0, before)
    written(tmp_path / "evaluation", 1.0, before)
    assert read_scores(tmp_path).log_likelihood[0] == -28.0
    write_model(tmp_path, weight=2.0)  # training went on
    with pytest.raises(InputError, match=r"metrics.json is of model .*, scores.parquet is of model .*, model.keras is"):
        read_scores(tmp_path)
    written(tmp_path, 3.0, model_checksum(tmp_path))
    assert read_scores(tmp_path).log_likelihood[0] == -26.0


@pytest.mark.parametrize("name", ["pareto_k", "reliable"])
@pytest.mark.parametrize("damage", ["no parquet", "empty", "a column is missing", "a column holds words"])
def test_a_damaged_file_of_scores_is_an_error(tmp_path, damage, name):
    written(tmp_path)
    file = tmp_path / "scores.parquet"
    table = pyarrow.parquet.read_table(file)
    if damage.startswith("a column"):
        position, words = table.column_names.index(name), pyarrow.array(["a", "b"])
        table = table.drop_columns(name) if "missing" in damage else table.set_column(position, name, words)
        pyarrow.parquet.write_table(table, file)
    else:
        file.write_bytes(b"PAR1" if damage == "no parquet" else b"")
    with pytest.raises(InputError, match=r"scores\.parquet is damaged \(.*\); delete it, or score the rows again"):
        read_scores(tmp_path)


def test_batches_are_taken_up_only_by_the_model_and_the_protocol_that_they_are_of(tmp_path):
    batch, about = tmp_path / "batches" / "000000.parquet", {"seed": 1, "model": "sha256:a"}
    for name in ("protocol.json", "none.json"):  # a killed process may have deleted it before the batches
        batch.parent.mkdir(exist_ok=True)
        (batch.parent / name).write_text(json.dumps(about))
        batch.touch()
        evaluation._prepare_folder(tmp_path, about, overwrite=False)
        assert batch.exists() == (name == "protocol.json")
        with pytest.raises(InputError, match="of another model: model is 'sha256:a' there and 'sha256:b' here"):
            evaluation._prepare_folder(tmp_path, about | {"model": "sha256:b"}, overwrite=False)
        shutil.rmtree(batch.parent)


@pytest.fixture
def binary(images, tmp_path):
    """A run with two binary units that was never trained."""
    model = ModelConfig(latent="bernoulli", latent_units=(2,), hidden_units=((8,),))
    config = RunConfig(DataConfig(images), model, TrainingConfig("vimco", k=2, epochs=1))
    started = run.start(config, OutputConfig(output_dir=str(tmp_path / "binary")))
    started.close()
    started.model.save(started.path / "model.keras")
    return TrainedRun(started.path, read_json(started.path / "config.json"), {}, with_prior(started.model))


def test_an_evaluation_scores_binary_units_and_draws_no_density_of_them(binary):
    settings = ScoringConfig(num_samples=60, jackknife=True)
    object.__setattr__(settings, "deviation", True)
    report, folder = evaluation.evaluate_run(binary, settings, False, 0, ALONE)
    assert np.isfinite(report["log_likelihood"])
    assert report["deviation"]["num_rows"] == 20
    assert report["deviation"]["rows_above_their_bound"] == 0
    names = {path.name for path in folder.iterdir()}
    assert {"report.json", "scores.parquet", "activities.png", "scores.png"} <= names
    assert "posteriors.png" not in names


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"annealed": 3}, "annealed"),
        ({"prune": True}, "prune"),
        ({"inference_gap": 3}, "inference-gap"),
        ({"refine": "on"}, "refine on"),
    ],
)
def test_options_that_do_not_exist_for_binary_units_are_refused_before_anything_is_scored(binary, options, flag):
    message = f"--{flag} exists for Gaussian units, this model's are bernoulli: .*; leave it out"
    with pytest.raises(InputError, match=message):
        evaluation.evaluate_run(binary, ScoringConfig(num_samples=60, **options), False, 0, ALONE)
    assert not (binary.path / "evaluation").exists()


def test_the_training_rows_of_the_gap_are_drawn_from_all_of_them(monkeypatch):
    seen = []
    monkeypatch.setattr(evaluation_extras, "_scored", lambda name, model, x, *rest: seen.append(x) or x[:, 0])
    x_train = np.arange(1000.0)[:, None]  # sorted, as a file may be
    estimate = dataclasses.replace(estimate_of([True] * 100), log_likelihood=x_train[::10, 0])
    for seed in (0, 0, 1):
        found = evaluation_extras.gap_section(None, x_train, estimate, ScoringConfig(seed=seed), 0)
        assert abs(found["gap"]) < 4 * found["gap_standard_error"]
        assert found["num_train"] == len(np.unique(seen[-1])) == 100
    assert (seen[0] == seen[1]).all()
    assert (seen[0] != seen[2]).any()
    assert evaluation_extras.gap_section(None, x_train[:30], estimate, ScoringConfig(), 0)["num_train"] == 30


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"jackknife": True, "num_samples": 2}, "num_samples must be at least 3"),
        ({"gap": True, "split": "train"}, "--gap compares a split with the training rows"),
        ({"prune": True}, "pruning needs the package's tanh networks"),
    ],
)
def test_what_does_not_exist_is_refused_before_the_scoring(settings, words):
    model = small_model(1, **networks("dense")) if "prune" in settings else small_model(1)
    with pytest.raises(InputError, match=words):
        evaluation_extras.check_extras(model, ScoringConfig(**settings))


@pytest.mark.parametrize(
    ("likelihoods", "expected"),
    [
        ({"a": "student-t", "b": "continuous-bernoulli"}, "columns, a density of all columns"),
        ({"a": "student-t", "b": "negative-binomial", "c": "gaussian"}, "columns, a density of a, c"),
        ({"a": "categorical", "b": "bernoulli"}, "columns, a density of no column"),
        ({"a": "a-plugin-that-is-not-imported", "b": "gaussian"}, "columns, a density of b"),
    ],
)
def test_scores_of_a_table_know_of_which_columns_they_are_densities(likelihoods, expected):
    columns = [{"name": name, "likelihood": likelihood} for name, likelihood in likelihoods.items()]
    assert likelihood_of({"model": {"likelihood": "columns", "column_models": columns}}) == expected
    assert likelihood_of({"model": {"likelihood": "bernoulli"}}) == "bernoulli"
