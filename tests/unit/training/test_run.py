"""A run is made from its settings: what reaches model, data, optimiser and `config.json`, and what a resumed run is."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from reference import log_mean_exp
from served import reference_log_weights, scores_request, through_python
from shared_runs import change_model
from test_event_files import events

from iwae_tf import InputError
from iwae_tf.commands.main import main
from iwae_tf.config import DataConfig, ModelConfig, OutputConfig, RunConfig, TrainingConfig
from iwae_tf.serving import export_saved_model, saved_model
from iwae_tf.serving.signatures import signatures
from iwae_tf.training import evaluation
from iwae_tf.training import run as training
from iwae_tf.training.building import binarised, paper_schedule
from iwae_tf.training.evaluation import evaluate_training
from iwae_tf.training.run_folder import (
    check_same_settings,
    check_trained,
    model_checksum,
    read_trained,
    record_places,
    recorded,
)

FLOAT32 = {"rtol": 1e-6}  # Keras keeps learning rates in float32


@pytest.fixture
def make_run(images, tmp_path, without_figures, without_refinement):
    """Starts a run on grey images of 30 pixels with some settings."""

    def make(name="run", resume=False, model=None, tensorboard=False, overwrite=False, **settings):
        config = RunConfig(
            data=DataConfig(dataset=images),
            model=ModelConfig(**{"latent_units": (3,), "hidden_units": ((8,),)} | (model or {})),
            training=TrainingConfig(**{"epochs": 2, "k": 2, "batch_size": 10} | settings),
        )
        output = OutputConfig(
            output_dir=str(tmp_path / name), resume=resume, overwrite=overwrite, tensorboard=tensorboard
        )
        run = training.start(config, output)
        run.close()  # several runs of a test work on a folder one after the other
        return run

    return make


def finish(run):
    evaluate_training(run, training.fit(run, verbose=0), verbose=0)
    return run


def assert_same_weights(one, other):
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def rows_of(run):
    return [line.split(",") for line in (run.path / "history.csv").read_text().splitlines()[1:]]


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli"])
def test_pixels_are_binarised_for_the_likelihood_that_declares_it_alone(make_run, monkeypatch, likelihood):
    run = make_run(model={"likelihood": likelihood})
    assert run.model.likelihood_name == likelihood
    assert binarised(run.dataset, likelihood) == (likelihood == "bernoulli")
    batches, make_batches = [], training.training_batches
    monkeypatch.setattr(training, "training_batches", lambda *args: batches.append(make_batches(*args)) or batches[-1])
    monkeypatch.setattr(run.model, "fit", lambda *args, **kwargs: run.model.optimizer.iterations.assign(10))
    training.fit(run, verbose=0)
    for images in (run.x_valid, run.x_test, next(iter(batches[0]))):
        assert np.isin(images, [0.0, 1.0]).all() == binarised(run.dataset, likelihood)


def test_seed_objective_and_the_mean_of_the_training_images_reach_the_model(make_run):
    run = make_run(seed=5, objective="dreg", k=7)
    assert (run.model.seed, run.model.objective.num_samples) == (5, 7)
    assert type(run.model.objective).__name__ == "DReG"
    np.testing.assert_allclose(run.model.data_mean, run.dataset.x_train.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_config_json_names_the_units_their_prior_and_how_scales_are_bounded(make_run, likelihood):
    run = make_run(
        model={"latent": "bernoulli", "likelihood": likelihood, "hidden_units": ((),)}, objective="vimco"
    )  # tests/integration/test_cli.py has Gaussian units
    content = json.loads((run.path / "config.json").read_text())["model"]
    assert content["prior"] == "independent Bernoulli, learned logits that start at 0"
    assert (run.model.hidden_units, content["latent"], run.model.latent) == (((),), "bernoulli", "bernoulli")
    assert ("log_scale" in content) == (likelihood == "gaussian")


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "optimizer", "watched"), [("float32", "muon", True), ("float16", "adam", False)])
def test_a_run_stopped_inside_an_epoch_resumes_to_the_same_weights_even_if_watched(
    make_run, monkeypatch, precision, optimizer, watched
):
    settings = {"epochs": 2, "batch_size": 2, "optimizer": optimizer}  # 25 steps an epoch, 5 in one call
    settings["model"] = {"precision": precision}
    whole, stopped = make_run("whole", **settings), make_run("stopped", tensorboard=watched, **settings)
    assert whole.model.dtype_policy.name == {"float32": "float32", "float16": "mixed_float16"}[precision]
    training.fit(whole, verbose=0)

    def interrupt(bar, batch, logs=None):
        if int(bar.model.optimizer.iterations) == 30:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.ProgressBar, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            training.fit(stopped, verbose=0)
    resumed = make_run("stopped", resume=True, tensorboard=watched, **settings)
    assert int(resumed.model.optimizer.iterations) == 30
    training.fit(resumed, verbose=0)
    assert int(resumed.model.optimizer.iterations) == 50
    # float32: another number of steps in a call is another graph, which may round otherwise
    for one, other in zip(whole.model.weights, resumed.model.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-6)
    rows = [rows_of(run) for run in (whole, resumed)]
    assert [row[:2] for row in rows[0]] == [row[:2] for row in rows[1]]
    bounds = [[[float(value) for value in row[2:4]] for row in history] for history in rows]
    np.testing.assert_allclose(*bounds, rtol=1e-5)  # the epoch that was cut has the bound of all its steps
    assert not (whole.path / "tensorboard").exists()
    if watched:
        found = events(stopped.path / "tensorboard")
        assert len(list((stopped.path / "tensorboard").iterdir())) == 2
        assert list(found["bound/training"]) == list(found["samples"]) == [25, 50]


class Watcher(keras.callbacks.Callback):
    """Records batches, and raises KeyboardInterrupt in the validation of an epoch."""

    def __init__(self, stop_in=None):
        super().__init__()
        self.batches, self.epoch, self.stop_in = [], 0, stop_in

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)

    def on_test_begin(self, logs=None):
        if self.epoch == self.stop_in:
            raise KeyboardInterrupt


def test_a_callback_of_the_user_sees_every_batch(make_run):
    run, watcher = make_run(epochs=2), Watcher()
    training.fit(run, verbose=0, extra=[watcher])
    assert run.steps_per_epoch > 1
    assert watcher.batches == [*range(run.steps_per_epoch)] * 2


def test_an_epoch_whose_validation_is_cut_off_is_repeated_to_the_same_bits(make_run):
    whole, cut = make_run("whole", epochs=3), make_run("cut", epochs=3)
    training.fit(whole, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        training.fit(cut, verbose=0, extra=[Watcher(stop_in=3)])
    resumed = make_run("cut", epochs=3, resume=True)
    training.fit(resumed, verbose=0)
    assert_same_weights(whole.model, resumed.model)
    assert [row[:5] for row in rows_of(whole)] == [row[:5] for row in rows_of(resumed)]


def test_a_finished_run_goes_on_with_more_epochs_to_the_weights_of_the_longer_run(make_run):
    longer, run = make_run("longer", epochs=4), make_run("run", epochs=2)
    training.fit(longer, verbose=0)
    training.fit(run, verbose=0)
    run = make_run("run", resume=True, epochs=4)
    training.fit(run, verbose=0)
    assert_same_weights(longer.model, run.model)
    assert json.loads((run.path / "config.json").read_text())["training"]["total_steps"] == longer.total_steps
    with pytest.raises(InputError, match=r"schedule is .*more epochs are allowed at a constant learning rate"):
        make_run("run", resume=True, epochs=5, schedule="paper")
    with pytest.raises(InputError, match="epochs is 4 there and 3 here"):
        make_run("run", resume=True, epochs=3)


def test_a_run_starts_from_the_weights_of_a_finished_run_of_the_same_model(make_run):
    first = make_run("first", objective="elbo")
    with pytest.raises(InputError, match="is not finished"):
        make_run("second", init_from=str(first.path))
    first.model.save(first.path / "model.keras")
    (first.path / "metrics.json").write_text("{}")
    second = make_run("second", seed=9, init_from=str(first.path), model={"precision": "float16"})
    assert_same_weights(first.model, second.model)
    assert int(second.model.optimizer.iterations) == 0
    assert second.model.dtype_policy.name == "mixed_float16"
    with pytest.raises(InputError, match="holds another kind of model: likelihood is 'bernoulli' there and 'gaussian'"):
        make_run("third", init_from=str(first.path), model={"likelihood": "gaussian"})
    assert not (first.path.parent / "third").exists()
    with pytest.raises(InputError, match=r"first is the output folder, which would replace it"):
        make_run("first", init_from=str(first.path), overwrite=True)
    assert (first.path / "model.keras").exists()


def test_a_run_on_other_rows_of_a_table_starts_with_the_standardisation_of_the_first(
    tmp_path, without_figures, without_refinement
):
    rng = np.random.default_rng(0)

    def start(name, loc, likelihood="auto", columns=None, **settings):
        rows = [f"{value:.3f},{'xy'[i % 2]}" for i, value in enumerate(rng.normal(loc, 2.0, 60))]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b", *rows]))
        config = RunConfig(
            data=DataConfig(dataset=str(tmp_path / f"{name}.csv"), columns=columns),
            model=ModelConfig(latent_units=(2,), hidden_units=((4,),), likelihood=likelihood),
            training=TrainingConfig(epochs=1, k=2, **settings),
        )
        run = training.start(config, OutputConfig(output_dir=str(tmp_path / name)))
        run.close()
        return run

    first = finish(start("first", 5.0))
    second = start("second", 7.0, init_from=str(first.path))
    assert second.model.columns == first.model.columns
    assert_same_weights(first.model, second.model)
    resumed = training.start(second.config, OutputConfig(output_dir=str(second.path), resume=True))
    resumed.close()
    assert resumed.model.columns == first.model.columns
    assert start("other", 7.0).model.columns != first.model.columns
    with pytest.raises(InputError, match=r"columns is .*'a'.* there and .*'b'"):
        start("turned", 5.0, columns=("b", "a"), init_from=str(first.path))
    words = r"another kind of model: columns is .*'student-t'.* there and .*'gaussian'"
    with pytest.raises(InputError, match=words) as error:
        start("third", 5.0, likelihood="gaussian", init_from=str(first.path))
    assert "categorical" not in str(error.value)  # which both have


def test_config_json_has_the_checksum_of_the_weights_that_a_run_started_from(make_run):
    def recorded(name):
        return json.loads((runs / name / "config.json").read_text())["training"].get("init_from_model")

    first = make_run("first")
    runs, folder = first.path.parent, str(first.path)
    (first.path / "metrics.json").write_text("{}")
    first.model.save(first.path / "model.keras")
    second = make_run("second", init_from=folder)
    taken = recorded("second")
    assert taken == model_checksum(first.path)
    assert recorded("first") is None

    change_model(first.path)  # what is resumed started from the weights before
    assert model_checksum(first.path) != taken
    for epochs in (2, 3):  # config.json is written again for more
        assert_same_weights(make_run("second", resume=True, init_from=folder, epochs=epochs).model, second.model)
        assert recorded("second") == taken
    shutil.move(first.path, runs / "moved")
    make_run("second", resume=True, init_from=folder, epochs=3)

    shutil.rmtree(second.path / "checkpoints")  # nothing is left of the weights: the run starts again
    with pytest.raises(InputError, match=r"there is no run folder .*first"):
        make_run("second", resume=True, init_from=folder, epochs=3)
    shutil.move(runs / "moved", first.path)
    again = make_run("second", resume=True, init_from=folder, epochs=3)
    assert_same_weights(again.model, read_trained(first.path).model)
    assert recorded("second") == model_checksum(first.path)


def test_a_run_that_cannot_start_releases_its_folder(make_run):
    make_run()
    with pytest.raises(InputError, match="k is 2 there and 3 here") as error:  # which keeps the frames alive
        make_run(resume=True, k=3)
    make_run(resume=True)
    assert error.value is not None


def test_a_run_whose_checkpoints_are_lost_does_not_start_again_unasked(make_run):
    run = finish(make_run())
    shutil.rmtree(run.path / "checkpoints")
    before = (run.path / "history.csv").read_text()
    with pytest.raises(InputError, match=r"no checkpoint is left in .*checkpoints, so training would start again from"):
        make_run(resume=True)
    (run.path / "model.keras").unlink()
    with pytest.raises(InputError, match="no checkpoint is left"):
        make_run(resume=True)
    assert (run.path / "history.csv").read_text() == before
    (run.path / "history.csv").write_text(before.splitlines()[0] + "\n")  # killed before the end of an epoch
    make_run(resume=True)
    make_run(overwrite=True)


def test_a_run_goes_on_after_its_data_and_its_start_have_moved(make_run, images, tmp_path):
    first = finish(make_run("first"))
    make_run("second", init_from=str(first.path))
    moved = tmp_path / "elsewhere" / Path(images).name
    moved.parent.mkdir()
    shutil.copy(images, moved)
    shutil.move(first.path, moved.parent / "first")
    run = make_run("second", resume=True, init_from=str(moved.parent / "first"))
    data = {"dataset": str(moved), "data_dir": "/data"}
    moved_run = read_trained(finish(run).path)
    assert moved_run.config["training"]["init_from"] == str(moved.parent / "first")
    other = finish(make_run("other/first", seed=5))
    with pytest.raises(InputError, match=r"init_from is .*elsewhere/first' there and .*other/first' here"):
        make_run("second", resume=True, init_from=str(other.path))
    with pytest.raises(InputError, match=r"init_from is .* there and None here"):
        make_run("second", resume=True)
    check_same_settings(run.path, dataclasses.replace(run.config, data=DataConfig(**data)))
    record_places(run.path, dataclasses.replace(run.config, data=DataConfig(**data)))
    assert read_trained(run.path).config["data"]["dataset"] == str(moved)
    with pytest.raises(InputError, match=r"dataset is .* there and '/b/other.npz' here"):
        check_same_settings(run.path, dataclasses.replace(run.config, data=DataConfig("/b/other.npz")))


def test_batches_of_the_model_before_training_went_on_are_not_scores_of_the_model_after(make_run, monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH_SIZE", 10)

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    run = make_run()
    training.fit(run, verbose=0)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "unit_activities", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evaluate_training(run, 0.0, verbose=0)
    left = run.path / "batches"
    assert len(list(left.glob("*.parquet"))) == 2
    shutil.copytree(left, run.path / "old")
    longer = make_run(resume=True, epochs=4, learning_rate=1e-3)
    training.fit(longer, verbose=0)
    found = evaluate_training(longer, 0.0, verbose=0)
    assert not left.exists()

    def again():
        (run.path / "metrics.json").unlink()
        return evaluate_training(longer, 0.0, verbose=0)["log_likelihood"]

    assert again() == found["log_likelihood"]
    (run.path / "old" / "protocol.json").unlink()  # as a killed process leaves a folder that it was deleting
    (run.path / "old").rename(left)
    assert again() == found["log_likelihood"]


def test_a_finished_run_is_not_scored_again_unless_its_files_are_damaged(make_run, monkeypatch):
    run = finish(make_run())
    before = json.loads((run.path / "metrics.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "_score", None)  # which would fail
        finish(make_run(resume=True))
    after = json.loads((run.path / "metrics.json").read_text())
    assert after == before | {"train_seconds": after["train_seconds"]}
    (run.path / "scores.parquet").write_bytes(b"PAR1")
    again = evaluate_training(make_run(resume=True), 0.0, verbose=0)
    assert again["log_likelihood"] == before["log_likelihood"]


def test_a_damaged_batch_and_those_after_it_are_scored_again(make_run, monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH_SIZE", 5)
    run = make_run()
    expected = evaluate_training(finish(run), 0.0, verbose=0)["log_likelihood"]
    (run.path / "metrics.json").unlink()

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "unit_activities", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evaluate_training(run, 0.0, verbose=0)
    batches = sorted((run.path / "batches").glob("*.parquet"))
    assert len(batches) == 4
    batches[1].write_bytes(b"PAR1")
    batches[2].unlink()
    assert evaluate_training(run, 0.0, verbose=0)["log_likelihood"] == expected


def test_a_model_is_not_finished_while_the_run_is_trained_further(make_run):
    run = finish(make_run())
    check_trained(run.path)
    make_run(resume=True, epochs=4)
    with pytest.raises(InputError, match="is not finished: its 4 epochs are not trained and scored"):
        check_trained(run.path)


def test_callbacks_of_a_resumed_run_are_recorded(make_run):
    run = make_run()
    record_places(run.path, dataclasses.replace(run.config, callbacks=("a:b",)))
    record_places(run.path, dataclasses.replace(run.config, callbacks=("c:d",)))
    assert recorded(run.path, "callbacks") == ("a:b", "c:d")


@pytest.mark.slow
def test_a_server_scores_a_run_of_16_bits_as_float64_does(make_run, tmp_path, monkeypatch):
    run = finish(make_run(model={"precision": "bfloat16"}, epochs=1))
    assert run.model.dtype_policy.name == "mixed_bfloat16"
    again = read_trained(run.path).model
    np.testing.assert_array_equal(again.log_weights(run.x_test[:4], 60), run.model.log_weights(run.x_test[:4], 60))
    monkeypatch.setattr(saved_model, "signatures", lambda *given: {"log_prob_k": signatures(*given)["log_prob_k"]})
    folder = export_saved_model(run.model, tmp_path / "models" / "mine", num_samples=50, max_samples=1000)
    request = scores_request(run.x_test[:4], 200, seed=3)
    (answer,) = through_python(folder, [request])
    expected = [log_mean_exp(reference_log_weights(run.model, x, 200, 3)) for x in run.x_test[:4]]
    # Hidden values have 8 bits; scores lose what 30 pixels and 3 units make of it.
    np.testing.assert_allclose(answer["log_prob"], expected, atol=0.02)


# early stopping in a run


@pytest.mark.slow
def test_a_run_stops_early_at_its_best_epoch_and_resumes_to_its_bits(make_run, images, tmp_path, monkeypatch, capsys):
    settings = {"epochs": 60, "early_stopping": 2, "learning_rate": 0.05, "batch_size": 25, "seed": 4}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    words += ["--dataset", images, "--k", "2", "--latent-units", "3", "--hidden-units", "8", "--eval-samples", "5"]
    seen, ended = [], training.EarlyStopping.on_epoch_end

    def records(self, epoch, logs):
        seen.append(set(logs))
        ended(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(training.EarlyStopping, "on_epoch_end", records)
        assert main(["train", *words, "--verbose", "0", "--output-dir", str(tmp_path / "whole")]) == 0
    assert {"bound", "loss", "val_bound", "val_loss"} == set().union(*seen)  # nothing of the test images
    whole = read_trained(tmp_path / "whole")
    bounds = [float(row[3]) for row in rows_of(whole)]
    best = int(np.argmax(bounds)) + 1
    assert best > 1
    assert len(bounds) == best + 2 < 60
    assert whole.metrics["best_epoch"] == best
    assert f"the model is that of epoch {best}," in capsys.readouterr().out
    for epoch in (best, best + 2):  # stopped after the best epoch, and again when patience has ended
        saved = training.Checkpoints.on_epoch_end

        def stops(self, number, logs=None, epoch=epoch, saved=saved):
            saved(self, number, logs)
            if number + 1 == epoch:
                raise KeyboardInterrupt

        stopped = make_run("stopped", resume=(tmp_path / "stopped").exists(), **settings)
        with monkeypatch.context() as patch:
            patch.setattr(training.Checkpoints, "on_epoch_end", stops)
            with pytest.raises(KeyboardInterrupt):
                training.fit(stopped, verbose=0)
    resumed = make_run("stopped", resume=True, **settings)
    training.fit(resumed, verbose=0)
    assert_same_weights(whole.model, resumed.model)
    assert resumed.model.step == best * 2  # the optimiser is that of the best epoch as well


# the paper's learning rates


def rates(schedule, steps):
    return np.asarray(schedule(np.array(steps)), np.float64)


@pytest.mark.parametrize(("learning_rate", "steps_per_epoch"), [(5e-4, 10), (1e-3, 2980)])
def test_stage_i_of_the_paper_lasts_3_to_the_i_epochs_at_its_rate(learning_rate, steps_per_epoch):
    schedule = paper_schedule(learning_rate, 3280 * steps_per_epoch)
    first = 0
    for stage in range(8):
        last = first + 3**stage * steps_per_epoch - 1
        steps = [first, (first + last) // 2, last]
        np.testing.assert_allclose(rates(schedule, steps), learning_rate * 10 ** (-stage / 7), **FLOAT32)
        first = last + 1
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    np.testing.assert_array_equal(rates(again, [0, 1, first - 1]), rates(schedule, [0, 1, first - 1]))


@pytest.mark.parametrize("total_steps", [6560, 100, 2, 1])
def test_a_run_of_another_length_stretches_every_stage_in_proportion(total_steps):
    found = rates(paper_schedule(1e-3, total_steps), range(total_steps))
    np.testing.assert_allclose(found[-1], 1e-4, **FLOAT32)
    stages = np.round(-7 * np.log10(found / 1e-3)).astype(int)
    assert (np.diff(stages) >= 0).all()
    # either end of a stage is rounded to a step
    lengths = np.bincount(stages, minlength=8)
    assert (np.abs(lengths - total_steps * 3.0 ** np.arange(8) / 3280) <= 1.0).all()


def test_the_optimizer_takes_the_rate_of_the_step_that_it_is_about_to_take():
    optimizer = keras.optimizers.SGD(paper_schedule(1.0, 3280))
    weight, taken = keras.Variable([0.0]), []
    optimizer.build([weight])
    for _ in range(5):
        before = float(weight[0])
        optimizer.apply([keras.ops.ones(1)], [weight])
        taken.append(before - float(weight[0]))
    # one epoch of one step, then three, then nine; the weight itself is float32 of up to 4
    np.testing.assert_allclose(taken, [10 ** (-stage / 7) for stage in (0, 1, 1, 1, 2)], atol=1e-6)


def test_the_papers_schedule_over_all_steps_reaches_the_optimiser(make_run):
    optimizer, found = make_run(schedule="paper", epochs=4, learning_rate=0.01).model.optimizer, []
    for step in (0, 19):  # the first and the last one
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    assert found[0] > found[1] == pytest.approx(0.001)


def test_muon_moves_matrices_by_orthogonal_steps_and_decays_no_weight(make_run):
    run = make_run(optimizer="muon", learning_rate=0.01, batch_size=50, epochs=1)  # one step
    before = [weight.numpy() for weight in run.model.trainable_weights]
    training.fit(run, verbose=0)
    for weight, start in zip(run.model.trainable_weights, before, strict=True):
        step = (weight.numpy() - start) / 0.01
        if len(step.shape) == 2:  # Newton-Schulz brings singular values near 1; Keras scales them by size
            values = np.linalg.svd(step, compute_uv=False) / (0.2 * max(step.shape) ** 0.5)
            assert 0.3 < values.max() < 1.3
    settings = json.loads((run.path / "config.json").read_text())["training"]
    config = settings["optimizer_config"]
    assert (settings["optimizer"], config["name"][:4]) == ("muon", "muon")
    assert config["weight_decay"] is config["adam_weight_decay"] is None


def test_a_cosine_falls_from_the_learning_rate_to_0_over_all_steps(make_run):
    optimizer, found = make_run(schedule="cosine", epochs=4, learning_rate=0.01).model.optimizer, []
    for step in (0, 5, 10, 20):
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    np.testing.assert_allclose(found, 0.005 * (1 + np.cos(np.pi * np.array([0, 0.25, 0.5, 1]))), atol=1e-9)
