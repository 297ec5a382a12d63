"""Declared data sets from their files, a user's .npz files, and a data set that a user's module declares."""

import gzip
import hashlib
import io
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from iwae_tf import declarations
from iwae_tf.data import Dataset, load
from iwae_tf.data.dataset import SPLITS
from iwae_tf.declarations import declare, declared
from iwae_tf.errors import InputError

TRAIN, TEST, VALID_AMAT = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "binarized_mnist_valid.amat"
FILES = {name: declaration.facts.get("files") for name, declaration in declared("dataset").items()}
GREY = np.random.default_rng(0).integers(0, 256, (25, 28, 28), dtype=np.uint8)
BITS = GREY.reshape(-1, 784)[:9] % 2
CHARACTERS = np.random.default_rng(0).random((46, 28, 28)).astype(np.float32)
ZEROS = np.zeros((784, 3))


def idx(images):
    return b"\0\0\x08\x03" + np.array(images.shape, ">u4").tobytes() + images.tobytes()


def amat(images, end="\n"):
    return (end.join(" ".join(map(str, row)) for row in images) + end).encode()


def mat(**arrays):
    file = io.BytesIO()
    scipy.io.savemat(file, arrays)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def columns(x):
    """Stores images as MATLAB does: one image a column of the matrix, the pixels of an image column by column."""
    return np.stack([image.flatten(order="F") for image in x], axis=1)


def refused(words, dataset, data_dir=None):
    with pytest.raises(InputError, match=words) as error:
        load(str(dataset), data_dir)
    assert "\n" not in str(error.value)
    return str(error.value)


def check_images(data, *splits):
    for split, images in zip(SPLITS, splits, strict=True):
        np.testing.assert_array_equal(getattr(data, f"x_{split}"), images.reshape(len(images), 784))


@pytest.fixture
def folder(tmp_path):
    """A folder with sound files of all data sets."""
    for name, content in {
        TRAIN: idx(GREY[:20]),
        f"{TEST}.gz": gzip.compress(idx(GREY[20:])),
        **{f"binarized_mnist_{split}.amat": amat(BITS[i : i + 3]) for i, split in enumerate(SPLITS)},
        "chardata.mat": mat(data=columns(CHARACTERS[:40]), testdata=columns(CHARACTERS[40:])),
        "images.npz": npz(x_train=GREY[:6], x_valid=GREY[6:7], x_test=GREY[7:9], y_train=np.arange(6)),
    }.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_an_unknown_name_gets_the_known_ones_and_a_missing_folder_the_files_it_should_hold(tmp_path):
    for name in ("", "images.npy", "MNIST", "binarised_mnist"):
        refused(
            "unknown dataset .*known: binarized_mnist, .*; and there is no file .*: correct the name, the path", name
        )
    for name, files in FILES.items():
        if files:
            assert files in refused("away is not a folder; either .* a folder that holds ", name, tmp_path / "away")


def test_importing_the_data_package_imports_nothing_heavy(pytestconfig):
    # iwae_tf itself may import TensorFlow, so that an empty module takes its place.
    code = (
        "import sys, types; package = types.ModuleType('iwae_tf'); package.__path__ = ['iwae_tf'];"
        "sys.modules['iwae_tf'] = package; import iwae_tf.data;"
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'scipy', 'sklearn', 'absl') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_digits_are_grey_levels_in_sixteenths_in_one_split_for_all_runs(tmp_path):
    np.random.seed(5)
    data = load("digits", tmp_path / "away")
    assert next(iter(FILES)) == data.name == "digits"
    assert (data.scale, data.levels, data.image_shape) == (16, 17, (8, 8))
    assert [len(data.intensities(split)) for split in SPLITS] == [1297, 100, 400]
    assert [(x.min(), x.max()) for x in map(data.intensities, SPLITS)] == [(0, 1)] * 3
    images = np.concatenate([data.x_train, data.x_valid, data.x_test])
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == "47cbc678a0220618"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("form", ["idx", "npz"])
def test_mnist_is_read_from_idx_files_and_from_npz(folder, name, form):
    source = f"{folder / TRAIN} and {folder / TEST}.gz"
    if form == "npz":
        (folder / TRAIN).unlink()
        (folder / f"{TEST}.gz").unlink()
        source = f"{folder / name}.npz"
        pathlib.Path(source).write_bytes(npz(x_train=GREY[:20], y_train=np.arange(20), x_test=GREY[20:]))
    data = load(name, folder)
    assert (data.name, data.scale, data.image_shape, data.x_train.dtype) == (name, 255, (28, 28), np.uint8)
    check_images(data, GREY[:19], GREY[19:20], GREY[20:])
    assert data.source == source
    assert data.split == "validation: the last 1 of the 20 training images in file order"


def test_a_plain_file_is_read_where_its_compressed_form_lies_beside_it_unless_they_differ(folder):
    (folder / f"{TRAIN}.gz").write_bytes(gzip.compress((folder / TRAIN).read_bytes()))
    data = load("mnist", folder)
    assert (len(data.x_train), data.source) == (19, f"{folder / TRAIN} and {folder / TEST}.gz")
    (folder / f"{TRAIN}.gz").write_bytes(gzip.compress(idx(GREY[:3])))
    with pytest.raises(InputError, match=f"{TRAIN} and {TRAIN}.gz beside it have different content: remove one"):
        load("mnist", folder)


@pytest.mark.parametrize("form", ["\n", " \r\n", np.uint8, bool])
def test_binarized_mnist_is_read_from_text_files_and_from_npz_in_their_splits(tmp_path, form):
    splits = {split: BITS[i : i + i + 2] for i, split in enumerate(SPLITS)}
    if isinstance(form, str):
        for split, x in splits.items():
            (tmp_path / f"binarized_mnist_{split}.amat").write_bytes(amat(x, end=form))
    else:
        arrays = {f"x_{split}": x.astype(form) for split, x in splits.items()}
        (tmp_path / "binarized_mnist.npz").write_bytes(npz(**arrays))
    data = load("binarized_mnist", tmp_path)
    assert (data.name, data.scale, data.image_shape) == ("binarized_mnist", 1, (28, 28))
    assert (data.x_train.dtype, data.split) == (np.uint8, "as in the files")
    check_images(data, *splits.values())


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_train": GREY, "x_valid": GREY, "x_test": GREY}, "grey values or floats; expected only 0 and 1"),
        ({f"x_{split}": BITS / 1.0 for split in SPLITS}, "grey values or floats; expected only 0 and 1"),
        ({"x_train": BITS, "x_test": BITS}, "no array x_valid"),
    ],
)
def test_binarized_mnist_has_binary_pixels_and_a_validation_split(tmp_path, arrays, words):
    (tmp_path / "binarized_mnist.npz").write_bytes(npz(**arrays))
    refused(words, "binarized_mnist", tmp_path)


def test_omniglot_is_read_upright_and_its_validation_images_are_drawn(folder):
    data = load("omniglot", folder)
    assert (data.name, data.scale, data.image_shape, data.x_test.dtype) == ("omniglot", 1, (28, 28), np.float32)
    assert data.split == "validation: 2 of the 40 training images, drawn once for all runs"
    drawn = [i for i, x in enumerate(CHARACTERS[:40]) if (x.flatten() == data.x_valid).all(axis=1).any()]
    check_images(data, np.delete(CHARACTERS[:40], drawn, axis=0), CHARACTERS[drawn], CHARACTERS[40:])
    assert len(drawn) == 2 != 40 - min(drawn)


def test_the_full_training_set_of_omniglot_gives_1345_images_for_validation(folder, monkeypatch):
    full = {"x_train": np.zeros((24_345, 1, 1)), "x_test": np.zeros((8_070, 1, 1))}
    monkeypatch.setattr("iwae_tf.data.files.read_chardata", lambda path: full)
    data = load("omniglot", folder)
    assert [len(data.intensities(split)) for split in SPLITS] == [23_000, 1_345, 8_070]


def test_a_users_file_is_loaded_under_its_own_name_and_nothing_is_held_out(folder):
    (folder / "images.npz").rename(folder / "my.images.npz")
    data = load(str(folder / "my.images.npz"))
    assert (data.name, data.scale, data.image_shape) == ("my.images", 255, (28, 28))
    check_images(data, GREY[:6], GREY[6:7], GREY[7:9])
    assert (data.source, data.split) == (str(folder / "my.images.npz"), "as in the file")
    (folder / "images.npz").write_bytes(npz(x_train=GREY, x_test=GREY[:3]))
    data = load("images.npz", folder)
    check_images(data, GREY, GREY[:0], GREY[:3])
    assert data.split == "as in the file, without a validation part"


def test_a_relative_path_is_looked_up_in_the_working_folder_and_then_in_the_data_folder(folder, monkeypatch):
    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")
    assert len(load("images.npz", folder).x_train) == 6
    pathlib.Path("images.npz").write_bytes(npz(x_train=GREY[:4], x_test=GREY))
    assert len(load("images.npz", folder).x_train) == 4
    refused(f"no file away.npz or {folder}/away.npz: correct the name, the path", "away.npz", folder)
    pathlib.Path("folder.npz").mkdir()
    refused("folder.npz is a folder with no data; expected train and test", "folder.npz", folder)


class TouchesAFile:
    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path("ran"),))


PICKLED = np.array([TouchesAFile()], object)


def zip_of_text(_):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x_train", b"text")
        archive.writestr("x_test", b"text")
    return file.getvalue()


@pytest.mark.parametrize(
    ("dataset", "file", "damage", "words"),
    [
        ("mnist", f"{TEST}.gz", None, f"holds {TRAIN} but not {TEST}: put all 2 in it"),
        ("mnist", TRAIN, lambda b: b"\0\0\x08\x01" + b[4:], f"{TRAIN} .* the first .*; expected an IDX file"),
        ("mnist", TRAIN, lambda b: b"<html>", f"{TRAIN} has 6 bytes, the first b'<htm'; expected an IDX file"),
        ("mnist", TRAIN, lambda b: b[:-1], f"{TRAIN} has 15679 pixels, expected 15680"),
        ("mnist", TRAIN, lambda b: b + b"0", f"{TRAIN} has 15681 pixels, expected 15680"),
        ("mnist", f"{TEST}.gz", lambda b: idx(GREY), f"{TEST}.gz cannot be read .*gzip"),
        ("binarized_mnist", VALID_AMAT, None, f"_train.amat, .*_test.amat but not {VALID_AMAT}: put all 3"),
        ("binarized_mnist", VALID_AMAT, lambda b: b[:-3], f"{VALID_AMAT}: row 3 has another number"),
        ("binarized_mnist", VALID_AMAT, lambda b: b"2" + b[1:], f"{VALID_AMAT}: .* other characters"),
        ("binarized_mnist", VALID_AMAT, lambda b: b.replace(b"0", b"0.0"), f"{VALID_AMAT}: row 1 has another"),
        ("binarized_mnist", VALID_AMAT, lambda b: b"", f"{VALID_AMAT}.* is empty"),
        ("omniglot", "chardata.mat", lambda b: mat(data=ZEROS), "mat: testdata is missing; expected 784 x N"),
        ("omniglot", "chardata.mat", lambda b: mat(data=ZEROS.T, testdata=ZEROS), r"mat: data has shape \(3, 784\)"),
        (
            "omniglot",
            "chardata.mat",
            lambda b: mat(data=scipy.sparse.csc_matrix(ZEROS), testdata=ZEROS),
            "data is a spa",
        ),
        (
            "omniglot",
            "chardata.mat",
            lambda b: mat(data=ZEROS, testdata=ZEROS * 1j),
            "chardata.mat cannot be read .Casting complex",
        ),
        ("omniglot", "chardata.mat", lambda b: mat(data=ZEROS + 2, testdata=ZEROS), "mat: x_train has values from 2"),
        ("omniglot", "chardata.mat", lambda b: mat(data=ZEROS[:, :1], testdata=ZEROS), "mat: .* 1 image; expected"),
        ("omniglot", "chardata.mat", lambda b: b[:-300], "chardata.mat cannot be read .*; expected a MATLAB file"),
        ("omniglot", "chardata.mat", lambda b: b"\x89HDF\r\n\x1a\n" + bytes(600), "chardata.mat cannot be read"),
        ("images.npz", "images.npz", lambda b: b"\x93NUMPY\x01\x00", "images.npz is not a zip archive"),
        ("images.npz", "images.npz", lambda b: b[:-100], "images.npz is not a zip archive, or was cut short"),
        ("images.npz", "images.npz", lambda b: b[:999] + bytes([b[999] ^ 255]) + b[1000:], "cannot be read .*CRC"),
        ("images.npz", "images.npz", lambda b: npz(a=GREY, x_test=GREY), "has no array x_train, it has a, x_test;"),
        ("images.npz", "images.npz", lambda b: npz(), "has no array x_train and no x_test, it has no arrays"),
        ("images.npz", "images.npz", lambda b: npz(x_train=ZEROS + 1j, x_test=ZEROS), "npz: x_train holds complex"),
        ("images.npz", "images.npz", zip_of_text, "images.npz: x_train is no NumPy array"),
        ("images.npz", "images.npz", lambda b: npz(x_train=PICKLED, x_test=GREY), "x_train holds pickled Python"),
    ],
)
def test_a_damaged_or_missing_file_is_one_line_that_names_it(folder, monkeypatch, dataset, file, damage, words):
    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    if damage:
        (folder / file).write_bytes(damage(content))
    refused(words, dataset, folder)
    assert not pathlib.Path("ran").exists()


def test_a_file_that_may_not_be_read_says_so(folder, monkeypatch):
    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    refused("images.npz cannot be read .*Permission denied", "images.npz", folder)


def letters(folder):
    if folder is None or not (folder / "letters.npy").exists():
        return None
    x = np.load(folder / "letters.npy")
    return Dataset.from_arrays("letters", {"x_train": x, "x_test": x[:1]}, "letters.npy", "as in the file")


@pytest.fixture
def declare_letters(monkeypatch):
    monkeypatch.setattr(declarations, "_registered", {kind: {} for kind in declarations.PACKAGES})
    return lambda **facts: declare("dataset", "letters", "letters of 2x2", **facts)(letters)


def test_a_declared_data_set_is_loaded_held_out_and_checked_like_those_of_the_package(tmp_path, declare_letters):
    declare_letters(files="letters.npy", held_out=(1, 4), binary=True)
    refused("'letters': no folder is given; give --data-dir with a folder that holds letters.npy$", "letters")
    refused("'letters': .* holds none of its files; give --data-dir", "letters", tmp_path)
    refused("'letters': .*away is not a folder; give --data-dir", "letters", tmp_path / "away")
    np.save(tmp_path / "letters.npy", np.eye(4, dtype=np.uint8))
    data = load("letters", tmp_path)
    assert (data.levels, len(data.x_train), data.x_valid.tolist()) == (2, 3, [[0, 0, 0, 1]])
    np.save(tmp_path / "letters.npy", np.eye(4))
    refused("letters holds grey values or floats", "letters", tmp_path)


def test_a_declared_function_that_returns_no_data_set_is_named(declare_letters):
    declare_letters()
    refused(r"'letters': \S*test_sources.letters returned NoneType; expected a Dataset", "letters")
