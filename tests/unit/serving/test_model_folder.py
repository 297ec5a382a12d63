import shutil

import numpy as np
import pytest
from small_models import SMALL_DIM, small_model

from iwae_tf import InputError
from iwae_tf.serving import export_saved_model
from iwae_tf.serving.model_folder import checksum, find_version, load, versions


@pytest.fixture
def folder(tmp_path):
    """Versions 2 and 10, and names that are no versions."""
    for name in ("2", "10", "new", ".part-x", "1.5"):
        (tmp_path / "small" / name).mkdir(parents=True)
    for name in ("2", "10"):
        (tmp_path / "small" / name / "saved_model.pb").touch()
    (tmp_path / "small" / "12").write_text("a file is no version")
    return tmp_path / "small"


def test_versions_are_subfolders_with_a_number_for_a_name(folder):
    assert versions(folder) == [2, 10]
    assert versions(folder / "new") == []
    assert versions(folder / "none") == []


def test_the_newest_version_counts_and_is_called_like_the_folder(folder):
    assert find_version(folder) == ("small", folder / "10")
    assert find_version(folder / "2") == ("small", folder / "2")
    assert find_version(folder / "new" / "..") == ("small", folder / "10")


@pytest.mark.parametrize(
    ("path", "message"), [("none", "there is no folder"), ("12", "there is no folder"), ("new", "holds no version")]
)
def test_a_folder_without_a_model_is_an_error(folder, path, message):
    with pytest.raises(InputError, match=message):
        find_version(folder / path)


def test_a_version_without_a_saved_model_is_an_error(folder):
    (folder / "11").mkdir()
    with pytest.raises(InputError, match="11 is no SavedModel"):
        find_version(folder)


# ------------------------------------------------------------------------------------------- whole or damaged


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_saved_model(small_model(), tmp_path_factory.mktemp("m") / "small")


def test_what_was_exported_loads(exported):
    outputs = load(exported).signatures["reconstruct"](x=np.zeros([2, SMALL_DIM], np.float32))
    assert outputs["x_mean"].shape == (2, SMALL_DIM)


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.data-00000-of-00001", "assets.extra/tf_serving_warmup_requests"]
)
def test_a_file_with_a_changed_byte_is_found(exported, tmp_path, name):
    shutil.copytree(exported, tmp_path / "1")
    content = bytearray((tmp_path / "1" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "1" / name).write_bytes(content)
    with pytest.raises(InputError, match="is damaged: its files have changed since the export"):
        load(tmp_path / "1")


def test_a_provenance_that_is_no_json_is_an_error(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "1")
    (tmp_path / "1" / "assets.extra" / "provenance.json").write_text("{")
    with pytest.raises(InputError, match=r"provenance.json cannot be read; export the model again"):
        load(tmp_path / "1")


def test_a_folder_from_elsewhere_that_tensorflow_cannot_read_is_an_error(folder):
    with pytest.raises(InputError, match="10 cannot be loaded as a SavedModel"):
        load(folder / "10")


def test_the_checksum_changes_with_every_file_and_name(tmp_path):
    folder = tmp_path / "1"
    (folder / "variables").mkdir(parents=True)
    (folder / "assets.extra").mkdir()
    (folder / "a").write_bytes(b"12")
    (folder / "variables" / "b").write_bytes(b"3")
    sums = [checksum(folder)]
    (folder / "assets.extra" / "provenance.json").write_text("the checksum itself stands here")
    assert checksum(folder) == sums[0]
    for path, content in (("a", b"1"), ("variables/b", b"23"), ("a", b"12"), ("c", b"")):
        (folder / path).write_bytes(content)
        sums.append(checksum(folder))
    (folder / "c").rename(folder / "d")
    sums.append(checksum(folder))
    assert len(set(sums)) == len(sums)
