"""`python -m iwae_tf reproduce` as a user calls it."""

import numpy as np
import pytest

from iwae_tf.commands.main import main


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder with an `mnist.npz` of few images."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images = {f"x_{part}": rng.integers(0, 256, (n, 28, 28), np.uint8) for part, n in (("train", 460), ("test", 10))}
    labels = {f"y_{part}": np.zeros(n, np.uint8) for part, n in (("train", 460), ("test", 10))}
    np.savez(folder / "mnist.npz", **images, **labels)
    return folder


def test_cells_are_trained_once_and_the_table_names_the_scale(data_dir, tmp_path, capfd):
    words = ["reproduce", "table1", "--data-dir", str(data_dir), "--scale", "0.0005", "--eval-samples", "50"]
    words += ["--output-dir", str(tmp_path), "--verbose", "0", "--only", "vae-k1-l1", "iwae-k1-l1", "iwae-k5-l2"]
    assert main(words) == 0
    first = capfd.readouterr().out
    assert first.startswith("table1 on mnist, scale 0.0005: 2 passes over the data where the paper has 3,280; not the")
    assert "vae-k1-l1: starts, 2 passes" in first
    assert "iwae-k1-l1: finished before" in first  # the same run
    table = (tmp_path / "table1.md").read_text()
    assert table in first
    assert "scale 0.0005: 2 passes over the data where the paper has 3,280" in table
    assert {path.name for path in tmp_path.glob("table1.*")} == {"table1.csv", "table1.md", "table1.png"}
    assert main(words) == 0
    again = capfd.readouterr().out
    assert again.count("finished before") == 3
    assert table in again


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table4"], "unknown table 'table4': did you mean 'table3'"),
        (["table1", "--only", "iwae-k50-l3"], "unknown cell 'iwae-k50-l3': did you mean 'iwae-k50-l"),
        (["table2", "--dataset", "omniglot"], "omniglot"),
        (["table1", "--dataset", "cifar"], "cifar"),
        (["table1", "--scale", "0"], "scale must be above 0 and at most 1"),
        (["table1", "--scale", "nan"], "scale must be a number, got nan"),
        (["table1", "--dataset", "omniglot", "--data-dir", "EMPTY"], "chardata.mat"),
        (["table3", "--data-dir", "EMPTY"], "binarized_mnist"),
        (["table1", "--data-dir", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    assert main(["reproduce", *words]) == 2
    printed = capfd.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert {path.name for path in tmp_path.iterdir()} <= {"EMPTY"}
