"""`--config`: settings from a file, a run repeated by its own `config.json`; `--recipe`: settings by one name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from shared_runs import SIZES

from iwae_tf.commands import settings_file
from iwae_tf.commands.flags import Parser, add_seeds, seeds_of
from iwae_tf.commands.main import main
from iwae_tf.config import RECIPES, RECORDED, RunConfig, TrainingConfig
from iwae_tf.errors import InputError


@pytest.fixture
def only_start(monkeypatch):
    """Ends `train` once config.json is written."""

    def stop(*arguments):
        raise InputError("stopped by the test")

    monkeypatch.setattr("iwae_tf.training.run.fit", stop)


def _content(path: Path) -> dict:
    """Returns a config.json without the name of the optimiser, which Keras counts up in a process."""
    content = json.loads(path.read_text())
    content["training"]["optimizer_config"].pop("name")
    return content


def _config_of(run: Path, *flags: str) -> dict:
    assert main(["train", *map(str, flags), "--output-dir", str(run)]) == 2
    return _content(run / "config.json")


def test_a_run_is_repeated_by_its_own_settings_and_flags_win(trained, tmp_path, only_start, capsys):
    file = shutil.copy(trained.path / "config.json", tmp_path)
    assert _config_of(tmp_path / "same", "--config", file) == _content(Path(file))
    assert "stopped by the test" in capsys.readouterr().err
    other = _config_of(tmp_path / "other", "--seed", "4", "--config", file, "--latent-units", "3")
    assert (other["training"]["seed"], other["model"]["latent_units"]) == (4, [3])
    assert (other["training"]["k"], other["model"]["hidden_units"]) == (5, [[20, 20]])


def test_the_settings_of_a_table_are_repeated_whatever_its_columns_are_called(tmp_path, only_start):
    rng = np.random.default_rng(0)
    header = '"size, in cm",b,say ""hi"",count,drop me'.replace('say ""hi""', '"say ""hi"""')
    lines = [",".join([*(f"{v:.3f}" for v in rng.normal(size=3)), str(rng.integers(9)), "1.5"]) for _ in range(60)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join([header, *lines]))
    flags = ["--dataset", str(table), "--drop", "drop me", "--likelihood", "gaussian", "--split", "0.7,0.1,0.2", *SIZES]
    flags += ["--hidden-units", "none", "--objective", "miwae", "--groups", "2", "--k", "4", "--scaling", "robust"]
    first = _config_of(tmp_path / "first", *flags)
    assert first["model"]["column_likelihoods"][0] == "size, in cm=gaussian"
    assert first["data"]["table_columns"][2]["name"] == 'say "hi"'
    assert _config_of(tmp_path / "second", "--config", str(tmp_path / "first" / "config.json")) == first


def test_a_run_that_started_from_another_one_is_repeated(trained, tmp_path, only_start):
    flags = ["--init-from", trained.path, "--config", trained.path / "config.json"]
    first = _config_of(tmp_path / "first", *flags)
    assert first["training"]["init_from_model"]
    assert _config_of(tmp_path / "second", "--config", tmp_path / "first" / "config.json") == first


def test_what_a_run_records_besides_settings_is_no_setting():
    settings = RunConfig().to_json()
    for section, names in RECORDED.items():
        assert not set(names) & set(settings[section] if section else settings)


def test_a_toml_file_names_settings_as_flags_do(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(
        'epochs = 3\nrate = 0.5\nname = "a"\nonly = ["x", "y"]\nexport = true\nresume = false\n'
        '[training]\nlatent-units = 2\n[model]\nplugin = ["m", "n"]\nlist_of = ["a,b", "c"]\n'
        'group = [["a", "b"], ["c"]]\npair = ["a", "b"]\n'
    )
    parser = Parser(prog="program")
    for flag in ("--epochs", "--rate", "--name", "--list-of", "--seed"):
        parser.add_argument(flag)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--group", action="append", default=[], nargs="+")
    parser.add_argument("--pair", action="append", default=[], nargs="+")
    parser.add_argument("--latent-units", nargs="+", type=int)
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--resume", action="store_true")
    found = settings_file.words_of(*settings_file.read_given(["--config", str(path)]), parser, ["--name=b"])
    values = vars(parser.parse_args(["--name=b", *found]))
    assert values == {
        **{"epochs": "3", "rate": "0.5", "name": "b", "list_of": '"a,b",c', "seed": None, "only": ["x", "y"]},
        **{
            "latent_units": [2],
            "plugin": ["m", "n"],
            "group": [["a", "b"], ["c"]],
            "pair": [["a", "b"]],
            "export": True,
            "resume": False,
        },
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.toml", None, "none.toml cannot be read as TOML"),
        ("a.ini", "k: 5", "unknown ending '.ini'; expected .toml, .json, .yaml, .yml"),
        ("a.yaml", "k: [1", "a.yaml cannot be read as YAML"),
        ("a.yaml", "- k", "holds no settings"),
        ("a.yml", "k: 0", "k must be an integer >= 1, got 0"),
        ("a.yaml", "jit: off", "invalid choice: 'False' (choose from 'auto', 'on', 'off')"),
        ("a.yaml", "1: 2", "unknown setting 1"),
        ("a.yaml", "k: !!python/object/apply:os.getcwd []", "a.yaml cannot be read as YAML"),
        ("a.toml", "k = ", "a.toml cannot be read as TOML"),
        ("a.json", "[1]", "a.json holds no settings"),
        ("a.json", "{", "a.json cannot be read as JSON"),
        ("a.toml", "learning-rte = 1", "unknown setting learning_rte; did you mean learning_rate?"),
        ("a.json", '{"data": {"num_train": 5}}', "unknown setting num_train"),
        ("a.json", '{"versions": {}, "training": {"lr": 1}}', "unknown setting lr"),
        ("a.toml", "k = 0", "k must be an integer >= 1, got 0"),
        ("a.toml", 'k = "many"', "invalid integer value: 'many'"),
        ("a.toml", "k = 1\n[training]\nk = 2", "has the setting k twice"),
        ("a.toml", "split = [0.8, 0.1, 0.1]\nsplit_shares = [0.6, 0.2, 0.2]", "split twice, also as split_shares"),
        ("a.toml", "export = 1", "export must be true or false, got 1"),
        ("a.toml", "seed = 2026-01-01", "seed must be a text, a number or a list of them"),
        ("a.toml", 'objective = "iwea"', "did you mean 'iwae'?"),
        ("a.toml", 'jit = "--"', "is no argument with a value"),
        ("a.toml", 'plugins = "no_such_module"', "--plugin no_such_module cannot be imported"),
        ("a.toml", "seed = 3\nseeds = [0, 1]", "--seed 3 and --seeds 0,1: give one of them"),
        ("a.toml", "[no-section]\nk = 1", "unknown setting no_section"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_2(name, content, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_text(content)
    assert main(["train", "--config", name]) == 2
    output = capfd.readouterr()
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert message in output.err
    assert not Path("runs").exists()


def test_seeds_of_the_command_line_replace_the_seed_of_a_file_and_a_list_of_one_seed_is_a_list(tmp_path):
    parser = Parser(prog="program")
    parser.add_argument("--seed", type=int, default=0)
    add_seeds(parser)

    def seeds(settings, *given):
        words = settings_file.words_of(tmp_path, settings, parser, list(given))
        return seeds_of(parser.parse_args([*words, *given]))

    assert seeds({"seed": 3}, "--seeds", "0,1") == seeds({"seed": 3}, "--seeds=0,1") == [0, 1]
    assert seeds({"seed": 3}, "--seeds", "2") == [3, 4]  # two from the file's seed on
    assert seeds({"seeds": [5, 7]}, "--seed", "7") == [7]
    assert seeds({"seeds": 2}, "--seed", "7") == [7, 8]
    assert seeds({"seeds": [5]}) == [5]
    assert seeds({"seeds": [5, 7]}) == [5, 7]
    assert seeds({"seeds": 2}) == [0, 1]


def test_a_file_without_its_name_is_asked_for(capsys):
    assert main(["export", "RUN", "--config"]) == 2
    assert "--config: expected one argument" in capsys.readouterr().err


def test_other_commands_take_a_file_too(tmp_path, capsys):
    (tmp_path / "score.toml").write_text('url = "ftp://host"\ntimeout = 5\n')
    assert main(["score", "rows.npy", "--config", str(tmp_path / "score.toml")]) == 2
    assert "unknown scheme 'ftp'" in capsys.readouterr().err


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_what_neither_a_flag_nor_a_file_sets(name, tmp_path, only_start):
    recipe, defaults = RECIPES[name], TrainingConfig()
    assert any(getattr(defaults, setting) != value for setting, value in recipe.items())
    whole = _config_of(tmp_path / "whole", "--recipe", name)["training"]
    assert {setting: whole[setting] for setting in recipe} == recipe
    (tmp_path / "settings.toml").write_text(f'recipe = "{name}"\nlearning_rate = 0.5\n')
    part = _config_of(tmp_path / "part", "--config", tmp_path / "settings.toml", "--batch-size=7")["training"]
    assert {setting: part[setting] for setting in recipe} == recipe | {"batch_size": 7, "learning_rate": 0.5}
    (tmp_path / "all.toml").write_text('recipe = "paper"\nlearning_rate = 0.5\nk = 3\nschedule = "constant"\n')
    flags = ["--config", tmp_path / "all.toml", "--batch-size=7", "--recipe", name]
    typed = _config_of(tmp_path / "typed", *flags)["training"]
    assert {setting: typed[setting] for setting in ("k", *recipe)} == {"k": 3} | recipe | {"batch_size": 7}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--recipe", "quick"], "invalid choice: 'quick'"),
        (["train", "--recipe"], "--recipe: expected one argument"),
        (["runs", "--recipe", "fast"], "unknown argument --recipe"),
    ],
)
def test_an_unknown_recipe_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
