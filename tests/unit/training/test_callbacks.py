"""Progress bar, history file, checkpoints and early stopping, each with a stand-in for the model."""

import csv
import os
import signal
import types

import keras
import numpy as np
import pytest
from small_models import binary_images, small_model

from iwae_tf import InputError
from iwae_tf.errors import Stopped
from iwae_tf.objectives import IWAEBound
from iwae_tf.training.callbacks import Checkpoints, EarlyStopping, HistoryFile, ProgressBar, StopSignals

COLUMNS = ("epoch", "step", "bound", "val_bound", "learning_rate", "seconds")


@pytest.fixture
def clock(monkeypatch):
    """The clock of the callbacks, which the test sets by `now`."""
    clock = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr("iwae_tf.training.callbacks.time.perf_counter", lambda: clock.now)
    return clock


def attached(callback, step=0, **attributes):
    """The callback with a stand-in for the model at some step."""
    optimizer = types.SimpleNamespace(learning_rate=1e-3)
    callback.set_model(types.SimpleNamespace(optimizer=optimizer, step=step, **attributes))
    return callback


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_history(path, bounds):
    """A history with 30 steps and 10 seconds to an epoch, and these validation bounds."""
    lines = [f"{epoch},{30 * epoch},-9.5,{bound},0.001,{10 * epoch}.0" for epoch, bound in enumerate(bounds, start=1)]
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")


def test_a_signal_after_the_last_check_stops_all_the_same():
    with pytest.raises(Stopped), StopSignals():
        os.kill(os.getpid(), signal.SIGTERM)


# history.csv


def test_the_history_gets_a_line_after_each_epoch(tmp_path, clock):
    path = tmp_path / "history.csv"
    history = attached(HistoryFile(path, first_step=0, steps_per_epoch=30))
    for epoch, logs in enumerate(({"bound": -100.0}, {"bound": -90.123456789, "val_bound": -91.123456789})):
        clock.now += 2.5
        history.model.step += 30
        history.on_epoch_end(epoch, logs)
    assert path.read_text().splitlines() == [
        "epoch,step,bound,val_bound,learning_rate,seconds",
        "1,30,-100.000000,,0.001,2.500",
        "2,60,-90.123457,-91.123457,0.001,5.000",
    ]
    assert history.seconds == 5.0


@pytest.mark.parametrize(
    ("first_step", "kept", "cut"), [(90, 3, 0), (75, 2, 0), (29, 0, 0), (1000, 5, 0), (150, 4, 13)]
)
def test_a_resumed_run_drops_the_lines_after_its_first_step_and_one_cut_off(tmp_path, clock, first_step, kept, cut):
    path = tmp_path / "history.csv"
    write_history(path, range(5))
    before = rows_of(path)
    path.write_text(path.read_text()[: -cut or None])  # "5,150,-9.5,4,"
    history = attached(HistoryFile(path, first_step, 30), step=first_step + 30)
    assert rows_of(path) == before[:kept]
    clock.now += 4.0
    assert history.seconds == 10.0 * kept + 4.0
    history.on_epoch_end(kept, {"bound": -80.0})
    *old, new = rows_of(path)
    assert old == before[:kept]
    assert (new["epoch"], new["step"], new["seconds"]) == (str(kept + 1), str(first_step + 30), f"{10 * kept + 4}.000")


def test_the_line_of_an_epoch_that_a_callback_ended_is_dropped_when_the_epoch_goes_on(tmp_path, clock):
    path = tmp_path / "history.csv"
    write_history(path, range(3))
    path.write_text(path.read_text().replace("3,90,", "3,75,"))
    before = rows_of(path)
    history = attached(HistoryFile(path, 75, 30), step=75)
    assert rows_of(path) == before[:2]
    assert history.last_step == 60


# progress bar


@pytest.mark.parametrize(("verbose", "steps_at_once", "first_step"), [(0, 10, 0), (1, 15, 60), (2, 1, 0)])
def test_the_bar_shows_steps_epoch_bound_and_the_last_validation_bound(capsys, verbose, steps_at_once, first_step):
    bar = attached(ProgressBar(90, 30, first_step, verbose), first_step)
    for epoch in range(first_step // 30, 3):
        validation = " validation -95.68" if epoch > first_step // 30 else ""
        for _ in range(30 // steps_at_once):
            bar.model.step += steps_at_once
            bar.on_train_batch_end(0, {"bound": -90.128 - epoch, "loss": 90.128})
            assert verbose == 0 or bar.bar.postfix == f"epoch {epoch + 1}/3 bound {-90.128 - epoch:.2f}{validation}"
        bar.on_epoch_end(epoch, {"bound": -90.128 - epoch, "val_bound": -95.678})
        assert verbose == 0 or bar.bar.postfix.endswith(f"bound {-90.128 - epoch:.2f} validation -95.68")
    bar.bar.close()
    out, err = capsys.readouterr()
    assert (err == "") == (verbose == 0)
    assert verbose == 0 or (f"{first_step}/90" in err and "90/90" in err.split("\r")[-1])
    assert verbose == 0 or "-95.68" in err.split("\r")[-1]
    assert out.splitlines()[:1] == (["epoch 1/3: bound -90.128 validation -95.68"] if verbose == 2 else [])


# checkpoints


@pytest.fixture
def saved(monkeypatch):
    """The steps at which a checkpoint was saved."""
    steps = []
    monkeypatch.setattr("iwae_tf.training.callbacks.save_checkpoint", lambda model, folder: steps.append(model.step))
    return steps


def test_a_checkpoint_is_saved_after_an_epoch_if_the_last_one_is_old_enough(tmp_path, clock, saved):
    callback = attached(Checkpoints(tmp_path, StopSignals(), min_seconds=10.0))
    for step, seconds in enumerate((9.0, 1.0, 9.9, 0.2, 30.0), start=1):  # saved at 10, 20.1 and 50.1 seconds
        clock.now += seconds
        callback.model.step = step
        callback.on_epoch_end(step - 1, {"bound": -90.0})
    assert saved == [2, 4, 5]
    callback.on_train_end({"bound": -90.0})  # however young the last one is
    assert saved == [2, 4, 5, 5]


def test_a_long_epoch_has_checkpoints_and_stops_but_not_after_its_last_step(tmp_path, clock, saved):
    logs, signals = {"bound": -90.0}, StopSignals()
    callback = attached(Checkpoints(tmp_path, signals), step=7)
    callback.set_params({"steps": 10})
    for batch, seconds, count in ((3, 299.0, 0), (4, 2.0, 1), (9, 301.0, 1)):
        clock.now += seconds
        callback.on_train_batch_end(batch, logs)
        assert len(saved) == count
    signals.requested = signal.SIGTERM
    callback.on_train_batch_end(9, logs)  # the history of the epoch comes first
    for batch, ended in ((9, callback.on_epoch_end), (8, callback.on_train_batch_end)):
        with pytest.raises(Stopped):
            ended(batch, logs)


@pytest.mark.parametrize(("name", "bad"), [("bound", float("-inf")), ("val_bound", np.float32("nan"))])
def test_no_checkpoint_is_saved_after_an_epoch_whose_bounds_are_not_finite(tmp_path, saved, name, bad):
    callback = attached(Checkpoints(tmp_path, StopSignals(), min_seconds=0.0))
    callback.on_epoch_end(0, {"bound": -90.0, "val_bound": -91.0, name: bad})
    assert saved == []
    callback.on_epoch_end(1, {"bound": -90.0, "val_bound": -91.0})
    assert len(saved) == 1


# early stopping


@pytest.mark.parametrize(
    ("bounds", "patience", "stopped", "best"),
    [
        ([-3.0, -2.0, -1.0], 1, False, 3),
        ([-3.0, -2.0, -2.0], 1, True, 2),  # equal is not better
        ([-3.0, -2.0, -2.5], 2, False, 2),
        ([-3.0, -2.0, -2.5, -2.25], 2, True, 2),
        ([-2.0, "nan", -1.0], 2, False, 3),
        (["", ""], 3, False, 0),
        ([-1.0, -2.0, -2.0, -2.0], float("inf"), False, 1),
    ],
)
def test_a_run_is_stopped_after_patience_epochs_that_were_not_better(tmp_path, bounds, patience, stopped, best):
    write_history(tmp_path / "history.csv", bounds)
    callback = EarlyStopping(tmp_path, patience)
    assert (callback.stopped, callback.best_epoch) == (stopped, best)


def test_a_resumed_run_counts_epochs_as_one_that_was_never_stopped(tmp_path):
    bounds = [-5.0, -3.0, -4.0, -2.9999998, -3.5, -3.25]
    ends = []
    for cut in range(len(bounds) + 1):
        (tmp_path / str(cut) / "checkpoints").mkdir(parents=True)
        write_history(tmp_path / str(cut) / "history.csv", [f"{b:.6f}" for b in bounds[:cut]])
        callback = EarlyStopping(tmp_path / str(cut), 4)
        attached(callback, stop_training=False, save_weights=lambda path: path.touch())
        for epoch in range(cut, len(bounds)):
            callback.on_epoch_end(epoch, {"val_bound": np.float32(bounds[epoch])})
            assert callback.model.stop_training is (epoch == 5)
        ends.append((callback.best_epoch, callback.best, callback.stopped))
    assert set(ends) == {(2, -3.0, True)}  # the history rounds -2.9999998 to -3


def test_a_damaged_model_of_the_best_epoch_is_an_error(tmp_path):
    write_history(tmp_path / "history.csv", [-1.0])
    with pytest.raises(InputError, match=r"best\.weights\.h5, the model of the best epoch, cannot be read"):
        EarlyStopping(tmp_path, 1).restore(small_model())


def test_keras_own_callbacks_find_the_validation_bound(tmp_path):
    """The validation images are the negatives of others: their bound rises at first and then falls."""
    path, names = tmp_path / "best.weights.h5", {"monitor": "val_bound", "mode": "max"}
    callbacks = [
        keras.callbacks.ModelCheckpoint(path, save_best_only=True, save_weights_only=True, **names),
        keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True, **names),
    ]
    model = small_model(hidden_units=((20,),))
    model.compile(keras.optimizers.Adam(0.05), IWAEBound(2))
    x, other = binary_images(12, seed=1), 1.0 - binary_images(20, seed=2)
    fitted = model.fit(x, epochs=40, batch_size=4, validation_data=(other, None), callbacks=callbacks, verbose=0)
    bounds, best = np.array(fitted.history["val_bound"]), model.get_weights()
    assert 1 < len(bounds) == bounds.argmax() + 1 + 3 < 40
    model.load_weights(path)
    for restored, saved in zip(best, model.get_weights(), strict=True):
        np.testing.assert_array_equal(restored, saved)
    found = model.evaluate(other, batch_size=4, verbose=0, return_dict=True)["bound"]
    assert found == pytest.approx(bounds.max(), rel=1e-5)
