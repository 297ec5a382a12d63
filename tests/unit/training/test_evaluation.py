"""The closing table, the options of an evaluation, and the file of scores."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from binary_models import with_prior

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
from iwae_tf.training import evaluation, run
from iwae_tf.training.run_folder import TrainedRun, read_json
from iwae_tf.training.scores_file import columns_of, read_columns, read_scores, write_columns
from iwae_tf.training.workers import gather_workers

ALONE = gather_workers(WorkersConfig())


def estimate_of(pareto_k, bounds=(1, 50)) -> LikelihoodEstimate:
    number = len(pareto_k)
    values = {name: np.linspace(1.0, 2.0, number) for name in ("elbo", "standard_error", "effective_sample_size")}
    log_likelihood, samples = -30.0 - np.arange(float(number)), np.full(number, 50, np.int32)
    k = np.asarray(pareto_k, np.float64)
    own = {"pareto_k": k, "num_samples": samples, "converged": k < 0.7, "bounds": dict.fromkeys(bounds, log_likelihood)}
    return LikelihoodEstimate(log_likelihood=log_likelihood, **values, **own)


def table_of(pareto_k, target=None, **changes) -> list[str]:
    report = evaluation._likelihood_section(estimate_of(pareto_k))
    report |= {"active_units": [3, 2], "protocol": {"target_standard_error": target}}
    report["reliability"] |= changes.pop("reliability", {})
    return evaluation.table(report | changes).splitlines()


@pytest.mark.parametrize(
    ("pareto_k", "label", "words"),
    [
        ([0.5] * 10, "log p(x)", "10 of 10 scores are reliable (Pareto k below 0.7)"),
        ([0.5] * 9 + [0.7], "log p(x)", "9 of 10 scores are reliable (Pareto k below 0.7); the others are"),
        ([0.5] * 8 + [0.7, np.nan], "lower bound on log p(x); 2 of 10 images unreliable", "8 of 10 scores are"),
        ([2.0] * 10, "lower bound on log p(x); 10 of 10 images unreliable", "0 of 10 scores are"),
    ],
)
def test_the_estimate_is_called_log_p_only_if_90_percent_of_the_scores_are_reliable(pareto_k, label, words):
    lines = table_of(pareto_k)
    assert lines[:2] == ["       k  mean L_k (nats)", "       1     -34.500 +- 0.957"]
    assert lines[2] == f"      50     -34.500 +- 0.957   {label}"
    assert lines[4].startswith(f"{label.split(';')[0]} -34.500, standard error over images 0.957, of the samples 0.")
    assert any(line.startswith(words) for line in lines)
    assert lines[-1] == "active units 3 + 2"


def test_a_target_has_a_row_of_its_own_and_images_that_missed_it_are_counted():
    lines = table_of([0.5, 0.6, 0.9], target=0.1, reliability={"largest_num_samples": 400}, log_likelihood=-29.0)
    assert "log p(x)" not in lines[2]
    assert lines[3].startswith("  target     -29.000 +- 0.577   lower bound on log p(x)")
    assert "1 of 3 images did not reach the target" in lines
    assert "bits per dimension 1.2346" in table_of([0.5], bits_per_dimension=1.23456)


def test_scores_survive_their_file(tmp_path):
    estimate = estimate_of([0.5, np.nan, np.inf])
    write_columns(tmp_path / "scores.parquet", columns_of(estimate, first_row=100))
    columns = read_columns(tmp_path / "scores.parquet")
    np.testing.assert_array_equal(columns.pop("row"), [100, 101, 102])
    assert columns.keys() == {*vars(estimate), "bound_1", "bound_50"} - {"bounds"}
    for name, values in columns.items():
        expected = estimate.bounds[int(name[6:])] if name.startswith("bound_") else getattr(estimate, name)
        np.testing.assert_array_equal(values, expected, err_msg=name)
        assert values.dtype == expected.dtype


def written(folder, offset=0.0, **about):
    folder.mkdir(parents=True, exist_ok=True)
    columns = columns_of(estimate_of([0.5, 0.6]))
    write_columns(folder / "scores.parquet", {**columns, "log_likelihood": columns["log_likelihood"] + offset})
    record = "report.json" if folder.name == "evaluation" else "metrics.json"
    (folder / record).write_text(json.dumps(about))


def test_scores_of_the_test_images_by_evaluate_come_before_those_by_train(tmp_path):
    assert read_scores(tmp_path) is None
    written(tmp_path / "evaluation", 1.0, protocol={"part": "valid"})
    assert read_scores(tmp_path) is None
    written(tmp_path, 2.0, unit_activities=[[0.5, 0.25]], protocol={"part": "test", "seed": 3})
    found = read_scores(tmp_path)
    assert found.log_likelihood[0] == -28.0
    assert found.protocol["seed"] == 3
    np.testing.assert_array_equal(found.unit_activities, [[0.5, 0.25]])
    written(tmp_path / "evaluation", 1.0, protocol={"part": "test"})
    assert read_scores(tmp_path).log_likelihood[0] == -29.0


@pytest.mark.parametrize("damage", ["no parquet", "empty", "a column is missing", "a column holds words"])
def test_a_damaged_file_of_scores_is_an_error(tmp_path, damage):
    written(tmp_path)
    file = tmp_path / "scores.parquet"
    table = pyarrow.parquet.read_table(file)
    if damage.startswith("a column"):
        position = table.column_names.index("pareto_k")
        words = pyarrow.array(["a", "b"])
        table = table.drop_columns("pareto_k") if "missing" in damage else table.set_column(position, "pareto_k", words)
        pyarrow.parquet.write_table(table, file)
    else:
        file.write_bytes(b"PAR1" if damage == "no parquet" else b"")
    with pytest.raises(InputError, match=r"scores\.parquet is damaged \(.*\); delete it, or score the images again"):
        read_scores(tmp_path)


@pytest.fixture
def binary(images, tmp_path):
    """A run with two binary units that was never trained."""
    model = ModelConfig(latent="bernoulli", latent_units=(2,), hidden_units=((8,),))
    config = RunConfig(DataConfig(images), model, TrainingConfig("vimco", k=2, epochs=1))
    started = run.start(config, OutputConfig(output_dir=str(tmp_path / "binary")))
    started.close()
    return TrainedRun(started.path, read_json(started.path / "config.json"), {}, with_prior(started.model))


def test_an_evaluation_scores_binary_units_and_draws_no_density_of_them(binary):
    settings = ScoringConfig(num_samples=60, jackknife=True)
    object.__setattr__(settings, "deviation", True)
    report, folder = evaluation.evaluate_run(binary, settings, False, 0, ALONE)
    assert np.isfinite(report["log_likelihood"])
    assert report["deviation"]["num_images"] == 20
    assert report["deviation"]["images_above_their_bound"] == 0
    names = {path.name for path in folder.iterdir()}
    assert {"report.json", "scores.parquet", "activities.png", "scores.png"} <= names
    assert "posteriors.png" not in names


@pytest.mark.parametrize(("flag", "value"), [("annealed", 3), ("prune", True)])
def test_options_that_do_not_exist_for_binary_units_are_refused_before_anything_is_scored(binary, flag, value):
    message = f"--{flag} exists for Gaussian units, this model's are bernoulli: .*; leave it out"
    with pytest.raises(InputError, match=message):
        evaluation.evaluate_run(
            binary, ScoringConfig(num_samples=60, **{flag: 3 if flag == "annealed" else True}), False, 0, ALONE
        )
    assert not (binary.path / "evaluation").exists()
