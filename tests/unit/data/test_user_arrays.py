"""Arrays and folders of a user: .npy, .npz, one file for each split, and images."""

import numpy as np
import PIL.Image
import pytest
import scipy.sparse

from iwae_tf.data import Column, load
from iwae_tf.data.dataset import SPLITS, Dataset
from iwae_tf.errors import InputError

GENERATOR = np.random.default_rng(1)
REAL = GENERATOR.normal(size=(200, 6))
GREY = GENERATOR.integers(0, 256, (200, 4, 4), dtype=np.uint8)


@pytest.fixture(autouse=True)
def numbers_that_do_not_depend_on_other_tests():
    GENERATOR.bit_generator.state = np.random.default_rng(100).bit_generator.state


def refused(words, dataset, *arguments, **settings):
    with pytest.raises(InputError, match=words) as error:
        load(str(dataset), *arguments, **settings)
    assert "\n" not in str(error.value)


def save(path, x=None, /, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    if arrays:
        np.savez(path, **arrays)
    else:
        np.save(path, x)
    return path


def together(data):
    return np.concatenate([getattr(data, f"x_{split}") for split in SPLITS])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int16, np.int64, np.uint16])
def test_numbers_that_are_no_pixels_become_real_columns(tmp_path, dtype):
    x = np.abs(REAL * 10 + 1).astype(dtype)
    data = load(str(save(tmp_path / "x.npy", x)))
    assert data.columns == tuple(Column(str(i), "real") for i in range(6))
    assert (data.name, data.scale, data.image_shape, data.x_test.dtype) == ("x", 1, (1, 6), np.float32)
    assert data.split == "0.8 / 0.1 / 0.1 by the sha256 of each row's content"
    assert min(len(getattr(data, f"x_{split}")) for split in SPLITS) > 5
    np.testing.assert_array_equal(np.sort(together(data), axis=0), np.sort(x.astype(np.float32), axis=0))


@pytest.mark.parametrize("x", [GREY, GREY % 2, GREY % 2 == 1, GREY / 255, (GREY / 255).astype(np.float16)])
def test_pixels_stay_what_they_are_in_an_npz_of_splits(tmp_path, x):
    data = load(str(save(tmp_path / "x.npy", x)))
    same = Dataset.from_arrays("x", {"x_train": x, "x_test": x}, "", "")
    assert (data.columns, data.image_shape, data.scale) == ((), (4, 4), same.scale)
    assert (data.x_train.dtype, data.levels) == (same.x_train.dtype, same.levels)
    order = [tuple(row) for row in together(data)]
    assert sorted(order) == sorted(tuple(row) for row in same.x_train)


def test_real_images_keep_their_shape_missing_values_and_order_within_a_split(tmp_path):
    x = GENERATOR.normal(size=(100, 3, 5)).astype(np.float32)
    x[::10, 1, 2] = np.nan
    data = load(str(save(tmp_path / "x.npy", x)), split=[0.5, 0.25, 0.25])
    assert (data.image_shape, data.data_dim, len(data.columns)) == ((3, 5), 15, 15)
    assert np.isnan(together(data)).sum() == 10
    places = [int(np.flatnonzero(x[:, 0, 0] == row[0])[0]) for row in data.x_train]
    assert places == sorted(places)


def test_an_archive_that_is_called_npy_is_named(tmp_path):
    save(tmp_path / "x.npz", x=REAL).rename(tmp_path / "x.npy")
    with pytest.raises(InputError, match=r"x.npy .* an archive of arrays, whose ending is .npz"):
        load(str(tmp_path / "x.npy"))


def test_colours_lie_side_by_side(tmp_path):
    x = GENERATOR.integers(0, 256, (60, 4, 5, 3), dtype=np.uint8)
    data = load(str(save(tmp_path / "x.npz", x_train=x, x_test=x[:9])))
    assert (data.image_shape, data.picture_shape, data.colours) == ((4, 15), (4, 5, 3), True)
    np.testing.assert_array_equal(data.x_test.reshape(9, 4, 5, 3), x[:9])
    grey = load(str(save(tmp_path / "grey.npz", x_train=x[..., :1], x_test=x[:9, ..., :1])))
    assert (grey.image_shape, grey.picture_shape, grey.colours) == ((4, 5), (4, 5), False)
    real = load(str(save(tmp_path / "real.npy", GENERATOR.normal(size=(200, 4, 5, 3)))))
    assert (real.picture_shape, real.colours) == ((4, 5, 3), True)


def test_an_array_is_split_by_content_so_that_more_rows_move_none(tmp_path):
    few = load(str(save(tmp_path / "few.npy", REAL[:100])))
    many = load(str(save(tmp_path / "many.npy", np.concatenate([REAL[::-1], REAL]))))
    for split in SPLITS:
        rows, more = ({tuple(row) for row in getattr(data, f"x_{split}")} for data in (few, many))
        assert rows <= more
        assert len(getattr(many, f"x_{split}")) == 2 * len(more)
    zeros = np.where(np.arange(200)[:, None] % 2, -0.0, np.zeros((200, 6))) + np.round(REAL)
    assert load(str(save(tmp_path / "zero.npy", zeros))).data_dim == 6


@pytest.mark.parametrize("names", [["x"], ["x", "y"], ["x_train"], ["data"]])
def test_an_npz_with_one_array_or_an_array_x_is_split(tmp_path, names):
    arrays = dict.fromkeys(names, np.arange(200)) | {names[0]: REAL}
    assert len(together(load(str(save(tmp_path / "x.npz", **arrays))))) == 200


def test_real_arrays_of_splits_keep_them(tmp_path):
    data = load(str(save(tmp_path / "x.npz", x_train=REAL[:50], x_valid=REAL[50:60], x_test=REAL[60:])))
    np.testing.assert_array_equal(together(data), REAL.astype(np.float32))
    assert (data.split, len(data.x_valid), len(data.columns)) == ("as in the file", 10, 6)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_a_folder_of_arrays_has_one_for_each_split(tmp_path, ending):
    for name, x in (("train", REAL[:50]), ("test", REAL[60:])):
        save(tmp_path / "own" / f"{name}.{ending}", x, **({"x": x} if ending == "npz" else {}))
    data = load("own", tmp_path)
    assert (data.name, len(data.x_train), len(data.x_valid), len(data.x_test)) == ("own", 50, 0, 140)


BORDER = np.pad(GREY, ((0, 0), (1, 1), (1, 1)))
SPARSE = {"format": b"csr", "shape": (2, 2), "data": np.ones(2), "indices": np.arange(2), "indptr": np.arange(3)}
BAD = [
    ({"x": REAL + 1j}, r"the array holds complex numbers \(dtype complex128\); expected one array of real"),
    ({"x": np.zeros(3, "i4,f4")}, "the array holds records"),
    ({"x": np.array(["a", "b"])}, "the array holds text"),
    ({"x": np.array(["2024-01-01"], "M8[D]")}, "the array holds dates or times"),
    ({"x": REAL[0]}, r"the array has shape \(6,\); expected \[N, D\], \[N, H, W\]"),
    ({"x": REAL[:0]}, r"the array is empty, shape \(0, 6\)"),
    (SPARSE, "holds a sparse matrix; expected full arrays: .*toarray"),
    (
        {"a": REAL, "b": REAL},
        "has no array x_train and no x_test, it has a, b; expected x_train, x_test, or one array x",
    ),
    ({"x_train": REAL, "y_train": REAL[:, 0]}, "has no array x_test, it has x_train, y_train"),
    ({"x_train": REAL, "x_test": REAL[:, :5]}, r"different shapes: x_train \(6,\), x_test \(5,\); expected the same"),
    ({"x_train": GREY, "x_test": REAL}, "different"),
    ({"x_train": np.array([[np.inf, 1], [2, 3]]), "x_test": REAL[:, :2]}, r"x_train, row 1, value \(0,\) is infinite"),
    (
        {"x_train": np.array([[2, 7], [3, 7]]), "x_test": REAL[:, :2]},
        "column 1 is constant, 7 in every row of the train",
    ),
    ({"x_train": np.array([[2, np.nan]] * 3), "x_test": REAL[:, :2]}, "column 0 is constant"),
    (
        {"x_train": BORDER - 5.0, "x_test": BORDER - 5.0},
        r"pixel \(0, 0\) is constant, -5 in every row .*: crop the images, or save uint8 or floats in \[0, 1\], whose",
    ),
    ({"x_train": np.array([[1.6e9], [1.6e9 + 9]]), "x_test": REAL[:, :1]}, "float32 would lose these differences"),
    ({"x_train": np.array([[1e300], [2.0]]), "x_test": REAL[:, :1]}, "row 1, value .* is infinite or beyond float32"),
    (
        {"x_train": REAL, "x_test": np.where(np.isclose(REAL, REAL[2, 3]), 1e39, REAL)},
        r"x_test, row 3, value \(3,\) is infinite or",
    ),
    (
        {"x_train": REAL, "x_val": REAL, "x_test": REAL},
        "has the arrays x_train, x_val, x_test; expected x_train, x_test",
    ),
    ({"x": REAL, "x_test": REAL}, "has the arrays x, x_test; expected x_train, x_test, x_valid, or one array x"),
]


@pytest.mark.parametrize(("arrays", "words"), BAD)
def test_an_unusable_array_is_one_line(tmp_path, arrays, words):
    refused(f"x.npz.*{words}", save(tmp_path / "x.npz", **arrays))


def test_files_and_settings_that_do_not_fit_are_one_line(tmp_path):
    path = save(tmp_path / "x.npy", REAL)
    refused(
        "x.npy: --columns and --drop cannot be used, because an array has no named", path, columns=["0"], drop=["1"]
    )
    refused("no row of 200 falls into valid", path, split=[0.9999, 0.00001, 0.00009])
    own = save(tmp_path / "own.npz", x_train=REAL, x_test=REAL)
    refused("own.npz: --split cannot be used, because the data have their own", own, split=[0.8, 0.1, 0.1])
    refused(
        "digits: --id-column and --split cannot be used, because a declared",
        "digits",
        id_column="a",
        split=[1 / 2, 0, 1 / 2],
    )
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    refused("objects.npy cannot be read .*; expected an .npy file of numbers", tmp_path / "objects.npy")
    (tmp_path / "text.npy").write_text("text")
    refused("text.npy cannot be read .*; expected an .npy file of numbers", tmp_path / "text.npy")
    scipy.sparse.save_npz(tmp_path / "sparse.npz", scipy.sparse.eye(3, format="csr"))
    refused("sparse.npz holds a sparse matrix", tmp_path / "sparse.npz")


def test_an_unusable_folder_is_one_line(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    refused("own is a folder with no data; expected train and test", own)
    save(own / "data.npy", REAL)
    refused("own is a folder with data.npy; expected train and test", own)
    save(own / "train.npy", REAL)
    refused("own is a folder with data.npy, train.npy; expected train and test", own)
    (own / "test.csv").write_text("a\n1\n2\n")
    refused("own holds train.npy, test.csv; expected files of one kind", own)
    save(own / "test.npy", REAL)
    refused("own holds test.csv and test.npy: keep one", own)
    (own / "test.csv").unlink()
    assert load(str(own)).data_dim == 6
    save(own / "val.npy", REAL)
    refused("val.npy; expected train and test, and if wanted valid", own)


# Images


@pytest.fixture
def draw(tmp_path):
    def draw_images(count=60, size=(5, 4), mode="L", where="own", ending="png"):
        folder = tmp_path / where
        folder.mkdir(parents=True, exist_ok=True)
        pixels = GENERATOR.integers(0, 256, (count, *size[::-1], len(PIL.Image.new(mode, (1, 1)).getbands())), np.uint8)
        for i, image in enumerate(pixels):
            PIL.Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image, mode).save(
                folder / f"{i:03d}.{ending}"
            )
        return pixels.reshape(count, size[1], -1)

    return draw_images


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_a_folder_of_images_is_split_by_their_content(draw, tmp_path):
    pixels = draw()
    data = load(str(tmp_path / "own"), split=[0.6, 0.2, 0.2])
    assert (data.name, data.scale, data.image_shape, data.columns) == ("own", 255, (4, 5), ())
    assert {row.tobytes() for row in together(data)} == {image.tobytes() for image in pixels}


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_subfolders_of_images_are_splits_and_one_colour_image_makes_all_colour(draw, tmp_path):
    train, test = draw(7, mode="RGB", where="own/train"), draw(3, where="own/test")
    data = load(str(tmp_path / "own"))
    assert (data.image_shape, len(data.x_valid), data.x_train.dtype) == ((4, 15), 0, np.uint8)
    np.testing.assert_array_equal(data.x_train.reshape(7, 4, 15), train)
    np.testing.assert_array_equal(data.x_test.reshape(3, 4, 5, 3), np.stack([test] * 3, axis=-1))
    refused(
        "own: --split cannot be used, because the images have a folder for each", tmp_path / "own", split=[0.5, 0, 0.5]
    )
    draw(1)
    refused("own has images in train, test and elsewhere, in itself; expected", tmp_path / "own")


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_paths_are_ids_and_subfolders_are_labels(draw, tmp_path):
    for place, count in {
        "own/train/cat": 3,
        "own/train/dog": 2,
        "own/test/cat": 2,
        "plain/a": 40,
        "plain/b": 40,
    }.items():
        draw(count, where=place)
    data = load(str(tmp_path / "own"))
    assert data.ids["test"].tolist() == ["test/cat/000.png", "test/cat/001.png"]
    assert data.labels["train"].tolist() == ["cat"] * 3 + ["dog"] * 2
    plain = load(str(tmp_path / "plain"))
    for split in SPLITS:
        assert [path.split("/")[0] for path in plain.ids[split]] == plain.labels[split].tolist()
        for path, pixels in zip(plain.ids[split], getattr(plain, f"x_{split}"), strict=True):
            np.testing.assert_array_equal(pixels.reshape(4, 5), np.asarray(PIL.Image.open(tmp_path / "plain" / path)))
    one = load(str(tmp_path / "plain" / "a"))
    assert (one.labels, one.ids["train"][0][-4:]) == ({}, ".png")
    draw(3, where="plain/val")
    refused("plain has images in val and elsewhere, in a; expected folders train, test and", tmp_path / "plain")
    draw(2, where="capital/Train")
    draw(2, where="capital/Test")
    refused("capital has images in Test, Train and elsewhere, in Test; expected folders train", tmp_path / "capital")
    draw(1, where="own/train/cat/.thumbnails")
    assert len(load(str(tmp_path / "own")).x_train) == 5
    draw(1, where="own/train/cat/deeper")
    refused("deeper/000.png is too deep in .*own/train; expected images in folders", tmp_path / "own")
    draw(1, where="plain")
    refused("plain has images both in itself and in a, b, val: move them", tmp_path / "plain")


def test_jpeg_images_are_turned_as_their_exif_data_say(tmp_path):
    for i in range(40):
        image = PIL.Image.fromarray(np.pad(np.full((8, 8), 200 + i, np.uint8), ((0, 8), (0, 0))))  # bright at the top
        exif = image.getexif()
        exif[0x0112] = 8  # turned by 90 degrees to the left
        image.save(tmp_path / f"{i}.jpg", exif=exif)
    data = load(str(tmp_path))
    assert data.image_shape == (8, 16)
    assert (data.x_train.reshape(-1, 8, 16)[:, :, :8] > 150).all()
    assert (data.x_train.reshape(-1, 8, 16)[:, :, 8:] < 50).all()


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_unusable_images_are_one_line(draw, tmp_path):
    own = tmp_path / "own"
    draw(30)
    refused(
        "own: --label-column cannot be used, because images have no named columns; a subfolder", own, label_column="y"
    )
    draw(1, size=(5, 5), where="own/more")
    (own / "more" / "000.png").rename(own / "100.png")
    refused("100.png has 5x5 pixels and .*000.png has 5x4 pixels; expected one size: resize", own)
    content = (own / "001.png").read_bytes()
    (own / "100.png").write_bytes(content[:50])
    refused("100.png cannot be read .*; expected a PNG or JPEG image", own)
    (own / "100.png").write_text("no image")
    refused("100.png cannot be read .*; expected a PNG or JPEG image", own)
    PIL.Image.new("RGBA", (5, 4)).save(own / "100.png")
    refused("100.png has transparent pixels", own)
    PIL.Image.new("I;16", (5, 4)).save(own / "100.png")
    refused("100.png has more than 8 bits a pixel", own)
    (own / "100.png").unlink()
    (own / "train.csv").write_text("a\n1\n")
    refused("own holds both train.csv and images, 000.png; expected one of them", own)
    (tmp_path / "half" / "train").mkdir(parents=True)
    (own / "000.png").rename(tmp_path / "half" / "train" / "000.png")
    refused("half has images in train alone; expected folders train and test", tmp_path / "half")


def test_jpeg_and_palette_images_are_read(tmp_path):
    for i in range(60):
        image = PIL.Image.new("L", (4, 4), color=4 * i)
        image.putpixel((0, 0), i)
        image.save(tmp_path / f"{i}.JPG", format="JPEG") if i % 2 else image.convert("P").save(tmp_path / f"{i}.png")
    assert load(str(tmp_path)).image_shape == (4, 12)
