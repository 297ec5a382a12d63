import hashlib
import os

import keras
import numpy as np
import pytest
from small_models import small_model

from iwae_tf.training.checkpoints import latest_checkpoint, save_checkpoint

# Keras reads variables in a way that NumPy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def compiled(seed=0):
    model = small_model(seed=seed)
    model.compile(keras.optimizers.Adam(1e-2))
    return model


def step(model, count=1, size=1.0):
    """Steps of the optimiser with made-up gradients that depend on the step, all of different size."""
    for _ in range(count):
        number = int(model.optimizer.iterations)
        gradients = [size * (number + 1) * (1.0 + keras.ops.abs(v)) for v in model.trainable_variables]
        model.optimizer.apply(gradients, model.trainable_variables)


def steps_of(path):
    """The step in a checkpoint's name."""
    return int(path.name.split("-")[1])


def test_a_checkpoint_is_named_by_its_step_and_the_checksum_of_the_file(tmp_path):
    model = compiled()
    path = save_checkpoint(model, tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert path == tmp_path / f"step-000000000-{digest}.weights.h5"
    step(model, 12)
    assert steps_of(save_checkpoint(model, tmp_path)) == 12
    assert steps_of(latest_checkpoint(tmp_path)) == 12


def test_the_last_two_checkpoints_are_kept_and_nothing_else_is_left(tmp_path):
    model = compiled()
    for _ in range(4):
        step(model, 3)
        save_checkpoint(model, tmp_path)
    assert sorted(map(steps_of, tmp_path.iterdir())) == [9, 12]


def test_saving_a_step_again_keeps_the_one_before(tmp_path):
    model = compiled()
    save_checkpoint(model, tmp_path)
    step(model)
    save_checkpoint(model, tmp_path)
    save_checkpoint(model, tmp_path)
    assert sorted(map(steps_of, tmp_path.iterdir())) == [0, 1]


def test_a_checkpoint_restores_weights_step_and_moments(tmp_path):
    model = compiled()
    step(model, 5)
    path = save_checkpoint(model, tmp_path)
    other = compiled(seed=1)
    other.load_weights(path)
    assert int(other.optimizer.iterations) == 5
    assert len(model.optimizer.variables) > 2 * len(model.trainable_variables)  # both moments of every weight
    for one, two in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, two)
    moments = [v for v in model.optimizer.variables if "momentum" in v.path or "velocity" in v.path]
    assert len(moments) == 2 * len(model.trainable_variables)
    assert all((v.numpy() != 0).all() for v in moments)


def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_run(tmp_path):
    model = compiled()
    step(model, 5)
    path = save_checkpoint(model, tmp_path)
    other = compiled(seed=1)
    other.load_weights(path)
    for m in (model, other):
        step(m, 3, size=-0.1)
    for a, b in zip(model.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_empty_folder_has_no_latest_checkpoint(tmp_path):
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.parametrize(
    "name", ["part.weights.h5", "step-5.weights.h5.part", "step-.weights.h5", "my-step-7.weights.h5", "notes.txt"]
)
def test_a_file_that_is_no_finished_checkpoint_does_not_count(tmp_path, name):
    (tmp_path / name).write_text("half a file")
    assert latest_checkpoint(tmp_path) is None
    model = compiled()
    step(model)
    path = save_checkpoint(model, tmp_path)
    assert latest_checkpoint(tmp_path) == path
    model.load_weights(path)


def test_a_save_that_fails_leaves_the_checkpoints_as_they_were(tmp_path, monkeypatch):
    model = compiled()
    for _ in range(2):
        step(model)
        save_checkpoint(model, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}

    def disk_full(path):
        path.write_text("half a file")
        raise OSError(28, "No space left on device")

    step(model)
    monkeypatch.setattr(model, "save_weights", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(model, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert steps_of(latest_checkpoint(tmp_path)) == 2
    assert set(os.listdir(tmp_path)) == set(before)  # what did not fit is no use to anyone


def test_the_latest_checkpoint_is_the_one_of_the_highest_step(tmp_path):
    for number in (999, 20_000, 1_000, 3):
        (tmp_path / f"step-{number:09d}-0123456789abcdef.weights.h5").touch()
    assert steps_of(latest_checkpoint(tmp_path)) == 20_000


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_checkpoint_is_reported_and_deleted_and_the_one_before_it_used(tmp_path, damage):
    model = compiled()
    paths = []
    for _ in range(2):
        step(model)
        paths.append(save_checkpoint(model, tmp_path))
    content = bytearray(paths[1].read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    paths[1].write_bytes({"cut": content[:-1], "flipped": content, "emptied": b""}[damage])
    lines = []
    assert latest_checkpoint(tmp_path, lines.append) == paths[0]
    assert len(lines) == 1
    assert str(paths[1]) in lines[0]
    assert "damaged" in lines[0]
    assert list(tmp_path.iterdir()) == [paths[0]]


def test_where_all_checkpoints_are_damaged_there_is_none(tmp_path):
    model, lines = compiled(), []
    for _ in range(2):
        step(model)
        save_checkpoint(model, tmp_path).write_bytes(b"nothing")
    assert latest_checkpoint(tmp_path, lines.append) is None
    assert len(lines) == 2


def test_a_whole_checkpoint_is_not_reported(tmp_path):
    path, lines = save_checkpoint(compiled(), tmp_path), []
    assert latest_checkpoint(tmp_path, lines.append) == path
    assert lines == []
