"""The flags of a user's data: lists of names, shares, and a wrong name found before TensorFlow is imported."""

import pytest

from iwae_tf.commands.flags import Parser, add_settings, settings_from
from iwae_tf.config import DataConfig
from iwae_tf.errors import InputError


def parsed(*words):
    parser = Parser(prog="train")
    add_settings(parser, DataConfig)
    return settings_from(parser.parse_args(list(words)), DataConfig)


def test_names_are_lists_with_commas_and_shares_are_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    flags = ["--columns", "a, b c", "--drop", "d", "--id-column", "id", "--label-column", "y", "--split", "0.5,0.2,0.3"]
    config = parsed("--dataset", "t.csv", "--data-dir", str(tmp_path), *flags)
    assert (config.columns, config.drop, config.split_shares) == (("a", "b c"), ("d",), (0.5, 0.2, 0.3))
    assert parsed("--columns", '"a, in cm", b').columns == ("a, in cm", "b")
    assert (config.id_column, config.label_column) == ("id", "y")
    assert parsed() == DataConfig()
    assert parsed("--dataset", "tfds:iris").dataset == "tfds:iris"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "minst"], "unknown dataset 'minst': did you mean 'mnist'.* there is no file minst"),
        (["--dataset", "no/table.csv"], "there is no file no/table.csv: correct the name, the path, or --data-dir"),
        (["--split", "a,b,c"], "argument --split: invalid comma-separated list of numbers value: 'a,b,c'"),
        (["--split", "0.5,0.5"], r"split \(--split\) must be the shares of train, valid and test.*, got 0.5,0.5"),
        (["--columns", ""], "names no column"),
        (["--columns", "a\nb"], r"argument --columns: invalid list of names value: 'a\\nb'"),
    ],
)
def test_a_wrong_flag_is_one_line(words, message):
    with pytest.raises(InputError, match=message):
        parsed(*words)
