import numpy as np
import pytest

from iwae_tf.data import load
from iwae_tf.errors import InputError

PARTS = ("train", "valid", "test")


def bits(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (count, 784), dtype=np.uint8)


def write_amat(folder, end="\n"):
    for seed, part in enumerate(PARTS):
        rows = [" ".join(map(str, row)) for row in bits(seed + 2, seed)]
        (folder / f"binarized_mnist_{part}.amat").write_text(end.join(rows) + end, newline="")


@pytest.mark.parametrize("end", ["\n", " \r\n"])
def test_the_original_text_files_are_read_as_they_are_split(tmp_path, end):
    write_amat(tmp_path, end)
    data = load("binarized_mnist", tmp_path)
    assert (data.name, data.scale, data.image_shape) == ("binarized_mnist", 1, (28, 28))
    for seed, part in enumerate(PARTS):
        x = getattr(data, f"x_{part}")
        assert x.dtype == np.uint8
        np.testing.assert_array_equal(x, bits(seed + 2, seed))


@pytest.mark.parametrize("dtype", [np.uint8, bool])
def test_an_npz_file_is_read(save, tmp_path, dtype):
    save("binarized_mnist.npz", **{f"x_{part}": bits(2, seed).astype(dtype) for seed, part in enumerate(PARTS)})
    data = load("binarized_mnist", tmp_path)
    assert data.x_train.dtype == np.uint8
    np.testing.assert_array_equal(data.x_valid, bits(2, 1))
    assert set(np.unique(data.intensities("test"))) == {0, 1}


def test_grey_values_are_not_taken_for_a_binarization(grey, save, tmp_path):
    save("binarized_mnist.npz", x_train=grey(3), x_valid=grey(3), x_test=grey(3))
    with pytest.raises(InputError, match="grey values or floats; expected only 0 and 1"):
        load("binarized_mnist", tmp_path)
    save("binarized_mnist.npz", **{f"x_{part}": bits(2).astype(np.float32) for part in PARTS})
    with pytest.raises(InputError, match="grey values or floats; expected only 0 and 1"):
        load("binarized_mnist", tmp_path)


def test_the_npz_file_needs_its_validation_part(save, tmp_path):
    save("binarized_mnist.npz", x_train=bits(2), x_test=bits(2))
    with pytest.raises(InputError, match="no array x_valid"):
        load("binarized_mnist", tmp_path)


def test_two_of_the_three_text_files_are_not_enough(tmp_path):
    write_amat(tmp_path)
    (tmp_path / "binarized_mnist_valid.amat").unlink()
    with pytest.raises(InputError, match=r"but not binarized_mnist_valid\.amat: put all 3 files there"):
        load("binarized_mnist", tmp_path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[:-3], "row 3 has another number"),
        (lambda text: "0 " + text, "row 1 has another number"),
        (lambda text: "2" + text[1:], "other characters"),
        (lambda text: "-" + text[1:], "other characters"),
        (lambda text: text.replace("0", "0.0"), "row 1 has another number"),
        (lambda text: "", "is empty"),
    ],
)
def test_a_damaged_text_file_is_named(tmp_path, damage, words):
    write_amat(tmp_path)
    path = tmp_path / "binarized_mnist_valid.amat"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=f"binarized_mnist_valid.amat.*{words}"):
        load("binarized_mnist", tmp_path)
