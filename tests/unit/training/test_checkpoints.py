"""Checkpoints and atomic writes: what is kept, restored, and done about damage and a full disk."""

import contextlib
import hashlib
import os

import keras
import numpy as np
import pytest
from small_models import small_model

from iwae_tf.files import atomic_write
from iwae_tf.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint, state_of


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


def test_the_last_two_checkpoints_are_kept_each_named_by_its_step_and_the_checksum_of_the_file(tmp_path):
    model, lines = compiled(), []
    for _ in range(4):
        step(model, 3)
        path = save_checkpoint(model, tmp_path)
    assert save_checkpoint(model, tmp_path) == path  # the same step again
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert path == tmp_path / f"step-000000012-{digest}.weights.h5"
    assert latest_checkpoint(tmp_path, lines.append) == path
    assert lines == []
    assert sorted(map(steps_of, tmp_path.iterdir())) == [9, 12]


def test_a_run_that_continues_from_a_checkpoint_is_the_same_run(tmp_path):
    model, other = compiled(), compiled(seed=1)
    step(model, 5)
    model.bound_tracker.update_state(-30.0, 4.0)
    load_checkpoint(other, save_checkpoint(model, tmp_path))
    assert int(other.optimizer.iterations) == 5
    assert float(other.bound_tracker.result()) == -7.5
    assert len(state_of(model)) > 3 * len(model.trainable_variables)  # both moments of every weight
    for m in (model, other):
        step(m, 3, size=-0.1)
    for one, two in zip(state_of(model), state_of(other), strict=True):
        np.testing.assert_array_equal(one, two)
    moments = [v for v in other.optimizer.variables if "momentum" in v.path or "velocity" in v.path]
    assert all((v.numpy() != 0).all() for v in moments)


def test_the_latest_checkpoint_is_the_finished_one_of_the_highest_step(tmp_path):
    for name in (".writing-checkpoint.weights.h5", "step-5.weights.h5", "my-step-7.weights.h5"):
        (tmp_path / name).write_text("half a file")
    assert latest_checkpoint(tmp_path) is None
    for number in (999, 20_000, 1_000, 3):
        (tmp_path / f"step-{number:09d}-0123456789abcdef.weights.h5").touch()
    assert steps_of(latest_checkpoint(tmp_path)) == 20_000


@pytest.mark.parametrize(("damage", "number"), [("cut", 1), ("flipped", 1), ("emptied", 2)])
def test_damaged_checkpoints_are_reported_and_deleted_and_the_one_before_used(tmp_path, damage, number):
    model, paths, lines = compiled(), [], []
    for _ in range(2):
        step(model)
        paths.append(save_checkpoint(model, tmp_path))
    for path in paths[-number:]:
        content = bytearray(path.read_bytes())
        if damage == "flipped":
            content[len(content) // 2] ^= 1
        path.write_bytes({"cut": content[:-1], "flipped": content, "emptied": b""}[damage])
    assert latest_checkpoint(tmp_path, lines.append) == (paths[0] if number == 1 else None)
    assert len(lines) == number
    assert f"{paths[1]} is damaged" in lines[0]
    assert list(tmp_path.iterdir()) == paths[: 2 - number]


def test_a_save_that_fails_leaves_the_checkpoints_as_they_were(tmp_path, monkeypatch):
    model = compiled()
    for _ in range(2):
        step(model)
        save_checkpoint(model, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def disk_full(path):
        assert path.stat().st_size > sum(v.numpy().nbytes for v in state_of(model))  # the space was reserved
        raise OSError(28, "No space left on device")

    step(model)
    monkeypatch.setattr(model, "save_weights", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(model, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, None])
def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")

    with pytest.raises(error) if error else contextlib.nullcontext(), atomic_write(path) as temporary:
        temporary.write_text("new")
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".json")
        assert path.read_text() == "old"
        if error:
            raise error
    assert path.read_text() == ("old" if error else "new")
    assert os.listdir(tmp_path) == ["a.json"]
