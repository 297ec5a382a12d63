"""A run is made from its settings: what reaches model, data and optimiser."""

import numpy as np
import pytest

from iwae_tf import InputError
from iwae_tf.config import DataConfig, ModelConfig, OutputConfig, RunConfig, TrainingConfig
from iwae_tf.training import fitting, results
from iwae_tf.training import run as training


@pytest.fixture
def make_run(tmp_path):
    """Starts a run on grey images of 30 pixels with some settings."""
    rng = np.random.default_rng(0)
    parts = {"x_train": rng.random((50, 30)), "x_valid": rng.random((7, 30)), "x_test": rng.random((20, 30))}
    np.savez(tmp_path / "mine.npz", **parts)

    def make(likelihood="bernoulli", name="run", resume=False, **settings):
        config = RunConfig(
            data=DataConfig(dataset=str(tmp_path / "mine.npz")),
            model=ModelConfig(latent_units=(3,), hidden_units=((8,),), likelihood=likelihood),
            training=TrainingConfig(**{"epochs": 2, "k": 2, "batch_size": 10} | settings),
        )
        run = training.start(config, OutputConfig(output_dir=str(tmp_path / name), resume=resume))
        run.close()  # several runs of a test work on a folder one after the other
        return run

    return make


def _rows(path):
    return [line.split(",") for line in path.read_text().splitlines()[1:]]


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "continuous-bernoulli", "student-t"])
def test_pixels_are_binarised_for_the_bernoulli_likelihood_alone(make_run, monkeypatch, likelihood):
    run = make_run(likelihood)
    assert run.model.likelihood_name == likelihood
    binary = likelihood == "bernoulli"
    for images in (run.x_valid, run.x_test):
        assert np.isin(images, [0.0, 1.0]).all() == binary
    batches = []
    make_batches = fitting.training_batches

    def recorded(*arguments):
        batches.append(make_batches(*arguments))
        return batches[-1]

    monkeypatch.setattr(fitting, "training_batches", recorded)
    training.fit(run, verbose=0)
    assert int(run.model.optimizer.iterations) == 10
    assert np.isin(next(iter(batches[0])), [0.0, 1.0]).all() == binary


def test_the_model_starts_at_the_mean_of_the_training_images(make_run):
    run = make_run()
    np.testing.assert_allclose(run.model.data_mean, run.dataset.x_train.mean(axis=0), rtol=1e-5)


def test_the_seed_and_the_objective_reach_the_model(make_run):
    run = make_run(seed=5, objective="dreg", k=7)
    assert run.model.seed == 5
    assert type(run.model.objective).__name__ == "DReG"
    assert run.model.objective.num_samples == 7


def test_the_papers_schedule_ends_at_a_tenth_of_the_learning_rate(make_run):
    run = make_run(schedule="paper", epochs=4, learning_rate=0.01)
    training.fit(run, verbose=0)
    rates = [line.split(",")[4] for line in (run.path / "history.csv").read_text().splitlines()[1:]]
    assert float(rates[-1]) == pytest.approx(0.001)
    assert float(rates[0]) > 0.001


def test_a_run_stopped_inside_an_epoch_goes_on_where_it_was(make_run, monkeypatch):
    settings = {"epochs": 3, "batch_size": 2}  # 25 steps an epoch, 5 in one call
    whole, stopped = make_run(name="whole", **settings), make_run(name="stopped", **settings)
    training.fit(whole, verbose=0)

    def interrupt(bar, batch, logs=None):
        if int(bar.model.optimizer.iterations) == 30:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.ProgressBar, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            training.fit(stopped, verbose=0)
    resumed = make_run(name="stopped", resume=True, **settings)
    assert int(resumed.model.optimizer.iterations) == 30
    training.fit(resumed, verbose=0)
    assert int(resumed.model.optimizer.iterations) == 75
    for one, other in zip(whole.model.weights, resumed.model.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-6)  # float32, graphs traced anew
    rows = [_rows(run.path / "history.csv") for run in (whole, resumed)]
    assert [row[:2] for row in rows[0]] == [row[:2] for row in rows[1]]
    bounds = [[[float(value) for value in row[2:4]] for row in history] for history in rows]
    np.testing.assert_allclose(*bounds, rtol=1e-5)  # the epoch that was cut has the bound of all its steps


def test_a_run_may_start_from_the_weights_of_another(make_run):
    first = make_run(name="first", objective="elbo")
    results.evaluate(first, training.fit(first, verbose=0), verbose=0)
    second = make_run(name="second", seed=9, init_from=str(first.path))
    for one, other in zip(first.model.weights, second.model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert int(second.model.optimizer.iterations) == 0


def test_weights_of_an_unfinished_or_another_model_are_refused(make_run):
    first = make_run(name="first")
    with pytest.raises(InputError, match="is not finished"):
        make_run(name="second", init_from=str(first.path))
    results.evaluate(first, training.fit(first, verbose=0), verbose=0)
    with pytest.raises(InputError, match="likelihood is bernoulli there and gaussian here"):
        make_run("gaussian", name="third", init_from=str(first.path))
