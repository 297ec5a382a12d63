import csv
import types

import keras
import numpy as np
import pytest
from small_models import binary_images, small_model

from iwae_tf.objectives.iwae import IWAEBound
from iwae_tf.training.callbacks import HISTORY_COLUMNS, Checkpoints, HistoryFile, ProgressBar


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 1000.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("iwae_tf.training.callbacks.time", clock)
    return clock


def attached(callback, step=0, learning_rate=1e-3):
    """The callback with a stand-in for the model at some step."""
    optimizer = types.SimpleNamespace(learning_rate=learning_rate)
    callback.set_model(types.SimpleNamespace(optimizer=optimizer, step=step))
    return callback


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------------------------------------- history.csv


def test_the_history_gets_a_line_after_each_epoch(tmp_path, clock):
    path = tmp_path / "history.csv"
    history = attached(HistoryFile(path, first_step=0))
    for epoch, bound in enumerate((-100.0, -90.123456789)):
        clock.now += 2.5
        history.model.step += 30
        history.on_epoch_end(epoch, {"bound": bound, "loss": -bound, "val_bound": bound - 1.0})
    assert path.read_text().splitlines()[0] == "epoch,step,bound,val_bound,learning_rate,seconds"
    assert rows_of(path) == [
        dict(zip(HISTORY_COLUMNS, ("1", "30", "-100.000000", "-101.000000", "0.001", "2.500"), strict=True)),
        dict(zip(HISTORY_COLUMNS, ("2", "60", "-90.123457", "-91.123457", "0.001", "5.000"), strict=True)),
    ]
    assert history.seconds == 5.0


def test_without_validation_images_the_history_leaves_the_column_empty(tmp_path):
    path = tmp_path / "history.csv"
    attached(HistoryFile(path, first_step=0)).on_epoch_end(0, {"bound": -100.0})
    (row,) = rows_of(path)
    assert (row["bound"], row["val_bound"]) == ("-100.000000", "")


def write_history(path, epochs):
    """A history with 30 steps and 10 seconds to an epoch."""
    lines = [f"{epoch},{30 * epoch},-9{epoch}.5,,0.001,{10 * epoch}.0" for epoch in range(1, epochs + 1)]
    path.write_text("\n".join([",".join(HISTORY_COLUMNS), *lines]) + "\n")


@pytest.mark.parametrize(("first_step", "kept"), [(90, 3), (60, 2), (75, 2), (29, 0), (1000, 5)])
def test_a_resumed_run_drops_the_lines_after_its_first_step_and_goes_on(tmp_path, clock, first_step, kept):
    path = tmp_path / "history.csv"
    write_history(path, 5)
    before = rows_of(path)
    history = attached(HistoryFile(path, first_step), step=first_step + 30)
    assert rows_of(path) == before[:kept]
    clock.now += 4.0
    assert history.seconds == 10.0 * kept + 4.0
    history.on_epoch_end(kept, {"bound": -80.0})
    *old, new = rows_of(path)
    assert old == before[:kept]
    assert (new["epoch"], new["step"], new["seconds"]) == (str(kept + 1), str(first_step + 30), f"{10 * kept + 4}.000")


def test_a_new_run_starts_the_history_afresh(tmp_path):
    path = tmp_path / "history.csv"
    write_history(path, 5)
    assert HistoryFile(path, first_step=0).seconds_before == 0.0
    assert rows_of(path) == []


def test_a_resumed_run_without_a_history_starts_one(tmp_path):
    path = tmp_path / "history.csv"
    HistoryFile(path, first_step=60)
    assert path.read_text().split() == ["epoch,step,bound,val_bound,learning_rate,seconds"]


def test_a_last_line_that_was_cut_off_does_not_stop_a_run_from_going_on(tmp_path):
    path = tmp_path / "history.csv"
    write_history(path, 3)
    path.write_text(path.read_text()[:-20])  # "3,90,-93.5,"
    history = HistoryFile(path, first_step=90)
    assert [row["epoch"] for row in rows_of(path)] == ["1", "2"]
    assert history.seconds_before == 20.0


# ---------------------------------------------------------------------------------------------- progress bar


def progress(verbose, first_step=0):
    return attached(ProgressBar(total_steps=90, steps_per_epoch=30, first_step=first_step, verbose=verbose), first_step)


def run_epochs(bar, epochs, steps_at_once=10, val_bound=None):
    for epoch in range(epochs):
        for _ in range(30 // steps_at_once):
            bar.model.step += steps_at_once
            bar.on_train_batch_end(0, {"bound": -90.128 - epoch, "loss": 90.128})
        logs = {"bound": -90.128 - epoch} | ({} if val_bound is None else {"val_bound": val_bound})
        bar.on_epoch_end(bar.model.step // 30 - 1, logs)
    bar.close()


def test_a_silent_bar_prints_nothing(capsys):
    run_epochs(progress(verbose=0), 3, val_bound=-95.0)
    assert capsys.readouterr() == ("", "")


def test_the_bar_shows_steps_epoch_bound_and_the_last_validation_bound(capsys):
    run_epochs(progress(verbose=1), 3, val_bound=-95.678)
    out, err = capsys.readouterr()
    assert out == ""
    last = err.split("\r")[-1]
    assert "90/90" in last
    assert "epoch 3/3 bound -92.13 validation -95.68" in last


def test_the_bar_of_a_resumed_run_starts_where_the_run_stopped(capsys):
    bar = progress(verbose=1, first_step=60)
    assert bar.bar.n == 60
    assert "60/90" in capsys.readouterr().err
    run_epochs(bar, 1)
    assert "90/90" in capsys.readouterr().err.split("\r")[-1]


@pytest.mark.parametrize("steps_at_once", [1, 15])
def test_the_bar_counts_steps_however_many_keras_runs_at_once(steps_at_once):
    bar = progress(verbose=1)
    run_epochs(bar, 2, steps_at_once)
    assert bar.bar.n == 60


@pytest.mark.parametrize(("step", "epoch"), [(1, 1), (30, 1), (31, 2), (90, 3)])
def test_the_epoch_on_the_bar_is_the_one_under_way(step, epoch):
    bar = progress(verbose=1)
    bar.model.step = step
    bar.on_train_batch_end(0, {"bound": -90.0})
    assert bar.bar.postfix.startswith(f"epoch {epoch}/3 ")
    bar.close()


def test_a_talkative_bar_writes_a_line_for_each_epoch(capsys):
    run_epochs(progress(verbose=2), 2, val_bound=-95.678)
    out, _ = capsys.readouterr()
    assert out.splitlines() == [
        "epoch 1/3: bound -90.128 validation -95.68",
        "epoch 2/3: bound -91.128 validation -95.68",
    ]


# ---------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def saved(monkeypatch):
    """The steps at which a checkpoint was saved."""
    steps = []
    monkeypatch.setattr("iwae_tf.training.callbacks.save_checkpoint", lambda model, folder: steps.append(model.step))
    return steps


def test_a_checkpoint_is_saved_after_an_epoch_if_the_last_one_is_old_enough(tmp_path, clock, saved):
    callback = attached(Checkpoints(tmp_path, min_seconds=10.0))
    for step, seconds in enumerate((9.0, 1.0, 9.9, 0.2, 30.0), start=1):  # saved at 10, 20.1 and 50.1 seconds
        clock.now += seconds
        callback.model.step = step
        callback.on_epoch_end(step - 1, {"bound": -90.0})
    assert saved == [2, 4, 5]


@pytest.mark.parametrize("bad", [float("nan"), float("-inf"), np.float32("nan")])
@pytest.mark.parametrize("name", ["bound", "val_bound"])
def test_no_checkpoint_is_saved_after_an_epoch_whose_bounds_are_not_finite(tmp_path, clock, saved, name, bad):
    callback = attached(Checkpoints(tmp_path, min_seconds=0.0))
    callback.on_epoch_end(0, {"bound": -90.0, "val_bound": -91.0, name: bad})
    assert saved == []
    callback.on_epoch_end(1, {"bound": -90.0, "val_bound": -91.0})
    assert len(saved) == 1


def test_a_checkpoint_is_saved_at_the_end_of_training_however_young_the_last_one(tmp_path, clock, saved):
    callback = attached(Checkpoints(tmp_path, min_seconds=1e9), step=7)
    callback.on_epoch_end(0, {"bound": -90.0})
    callback.on_train_end({"bound": -90.0})
    assert saved == [7]


# ---------------------------------------------------------------------------------------------- in fit


# Keras reads variables in a way that NumPy 2.4 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_fit_feeds_all_three_callbacks(tmp_path, capsys):
    model = small_model()
    model.compile(keras.optimizers.Adam(1e-3), IWAEBound(2), steps_per_execution=2)
    bar = ProgressBar(total_steps=8, steps_per_epoch=4, first_step=0, verbose=1)
    history = HistoryFile(tmp_path / "history.csv", first_step=0)
    x = binary_images(16)
    result = model.fit(
        x,
        batch_size=4,
        epochs=2,
        validation_data=(x, None),
        callbacks=[bar, history, Checkpoints(tmp_path, min_seconds=0.0)],
        verbose=0,
    )
    bar.close()
    assert "8/8" in capsys.readouterr().err.split("\r")[-1]
    rows = rows_of(tmp_path / "history.csv")
    assert [(row["epoch"], row["step"], row["learning_rate"]) for row in rows] == [
        ("1", "4", "0.001"),
        ("2", "8", "0.001"),
    ]
    for name in ("bound", "val_bound"):
        written = [float(row[name]) for row in rows]
        np.testing.assert_allclose(written, result.history[name], atol=1e-6)  # six decimals
    names = sorted(path.name for path in tmp_path.glob("*.h5"))
    assert [name[:14] for name in names] == ["step-000000004", "step-000000008"]
