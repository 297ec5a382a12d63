"""The recipes of docs/design.md: modules outside the package that the command line takes by `--plugin`."""

import json
import sys

import numpy as np
import pytest
from test_document_commands import commands
from test_documents import ROOT, blocks, keep_declarations

from iwae_tf import declarations
from iwae_tf.commands.main import main
from iwae_tf.training.run_folder import read_trained

DESIGN = ROOT / "docs/design.md"
RECIPES = {code.split('"""')[1].partition(".py")[0]: code for code in blocks(DESIGN, "python")}  # by module name
NAMES = {
    "half_stl": ("objective", "half-stl"),
    "noisy_bernoulli": ("likelihood", "noisy-bernoulli"),
    "bars": ("dataset", "bars"),
}
TINY = "--latent-units 2 --hidden-units 8 --k 5 --epochs 1 --batch-size 100 --eval-samples 5 --verbose 0"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a module for each recipe; declarations are as before when the test ends."""
    keep_declarations(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in RECIPES.items():
        (tmp_path / f"{name}.py").write_text(code)
    yield tmp_path
    for name in RECIPES:
        sys.modules.pop(name, None)


def command(containing: str) -> list[str]:
    """Returns the arguments of the command of the page that contains some text."""
    (words,) = (w for block in blocks(DESIGN, "sh") for w in commands(block) if containing in w)
    return words[words.index("iwae_tf") + 1 :]


@pytest.mark.parametrize("module", NAMES)
def test_a_module_declares_its_name_from_outside_the_package(folder, module):
    assert set(RECIPES) == set(NAMES)
    declarations.load_plugins((module,))
    declaration = declarations.find(*NAMES[module])
    assert (declaration.module, declaration.load().__module__) == (module, module)
    if module == "half_stl":
        assert declaration.settings["share"].default == 0.5
        objective = declaration.load()(5, share=0.25)
        assert type(objective).from_config(objective.get_config()).share == 0.25
    if module == "noisy_bernoulli":
        assert declaration.facts == {"binarised": True}


@pytest.mark.slow
def test_the_command_line_lists_them_and_a_run_trains_with_all_three_and_reads_them_again(folder, capsys):
    assert main(command("objectives")) == 0
    assert "half-stl" in capsys.readouterr().out
    assert main([*command("train"), *TINY.split(), "--output-dir", "run"]) == 0
    config = json.loads((folder / "run/config.json").read_text())
    assert config["plugins"] == ["half_stl", "noisy_bernoulli", "bars"]
    assert (config["training"]["objective"], config["objective"]["share"]) == ("half-stl", 0.25)
    assert np.isfinite(json.loads((folder / "run/metrics.json").read_text())["log_likelihood"])
    for name in RECIPES:  # as in a new process
        del sys.modules[name]
    del declarations._registered["likelihood"]["noisy-bernoulli"]
    model = read_trained(folder / "run").model
    assert model.likelihood_head.binarised
    assert set(np.unique(model.sample(3))) == {0.0, 1.0}
