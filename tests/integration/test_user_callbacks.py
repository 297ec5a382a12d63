"""`train --callback MODULE:FACTORY`: the callbacks of a user."""

import json
import sys
from pathlib import Path

import pytest
from shared_runs import SIZES
from test_documents import ROOT, blocks

from iwae_tf.commands.main import main
from iwae_tf.errors import InputError

MODULE = """
import keras

class Names(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        with open("epochs.txt", "a") as file:
            print(epoch, "val_bound" in logs, file=file)

class Stops(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1

def names():
    return Names()

def stops():
    return Stops()

def nothing():
    return None

def fails():
    raise RuntimeError("nobody has logged in")

value = 5
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the module `my_callbacks`."""
    (tmp_path / "my_callbacks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield tmp_path
    for name in ("my_callbacks", "documented"):
        sys.modules.pop(name, None)


def _train(images, *flags):
    common = ["--dataset", images, "--output-dir", "run", "--k", "2", "--verbose", "0", *SIZES]
    return main(["train", *common, *flags])


def test_callbacks_are_called_recorded_and_called_again_by_resume_and_may_stop_training(folder, images, monkeypatch):
    def stop(*arguments):
        raise InputError("enough")

    monkeypatch.setattr("iwae_tf.training.evaluation.evaluate_training", stop)
    (example,) = (block for block in blocks(ROOT / "docs/commands.md", "python") if "CSVLogger" in block)
    Path("documented.py").write_text(example)
    given = ["my_callbacks:names", "my_callbacks:stops", "documented:csv_log", "keras.callbacks:TerminateOnNaN"]
    assert _train(images, "--epochs", "4", *(word for name in given for word in ("--callback", name))) == 2
    assert Path("epochs.txt").read_text() == "0 True\n1 True\n"  # `stops` ended it
    assert Path("run/model.keras").is_file()
    assert json.loads(Path("run/config.json").read_text())["callbacks"] == given
    assert _train(images, "--epochs", "4", "--resume") == 2
    assert Path("epochs.txt").read_text() == "".join(f"{epoch} True\n" for epoch in range(4))
    header, *rows = Path("log.csv").read_text().splitlines()
    assert {"epoch", "bound", "val_bound", "loss"} <= set(header.split(","))
    assert [row.split(",")[0] for row in rows] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        ("my_callbacks", "expected MODULE:FACTORY"),
        (":names", "expected MODULE:FACTORY"),
        ("no_such_module:names", "--callback no_such_module:names cannot be imported"),
        ("my_callbacks:name", "my_callbacks has no name; did you mean names?"),
        ("my_callbacks:value", "is no function but 5"),
        ("my_callbacks:nothing", "returns None; expected a keras.callbacks.Callback"),
        ("my_callbacks:fails", "failed (RuntimeError: nobody has logged in)"),
        ("keras.callbacks:ModelCheckpoint", "failed (TypeError: "),
    ],
)
def test_a_callback_that_is_none_is_one_line_before_anything_is_written(folder, images, callback, message, capfd):
    assert _train(images, "--callback", callback) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not Path("run").exists()
