"""Declarations: name, help, settings and facts of an objective, a likelihood or a data set, on its own definition.

The command line lists names and settings before TensorFlow is imported (5 s), so the declarations of this package are
read from its source, where every argument of `declare` is a literal. A module of a user, named by `--plugin`, is
imported, and `declare` registers what it decorates.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from iwae_tf.errors import InputError, unknown_name

# kind -> package in which its declarations stand
PACKAGES = {"objective": "objectives", "likelihood": "distributions", "latent": "distributions", "dataset": "data"}

_registered: dict[str, dict[str, "Declaration"]] = {kind: {} for kind in PACKAGES}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A constructor argument that the command line offers as a flag.

    Attributes:
        help: one line.
        type: of a value: int, float or bool.
        default: used when the flag is not given.
    """

    help: str
    type: type
    default: Any


@dataclasses.dataclass(frozen=True)
class Declaration:
    """One objective, likelihood, kind of latent unit or data set.

    Attributes:
        kind: a key of `PACKAGES`.
        name: as on the command line.
        help: one line, when one would use it.
        module: where it is defined.
        attribute: name of the class or function in that module.
        settings: its own settings by name, in addition to those of all of its kind.
        facts: what else its kind declares, e.g. `binarised` of a likelihood or `files` of a data set.
        decorated: the class or function itself, once `declare` has decorated it; None if read from the source.
    """

    kind: str
    name: str
    help: str
    module: str
    attribute: str
    settings: Mapping[str, Setting]
    facts: Mapping[str, Any]
    decorated: Any = dataclasses.field(default=None, compare=False, repr=False)

    def load(self) -> Any:
        """Returns the class or function, imported if need be."""
        return self.decorated or getattr(importlib.import_module(self.module), self.attribute)


def declare(kind: str, name: str, help: str, *, settings: Mapping[str, str] | None = None, **facts: Any) -> Callable:
    """Decorates a class or function and makes it known under a name.

    Args:
        kind: "objective", "likelihood", "latent" or "dataset".
        name: as users type it.
        help: one line, when one would use it.
        settings: constructor arguments that become flags, with a line of help each. Type and default are taken from
            the signature: `groups: int = 5`.
        **facts: what else the kind declares; kept as class attributes as well, where a class is decorated.

    Returns:
        A decorator that returns the class or function itself.

    Raises:
        InputError: the name is taken by something else, or a setting is no argument that is annotated int, float or
            bool, or one of them or None, or is a bool that is True by default.
    """
    if kind not in PACKAGES:
        raise unknown_name("kind", kind, PACKAGES)

    def decorator(decorated):
        known = declared(kind).get(name)
        if known and (known.module, known.attribute) != (decorated.__module__, decorated.__qualname__):
            raise InputError(f"the {kind} {name!r} is declared already, in {known.module}: choose another name")
        arguments = inspect.signature(decorated).parameters
        own = {}
        for setting, text in (settings or {}).items():
            kind_of_value = _plain_type(arguments[setting].annotation) if setting in arguments else None
            if kind_of_value is None or arguments[setting].default is inspect.Parameter.empty:
                raise InputError(
                    f"the {kind} {name!r} declares the setting {setting!r}: its constructor needs an argument of that "
                    "name with a default, annotated int, float or bool (or one of them or None)"
                )
            if kind_of_value is bool and arguments[setting].default is True:
                raise InputError(
                    f"the {kind} {name!r}: the setting {setting!r} is True by default, and a flag cannot make it "
                    "False: name it for the opposite"
                )
            own[setting] = Setting(text, kind_of_value, arguments[setting].default)
        declaration = Declaration(kind, name, help, decorated.__module__, decorated.__qualname__, own, facts, decorated)
        _registered[kind][name] = declaration
        if inspect.isclass(decorated):
            decorated.declaration = declaration
            for fact, value in facts.items():
                setattr(decorated, fact, value)
        return decorated

    return decorator


def declared(kind: str) -> dict[str, Declaration]:
    """Returns all declarations of a kind by name: the package's own in source order, then those of plugins."""
    return {**_built_in(kind), **_registered[kind]}


def find(kind: str, name: str) -> Declaration:
    """Returns the declaration of a name.

    Raises:
        InputError: for an unknown name, with the nearest one.
    """
    known = declared(kind)
    if name not in known:
        raise unknown_name(kind, name, known)
    return known[name]


def load_plugins(modules: tuple[str, ...]) -> None:
    """Imports modules that declare more, from the environment or the current folder.

    Raises:
        InputError: a module cannot be imported.
    """
    for module in modules:
        import_named(module, f"--plugin {module}")


def import_named(module: str, flag: str) -> ModuleType:
    """Imports a user's module, from the environment or the current folder.

    Args:
        module: its name.
        flag: the words of the command line that give it, for the message.

    Raises:
        InputError: it cannot be imported.
    """
    if os.getcwd() not in sys.path:  # a script's own search path lacks the current folder
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module)
    except (ImportError, SyntaxError, TypeError, ValueError) as error:  # the last two for names such as "" or ".."
        raise InputError(
            f"{flag} cannot be imported ({error}): give the name of a Python module in the current folder or in the "
            "environment"
        ) from error


@functools.cache
def _built_in(kind: str) -> dict[str, Declaration]:
    """Reads the `@declare(...)` decorators in the source of a package of this project, without importing it."""
    package = PACKAGES[kind]
    paths = sorted((Path(__file__).parent / package).glob("*.py"))
    trees = {path.stem: ast.parse(path.read_text(encoding="utf-8")).body for path in paths}
    classes = {node.name: node for body in trees.values() for node in body if isinstance(node, ast.ClassDef)}
    found = {}
    for module, body in trees.items():
        for node in body:
            for call in getattr(node, "decorator_list", ()):
                if not isinstance(call, ast.Call) or getattr(call.func, "id", None) != "declare":
                    continue
                found_kind, name, text = (ast.literal_eval(argument) for argument in call.args)
                if found_kind != kind:
                    continue
                facts = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
                helps = facts.pop("settings", {})
                own = {setting: _setting(node, classes, setting, line) for setting, line in helps.items()}
                found[name] = Declaration(kind, name, text, f"{__package__}.{package}.{module}", node.name, own, facts)
    return found


def _setting(definition: ast.ClassDef | ast.FunctionDef, classes: dict, name: str, text: str) -> Setting:
    """Reads type and default of an argument of a function, or of the constructor of a class or its base."""
    while isinstance(definition, ast.ClassDef):
        own = [node for node in definition.body if getattr(node, "name", None) == "__init__"]
        definition = own[0] if own else classes[definition.bases[0].id]
    arguments = definition.args.args[-len(definition.args.defaults) :]
    for argument, default in zip(arguments, definition.args.defaults, strict=True):
        if argument.arg == name:
            annotation = ast.unparse(argument.annotation)
            return Setting(text, _plain_type(annotation), ast.literal_eval(default))
    raise TypeError(f"{definition.name} declares the setting {name!r} and has no argument of that name with a default")


def _plain_type(annotation) -> type | None:
    """Returns the type of a value: of `int | None` or `Optional[int]`, a type or source text, int; None for others."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    words = set(re.findall(r"\w+", text)) - {"typing", "Optional", "Union", "None", "NoneType"}
    return {"int": int, "float": float, "bool": bool}.get(words.pop()) if len(words) == 1 else None
