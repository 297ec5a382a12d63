"""What the client takes: URLs, image files and arrays; how it sums up."""

import numpy as np
import pytest

from iwae_tf.errors import InputError
from iwae_tf.serving.images import as_rows, read_images
from iwae_tf.serving.model_url import parse_model_url
from iwae_tf.serving.scores import Scores, summary


@pytest.mark.parametrize(
    ("url", "scheme", "base", "version", "label"),
    [
        ("http://h:8501/v1/models/m", "http", "http://h:8501/v1/models/m", None, None),
        ("http://h:8501/v1/models/m/", "http", "http://h:8501/v1/models/m", None, None),
        ("https://h/a/b/v1/models/m/versions/12", "http", "https://h/a/b/v1/models/m", "12", None),
        ("http://h:8501/v1/models/m/labels/stable", "http", "http://h:8501/v1/models/m", None, "stable"),
        ("grpc://h:8500/m", "grpc", "grpc://h:8500/m", None, None),
        ("grpc://h:8500/m/versions/3", "grpc", "grpc://h:8500/m", "3", None),
        ("grpc://[::1]:8500/m/labels/canary", "grpc", "grpc://[::1]:8500/m", None, "canary"),
        ("export/models/m", "folder", "export/models/m", None, None),
        ("/a/m/3", "folder", "/a/m/3", None, None),
    ],
)
def test_urls_of_models_are_taken_apart(url, scheme, base, version, label):
    parsed = parse_model_url(url)
    assert (parsed.scheme, parsed.base, parsed.version, parsed.label) == (scheme, base, version, label)
    assert parsed.needs_tensorflow == (scheme != "http")
    if scheme != "folder":
        assert parsed.name == "m"
        assert parsed.address in base


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://h:8501", "expected http://h:8501/v1/models/NAME"),
        ("http://h:8501/v1/models/", "expected http://h:8501/v1/models/NAME"),
        ("http://h:8501/v1/models/m:predict", "expected http://h:8501/v1/models/NAME"),
        ("http://h:8501/v1/models/m/versions/new", "/versions/N or /labels/L"),
        ("grpc://h:8500", "expected grpc://h:8500/NAME"),
        ("grpc://h:8500/v1/models/m", "expected grpc://h:8500/NAME"),
        ("https://", "expected https://HOST:PORT/v1/models/NAME"),
        ("ftp://h/m", "unknown scheme 'ftp'"),
    ],
)
def test_other_urls_are_refused_with_the_right_form(url, message):
    with pytest.raises(InputError) as raised:
        parse_model_url(url)
    assert message in str(raised.value)


def test_images_become_float32_rows():
    grey = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(as_rows(grey), grey.reshape(2, 12).astype(np.float32) / np.float32(255))
    binary = np.eye(3, dtype=np.uint8)
    for pixels in (binary, binary.astype(bool), binary.astype(np.float64)):
        np.testing.assert_array_equal(as_rows(pixels), binary)
        assert as_rows(pixels).dtype == np.float32
    wild = np.array([[np.nan, -3.0, 1e300, 0.1]])
    np.testing.assert_array_equal(as_rows(wild), np.array([[np.nan, -3, np.inf, 0.1]], np.float32))


def test_grey_values_are_those_that_a_model_is_trained_on():
    from iwae_tf.data import Dataset

    x = np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(8, 64)
    data = Dataset.from_arrays("d", {"x_train": x, "x_test": x}, "", "")
    np.testing.assert_array_equal(as_rows(x), data.intensities("test"))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 4)), "empty"),
        (np.zeros((3, 0)), "empty"),
        (np.zeros(4), r"shape \[4\]"),
        (np.zeros((1, 2, 3, 4)), r"shape \[1, 2, 3, 4\]"),
        (np.zeros((2, 2), np.int64), "dtype int64"),
        (np.zeros((2, 2), complex), "dtype complex128"),
        (np.array([["a"]]), "dtype <U1"),
    ],
)
def test_arrays_that_are_no_images_are_refused(x, message):
    with pytest.raises(InputError, match=message):
        as_rows(x)


def test_images_are_found_in_their_file(tmp_path):
    x, y = np.random.default_rng(0).random((3, 4), dtype=np.float32), np.arange(3)
    np.save(tmp_path / "plain.npy", x)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    np.savez(tmp_path / "one.npz", images=x)
    np.savez(tmp_path / "two.npz", a=x, y=y)
    for name, array in [("plain.npy", None), ("x.npz", None), ("one.npz", None), ("two.npz", "a"), ("x.npz", "x")]:
        np.testing.assert_array_equal(read_images(tmp_path / name, array), x)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("none.npy", None, "there is no file"),
        ("two.npz", None, "has the arrays a, b"),
        ("two.npz", "c", "has no array 'c'; it has a, b"),
        ("two.npz", "b", r"two.npz: b has dtype int64"),
        ("plain.npy", "a", "leave --array out"),
        ("text.npy", None, "cannot be read"),
        ("text.npz", None, "cannot be read"),
        ("objects.npy", None, "cannot be read"),
        ("images.png", None, "expected .npy or .npz"),
    ],
)
def test_files_that_hold_no_images_are_refused(tmp_path, name, array, message):
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2), np.int64))
    np.save(tmp_path / "plain.npy", np.zeros((2, 2)))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    for text in ("text.npy", "text.npz"):
        (tmp_path / text).write_text("no images")
    with pytest.raises(InputError, match=message):
        read_images(tmp_path / name, array)


def test_the_summary_counts_what_is_not_to_be_trusted():
    values = np.array([-1.0, -3.0, np.nan, np.nan, -5.0], np.float32)
    pareto_k = np.array([0.5, np.inf, np.nan, np.nan, 0.71], np.float32)
    line = summary(Scores(values, values, values, values, pareto_k, np.array([0, 0, 1, 3, 0], np.int32)))
    assert line.startswith("5 rows; mean log_prob -3.000 over 3 good rows; 2 of them with pareto_k > 0.7; ")
    assert "; 1 with status 1 (x has NaN or values that the likelihood cannot observe)" in line
    assert line.endswith("; 1 with status 3 (the score is not finite)")
    assert "\n" not in line
