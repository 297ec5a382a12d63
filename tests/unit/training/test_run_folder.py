import json
import os

import pytest
from filelock import FileLock

from iwae_tf import InputError
from iwae_tf.config import DataConfig, ModelConfig, ObjectiveConfig, OutputConfig, RunConfig, TrainingConfig
from iwae_tf.training.run_folder import FILES, check_same_settings, path_of, prepare, read_json, write_json

A_RUN = ("config.json", "history.csv", "metrics.json", "model.keras", "samples.png", "checkpoints/step-1.weights.h5")
NOT_A_RUN = ("notes.txt", "sub/model.keras")


@pytest.fixture
def folder(tmp_path):
    """A run folder that holds a run, and a user's own files beside it."""
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


# ---------------------------------------------------------------------------------------------- the folder's name


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (RunConfig(), "digits-iwae-k50-l1-seed0"),
        (
            RunConfig(DataConfig("mnist"), ModelConfig(layers=2), TrainingConfig("dreg", k=5, seed=3)),
            "mnist-dreg-k5-l2-seed3",
        ),
        (RunConfig(DataConfig("/data/my.images.npz")), "my.images-iwae-k50-l1-seed0"),
        (
            RunConfig(
                DataConfig("fashion_mnist"),
                training=TrainingConfig("ciwae"),
                objective=ObjectiveConfig(beta=0.1, learn_beta=True),
            ),
            "fashion_mnist-ciwae-beta0.1-learn-beta-k50-l1-seed0",
        ),
        (
            RunConfig(model=ModelConfig(latent="bernoulli"), training=TrainingConfig("vimco", k=5)),
            "digits-vimco-k5-l1-bernoulli-seed0",
        ),
    ],
)
def test_a_run_folder_is_named_after_what_tells_runs_apart(config, name):
    assert path_of(config, OutputConfig()).as_posix() == f"runs/{name}"


# ---------------------------------------------------------------------------------------------- what is refused


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    for flags in ({}, {"resume": True}, {"overwrite": True}):
        assert refusal(path, **flags) == f"output folder {path} is a file; give another --output-dir"


def test_resume_without_a_run_is_refused_and_makes_no_folder(tmp_path):
    message = refusal(tmp_path / "none", resume=True)
    assert message.startswith(f"--resume: there is no run in {tmp_path / 'none'} (no config.json)")
    assert not (tmp_path / "none").exists()


def test_resume_without_the_settings_of_the_run_is_refused(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder, resume=True)


def test_a_run_in_the_folder_is_not_replaced_unasked(folder):
    message = refusal(folder)
    assert message.startswith(f"{folder} already holds a run (config.json); ")
    assert "--resume" in message
    assert "--overwrite" in message
    assert "--output-dir" in message


@pytest.mark.parametrize("name", FILES)
def test_any_single_file_of_a_run_is_protected(tmp_path, name):
    path = tmp_path / "run"
    path.mkdir()
    (path / name).write_text("precious")
    assert refusal(path).startswith(f"{path} already holds a run ({name})")


@pytest.mark.parametrize("flags", [{}, {"overwrite": True}])
def test_a_folder_below_a_file_cannot_be_written_and_is_refused_in_one_line(tmp_path, flags):
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / "run"
    message = refusal(path, **flags)
    assert message == f"output folder {path} cannot be written: Not a directory; give another --output-dir"


def test_a_folder_without_permission_to_write_is_refused_in_one_line(folder, monkeypatch):
    def no_permission(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", no_permission)  # root may write anywhere, so no folder is unwritable
    message = refusal(folder, resume=True)
    assert message == f"output folder {folder} cannot be written: Permission denied; give another --output-dir"


# ---------------------------------------------------------------------------------------------- what is prepared


def test_a_new_folder_is_made_with_its_parents_and_a_place_for_checkpoints(tmp_path):
    prepare(tmp_path / "a" / "b", resume=False, overwrite=False)
    assert content(tmp_path) == {"a": None, "a/b": None, "a/b/checkpoints": None}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_may_take_a_run_and_keeps_them(folder, overwrite):
    before = content(folder)
    for name in A_RUN:
        (folder / name).unlink()
    (folder / "checkpoints").rmdir()
    prepare(folder, resume=False, overwrite=overwrite)
    kept = {name: text for name, text in before.items() if name in {*NOT_A_RUN, "sub"}}
    assert content(folder) == {**kept, "checkpoints": None}


def test_resume_keeps_every_file_as_it_is(folder):
    before = content(folder)
    prepare(folder, resume=True, overwrite=False)
    assert content(folder) == before


def test_overwrite_deletes_the_files_of_the_run_and_no_others(folder):
    before = content(folder)
    prepare(folder, resume=False, overwrite=True)
    kept = {name: text for name, text in before.items() if name in {*NOT_A_RUN, "sub"}}
    assert content(folder) == {**kept, "checkpoints": None}


def test_overwrite_of_nothing_is_a_new_run(tmp_path):
    prepare(tmp_path / "run", resume=False, overwrite=True)
    assert content(tmp_path) == {"run": None, "run/checkpoints": None}


def test_a_folder_that_another_process_works_on_is_refused_until_it_ends(folder):
    lock = prepare(folder, resume=True, overwrite=False)
    for flags in ({"resume": True}, {"overwrite": True}):
        assert refusal(folder, **flags).startswith(f"another process is at work on the run in {folder}; wait for it")
    lock.release()
    prepare(folder, resume=True, overwrite=False)


def test_a_folder_that_a_run_died_in_before_it_wrote_anything_is_a_new_one(tmp_path):
    prepare(tmp_path / "run", resume=False, overwrite=False).release()
    prepare(tmp_path / "run", resume=False, overwrite=False)


# ---------------------------------------------------------------------------------------------- JSON files


def test_json_is_written_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": [1, 2.5, None, "text"]})
    assert read_json(path) == {"a": [1, 2.5, None, "text"]}
    assert path.read_text().endswith("}\n")
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize("text", [None, "", '{"a": 1', "\x00"])
def test_a_file_that_is_missing_or_no_json_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"cannot be read as JSON \(.*\); is this the folder of a run\?$") as error:
        read_json(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------- settings of a run


@pytest.fixture
def config():
    return RunConfig(model=ModelConfig(layers=2), training=TrainingConfig(k=5, seed=3))


def test_the_same_settings_may_resume_whatever_else_the_manifest_holds(tmp_path, config):
    stored = config.to_json()
    stored["training"]["optimizer"] = {"name": "adam"}
    stored["versions"] = {"python": "3.11"}
    write_json(tmp_path / "config.json", stored)
    check_same_settings(tmp_path, config)


def test_every_setting_that_differs_is_named_with_both_values(tmp_path, config):
    write_json(tmp_path / "config.json", config.to_json())
    other = RunConfig(
        model=ModelConfig(layers=2, latent_units=(100, 7)), training=TrainingConfig(k=50, seed=3, objective="dreg")
    )
    with pytest.raises(InputError) as error:
        check_same_settings(tmp_path, other)
    assert str(error.value) == (
        f"--resume: {tmp_path} was made with other settings: latent_units is [100, 50] there and [100, 7] here; "
        "objective is 'iwae' there and 'dreg' here; k is 5 there and 50 here"
    )


@pytest.mark.parametrize("stored", [{}, {"training": {}}])
def test_a_manifest_without_settings_is_that_of_a_run_with_the_defaults(tmp_path, config, stored):
    (tmp_path / "config.json").write_text(json.dumps(stored))
    check_same_settings(tmp_path, RunConfig())
    with pytest.raises(InputError, match="k is 50 there and 5 here"):
        check_same_settings(tmp_path, config)


def test_a_manifest_of_another_form_is_refused(tmp_path, config):
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="config"):
        check_same_settings(tmp_path, config)
