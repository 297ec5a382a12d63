"""Run folders: their names, what is refused, what is prepared, JSON files and settings."""

import json
import os
import re

import pytest
from filelock import FileLock
from run_files import write_model

from iwae_tf import InputError
from iwae_tf.config import DataConfig, ModelConfig, ObjectiveConfig, OutputConfig, RunConfig, TrainingConfig
from iwae_tf.training.run_folder import (
    FILES,
    check_same_settings,
    different_models,
    model_checksum,
    path_of,
    prepare,
    pretrained,
    read_json,
    write_json,
)

A_RUN = ("config.json", "history.csv", "metrics.json", "model.keras", "samples.svg", "checkpoints/step-1.weights.h5")
NOT_A_RUN = ("notes.txt", "sub/model.keras")


@pytest.fixture
def folder(tmp_path):
    """A run folder that holds a run, and a user's own files."""
    path = tmp_path / "run"
    for name in (*A_RUN, *NOT_A_RUN):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(f"content of {name}")
    return path


def content(path):
    """Every file and folder under the path, with its content; without the lock."""
    items = [item for item in sorted(path.rglob("*")) if item.name != ".lock"]
    return {str(item.relative_to(path)): item.read_text() if item.is_file() else None for item in items}


def refusal(path, **kwargs):
    """The message of the refusal, after checking that it is one line and that nothing under the parent changed."""
    before = content(path.parent)
    with pytest.raises(InputError) as error:
        prepare(path, **{"resume": False, "overwrite": False, **kwargs})
    assert content(path.parent) == before
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("sections", "name"),
    [
        ({}, "digits-iwae-k50-l1-seed0"),
        (
            {"data": DataConfig("mnist"), "model": ModelConfig(2), "training": TrainingConfig("dreg", 5, seed=3)},
            "mnist-dreg-k5-l2-seed3",
        ),
        ({"data": DataConfig("/data/my.images.npz")}, "my.images-iwae-k50-l1-seed0"),
        (
            {"training": TrainingConfig("ciwae"), "objective": ObjectiveConfig(beta=0.1, learn_beta=True)},
            "digits-ciwae-beta0.1-learn-beta-k50-l1-seed0",
        ),
        (
            {"model": ModelConfig(latent="bernoulli"), "training": TrainingConfig("vimco", k=5)},
            "digits-vimco-k5-l1-bernoulli-seed0",
        ),
    ],
)
def test_a_run_folder_is_named_after_what_tells_runs_apart(sections, name):
    assert path_of(RunConfig(**sections), OutputConfig()).as_posix() == f"runs/{name}"


def test_a_file_in_the_place_of_the_folder_and_a_folder_that_cannot_be_written_are_refused(folder, monkeypatch):
    path = folder / "notes.txt"
    for flags in ({}, {"resume": True}, {"overwrite": True}):
        assert refusal(path, **flags) == f"output folder {path} is a file; give another --output-dir"
    message = refusal(path / "run")
    assert message == f"output folder {path / 'run'} cannot be written: Not a directory; give another --output-dir"

    def no_permission(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", no_permission)  # root may write anywhere, so no folder is unwritable
    message = refusal(folder, resume=True)
    assert message == f"output folder {folder} cannot be written: Permission denied; give another --output-dir"


@pytest.mark.parametrize("name", ["none", "run"])
def test_resume_without_the_settings_of_a_run_is_refused_and_makes_no_folder(folder, name):
    (folder / "config.json").unlink()
    path = folder.with_name(name)
    assert refusal(path, resume=True).startswith(f"--resume: there is no run in {path} (no config.json)")


def test_any_single_file_of_a_run_is_protected(tmp_path):
    for name in FILES:
        path = tmp_path / name / "run"
        path.mkdir(parents=True)
        (path / name).write_text("precious")
        message = refusal(path)
        assert message.startswith(f"{path} already holds a run ({name})")
        assert all(flag in message for flag in ("--resume", "--overwrite", "--output-dir"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_new_folder_is_made_with_its_parents_and_checkpoints(tmp_path, overwrite):
    lock = prepare(tmp_path / "a" / "b", resume=False, overwrite=overwrite)
    assert content(tmp_path) == {"a": None, "a/b": None, "a/b/checkpoints": None}
    lock.release()
    prepare(tmp_path / "a" / "b", resume=False, overwrite=False)  # a run died in it before it wrote anything


def test_resume_keeps_every_file_and_overwrite_deletes_those_of_the_run_alone(folder):
    before = content(folder)
    prepare(folder, resume=True, overwrite=False).release()
    assert content(folder) == before
    prepare(folder, resume=False, overwrite=True).release()
    kept = {name: text for name, text in before.items() if name in {*NOT_A_RUN, "sub"}}
    assert content(folder) == {**kept, "checkpoints": None}
    lock = prepare(folder, resume=False, overwrite=False)  # other files may stay
    assert content(folder) == {**kept, "checkpoints": None}
    assert lock.is_locked
    assert refusal(folder, overwrite=True).startswith(f"another process is at work on the run in {folder}; wait for it")


def test_overwrite_deletes_nothing_where_there_is_no_run(tmp_path):
    path = tmp_path / "run"
    (path / "evaluation").mkdir(parents=True)
    (path / "evaluation" / "thesis.txt").write_text("text")
    assert "holds evaluation but no run (no config.json); give another --output-dir" in refusal(path, overwrite=True)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": [1, 2.5, float("nan"), "text"]})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": [1, 2.5, None, "text"]}
    assert path.read_text().endswith("}\n")
    assert os.listdir(tmp_path) == ["metrics.json"]


@pytest.mark.parametrize("text", [None, "", '{"a": 1', "\x00", "[1, 2]"])
def test_a_file_that_is_missing_or_no_json_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    words = "holds no settings" if text == "[1, 2]" else r"cannot be read as JSON \(.*\)"
    with pytest.raises(InputError, match=rf"{words}; is this the folder of a run\?$") as error:
        read_json(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_trained_model_is_found_by_name_or_path_and_an_error_names_those_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr("iwae_tf.training.run_folder.PRETRAINED", tmp_path / "pretrained")
    with pytest.raises(InputError, match=r"'one' is neither .* pretrained/: there is none here, clone the repository$"):
        pretrained("one")
    for name in ("one", "two"):
        (tmp_path / "pretrained" / name).mkdir(parents=True)
    assert pretrained("one") == tmp_path / "pretrained" / "one"
    assert pretrained(str(tmp_path)) == tmp_path
    for wrong in ("tow", "../pretrained/one"):
        with pytest.raises(InputError, match=r"pretrained/: it has one, two$"):
            pretrained(wrong)


def test_the_same_settings_may_resume_and_every_setting_that_differs_is_named_with_both_values(tmp_path):
    config = RunConfig(model=ModelConfig(layers=2), training=TrainingConfig(k=5, seed=3))
    stored = config.to_json()
    stored["training"]["optimizer_config"] = {"name": "adam"}
    stored["versions"] = {"python": "3.11"}
    write_json(tmp_path / "config.json", stored)
    check_same_settings(tmp_path, config)
    other = RunConfig(
        model=ModelConfig(layers=2, latent_units=(100, 7)), training=TrainingConfig(k=50, seed=3, objective="dreg")
    )
    with pytest.raises(InputError) as error:
        check_same_settings(tmp_path, other)
    assert str(error.value).startswith(
        f"{tmp_path} was made with other settings: latent_units is [100, 50] there and [100, 7] here; "
        "objective is 'iwae' there and 'dreg' here; k is 5 there and 50 here; give its settings"
    )


@pytest.mark.parametrize("stored", [{}, {"training": {}}])
def test_a_setting_that_the_manifest_lacks_has_its_default(tmp_path, stored):
    (tmp_path / "config.json").write_text(json.dumps(stored))
    check_same_settings(tmp_path, RunConfig())
    with pytest.raises(InputError, match=r"settings: k is 50 there and 5 here; give its"):
        check_same_settings(tmp_path, RunConfig(training=TrainingConfig(k=5)))


def test_a_model_is_known_by_its_weights_and_not_by_what_saving_it_again_changes(tmp_path):
    write_model(tmp_path)
    before = (tmp_path / "model.keras").read_bytes()
    checksum = model_checksum(tmp_path)
    assert re.fullmatch("sha256:[0-9a-f]{64}", checksum)
    write_model(tmp_path, optimizer=1.0, name="dense_7", date=(2027, 2, 3))
    assert (tmp_path / "model.keras").read_bytes() != before
    assert model_checksum(tmp_path) == checksum
    write_model(tmp_path, weight=0.25)
    assert model_checksum(tmp_path) != checksum
    for content in (b"", b"PK", before[: len(before) // 2]):
        (tmp_path / "model.keras").write_bytes(content)
        with pytest.raises(InputError, match=r"model.keras cannot be read \(.*\); was it cut short"):
            model_checksum(tmp_path)


def test_files_of_two_models_are_named_with_their_checksums(tmp_path):
    write_model(tmp_path)
    own, other = model_checksum(tmp_path), "sha256:" + 64 * "0"
    for recorded in ({"a": own, "b": own}, {"a": own, "b": None}, {"a": None}, {}):
        assert different_models(tmp_path, recorded) == ""
    words = f"a is of model sha256:000000000000..., model.keras is of model {own[:19]}..."
    assert different_models(tmp_path, {"a": other, "b": None}) == words
    (tmp_path / "model.keras").unlink()
    assert different_models(tmp_path, {"a": other}) == ""
    assert different_models(tmp_path, {"a": other, "b": own}).startswith("a is of model sha256:000000000000..., b is")
