"""The validation bound ends a run and chooses its model, with Keras' callbacks and with `--early-stopping`."""

import json
import types

import keras
import numpy as np
import pytest
from small_models import binary_images, small_model

from iwae_tf import InputError
from iwae_tf.commands.main import main
from iwae_tf.config import TrainingConfig
from iwae_tf.objectives import IWAEBound
from iwae_tf.training import early_stopping, run
from iwae_tf.training.early_stopping import EarlyStopping

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

# ---------------------------------------------------------------------------------------------- Keras' own


EPOCHS = 40


def overfitted(callbacks):
    """A fit whose validation images are the negatives of others: their bound rises at first and then falls."""
    model = small_model(hidden_units=((20,),))
    model.compile(keras.optimizers.Adam(0.02), IWAEBound(2))
    x, other = binary_images(12, seed=1), 1.0 - binary_images(40, seed=2)
    history = model.fit(x, epochs=EPOCHS, batch_size=4, validation_data=(other, None), callbacks=callbacks, verbose=0)
    return model, np.array(history.history["val_bound"]), other


def test_keras_early_stopping_goes_by_the_validation_bound():
    stopping = keras.callbacks.EarlyStopping(monitor="val_bound", mode="max", patience=3, restore_best_weights=True)
    model, bounds, other = overfitted([stopping])
    best = bounds.argmax()
    assert len(bounds) == best + 1 + 3 < EPOCHS
    assert model.evaluate(other, batch_size=4, verbose=0, return_dict=True)["bound"] == pytest.approx(
        bounds[best], rel=1e-5
    )


def test_keras_model_checkpoint_keeps_the_best_model(tmp_path):
    path = tmp_path / "best.keras"
    keeping = keras.callbacks.ModelCheckpoint(path, monitor="val_bound", mode="max", save_best_only=True)
    _, bounds, other = overfitted([keeping])
    kept = keras.saving.load_model(path)
    assert bounds.argmax() < EPOCHS - 1
    assert kept.evaluate(other, batch_size=4, verbose=0, return_dict=True)["bound"] == pytest.approx(
        bounds.max(), rel=1e-5
    )


# ---------------------------------------------------------------------------------------------- the rule


def stopping_after(folder, bounds, patience):
    """The callback in a run folder whose history has these validation bounds."""
    lines = ["epoch,step,bound,val_bound,learning_rate,seconds"]
    lines += [f"{epoch},{epoch},-1.0,{bound},0.001,1.0" for epoch, bound in enumerate(bounds, start=1)]
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
    return EarlyStopping(folder, patience)


@pytest.mark.parametrize(
    ("bounds", "patience", "stopped", "best"),
    [
        ([-3.0, -2.0, -1.0], 1, False, 3),
        ([-3.0, -2.0, -2.0], 1, True, 2),  # as good is no better
        ([-3.0, -2.0, -2.5], 2, False, 2),
        ([-3.0, -2.0, -2.5, -2.25], 2, True, 2),
        ([-2.0, "nan", -1.0], 2, False, 3),
        ([], 1, False, 0),
        ([-1.0, -2.0, -2.0, -2.0], float("inf"), False, 1),
    ],
)
def test_a_run_is_stopped_when_no_epoch_was_better_for_so_many(tmp_path, bounds, patience, stopped, best):
    callback = stopping_after(tmp_path, bounds, patience)
    if bounds:
        assert callback.stopped is stopped
    assert callback.best_epoch == best


def test_a_resumed_run_counts_as_one_that_was_never_stopped(tmp_path):
    bounds = [-5.0, -3.0, -4.0, -2.9999998, -3.5, -3.25]
    saved = []

    def attached(callback):
        callback.set_model(types.SimpleNamespace(stop_training=False, save_weights=lambda path: path.touch()))
        return callback

    for cut in range(len(bounds) + 1):
        (tmp_path / str(cut) / "checkpoints").mkdir(parents=True)
        callback = attached(stopping_after(tmp_path / str(cut), [f"{b:.6f}" for b in bounds[:cut]], 4))
        for epoch in range(cut, len(bounds)):
            callback.on_epoch_end(epoch, {"val_bound": np.float32(bounds[epoch])})
            assert callback.model.stop_training is (epoch == 5)
        saved.append((callback.best_epoch, callback.best, callback.stopped))
    assert set(saved) == {(2, -3.0, True)}  # -2.9999998 is what the history calls -3


def test_a_model_of_the_best_epoch_that_is_damaged_is_an_error(tmp_path):
    callback = stopping_after(tmp_path, [-1.0], 1)
    with pytest.raises(InputError, match=r"best\.weights\.h5, the model of the best epoch, cannot be read"):
        callback.restore(small_model())


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_patience_is_a_number_of_epochs(value):
    with pytest.raises(InputError, match="early_stopping must be an integer >= 1"):
        TrainingConfig(early_stopping=value)


# ---------------------------------------------------------------------------------------------- in a run


@pytest.fixture
def flags(tmp_path):
    """Flags of a run that overfits, with patience 2, without its folder."""
    rng = np.random.default_rng(0)
    parts = {name: rng.random((number, 5, 6)) for name, number in (("x_train", 20), ("x_valid", 60), ("x_test", 20))}
    np.savez(tmp_path / "mine.npz", **parts)
    flags = ["--dataset", str(tmp_path / "mine.npz"), "--k", "2", "--batch-size", "5", "--learning-rate", "0.05"]
    flags += ["--hidden-units", "10", "--latent-units", "3", "--eval-samples", "50", "--verbose", "0"]
    return ["train", *flags, "--seed", "4", "--epochs", "60", "--early-stopping", "2"]


def history(path):
    return [line.split(",") for line in (path / "history.csv").read_text().splitlines()[1:]]


def weights(path):
    return [variable.numpy() for variable in keras.saving.load_model(path / "model.keras").weights]


@pytest.mark.slow
def test_a_run_stops_and_takes_the_best_epoch_and_a_resumed_one_has_its_bits(flags, tmp_path, monkeypatch, capsys):
    whole, stopped, short = (tmp_path / name for name in ("whole", "stopped", "short"))
    assert main([*flags, "--output-dir", str(whole)]) == 0
    bounds = [float(row[3]) for row in history(whole)]
    best = int(np.argmax(bounds)) + 1
    assert best > 1
    assert len(bounds) == best + 2 < 60
    assert json.loads((whole / "metrics.json").read_text())["best_epoch"] == best
    assert f"the model is that of epoch {best}," in capsys.readouterr().out

    # A run of just as many epochs ends with the same model.
    plain = [*flags[:-4], "--epochs", str(best), "--output-dir", str(short)]
    assert main(plain) == 0
    for one, other in zip(weights(whole), weights(short), strict=True):
        np.testing.assert_array_equal(one, other)

    # Stopped after the best epoch, before its patience ends, and stopped again when it has ended.
    for epoch in (best, best + 2):
        ended = run.Checkpoints.on_epoch_end

        def stops(self, number, logs=None, epoch=epoch, ended=ended):
            ended(self, number, logs)
            if number + 1 == epoch:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(run.Checkpoints, "on_epoch_end", stops)
            assert main([*flags, "--output-dir", str(stopped), *(["--resume"] if stopped.exists() else [])]) == 130
    assert main([*flags, "--output-dir", str(stopped), "--resume"]) == 0
    assert [row[:5] for row in history(stopped)] == [row[:5] for row in history(whole)]
    for one, other in zip(weights(whole), weights(stopped), strict=True):
        np.testing.assert_array_equal(one, other)
    metrics = [json.loads((path / "metrics.json").read_text())["bounds"] for path in (whole, stopped)]
    assert metrics[0] == metrics[1]


def test_the_test_images_are_not_looked_at(flags, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(early_stopping.EarlyStopping, "on_epoch_end", lambda self, epoch, logs: seen.append(set(logs)))
    assert main([*flags[:-4], "--epochs", "1", "--early-stopping", "2", "--output-dir", str(tmp_path / "run")]) == 0
    assert seen == [{"bound", "loss", "val_bound", "val_loss"}]


def test_without_validation_images_early_stopping_is_refused_before_training(tmp_path, capsys):
    rows = np.zeros((9, 4))
    np.savez(tmp_path / "mine.npz", x_train=rows, x_test=rows)
    flags = ["--dataset", str(tmp_path / "mine.npz"), "--early-stopping", "2", "--output-dir", str(tmp_path / "run")]
    assert main(["train", *flags]) == 2
    assert "--early-stopping needs validation images" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_early_stopping_on_several_hosts_is_refused(tmp_path, capsys):
    flags = ["--early-stopping", "2", "--strategy", "multiworker", "--output-dir", str(tmp_path / "run")]
    assert main(["train", *flags]) == 2
    assert "works on one host" in capsys.readouterr().err
