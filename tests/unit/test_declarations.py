"""Declarations: source and registration agree, settings have types and defaults, names are unique, plugins load."""

import importlib
import inspect
import sys
from typing import Optional

import pytest

from iwae_tf import InputError, declarations
from iwae_tf.declarations import PACKAGES, Setting, declare, declared, find, load_plugins
from iwae_tf.layers import Likelihood
from iwae_tf.objectives import IWAEBound
from iwae_tf.objectives.bounds import CIWAE, VRIWAE


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """What `declare` registers, put back at the end; the package's own modules have been imported."""
    for kind in PACKAGES:
        for declaration in declarations._built_in(kind).values():
            declaration.load()
    own = {kind: dict(names) for kind, names in declarations._registered.items()}
    monkeypatch.setattr(declarations, "_registered", own)
    return own


@pytest.mark.parametrize("kind", PACKAGES)
def test_what_is_read_from_the_source_is_what_declare_registers(kind, registered):
    read = declarations._built_in(kind)
    assert len(read) >= 2
    for name, declaration in read.items():
        decorated = declaration.load()
        assert decorated.__module__ == declaration.module
        assert registered[kind][name] == declaration  # registered when the module was imported
        assert find(kind, name) == declaration
        assert declaration.help
        if isinstance(decorated, type):
            assert decorated.declaration == declaration
            assert all(getattr(decorated, fact) == value for fact, value in declaration.facts.items())


def test_the_names_are_those_of_the_documents():
    assert {"bernoulli", "gaussian", "categorical", "discretized-logistic", "continuous-bernoulli", "student-t"} <= set(
        declared("likelihood")
    )
    assert set(declared("latent")) == {"gaussian", "bernoulli"}
    assert len(declared("objective")) >= 16
    facts = {name: declaration.facts for name, declaration in declared("likelihood").items()}
    assert [name for name in facts if facts[name].get("binarised", False)] == ["bernoulli"]
    assert sorted(n for n in facts if facts[n].get("needs_levels")) == ["categorical", "discretized-logistic"]


def test_own_settings_have_types_and_defaults():
    settings = find("objective", "ciwae").settings
    assert settings == CIWAE.declaration.settings
    assert (settings["beta"].type, settings["beta"].default) == (float, 0.05)
    assert (settings["learn_beta"].type, settings["learn_beta"].default) == (bool, False)
    assert VRIWAE.declaration.settings["alpha"] == Setting("order, 0 is iwae, near 1 elbo", float, 0.5)
    annealing = find("objective", "elbo-kl").settings["kl_annealing"]  # of `int | None`
    assert (annealing.type, annealing.default) == (int, None)


def test_a_class_from_outside_is_known_by_name_with_its_settings_and_facts(registered):
    registered["objective"].clear()  # as before the package's own are imported

    @declare("objective", "tests-outside", "an objective", settings={"power": "of the weights", "steps": "number"}, x=3)
    class Outside(IWAEBound):
        def __init__(self, num_samples=1, power: float = 2.0, steps: "int | None" = None, **kwargs):
            super().__init__(num_samples, **kwargs)

    found = find("objective", "tests-outside")
    assert found.settings == {"power": Setting("of the weights", float, 2.0), "steps": Setting("number", int, None)}
    assert (found.facts, Outside.x, Outside(4).name) == ({"x": 3}, 3, "tests-outside")
    assert list(declared("objective"))[-1] == "tests-outside"  # after the package's own

    class Derived(Outside):
        pass

    assert Derived(4).name == "Derived"  # not declared, although its base is

    @declare("objective", "tests-of-ciwae", "an objective with the settings of its base")
    class OfCIWAE(CIWAE):
        pass

    assert OfCIWAE(4, beta=0.2).get_config() == CIWAE(4, beta=0.2).get_config()


def test_what_is_declared_inside_a_function_is_found_again():
    @declare("likelihood", "tests-local", "a likelihood")
    class Local(Likelihood):
        pass

    assert find("likelihood", "tests-local").load() is Local


def test_settings_need_arguments_with_plain_types_and_defaults():
    def made(annotation, default=1):
        def constructor(size=default):
            return size

        constructor.__annotations__ = {"size": annotation} if annotation else {}
        return declare("dataset", f"tests-{annotation}", "data", settings={"size": "of it"})(constructor)

    for annotation, kind in ((Optional[float], float), ("Optional[int]", int), (bool | None, bool), (int, int)):  # noqa: UP045
        made(annotation)
        assert find("dataset", f"tests-{annotation}").settings["size"].type is kind
    with pytest.raises(InputError, match="'size' is True by default, and a flag cannot make it False"):
        made(bool, True)
    for annotation in (None, str, "list[int]", int | float):
        with pytest.raises(InputError, match="'size': its constructor needs an argument of that name with a default"):
            made(annotation)
    with pytest.raises(InputError, match="needs an argument of that name"):
        made(int, inspect.Parameter.empty)
    with pytest.raises(InputError, match="declares the setting 'weight'"):
        declare("dataset", "tests-none", "data", settings={"weight": "none"})(lambda data_dir: None)


def test_a_name_is_declared_once_and_the_same_class_may_be_declared_again():
    with pytest.raises(
        InputError, match=r"the likelihood 'gaussian' is declared already, in iwae_tf.*gaussian: choose"
    ):
        declare("likelihood", "gaussian", "another")(type("Other", (Likelihood,), {}))
    first = declare("likelihood", "tests-twice", "once")(type("Twice", (Likelihood,), {}))
    assert declare("likelihood", "tests-twice", "reloaded")(first) is first
    with pytest.raises(InputError, match="'tests-twice' is declared already"):
        declare("likelihood", "tests-twice", "another")(type("Other", (Likelihood,), {}))


def test_unknown_kinds_and_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="unknown kind 'likelihoods': did you mean 'likelihood'"):
        declare("likelihoods", "a", "b")
    with pytest.raises(InputError, match="unknown objective 'iwa': did you mean 'iwae'"):
        find("objective", "iwa")


def test_a_plugin_is_imported_and_declares(tmp_path, monkeypatch):
    (tmp_path / "tests_plugin.py").write_text(
        "from iwae_tf.declarations import declare\n"
        "@declare('dataset', 'tests-plugin', 'nothing', files=('a',))\n"
        "def load(data_dir): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    load_plugins(("tests_plugin",))
    assert find("dataset", "tests-plugin").load() is sys.modules.pop("tests_plugin").load
    assert find("dataset", "tests-plugin").facts == {"files": ("a",)}


@pytest.mark.parametrize("source", [None, "import a_module_that_does_not_exist"])
def test_a_plugin_that_cannot_be_imported_is_refused(tmp_path, monkeypatch, source):
    if source:
        (tmp_path / "tests_broken.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
    with pytest.raises(
        InputError, match=r"--plugin tests_broken cannot be imported .*give the name of a Python module"
    ):
        load_plugins(("tests_broken",))
