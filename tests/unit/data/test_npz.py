import pathlib
import zipfile

import numpy as np
import pytest

from iwae_tf.data import load
from iwae_tf.errors import InputError


def refused(path, words, data_dir=None):
    with pytest.raises(InputError, match=words) as error:
        load(str(path), data_dir)
    assert "\n" not in str(error.value)
    assert pathlib.Path(path).name in str(error.value)


def test_a_users_file_is_loaded_under_its_own_name(grey, save):
    x = grey(9)
    data = load(str(save("my.images.npz", x_train=x[:6], x_valid=x[6:7], x_test=x[7:], y_train=np.arange(6))))
    assert (data.name, data.scale, data.image_shape) == ("my.images", 255, (28, 28))
    np.testing.assert_array_equal(data.x_train, x[:6].reshape(6, -1))
    np.testing.assert_array_equal(data.x_valid, x[6:7].reshape(1, -1))
    np.testing.assert_array_equal(data.x_test, x[7:].reshape(2, -1))
    assert data.source.endswith("my.images.npz")


def test_nothing_is_taken_from_the_training_part_of_a_users_file(grey, save):
    data = load(str(save(x_train=grey(6), x_test=grey(3))))
    assert (len(data.x_train), len(data.x_valid), len(data.x_test)) == (6, 0, 3)
    assert "without a validation part" in data.split


def test_a_relative_path_is_looked_for_in_the_data_folder_too(grey, save, tmp_path):
    save("far.npz", x_train=grey(3), x_test=grey(3))
    assert load("far.npz", tmp_path).name == "far"


def test_the_working_folder_comes_before_the_data_folder(grey, save, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    save("same.npz", x_train=grey(3), x_test=grey(3))
    save("here/same.npz", x_train=grey(4), x_test=grey(3))
    monkeypatch.chdir(tmp_path / "here")
    assert len(load("same.npz", tmp_path).x_train) == 4


def test_a_file_that_is_not_there_names_all_places_looked_at(tmp_path):
    refused("away.npz", f"no file away.npz or {tmp_path}/away.npz: correct the path", tmp_path)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    refused(tmp_path / "folder.npz", "is a folder; expected an .npz file")


def test_a_file_that_may_not_be_read_says_so(grey, save, monkeypatch):
    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    path = save(x_train=grey(3), x_test=grey(3))
    monkeypatch.setattr("builtins.open", forbidden)
    refused(path, "cannot be read .*Permission denied")


@pytest.mark.parametrize("content", [b"", b"some text", b"\x80\x04]\x94.", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_zip_archive_is_refused(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    refused(tmp_path / "x.npz", r"^\S+x\.npz is not a zip archive, or was cut short; expected an \.npz file")


def test_a_truncated_file_is_refused(grey, save):
    path = save(x_train=grey(3), x_test=grey(3))
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "cut short")


def test_a_file_with_a_flipped_byte_is_refused(grey, save):
    path = save(x_train=grey(3), x_test=grey(3))
    content = bytearray(path.read_bytes())
    content[1000] ^= 255
    path.write_bytes(content)
    refused(path, "cannot be read .*CRC")


def test_pickled_objects_are_never_loaded(grey, save, tmp_path):
    class Dangerous:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "ran",))

    refused(save(x_train=np.array([Dangerous()], object), x_test=grey(3)), "x_train holds pickled Python objects")
    assert not (tmp_path / "ran").exists()


def test_a_missing_array_names_those_that_are_there(grey, save):
    refused(
        save(images=grey(3), x_test=grey(3)), "has no array x_train, it has images, x_test; expected x_train, x_test"
    )
    refused(save(x_train=grey(3)), "has no array x_test, it has x_train")
    refused(save(), "has no array x_train and no x_test, it has none at all")


def test_a_zip_archive_of_other_things_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x_train", b"text")
        archive.writestr("x_test", b"text")
    refused(tmp_path / "x.npz", "x_train is no NumPy array")


def test_what_is_wrong_with_an_array_names_file_and_key(save):
    bad = np.zeros((2, 4))
    bad[0, 0] = np.nan
    refused(save(x_train=bad, x_test=bad), r"images\.npz: x_train holds NaN; expected values in \[0, 1\]")
    refused(
        save(x_train=np.zeros((2, 4), int), x_test=bad), r"images\.npz: x_train has dtype int64; .*astype\('uint8'\)"
    )
